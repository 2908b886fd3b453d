from typing import Any

from litestar import Litestar, Request, get
from litestar.connection import ASGIConnection
from litestar.security.jwt import JWTAuth, RemoteJWKSet, Token


async def retrieve_user(token: Token, connection: ASGIConnection) -> str:
    return token.sub


@get("/me")
async def me(request: Request[str, Token, Any]) -> str:
    return request.user


jwt_auth = JWTAuth[str, Token](
    retrieve_user_handler=retrieve_user,
    key_provider=RemoteJWKSet("https://www.gstatic.com/iap/verify/public_key-jwk"),
    key_algorithms="ES256",
    auth_header="X-Goog-IAP-JWT-Assertion",
    auth_scheme="",
    accepted_issuers=["https://cloud.google.com/iap"],
    accepted_audiences=["/projects/1234567890/global/backendServices/9876543210"],
    exclude=["^/schema"],
)

app = Litestar([me], on_app_init=[jwt_auth.on_app_init])
