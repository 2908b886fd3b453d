from datetime import timedelta
from typing import Any

from litestar import Litestar, Request, get
from litestar.connection import ASGIConnection
from litestar.security.jwt import IssuerKeyProvider, JWTAuth, OpenIDProvider, Token

TENANT_ID = "11111111-1111-1111-1111-111111111111"
CLIENT_ID = "22222222-2222-2222-2222-222222222222"
STAFF = f"https://login.microsoftonline.com/{TENANT_ID}/v2.0"
CUSTOMERS = "https://my-tenant.eu.auth0.com/"


async def retrieve_user(token: Token, connection: ASGIConnection) -> str:
    # Two issuers may use the same 'sub' for different people.
    return f"{'staff' if token.iss == STAFF else 'customer'} {token.sub}"


@get("/me")
async def me(request: Request[str, Token, Any]) -> str:
    return request.user


jwt_auth = JWTAuth[str, Token](
    retrieve_user_handler=retrieve_user,
    key_provider=IssuerKeyProvider(
        {
            STAFF: OpenIDProvider(STAFF, withdrawn_grace=timedelta(days=1)),
            CUSTOMERS: OpenIDProvider(CUSTOMERS),
        }
    ),
    accepted_audiences={
        STAFF: [CLIENT_ID, f"api://{CLIENT_ID}"],
        CUSTOMERS: ["https://api.example.com"],
    },
    exclude=["^/schema"],
)

app = Litestar([me], on_app_init=[jwt_auth.on_app_init])
