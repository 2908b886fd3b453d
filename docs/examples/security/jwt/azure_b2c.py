from datetime import timedelta
from typing import Any

from litestar import Litestar, Request, get
from litestar.connection import ASGIConnection
from litestar.security.jwt import JWTAuth, OpenIDProvider, Token

LOGIN = "https://contoso.b2clogin.com"
DIRECTORY = f"{LOGIN}/contoso.onmicrosoft.com"
TENANT_ID = "11111111-1111-1111-1111-111111111111"
CLIENT_ID = "22222222-2222-2222-2222-222222222222"
POLICY = "b2c_1_sign_in"


async def retrieve_user(token: Token, connection: ASGIConnection) -> str:
    return token.sub


@get("/me")
async def me(request: Request[str, Token, Any]) -> str:
    return request.user


jwt_auth = JWTAuth[str, Token](
    retrieve_user_handler=retrieve_user,
    key_provider=OpenIDProvider(
        f"{LOGIN}/{TENANT_ID}/v2.0/",
        discovery_url=f"{DIRECTORY}/{POLICY}/v2.0/.well-known/openid-configuration",
        withdrawn_grace=timedelta(days=1),
    ),
    accepted_audiences=[CLIENT_ID],
    exclude=["^/schema"],
)

app = Litestar([me], on_app_init=[jwt_auth.on_app_init])
