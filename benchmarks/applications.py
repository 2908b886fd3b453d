"""The applications that requests are timed with. They work with the released Litestar too."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from measure import Turns

from litestar import Litestar, get
from litestar.connection import ASGIConnection
from litestar.exceptions import NotAuthorizedException
from litestar.handlers import HTTPRouteHandler
from litestar.security.jwt import JWTAuth, Token

SECRET = "a secret that is long enough for HS256, and for the others as well, whichever it is"


async def retrieve_user(token: Token, connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    return token.sub


@get("/")
async def handler() -> None:
    return None


@get("/")
async def refusing_handler() -> None:
    challenge = 'Bearer error="invalid_token", error_description="Token refused: expired"'
    raise NotAuthorizedException("Invalid token", headers={"WWW-Authenticate": challenge})


def application(handler: HTTPRouteHandler = handler, **options: Any) -> Litestar:
    if not options:
        return Litestar([handler], logging_config=None, openapi_config=None)
    auth = JWTAuth[str, Token](retrieve_user_handler=retrieve_user, **options)
    return Litestar([handler], on_app_init=[auth.on_app_init], logging_config=None, openapi_config=None)


async def request(app: Any, token: str | None) -> int:
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
        "headers": [] if token is None else [(b"authorization", b"Bearer " + token.encode())],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    statuses: list[int] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    await app(scope, receive, send)
    return statuses[0]


@dataclass
class Case:
    """What to send to which application."""

    app: Any
    tokens: Iterator[str | None]
    """One for each request."""
    expected: int = 200
    """The status code of all answers."""

    async def time(self, number: int) -> float:
        """Send a number of requests, and return how many microseconds one took."""
        statuses = set()
        start = time.perf_counter()
        for _ in range(number):
            statuses.add(await request(self.app, next(self.tokens)))
        end = time.perf_counter()
        if statuses != {self.expected}:
            raise AssertionError(f"{statuses} instead of {self.expected}")
        return (end - start) / number * 1e6


async def best_request_times(cases: Mapping[str, Case], turns: Turns) -> dict[str, float]:
    """Send requests in turn, and return the best time of each case in microseconds for a request.

    Args:
        cases: By name, what to send where.
        turns: How many requests to send of each.
    """
    best = dict.fromkeys(cases, float("inf"))
    for _ in range(turns.rounds):
        for name, case in cases.items():
            best[name] = min(best[name], await case.time(turns.number))
    return best
