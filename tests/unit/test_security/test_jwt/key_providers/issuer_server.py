"""An issuer on the loopback interface that answers what a test tells it to."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from inspect import isawaitable
from ssl import SSLSocket
from types import SimpleNamespace
from typing import Any, TypeAlias, cast

import jwt
import time_machine
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from litestar.security.jwt.keys import public_jwk
from tests.unit.test_security.test_jwt.backends import PRIVATE_KEYS

from .authority import Authority

Clock: TypeAlias = time_machine.Traveller
START = 1_750_000_000  # 2025-06-15 15:06:40
HOUR, DAY = 3600, 86_400
DISCOVERY = "/.well-known/openid-configuration"


def at(seconds: float) -> datetime:
    """Return a moment by its distance from when the clock of tests starts."""
    return datetime.fromtimestamp(START + seconds, UTC)


class Signer:
    """A key of an issuer."""

    def __init__(self, kid: str | None = None, algorithm: str = "EdDSA", **members: Any) -> None:
        self.kid, self.algorithm = kid, algorithm
        self.key: Any = Ed25519PrivateKey.generate() if algorithm == "EdDSA" else PRIVATE_KEYS[algorithm]
        self.named = {} if kid is None else {"kid": kid}
        self.jwk = {**public_jwk(self.key), **self.named, **members}

    def token(self, headers: Mapping[str, Any] | None = None, **claims: Any) -> str:
        return jwt.encode({"sub": "someone", **claims}, self.key, self.algorithm, {**self.named, **(headers or {})})


STRANGER = Signer("stranger")


def bogus(kid: str = "made-up", **claims: Any) -> str:
    return STRANGER.token({"kid": kid}, **claims)


def jwks_of(*signers: Signer) -> dict[str, Any]:
    return {"keys": [signer.jwk for signer in signers]}


@dataclass
class Answer:
    """What the server does with requests for one URL."""

    document: Any = None
    """JSON, or the body itself as bytes, or a function that returns one of them."""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    hangs: bool = False
    """Whether it waits until the server is told to release what waits."""


class Issuer:
    """A real HTTP server. It is a proxy, too: it has certificates for the hosts of other URLs that it has answers for."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.release = threading.Event()
        self.authority = Authority()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.issuer = self
        self.issuer = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.url = f"{self.issuer}/jwks"
        self.jwks, self.discovery = Answer(), Answer({"issuer": self.issuer, "jwks_uri": self.url})
        self.answers = {"/jwks": self.jwks, DISCOVERY: self.discovery}
        self.publish(Signer("first"))
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()

    def speak_tls(self) -> None:
        context = self.authority.context_for("localhost")
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = self.url.replace("http://127.0.0.1", "https://localhost")
        self.answers[self.url] = self.jwks

    def publish(self, *signers: Signer) -> None:
        self.signers = signers
        self.jwks.document = jwks_of(*signers)

    def rotate(self) -> Signer:
        """Withdraw what is published, and publish a new key."""
        self.publish(signer := Signer(f"key-{len(self.requests)}-{id(self.signers)}"))
        return signer

    def token(self, **claims: Any) -> str:
        return self.signers[0].token(**claims)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    issuer: Issuer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that leave are no error."""


class _Handler(BaseHTTPRequestHandler):
    def do_CONNECT(self) -> None:
        context = cast("_Server", self.server).issuer.authority.context_for(self.path.rpartition(":")[0])
        self.send_response(200)
        self.end_headers()
        # Python leaks the socket if it is wrapped when the client has left.
        if self.request.recv(1, socket.MSG_PEEK):
            with context.wrap_socket(self.request, server_side=True) as tunnel:
                _Handler(tunnel, self.client_address, self.server)

    def do_GET(self) -> None:
        issuer = cast("_Server", self.server).issuer
        url = f"https://{self.headers['Host']}{self.path}" if isinstance(self.connection, SSLSocket) else self.path
        answer = replace(issuer.answers.get(url) or Answer(status=404))
        document = answer.document() if callable(answer.document) else answer.document
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        issuer.headers.append({name.lower(): value for name, value in self.headers.items()})
        issuer.requests.append(url)  # from now on, tests may change what later requests get
        if answer.hangs:
            issuer.release.wait()
        self.send_response(answer.status)
        for name, value in {"Content-Length": str(len(body)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""


def fake_client(fetch_document: Callable[[str], Any], **headers: str) -> Any:
    """Make a client without a network: a function from a URL to a document, or to an awaitable of one, has its answers."""

    async def fetch(url: str, _: Mapping[str, str]) -> Any:
        document = fetch_document(url)
        document = await document if isawaitable(document) else document
        return SimpleNamespace(status_code=200, headers=headers, content=json.dumps(document).encode())

    return fetch
