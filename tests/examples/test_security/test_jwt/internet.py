"""What the recipes would find on the internet: documents by URL, and issuers of tokens."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from httpx import Response

from litestar import Litestar
from litestar.exceptions import WebSocketDisconnect
from litestar.security.jwt.testing import LocalIssuer
from litestar.testing import TestClient
from tests.unit.test_security.test_jwt.key_providers.issuer_server import DISCOVERY, Answer, Issuer


class Internet(Issuer):
    """A proxy that passes for all hosts. It has the documents that were put there, and 404 for other URLs."""

    def put(self, url: str, document: Callable[[], Any]) -> None:
        self.answers[url] = Answer(document)

    def host(
        self, issuer: LocalIssuer, jwks_uri: str = "", *, url: str | None = None, name: str = "", keys: Any = None
    ) -> LocalIssuer:
        """Put the two documents of an issuer where they belong."""
        name = name or issuer.issuer
        base = name.removesuffix("/").replace("/{tenantid}", "")
        jwks_uri = jwks_uri or f"{base}/keys"
        self.put(url or base + DISCOVERY, lambda: {"issuer": name, "jwks_uri": jwks_uri})
        self.put(jwks_uri, lambda: {"keys": keys} if keys else issuer.jwks)
        return issuer


def load(name: str) -> ModuleType:
    """Run an example anew: what it fetched for another test is forgotten."""
    module = f"docs.examples.security.jwt.{name}"
    sys.modules.pop(module, None)
    return importlib.import_module(module)


@contextmanager
def client_of(example: ModuleType | str) -> Iterator[TestClient[Litestar]]:
    """Start the application of an example."""
    example = load(example) if isinstance(example, str) else example
    app = example.create_app() if hasattr(example, "create_app") else example.app
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def answer_of(example: ModuleType | str, token: str, path: str = "/me") -> str:
    """Start the application of an example, and tell what it makes of a token."""
    with client_of(example) as client:
        return outcome_of(client.get(path, headers={"Authorization": f"Bearer {token}"}))


def outcome_of(response: Response) -> str:
    """Return the body of a good response, or the reason why a token was refused, or else the status."""
    if response.is_success:
        return response.text
    _, _, reason = response.headers.get("WWW-Authenticate", "").partition("Token refused: ")
    return reason.rstrip('"') or str(response.status_code)


def text_of(example: ModuleType, *sent: str, **options: Any) -> str:
    """Open a websocket, send some messages, and return the text that comes back, or why the websocket was closed."""
    try:
        with client_of(example) as client, client.websocket_connect("/chat", **options) as socket:
            for message in sent:
                socket.send_text(message)
            return socket.receive_text()
    except WebSocketDisconnect as e:
        return f"{e.code} {e.detail}"
