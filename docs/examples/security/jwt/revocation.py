from datetime import UTC, datetime, timedelta
from typing import Any

from redis.exceptions import RedisError

from litestar import Litestar, Request, get, post
from litestar.connection import ASGIConnection
from litestar.exceptions import ServiceUnavailableException
from litestar.security.jwt import JWTAuth, OpenIDProvider, Token
from litestar.stores.redis import RedisStore

LEEWAY = timedelta(seconds=30)


async def retrieve_user(token: Token, connection: ASGIConnection) -> str:
    return token.sub


async def is_revoked(token: Token, connection: ASGIConnection) -> bool:
    store = connection.app.stores.get("revoked")
    try:
        return await store.exists(f"{token.iss} {token.jti}")
    except RedisError as e:  # nobody can tell, so nobody is let in
        raise ServiceUnavailableException("Revocation cannot be checked") from e


@post("/logout")
async def logout(request: Request[str, Token, Any]) -> None:
    token = request.auth
    # Until nobody accepts the token any longer, and a little more.
    left = token.exp - datetime.now(UTC) + LEEWAY + timedelta(minutes=1)
    store = request.app.stores.get("revoked")
    await store.set(f"{token.iss} {token.jti}", b"", expires_in=left)


@get("/me")
async def me(request: Request[str, Token, Any]) -> str:
    return request.user


jwt_auth = JWTAuth[str, Token](
    retrieve_user_handler=retrieve_user,
    revoked_token_handler=is_revoked,
    key_provider=OpenIDProvider("https://idp.example.com"),
    leeway=LEEWAY,
    require_claims=["jti"],
    accepted_audiences=["my-api"],
    exclude=["^/schema"],
)

app = Litestar(
    [me, logout],
    on_app_init=[jwt_auth.on_app_init],
    stores={"revoked": RedisStore.with_client("redis://localhost:6379")},
)
