"""An issuer on the loopback interface that answers what a test tells it to, and what tests ask of key providers."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from inspect import isawaitable, iscoroutine
from typing import Any, cast

import anyio
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from litestar import Litestar
from litestar.exceptions import HTTPException
from litestar.security.jwt.key_providers.jwks import RemoteJWKSet
from litestar.security.jwt.keys import SelectedKeys
from litestar.security.jwt.unverified import UnverifiedToken

RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


class Signer:
    """A key of an issuer."""

    def __init__(self, kid: str | None = None, algorithm: str = "EdDSA", **members: Any) -> None:
        self.algorithm = algorithm
        if algorithm == "EdDSA":
            self.key: Any = Ed25519PrivateKey.generate()
        else:
            self.key = RSA_KEY if algorithm.startswith(("RS", "PS")) else ec.generate_private_key(ec.SECP256R1())
        self.kid = kid
        public = jwt.get_algorithm_by_name(algorithm).to_jwk(self.key.public_key(), as_dict=True)
        named = {} if kid is None else {"kid": kid}
        self.jwk = {name: value for name, value in public.items() if name != "key_ops"} | named | members

    def token(self, headers: Mapping[str, Any] | None = None, **claims: Any) -> str:
        named = {} if self.kid is None else {"kid": self.kid}
        return jwt.encode({"sub": "someone", **claims}, self.key, self.algorithm, {**named, **(headers or {})})


def bogus(kid: str = "made-up", **claims: Any) -> str:
    return STRANGER.token({"kid": kid}, **claims)


STRANGER = Signer("stranger")


@dataclass
class Answer:
    """What the server does with requests for one path."""

    document: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    hangs: bool = False
    """Whether it waits until the server is told to release what waits."""
    drips: bool = False
    length: int | None = None
    """The Content-Length to claim."""


class IssuerServer:
    """A real HTTP server. It can be stopped and started again on its port."""

    def __init__(self, *signers: Signer) -> None:
        self.requests: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.release = threading.Event()
        self._server: ThreadingHTTPServer | None = None
        self.port = 0
        self.answers: dict[str, Answer] = {"/jwks": Answer()}
        self.publish(*(signers or (Signer("first"),)))

    def start(self) -> None:
        self._server = _Server(("127.0.0.1", self.port), _Handler)
        self._server.issuer = self
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            server, self._server = self._server, None
            server.shutdown()
            server.server_close()

    def publish(self, *signers: Signer) -> None:
        self.signers = signers
        self.jwks.document = {"keys": [signer.jwk for signer in signers]}

    def rotate(self) -> Signer:
        """Withdraw what is published, and publish a new key."""
        self.publish(signer := Signer(f"key-{len(self.requests)}-{id(self.signers)}"))
        return signer

    @property
    def jwks(self) -> Answer:
        return self.answers["/jwks"]

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.issuer}/jwks"

    def token(self, **claims: Any) -> str:
        return self.signers[0].token(**claims)

    def discover(self, **members: Any) -> Answer:
        """Publish a discovery document."""
        document = {"issuer": self.issuer, "jwks_uri": self.url, **members}
        self.answers["/.well-known/openid-configuration"] = Answer(document)
        return self.answers["/.well-known/openid-configuration"]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    issuer: IssuerServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that leave are no error."""


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        issuer = cast("_Server", self.server).issuer
        answer = replace(issuer.answers.get(self.path) or Answer(status=404))
        body = json.dumps(answer.document).encode() if answer.body is None else answer.body
        issuer.headers.append({name.lower(): value for name, value in self.headers.items()})
        issuer.requests.append(self.path)  # from now on, tests may change what later requests get
        if answer.hangs:
            issuer.release.wait(60)
        self.send_response(answer.status)
        for name, value in {"Content-Length": str(answer.length or len(body)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if answer.drips:
            for position in range(len(body)):
                self.wfile.write(body[position : position + 1])
                if issuer.release.wait(0.05):
                    return
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""


@contextmanager
def serving(*signers: Signer) -> Iterator[IssuerServer]:
    issuer = IssuerServer(*signers)
    issuer.start()
    try:
        yield issuer
    finally:
        issuer.release.set()
        issuer.stop()


def ask(provider: Callable[[UnverifiedToken], Any], token: str) -> Any:
    return provider(UnverifiedToken(token))


async def answer_to(provider: Any, token: str) -> str:
    """Tell what a backend makes of a token: it looks again if the signature does not verify."""
    try:
        keys = ask(provider, token)
        keys = await keys if isawaitable(keys) else keys
        if not verifies(token, keys):
            keys = await provider.look_again(UnverifiedToken(token))
    except HTTPException as e:
        return str(e.status_code)
    return "200" if keys is not None and verifies(token, keys) else "401"


def verifies(token: str, keys: SelectedKeys) -> bool:
    for key in keys.keys:
        try:
            jwt.decode(token, key, [keys.algorithm], options={"verify_signature": True, "verify_aud": False})
        except jwt.InvalidSignatureError:
            continue
        return True
    return False


def answers_at_once(provider: Any, token: str) -> bool:
    """Tell whether a provider has the right key in memory."""
    keys = ask(provider, token)
    if iscoroutine(keys):
        keys.close()
    return isinstance(keys, SelectedKeys) and verifies(token, keys)


async def until(condition: Callable[[], Any]) -> None:
    """Wait for what happens in the background."""
    with anyio.fail_after(20):
        while not condition():
            await anyio.sleep(0.003)


async def settled(provider: RemoteJWKSet) -> None:
    """Wait until what a provider has fetched is in its store, as the end of an application does."""
    async with provider.lifespan(Litestar()):
        pass
