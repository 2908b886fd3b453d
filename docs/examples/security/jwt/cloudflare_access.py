from typing import Any

from litestar import Litestar, Request, get
from litestar.connection import ASGIConnection
from litestar.security.jwt import JWTAuth, RemoteJWKSet, Token

TEAM = "https://my-team.cloudflareaccess.com"
AUDIENCE_TAG = "4714c1358e65fe4b408ad6d432a5f878f08194bdb4752441fd56faefa9b2b6f2"


async def retrieve_user(token: Token, connection: ASGIConnection) -> str:
    return token.sub


@get("/me")
async def me(request: Request[str, Token, Any]) -> str:
    return request.user


jwt_auth = JWTAuth[str, Token](
    retrieve_user_handler=retrieve_user,
    key_provider=RemoteJWKSet(f"{TEAM}/cdn-cgi/access/certs"),
    auth_header="Cf-Access-Jwt-Assertion",
    auth_scheme="",
    accepted_issuers=[TEAM],
    accepted_audiences=[AUDIENCE_TAG],
    exclude=["^/schema"],
)

app = Litestar([me], on_app_init=[jwt_auth.on_app_init])
