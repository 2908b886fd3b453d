from typing import Any

from litestar import Litestar, Response, get
from litestar.connection import ASGIConnection
from litestar.security.jwt import JWTAuth, RemoteJWKSet, Token

keys = RemoteJWKSet("https://idp.example.com/keys")


async def retrieve_user(token: Token, connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    return token.sub


@get("/health", exclude_from_auth=True)
async def health() -> Response[dict[str, Any]]:
    status = keys.status()
    content = {"keys": len(status.key_ids), "stale": status.stale, "last_error": status.last_error}
    return Response(content, status_code=200 if status.key_ids else 503)


jwt_auth = JWTAuth[str, Token](
    retrieve_user_handler=retrieve_user,
    key_provider=keys,
    accepted_issuers=["https://idp.example.com"],
    accepted_audiences=["my-api"],
)

app = Litestar([health], on_app_init=[jwt_auth.on_app_init])
