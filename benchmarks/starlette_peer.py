"""What somebody writes by hand in an afternoon: Starlette, joserfc, and a key set that is fetched every ten minutes."""

from __future__ import annotations

import time
from typing import Any

import httpx2
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, AuthenticationError, SimpleUser
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import Route

_LIFETIME = 600


class BearerBackend(AuthenticationBackend):
    """Verifies the bearer token of a request."""

    def __init__(self, jwks_url: str, audience: str) -> None:
        self.url = jwks_url
        self.claims = jwt.JWTClaimsRegistry(aud={"essential": True, "value": audience}, exp={"essential": True})
        self.fetched_at = 0.0
        self.keys: Any = None

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, SimpleUser]:
        """Verify the token, and return its subject as the user."""
        scheme, _, token = conn.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise AuthenticationError("no bearer token")
        if time.time() > self.fetched_at + _LIFETIME:
            async with httpx2.AsyncClient(trust_env=False) as client:
                self.keys = KeySet.import_key_set((await client.get(self.url)).json())
            self.fetched_at = time.time()
        try:
            decoded = jwt.decode(token, self.keys, algorithms=["RS256"])
            self.claims.validate(decoded.claims)
        except (JoseError, ValueError) as e:
            raise AuthenticationError("invalid token") from e
        return AuthCredentials(["authenticated"]), SimpleUser(decoded.claims["sub"])


async def _handler(request: Request) -> Response:
    return Response(status_code=200)


def starlette_application(jwks_url: str, audience: str) -> Any:
    """Create the application.

    Args:
        jwks_url: Where the keys are.
        audience: The audience to accept.
    """
    backend = Middleware(AuthenticationMiddleware, backend=BearerBackend(jwks_url, audience))
    return Starlette(routes=[Route("/", _handler)], middleware=[backend])
