from typing import Any

from litestar import Litestar, Request, get
from litestar.connection import ASGIConnection
from litestar.security.jwt import JWTAuth, OpenIDProvider, Token

CLIENT_ID = "22222222-2222-2222-2222-222222222222"
ISSUER = "https://login.microsoftonline.com/{tenantid}/v2.0"

# The tenants that are welcome. In a real application, a table of a database.
CUSTOMERS = {ISSUER.replace("{tenantid}", "11111111-1111-1111-1111-111111111111"): "Contoso"}


async def retrieve_user(token: Token, connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    return f"{token.sub} of {CUSTOMERS[str(token.iss)]}"


@get("/me")
async def me(request: Request[str, Token, Any]) -> str:
    return request.user


jwt_auth = JWTAuth[str, Token](
    retrieve_user_handler=retrieve_user,
    key_provider=OpenIDProvider(
        ISSUER,
        discovery_url="https://login.microsoftonline.com/organizations/v2.0/.well-known/openid-configuration",
        # Servers of Entra ID disagree at times about which keys there are.
        withdrawn_grace=24 * 60 * 60,
    ),
    accepted_issuers=lambda issuer: issuer in CUSTOMERS,
    accepted_audiences=[CLIENT_ID],
)

app = Litestar([me], on_app_init=[jwt_auth.on_app_init])
