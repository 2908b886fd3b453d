"""Describe what a piece of code does, as JSON that two processes can compare."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import httpx
import jwt
import time_machine

from litestar import Litestar, Request, get
from litestar.datastructures import State
from litestar.security.jwt import JWTAuth, JWTCookieAuth, OAuth2PasswordBearerAuth, Token

Case = Callable[[], object]

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(days=1)
SECRET = "a-secret-that-is-long-enough-for-each-of-the-HMAC-algorithms-of-PyJWT"
PEM_TEXTS: dict[str, str] = {}
"""Keys that the parent process has generated, so that both sides have the same."""
CASES: dict[str, Case] = {}
BACKENDS: tuple[Any, ...] = (JWTAuth, JWTCookieAuth, OAuth2PasswordBearerAuth)


def case(function: Case) -> Case:
    CASES[function.__name__.replace("_", " ")] = function
    return function


def cases(rows: Mapping[str, Any] | Iterable[Any]) -> Callable[[Callable[[Any], object]], object]:
    """Register a function once for each row, which it gets as its argument."""
    named = rows if isinstance(rows, Mapping) else {getattr(row, "__name__", repr(row)): row for row in rows}

    def register(function: Callable[[Any], object]) -> None:
        title = function.__name__.replace("_", " ")
        CASES.update({f"{title} [{name}]": partial(function, row) for name, row in named.items()})

    return register


def one_by_one(options: Mapping[str, Sequence[Any]]) -> dict[str, dict[str, Any]]:
    """Rows that set one option to one of its values each."""
    return {f"{name}={value!r:.40}": {name: value} for name, values in options.items() for value in values}


def describe(value: object) -> Any:
    """Turn any value into JSON, without addresses in memory."""
    match value:
        case None | bool():
            return value
        case str():
            return re.sub(r"0x[0-9a-f]{6,}", "0x…", value)
        case BaseException():
            names = ("status_code", "detail", "headers", "extra", "__cause__", "__suppress_context__")
            return {type(value).__qualname__: [str(value), *(describe(getattr(value, name, "")) for name in names)]}
        case Mapping():
            return {type(value).__qualname__: [[describe(name), describe(item)] for name, item in value.items()]}
        case list():
            return [describe(item) for item in value]
        case tuple():
            return {"tuple": describe([*value])}
        case type():
            return f"class {value.__module__}.{value.__qualname__}"
        case _ if dataclasses.is_dataclass(value):
            return {type(value).__qualname__: [describe(getattr(value, f.name)) for f in dataclasses.fields(value)]}
    return f"{type(value).__qualname__} {describe(repr(value))}"


def outcome(function: Callable[..., object], *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Call a function, and describe what it returns or raises."""
    try:
        return {"returned": describe(function(*args, **kwargs))}
    except Exception as error:
        return {"raised": describe(error)}


def run(case: Case) -> object:
    """Run one case at a fixed time, and describe it with its log records and warnings."""
    records: list[logging.LogRecord] = []
    create = logging.getLogRecordFactory()

    def record(*args: Any, **kwargs: Any) -> logging.LogRecord:
        records.append(create(*args, **kwargs))
        return records[-1]

    logging.getLogger("litestar").setLevel(logging.DEBUG)
    logging.setLogRecordFactory(record)
    try:
        with time_machine.travel(NOW, tick=False), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            # These are about coroutines, and come whenever garbage is collected.
            warnings.simplefilter("ignore", RuntimeWarning)
            result = outcome(case)
    finally:
        logging.setLogRecordFactory(create)
    logs = [[r.name, r.levelname, r.getMessage()] for r in records if r.name.startswith("litestar")]
    return {**result, "logs": logs, "warnings": [[w.category.__name__, str(w.message)] for w in caught]}


def claims(**changes: Any) -> dict[str, Any]:
    """Claims of a good token. A change to `...` leaves one out."""
    times = {"exp": int((NOW + timedelta(hours=1)).timestamp()), "iat": int(NOW.timestamp())}
    return {name: value for name, value in ({"sub": "ann", **times} | changes).items() if value is not ...}


def encode(key: Any = SECRET, algorithm: str = "HS256", headers: dict[str, Any] | None = None, **changes: Any) -> str:
    return jwt.encode(claims(**changes), key, algorithm, headers)


def bearer(token: str, header: str = "Authorization") -> dict[str, Any]:
    return {"headers": {header: f"Bearer {token}"}}


def retrieve_user(token: Token, connection: object) -> str | None:
    return None if token.sub == "nobody" else token.sub


async def find_user(token: Token, connection: object) -> Any:
    return f"found {token.sub}"


def backend(cls: Any = JWTAuth, **options: Any) -> Any:
    needed: dict[str, Any] = {"token_secret": SECRET, "retrieve_user_handler": retrieve_user}
    if cls is OAuth2PasswordBearerAuth:
        needed["token_url"] = "/login"
    return cls(**needed | options)


@get("/me")
async def me(request: Request[Any, Any, Any]) -> Any:
    return describe([request.scope.get("user"), request.scope.get("auth")])


@get("/open", exclude_from_auth=True)
async def opened() -> str:
    return "open"


def application(*auths: Any, **options: Any) -> Litestar:
    """An application that backends protect, and that remembers its exceptions."""
    defaults: dict[str, Any] = {"openapi_config": None, "logging_config": None, "route_handlers": [me]}
    defaults |= {"on_app_init": [auth.on_app_init for auth in auths], "state": State({"exceptions": []})}
    return Litestar(**{**defaults, "after_exception": [remember], **options})


def remember(error: Exception, scope: Any) -> None:
    scope["litestar_app"].state.exceptions.append(describe(error))


def responses(target: Any, *requests: dict[str, Any], **options: Any) -> object:
    """Send requests to an application, or to one that a backend protects. Describe responses and exceptions."""
    app: Any = target if isinstance(target, Litestar) else application(target, **options)

    async def send() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://a.test") as client:
            return [await client.request(**{"method": "GET", "url": "/me", **request}) for request in requests]

    app.state.exceptions = []
    found = [[r.status_code, sorted(r.headers.multi_items()), r.text] for r in asyncio.run(send())]
    return [found, app.state.exceptions]
