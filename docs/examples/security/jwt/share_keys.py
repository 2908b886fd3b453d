from typing import Any

from litestar import Litestar, Request, get
from litestar.connection import ASGIConnection
from litestar.security.jwt import JWTAuth, OpenIDProvider, Token
from litestar.stores.redis import RedisStore


async def retrieve_user(token: Token, connection: ASGIConnection) -> str:
    return token.sub


@get("/me")
async def me(request: Request[str, Token, Any]) -> str:
    return request.user


jwt_auth = JWTAuth[str, Token](
    retrieve_user_handler=retrieve_user,
    key_provider=OpenIDProvider("https://idp.example.com", store="jwt_keys"),
    accepted_audiences=["my-api"],
    exclude=["^/schema"],
)

app = Litestar(
    [me],
    on_app_init=[jwt_auth.on_app_init],
    stores={"jwt_keys": RedisStore.with_client("redis://localhost:6379")},
)
