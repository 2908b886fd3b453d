from typing import Any

from litestar import Litestar, Request, get
from litestar.connection import ASGIConnection
from litestar.security.jwt import JWTAuth, RemoteJWKSet, Token

TEAM = "https://my-team.cloudflareaccess.com"
AUDIENCE_TAG = "4714c1358e65fe4b408ad6d432a5f878f08194bdb4752441fd56faefa9b2b6f2"


class CloudflareToken(Token):
    @classmethod
    def decode_payload(cls, *args: Any, **kwargs: Any) -> Any:
        claims = super().decode_payload(*args, **kwargs)
        if claims.get("sub") == "":  # a service token, which has a name instead
            claims["sub"] = f"service:{claims['common_name']}"
        return claims


async def retrieve_user(token: CloudflareToken, connection: ASGIConnection) -> str:
    return token.sub


@get("/me")
async def me(request: Request[str, CloudflareToken, Any]) -> str:
    return request.user


jwt_auth = JWTAuth[str, CloudflareToken](
    retrieve_user_handler=retrieve_user,
    key_provider=RemoteJWKSet(f"{TEAM}/cdn-cgi/access/certs"),
    token_cls=CloudflareToken,
    auth_header="Cf-Access-Jwt-Assertion",
    auth_scheme="",
    accepted_issuers=[TEAM],
    accepted_audiences=[AUDIENCE_TAG],
    exclude=["^/schema"],
)

app = Litestar([me], on_app_init=[jwt_auth.on_app_init])
