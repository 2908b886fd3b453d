"""Measures the released Litestar, in an environment of its own. There this is run as a program."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from functools import partial
from itertools import cycle, repeat
from pathlib import Path
from typing import Any

import jwt
from applications import SECRET, Case, application, best_request_times
from measure import Turns, best_times, in_turn, keep_best

import litestar
from litestar.connection import ASGIConnection
from litestar.middleware.authentication import AuthenticationResult
from litestar.security.jwt import JWTAuthenticationMiddleware, Token


class Released:
    """The released Litestar in another environment, measured a piece at a time, so that other things can be measured between."""

    def __init__(self, python: Path, **given: Any) -> None:
        """Keep what to measure.

        Args:
            python: The interpreter of the environment.
            **given: What :func:`main` takes besides how often to measure.
        """
        self.python = python
        self.given = given
        self.requests: dict[str, float] = {}
        """The best times so far of requests that are accepted, in microseconds."""
        self.refusals: dict[str, float] = {}
        """Those of requests that are refused."""
        self.decoding: dict[str, float] = {}
        """Those of tokens without a request around them."""

    def measure(self, turns: Turns) -> None:
        command = [str(self.python), "-E", __file__]  # a PYTHONPATH is not for this environment
        given = json.dumps({**self.given, "turns": turns})
        done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr)
        for kind, times in json.loads(done.stdout).items():
            keep_best(getattr(self, kind), times)


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


def main(
    jwks_url: str, jwk: Any, tokens: list[str], secret_tokens: list[str], forged_token: str, turns: list[int]
) -> None:
    if not litestar.__file__.startswith(sys.prefix):
        raise RuntimeError(f"{litestar.__file__} is not the released Litestar")
    key = jwt.PyJWK(jwk)
    decode = partial(Token.decode, secret=key, algorithm="RS256", audience=["api"])
    bare = partial(jwt.decode, key=key, algorithms=["RS256"], audience="api")
    functions = {"jwt.decode": in_turn(bare, cycle(tokens)), "Token.decode": in_turn(decode, cycle(tokens))}
    options: dict[str, Any] = {"accepted_audiences": ["api"], "algorithm": "RS256"}
    with_client: dict[str, Any] = {"token_secret": "", "authentication_middleware_class": workaround(jwks_url)}
    with_key = application(token_secret=key, **options)
    cases = {
        "no authentication": Case(application(), cycle(tokens)),
        "HS256": Case(application(token_secret=SECRET, accepted_audiences=["api"]), cycle(secret_tokens)),
        "static PyJWK": Case(with_key, cycle(tokens)),
        "PyJWKClient in a middleware": Case(application(**with_client, **options), cycle(tokens)),
    }
    refused = {
        "forged": Case(with_key, repeat(forged_token), expected=401),
        "no token": Case(with_key, repeat(None), expected=401),
    }
    measured = {
        "requests": asyncio.run(best_request_times(cases, Turns(*turns))),
        "refusals": asyncio.run(best_request_times(refused, Turns(*turns))),
        "decoding": best_times(functions, Turns(*turns)),
    }
    json.dump(measured, sys.stdout)


if __name__ == "__main__":
    main(**json.load(sys.stdin))
