from typing import Any

from litestar import Litestar, Request, get
from litestar.connection import ASGIConnection
from litestar.security.jwt import JWTCookieAuth, OpenIDProvider, Token

PAGES = {"https://app.example.com"}


async def retrieve_user(token: Token, connection: ASGIConnection) -> str | None:
    # Session tokens have no audience. They name the page that they were issued to.
    if token.extras.get("azp") not in PAGES or token.extras.get("sts") == "pending":
        return None
    return token.sub


@get("/me")
async def me(request: Request[str, Token, Any]) -> str:
    return request.user


jwt_auth = JWTCookieAuth[str, Token](
    retrieve_user_handler=retrieve_user,
    key_provider=OpenIDProvider("https://my-app.clerk.accounts.dev"),
    key="__session",
    accepted_audiences="*",  # see retrieve_user
    exclude=["^/schema"],
)

app = Litestar([me], on_app_init=[jwt_auth.on_app_init])
