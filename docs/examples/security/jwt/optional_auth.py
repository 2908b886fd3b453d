from typing import Any

from litestar import Litestar, Request, get
from litestar.connection import ASGIConnection
from litestar.security.jwt import JWTAuth, OpenIDProvider, Token


async def retrieve_user(token: Token, connection: ASGIConnection) -> str:
    return token.sub


@get("/greeting", opt={"optional_auth": True})
async def greeting(request: Request[str | None, Token | None, Any]) -> str:
    # Without credentials, 'user' is None. A token that is there must be valid.
    return f"Hello {request.user or 'stranger'}"


@get("/me")
async def me(request: Request[str, Token, Any]) -> str:
    return request.user


jwt_auth = JWTAuth[str, Token](
    retrieve_user_handler=retrieve_user,
    key_provider=OpenIDProvider("https://idp.example.com"),
    accepted_audiences=["my-api"],
    exclude=["^/schema"],
)

app = Litestar([greeting, me], on_app_init=[jwt_auth.on_app_init])
