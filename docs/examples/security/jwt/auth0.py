from typing import Any

from litestar import Litestar, get
from litestar.connection import ASGIConnection
from litestar.security.jwt import JWTAuth, OpenIDProvider, Token, requires_scopes


async def retrieve_user(token: Token, connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    return token.sub


@get("/messages", guards=[requires_scopes("read:messages")])
async def messages() -> list[str]:
    return ["Hello"]


jwt_auth = JWTAuth[str, Token](
    retrieve_user_handler=retrieve_user,
    key_provider=OpenIDProvider("https://my-tenant.eu.auth0.com/"),
    accepted_audiences=["https://api.example.com"],
)

app = Litestar([messages], on_app_init=[jwt_auth.on_app_init])
