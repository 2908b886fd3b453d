import os
from typing import Any

from litestar import Litestar, Request, get
from litestar.connection import ASGIConnection
from litestar.security.jwt import JWTAuth, OpenIDProvider, Token


async def retrieve_user(token: Token, connection: ASGIConnection) -> str:
    return token.sub


@get("/orders")
async def orders(request: Request[str, Token, Any]) -> str:
    return f"orders of {request.user}"


def create_app() -> Litestar:
    jwt_auth = JWTAuth[str, Token](
        retrieve_user_handler=retrieve_user,
        key_provider=OpenIDProvider(os.environ["ISSUER"]),
        accepted_audiences=["orders"],
        exclude=["^/schema"],
    )
    return Litestar([orders], on_app_init=[jwt_auth.on_app_init])
