"""The applications that requests are timed with. They work with the released Litestar too."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import jwt

from litestar import Litestar, get
from litestar.connection import ASGIConnection
from litestar.middleware.authentication import AuthenticationResult
from litestar.security.jwt import JWTAuth, JWTAuthenticationMiddleware, Token

SECRET = "a secret that is long enough for HS256, and for the others as well, whichever it is"


async def retrieve_user(token: Token, connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    return token.sub


@get("/")
async def handler() -> None:
    return None


def application(**options: Any) -> Litestar:
    if not options:
        return Litestar([handler], logging_config=None, openapi_config=None)
    auth = JWTAuth[str, Token](retrieve_user_handler=retrieve_user, **options)
    return Litestar([handler], on_app_init=[auth.on_app_init], logging_config=None, openapi_config=None)


def workaround(jwks_url: str) -> type[JWTAuthenticationMiddleware]:
    """Make the middleware of issue 4471: PyJWT's client, called on the event loop."""

    class Middleware(JWTAuthenticationMiddleware):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.client = jwt.PyJWKClient(jwks_url)

        async def authenticate_token(
            self, encoded_token: str, connection: ASGIConnection[Any, Any, Any, Any]
        ) -> AuthenticationResult:
            self.token_secret: Any = self.client.get_signing_key_from_jwt(encoded_token)
            return await super().authenticate_token(encoded_token, connection)

    return Middleware


async def request(app: Litestar, token: str) -> int:
    """Send a request without a server in between, and return the status code."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/",
        "raw_path": b"/",
        "root_path": "",
        "query_string": b"",
        "headers": [(b"authorization", b"Bearer " + token.encode())],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    statuses: list[int] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    await app(scope, receive, send)  # type: ignore[arg-type]
    return statuses[0]


async def best_request_times(
    apps: dict[str, tuple[Litestar, str, int]], *, rounds: int, number: int
) -> dict[str, float]:
    """Send requests to applications in turn, and return the best time of each in microseconds for a request.

    Args:
        apps: By name, an application, the token to send, and the status code that has to come back.
        rounds: How many times to go round.
        number: How many requests to send to each in a round.
    """
    best = dict.fromkeys(apps, float("inf"))
    for name, (app, token, expected) in apps.items():
        if (status := await request(app, token)) != expected:
            raise AssertionError(f"{name}: {status} instead of {expected}")
    for _ in range(rounds):
        for name, (app, token, _) in apps.items():
            start = time.perf_counter()
            for _ in range(number):
                await request(app, token)
            best[name] = min(best[name], (time.perf_counter() - start) / number * 1e6)
    return best


def run(function: Callable[[], Any]) -> Any:
    return asyncio.run(function())
