from datetime import UTC, datetime
from typing import Any

from litestar import Litestar, Request, get, post
from litestar.connection import ASGIConnection
from litestar.security.jwt import JWTAuth, OpenIDProvider, Token


async def retrieve_user(token: Token, connection: ASGIConnection) -> str:
    return token.sub


async def is_revoked(token: Token, connection: ASGIConnection) -> bool:
    return await connection.app.stores.get("revoked").exists(str(token.jti))


@post("/logout")
async def logout(request: Request[str, Token, Any]) -> None:
    left = request.auth.exp - datetime.now(UTC)
    store = request.app.stores.get("revoked")
    await store.set(str(request.auth.jti), b"", expires_in=left)


@get("/me")
async def me(request: Request[str, Token, Any]) -> str:
    return request.user


jwt_auth = JWTAuth[str, Token](
    retrieve_user_handler=retrieve_user,
    revoked_token_handler=is_revoked,
    key_provider=OpenIDProvider("https://idp.example.com"),
    require_claims=["jti"],
    accepted_audiences=["my-api"],
    exclude=["^/schema"],
)

app = Litestar([me, logout], on_app_init=[jwt_auth.on_app_init])
