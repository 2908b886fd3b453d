import os
from typing import Any

from litestar import Litestar, Request, get
from litestar.connection import ASGIConnection
from litestar.security.jwt import JWTAuth, RemoteJWKSet, Token


async def retrieve_user(token: Token, connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    return token.sub


@get("/orders")
async def orders(request: Request[str, Token, Any]) -> str:
    return f"orders of {request.user}"


def create_app() -> Litestar:
    issuer = os.environ["ISSUER"]
    jwt_auth = JWTAuth[str, Token](
        retrieve_user_handler=retrieve_user,
        key_provider=RemoteJWKSet(f"{issuer}/.well-known/jwks.json"),
        accepted_issuers=[issuer],
        accepted_audiences=["orders"],
    )
    return Litestar([orders], on_app_init=[jwt_auth.on_app_init])
