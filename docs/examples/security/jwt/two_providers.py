from typing import Any

from litestar import Litestar, Request, get
from litestar.connection import ASGIConnection
from litestar.security.jwt import IssuerKeyProvider, JWTAuth, OpenIDProvider, Token

STAFF = "https://login.microsoftonline.com/11111111-1111-1111-1111-111111111111/v2.0"
CUSTOMERS = "https://my-tenant.eu.auth0.com/"


async def retrieve_user(token: Token, connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    # Each issuer has users of its own, and 'sub' alone does not tell whose they are.
    return f"{'staff' if token.iss == STAFF else 'customer'} {token.sub}"


@get("/me")
async def me(request: Request[str, Token, Any]) -> str:
    return request.user


jwt_auth = JWTAuth[str, Token](
    retrieve_user_handler=retrieve_user,
    key_provider=IssuerKeyProvider(
        {
            STAFF: OpenIDProvider(STAFF, withdrawn_grace=24 * 60 * 60),
            CUSTOMERS: OpenIDProvider(CUSTOMERS),
        }
    ),
    accepted_audiences=["22222222-2222-2222-2222-222222222222", "https://api.example.com"],
)

app = Litestar([me], on_app_init=[jwt_auth.on_app_init])
