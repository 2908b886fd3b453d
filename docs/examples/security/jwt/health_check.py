from contextlib import suppress
from typing import Any

from litestar import Litestar, Response, get
from litestar.connection import ASGIConnection
from litestar.security.jwt import (
    JWTAuth,
    KeysUnavailableException,
    OpenIDProvider,
    Token,
)

keys = OpenIDProvider("https://idp.example.com")


async def retrieve_user(token: Token, connection: ASGIConnection) -> str:
    return token.sub


@get("/health/live", exclude_from_auth=True)
async def live() -> None:
    """Liveness: the process answers. To restart it brings back no keys."""


@get("/health/ready", exclude_from_auth=True)
async def ready() -> Response[dict[str, Any]]:
    """Readiness: tokens can be verified. While it is not ready, no requests come
    that would fetch the keys, so this does."""
    if not keys.status().usable:
        with suppress(KeysUnavailableException):
            await keys.refresh()
    status = keys.status()
    content = {"keys": len(status.key_ids), "last_error": status.last_error}
    return Response(content, status_code=200 if status.usable else 503)


jwt_auth = JWTAuth[str, Token](
    retrieve_user_handler=retrieve_user,
    key_provider=keys,
    accepted_audiences=["my-api"],
    exclude=["^/schema"],
)

app = Litestar([live, ready], on_app_init=[jwt_auth.on_app_init])
