"""What the tests of backends have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

from litestar import Litestar, Request, get
from litestar.di import Provide
from litestar.exceptions import ImproperlyConfiguredException
from litestar.security.jwt import JWTAuth, Token
from litestar.testing import TestClient

if TYPE_CHECKING:
    from collections.abc import Mapping

    from litestar.connection import ASGIConnection

SECRET = "a secret that is long enough for any of the HMAC algorithms, even those of 512 bit"


def retrieve_user(token: Token, connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    return token.sub


def backend(key_provider: Any, **options: Any) -> JWTAuth[str, Token]:
    """Make a backend that needs no audience."""
    return JWTAuth(
        **{
            "retrieve_user_handler": retrieve_user,
            "key_provider": key_provider,
            "accepted_audiences": [],
            **options,
        }
    )


def own_backend(**options: Any) -> JWTAuth[str, Token]:
    """Make a backend that verifies the tokens that it issues, with a shared secret if nothing else is given."""
    return JWTAuth(**{"token_secret": SECRET, "retrieve_user_handler": retrieve_user, **options})


def bearer(token: str) -> dict[str, str]:
    """Make the header that carries a token."""
    return {"Authorization": f"Bearer {token}"}


def provide(value: Any) -> Provide:
    """Make a dependency that is always the same."""
    return Provide(lambda: value, sync_to_thread=False)


@get("/")
async def whoami(request: Request[str, Token, Any]) -> str:
    """Answer with the user."""
    return request.user


def client_of(auth: Any, *handlers: Any) -> TestClient[Litestar]:
    """Make a client of an application that a backend protects, with :func:`whoami` at its root and further handlers."""
    app = Litestar([whoami, *handlers], on_app_init=[auth.on_app_init])
    return TestClient(app, raise_server_exceptions=False)


def statuses(auth: Any, *headers: dict[str, str]) -> list[int]:
    """Send a request with each of some headers to :func:`whoami`, and return the status codes of the responses."""
    with client_of(auth) as client:
        return [client.get("/", headers=header).status_code for header in headers]


async def status_of(app: Litestar, headers: Mapping[str, str], path: str = "/") -> int:
    """Send a request to an app, whether that has been started or not, and return the status code of the response."""
    sent = await _exchange(app, headers, path, {"type": "http", "method": "GET", "scheme": "http"})
    return int(sent[0]["status"])


async def text_of(app: Litestar, headers: Mapping[str, str], path: str) -> str:
    """Connect a websocket to an app, and return the text that it sends first, or else the reason why it refuses."""
    sent = await _exchange(app, headers, path, {"type": "websocket", "scheme": "ws", "subprotocols": []})
    return str(sent[1]["text"] if len(sent) > 1 else sent[0]["reason"])


async def _exchange(app: Litestar, headers: Mapping[str, str], path: str, scope: dict[str, Any]) -> list[Any]:
    """Send a request without a body to an app, and return what it sends."""
    scope |= {
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "server": ("localhost", 80),
        "client": ("localhost", 1),
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
    }
    sent: list[Any] = []

    async def receive() -> Any:
        if scope["type"] == "http":
            await anyio.sleep_forever()
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    try:
        await app(scope, receive, send)  # type: ignore[arg-type]
    except Exception:  # Litestar 3 leaves it to the server to answer
        sent.append({"status": 500})
    return sent


def refusal_of(app: Litestar) -> str:
    """Start an app that must refuse to, and return why it does."""
    with pytest.raises(Exception) as raised:
        with TestClient(app):
            pass
    error: Any = raised.value
    while hasattr(error, "exceptions"):  # of the event emitter
        error = error.exceptions[0]
    assert isinstance(error, ImproperlyConfiguredException)
    return error.detail
