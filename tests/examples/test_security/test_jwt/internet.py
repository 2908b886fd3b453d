"""What the recipes would find on the internet: documents by URL, and issuers of tokens."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

import httpx2

from litestar.security.jwt.testing import LocalIssuer
from litestar.testing import TestClient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from httpx import Response

    from litestar import Litestar

Document = Callable[[], Any]
Load = Callable[[str], ModuleType]
DISCOVERY = "/.well-known/openid-configuration"


class Internet:
    """Answers with the documents that were put there, by URL, and with 404 otherwise."""

    def __init__(self) -> None:
        self._documents: dict[str, Document] = {}
        self.asked: list[str] = []

    def put(self, url: str, document: Document) -> None:
        self._documents[url] = document

    def publish(self, issuer: LocalIssuer, jwks_uri: str, *, url: str | None = None, name: str | None = None) -> None:
        """Put the two documents of an issuer where they belong."""
        name = name or issuer.issuer
        url = url or name.removesuffix("/") + DISCOVERY
        self.put(url, lambda: {"issuer": name, "jwks_uri": jwks_uri})
        self.put(jwks_uri, lambda: issuer.jwks)

    def client(self, *_: Any, **__: Any) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(transport=httpx2.MockTransport(self._respond))

    def _respond(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(str(request.url))
        document = self._documents.get(str(request.url), lambda: None)()
        body = document if isinstance(document, str) else json.dumps(document)
        # A response with "content" is one that has been read.
        return httpx2.Response(404 if document is None else 200, stream=httpx2.ByteStream(body.encode()))


def app_of(example: ModuleType) -> Litestar:
    app: Litestar = example.create_app() if hasattr(example, "create_app") else example.app
    return app


@contextmanager
def client_of(example: ModuleType) -> Iterator[TestClient[Litestar]]:
    with TestClient(app_of(example), raise_server_exceptions=False) as client:
        yield client


def send(
    example: ModuleType, token: str, path: str = "/me", header: str = "Authorization", scheme: str = "Bearer "
) -> Response:
    """Start the application of an example, and return its response to a token."""
    with client_of(example) as client:
        return client.get(path, headers={header: f"{scheme}{token}"})


def text_of(example: ModuleType, token: str, path: str = "/me") -> str:
    """Return the body of a response that has to be a good one."""
    response = send(example, token, path)
    assert response.status_code == 200, response.text
    return response.text


def reason_of(response: Response) -> str:
    """Return why a token was refused."""
    _, _, challenge = response.headers["WWW-Authenticate"].partition("Token refused: ")
    return str(challenge).rstrip('"')


def merged(*parts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for part in parts for name, value in part.items()}
