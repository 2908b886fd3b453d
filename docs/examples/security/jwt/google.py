from typing import Any

from litestar import Litestar, Request, get
from litestar.connection import ASGIConnection
from litestar.security.jwt import JWTAuth, OpenIDProvider, Token

CLIENT_ID = "1234567890-example.apps.googleusercontent.com"


async def retrieve_user(token: Token, connection: ASGIConnection) -> str | None:
    # Anyone can create a Google account. This one has to belong to your organization.
    return token.sub if token.extras.get("hd") == "example.com" else None


@get("/me")
async def me(request: Request[str, Token, Any]) -> str:
    return request.user


jwt_auth = JWTAuth[str, Token](
    retrieve_user_handler=retrieve_user,
    key_provider=OpenIDProvider(
        "https://accounts.google.com",
        issuer_in_tokens=["https://accounts.google.com", "accounts.google.com"],
    ),
    accepted_audiences=[CLIENT_ID],
    exclude=["^/schema"],
)

app = Litestar([me], on_app_init=[jwt_auth.on_app_init])
