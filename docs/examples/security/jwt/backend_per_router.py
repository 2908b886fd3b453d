from typing import Any

from litestar import Litestar, Request, Router, get
from litestar.connection import ASGIConnection
from litestar.security.jwt import JWTAuth, OpenIDProvider, Token

keys = OpenIDProvider("https://idp.example.com")


async def retrieve_user(token: Token, connection: ASGIConnection) -> str:
    return token.sub


@get("/me")
async def me(request: Request[str, Token, Any]) -> str:
    return request.user


def router_for(path: str, audience: str) -> Router:
    jwt_auth = JWTAuth[str, Token](
        retrieve_user_handler=retrieve_user,
        key_provider=keys,
        accepted_audiences=[audience],
    )
    return Router(path, route_handlers=[me], middleware=[jwt_auth.middleware])


app = Litestar([router_for("/orders", "orders-api"), router_for("/admin", "admin-api")])
