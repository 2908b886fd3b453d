"""What the tests of remote documents share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler
from inspect import isawaitable
from typing import Any

import anyio
import jwt

from litestar.security.jwt.jwks import RemoteJWKSet
from litestar.security.jwt.testing import LocalIssuer
from litestar.security.jwt.unverified import UnverifiedToken


class Clock:
    """A clock that stands still unless it is told to go on."""

    def __init__(self) -> None:
        self.now = 1_750_000_000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


def ask(provider: RemoteJWKSet, token: str) -> Any:
    """Return what a provider returns for a token: keys, or an awaitable of keys."""
    return provider(UnverifiedToken(token))


def answers_at_once(provider: RemoteJWKSet, token: str) -> bool:
    """Tell whether a provider has keys that verify a token, without anything to wait for."""
    keys = ask(provider, token)
    assert isinstance(keys, tuple)
    return is_verified(token, keys)


async def verifies(provider: RemoteJWKSet, token: str) -> bool:
    """Tell whether the keys that a provider finds verify a token."""
    keys = ask(provider, token)
    return is_verified(token, await keys if isawaitable(keys) else keys)


def is_verified(token: str, keys: tuple[jwt.PyJWK, ...]) -> bool:
    for key in keys:
        try:
            jwt.decode(token, key, [key.algorithm_name], options={"verify_aud": False, "verify_exp": False})
        except jwt.InvalidSignatureError:
            continue
        return True
    return False


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Wait until something is so that happens in the background."""
    with anyio.fail_after(seconds):
        while not condition():
            await anyio.sleep(0.002)


async def idle(provider: RemoteJWKSet) -> None:
    """Wait until nothing runs in the background any more."""
    await until(lambda: not provider._document._running)


def responds(
    issuer: LocalIssuer, headers: Mapping[str, str] | None = None, body: bytes | None = None, status: int = 200
) -> Callable[[BaseHTTPRequestHandler], None]:
    """Make a responder that answers with a JWK Set under other header fields, or with anything else."""

    def respond(handler: BaseHTTPRequestHandler) -> None:
        content = json.dumps(issuer.jwks).encode() if body is None else body
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(content)

    return respond


def numbered(prefix: str = "bogus") -> Iterator[str]:
    """Make up key IDs that nobody publishes."""
    number = 0
    while True:
        yield f"{prefix}-{(number := number + 1)}"
