from datetime import timedelta
from typing import Any

from litestar import Litestar, Request, get
from litestar.connection import ASGIConnection
from litestar.security.jwt import JWTAuth, OpenIDProvider, Token

LOGIN = "https://login.microsoftonline.com"
CLIENT_ID = "22222222-2222-2222-2222-222222222222"

# The tenants that you let in. In a real application, this is a database table.
CUSTOMERS = {f"{LOGIN}/11111111-1111-1111-1111-111111111111/v2.0": "Contoso"}


async def is_customer(issuer: str) -> bool:
    return issuer in CUSTOMERS


async def retrieve_user(token: Token, connection: ASGIConnection) -> str:
    return f"{token.sub} of {CUSTOMERS[str(token.iss)]}"


@get("/me")
async def me(request: Request[str, Token, Any]) -> str:
    return request.user


jwt_auth = JWTAuth[str, Token](
    retrieve_user_handler=retrieve_user,
    key_provider=OpenIDProvider(
        f"{LOGIN}/{{tenantid}}/v2.0",
        discovery_url=f"{LOGIN}/organizations/v2.0/.well-known/openid-configuration",
        withdrawn_grace=timedelta(days=1),
    ),
    accepted_issuers=is_customer,
    accepted_audiences=[CLIENT_ID, f"api://{CLIENT_ID}"],
    exclude=["^/schema"],
)

app = Litestar([me], on_app_init=[jwt_auth.on_app_init])
