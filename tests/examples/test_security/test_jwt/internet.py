"""The hosts of identity providers, on loopback: what is fetched from their real URLs comes from here."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from types import ModuleType
from typing import Any

import httpx2

from litestar.security.jwt.testing import LocalIssuer
from litestar.testing import TestClient

Document = Callable[[], Mapping[str, Any]]


class Internet:
    """Answers with the documents that were put there, by URL, and with 404 otherwise."""

    def __init__(self) -> None:
        self._documents: dict[str, Document] = {}
        self._server = LocalIssuer(algorithm="EdDSA")
        self._server.responder = self._respond
        self.asked: list[str] = []

    def __enter__(self) -> Internet:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()

    def put(self, url: str, document: Document | Mapping[str, Any]) -> None:
        self._documents[url] = document if callable(document) else lambda: document

    def publish(self, issuer: LocalIssuer, jwks_uri: str, **metadata: Any) -> None:
        """Put the two documents of an issuer at where its name and ``jwks_uri`` say."""
        url = f"{issuer.issuer.removesuffix('/')}/.well-known/openid-configuration"
        self.put(url, {"issuer": issuer.issuer, "jwks_uri": jwks_uri, **metadata})
        self.put(jwks_uri, lambda: issuer.jwks)

    def client(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(transport=_Rerouted(self._server.url), timeout=None, trust_env=False)

    def _respond(self, handler: BaseHTTPRequestHandler) -> None:
        url = f"https://{handler.headers['Host']}{handler.path}"
        self.asked.append(url)
        document = self._documents.get(url)
        body = b"" if document is None else json.dumps(document()).encode()
        handler.send_response(404 if document is None else 200)
        handler.send_header("Content-Type", "application/json; charset=utf-8")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)


class _Rerouted(httpx2.AsyncHTTPTransport):
    """Sends each request to one server. The header field ``Host`` still says where it was to go."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = httpx2.URL(url)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        request.url = request.url.copy_with(scheme="http", host=self._url.host, port=self._url.port)
        return await super().handle_async_request(request)


def status_of(recipe: ModuleType, token: str, path: str = "/me") -> int:
    """Start the app of a recipe, and return how it answers to a token."""
    with TestClient(recipe.app) as client:
        return client.get(path, headers={"Authorization": f"Bearer {token}"}).status_code


def text_of(recipe: ModuleType, token: str, path: str = "/me") -> str:
    """Start the app of a recipe, and return what it answers to a token that it accepts."""
    with TestClient(recipe.app) as client:
        response = client.get(path, headers={"Authorization": f"Bearer {token}"})
        assert response.status_code == 200, response.text
        return response.text
