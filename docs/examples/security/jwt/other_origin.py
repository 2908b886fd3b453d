from typing import Any

from litestar import Litestar, Request, get
from litestar.config.cors import CORSConfig
from litestar.connection import ASGIConnection
from litestar.security.jwt import JWTAuth, OpenIDProvider, Token


async def retrieve_user(token: Token, connection: ASGIConnection) -> str:
    return token.sub


@get("/me")
async def me(request: Request[str, Token, Any]) -> str:
    return request.user


jwt_auth = JWTAuth[str, Token](
    retrieve_user_handler=retrieve_user,
    key_provider=OpenIDProvider("https://idp.example.com"),
    accepted_audiences=["my-api"],
    exclude=["^/schema"],
)

app = Litestar(
    [me],
    on_app_init=[jwt_auth.on_app_init],
    cors_config=CORSConfig(
        allow_origins=["https://app.example.com"],
        allow_headers=["Authorization", "Content-Type"],
        # What scripts may read: why a token is refused, and when to try again.
        expose_headers=["WWW-Authenticate", "Retry-After"],
    ),
)
