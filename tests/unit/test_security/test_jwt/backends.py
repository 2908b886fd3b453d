"""What these tests share: keys, issuers, backends, and applications to send requests to."""

from __future__ import annotations

import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from functools import partial, wraps
from inspect import Parameter, Signature, signature
from typing import Any, Final, cast

import anyio
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from httpx import Headers

from litestar import Litestar, Request, get, websocket
from litestar.connection import WebSocket
from litestar.di import Provide
from litestar.exceptions import ImproperlyConfiguredException
from litestar.security.jwt import JWTAuth, OAuth2PasswordBearerAuth, Token
from litestar.security.jwt.keys import public_jwk
from litestar.security.jwt.unverified import UnverifiedToken
from litestar.testing import TestClient

SECRET: Final = "a secret that is long enough for any of the HMAC algorithms, even those of 512 bits"
CLAIMS: Final[dict[str, Any]] = {"sub": "ann", "iat": 1, "exp": 1 << 32}
_RSA_KEY: Final = rsa.generate_private_key(65537, 2048)
PRIVATE_KEYS: Final[dict[str, Any]] = {
    "RS256": _RSA_KEY,
    "PS256": _RSA_KEY,
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "ES512": ec.generate_private_key(ec.SECP521R1()),
    "ES256K": ec.generate_private_key(ec.SECP256K1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
ED448_KEY: Final = ed448.Ed448PrivateKey.generate()
# Applications of Litestar 2 configure logging for the whole process unless they are told not to.
_QUIET: Final = {"logging_config": None} if "logging_config" in signature(Litestar).parameters else {}


def base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def pem(key: Any) -> bytes:
    """Return the PEM of a public key, or of the public half of a private one."""
    public = key.public_key() if hasattr(key, "public_key") else key
    return bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def private_pem(key: Any) -> bytes:
    return bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def compact(header: Any, payload: Any = b"{}", signature: bytes = b"signature") -> str:
    """Serialize a token. What is no bytes is written as JSON."""
    parts = (part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, payload, signature))
    return ".".join(map(base64url, parts))


def sign(header: Any, payload: Any, key: Any, algorithm: str) -> str:
    """Sign whatever header and payload, which no library would. The header need not have the algorithm that is used."""
    signing_input = compact(header, payload).rpartition(".")[0]
    signer = jwt.get_algorithm_by_name(algorithm)
    prepared = key if isinstance(key, bytes) else signer.prepare_key(key)
    return f"{signing_input}.{base64url(signer.sign(signing_input.encode(), prepared))}"


class Issuer:
    """Signs tokens with a key that has the name of the issuer as its ID."""

    def __init__(self, name: str, algorithm: str = "RS256", key: Any = None) -> None:
        self.name = name
        self.algorithm = algorithm
        self.private_key = key or PRIVATE_KEYS[algorithm]
        self.jwk = {**public_jwk(self.private_key), "kid": name, "alg": algorithm, "use": "sig"}
        self.key = jwt.PyJWK(self.jwk)

    def token(self, sub: Any = "ann", *, headers: Mapping[str, Any] | None = None, **claims: Any) -> str:
        """Make a token for the audience ``api``. A claim that is ``None`` is left out."""
        now = int(time.time())
        payload = {"iss": self.name, "sub": sub, "aud": "api", "iat": now, "exp": now + 3600, **claims}
        payload = {name: value for name, value in payload.items() if value is not None}
        header = {"typ": "JWT", "alg": self.algorithm, "kid": self.name, **(headers or {})}
        return sign(header, payload, self.private_key, self.algorithm)

    def auth_header(self, *args: Any, **options: Any) -> dict[str, str]:
        return bearer(self.token(*args, **options))

    def key_provider(self, token: UnverifiedToken) -> jwt.PyJWK:
        return self.key


ISSUER: Final = Issuer("https://a.test")
OTHER: Final = Issuer("https://b.test", "ES256")
FORGER: Final = Issuer(ISSUER.name, key=rsa.generate_private_key(65537, 2048))


def retrieve_user(token: Token, connection: Any) -> str:
    return token.sub


def backend(key_provider: Any, kind: Any = JWTAuth, **options: Any) -> JWTAuth[str, Token]:
    """Make a backend with a key provider, for any audience unless told otherwise."""
    return secret_backend(
        kind, key_provider=key_provider, **{"token_secret": None, "accepted_audiences": "*", **options}
    )


def secret_backend(kind: Any = JWTAuth, **options: Any) -> JWTAuth[str, Token]:
    """Make a backend that verifies the tokens that it issues, with a shared secret if nothing else is given."""
    url = {"token_url": "/login"} if issubclass(kind, OAuth2PasswordBearerAuth) else {}
    options = {"token_secret": SECRET, "retrieve_user_handler": retrieve_user, **url, **options}
    return cast("JWTAuth[str, Token]", kind(**options))


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def provide(value: Any) -> Provide:
    return Provide(lambda: value, sync_to_thread=False)


@get("/")
async def whoami(request: Request[str, Token, Any]) -> str:
    return request.user


@websocket("/ws")
async def greet(socket: WebSocket[str, Token, Any]) -> None:
    await socket.accept()
    await socket.send_text(socket.user)
    await socket.close()


def app_of(auth: Any, *handlers: Any, **options: Any) -> Litestar:
    """Make an application that a backend, or several, protect, with :func:`whoami` at its root unless told otherwise."""
    hooks = [each.on_app_init for each in (auth if isinstance(auth, list) else [auth])]
    return Litestar([*(handlers or [whoami])], **{"on_app_init": hooks, "openapi_config": None, **_QUIET, **options})


def client_of(auth: Any, *handlers: Any, **options: Any) -> TestClient[Litestar]:
    """Make a client of an application with :func:`whoami` at its root, and further routes."""
    return TestClient(app_of(auth, whoami, *handlers, **options), raise_server_exceptions=False)


def statuses(auth: Any, *sent: str | dict[str, str]) -> list[int]:
    """Send some tokens or headers to :func:`whoami`, and return the status codes of the responses."""
    with client_of(auth) as client:
        return [client.get("/", headers=bearer(s) if isinstance(s, str) else s).status_code for s in sent]


async def status_of(app: Litestar, headers: Any, path: str = "/") -> int:
    """Send a request to an app, whether it has been started or not, and return the status code of the response."""
    return int((await send_request(app, headers, path))[0]["status"])


async def text_of(app: Litestar, headers: Any, path: str = "/ws") -> str:
    """Connect a websocket to an app, and return the text that it sends first, or else the reason why it refuses."""
    sent = await send_request(app, headers, path, type="websocket", scheme="ws", subprotocols=[])
    return str(sent[1]["text"] if len(sent) > 1 else sent[0]["reason"])


async def send_request(app: Litestar, headers: Any, path: str = "/", **scope: Any) -> list[Any]:
    """Send a request without a body to an app, and return the messages of its answer."""
    fields = [(name.lower(), value) for name, value in Headers(headers).raw]
    scope = {
        **(scope or {"type": "http", "method": "GET", "scheme": "http"}),
        **{"http_version": "1.1", "asgi": {"version": "3.0"}, "root_path": "", "query_string": b"", "headers": fields},
        **{"server": ("localhost", 80), "client": ("localhost", 1), "path": path, "raw_path": path.encode()},
    }
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    try:
        await app(cast("Any", scope), receive, send)
    except Exception:  # Litestar 3 leaves it to the server to answer
        sent.append({"status": 500})
    return sent


def refusal_of(app: Litestar) -> str:
    """Start an app that must not start, and return why it does not."""
    with pytest.raises(Exception) as raised, TestClient(app):
        pass
    error: Any = raised.value
    while hasattr(error, "exceptions"):  # of the event emitter
        error = error.exceptions[0]
    assert isinstance(error, ImproperlyConfiguredException)
    return error.detail


def on_both_libraries(test: Callable[..., Any], runner: Callable[..., Any] = anyio.run) -> Callable[..., None]:
    """Run a test on asyncio and on trio. It is no coroutine function, which plugins would run in their own ways."""

    @pytest.mark.parametrize("library", ["asyncio", "trio"])
    @wraps(test)
    def run(library: str, **arguments: Any) -> None:
        runner(partial(test, **arguments), backend=library)

    parameters = [*signature(test).parameters.values(), Parameter("library", Parameter.KEYWORD_ONLY)]
    setattr(run, "__signature__", Signature(parameters))
    return cast("Callable[..., None]", run)
