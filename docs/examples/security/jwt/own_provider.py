from typing import Any

from litestar import Litestar, Request, get
from litestar.connection import ASGIConnection
from litestar.security.jwt import JWTAuth, KeyNotFoundError, Token, UnverifiedToken

# In a real application, a table of a database.
DEVICE_KEYS: dict[str, str] = {}


async def retrieve_user(token: Token, connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    return token.sub


async def key_of_device(token: UnverifiedToken) -> str:
    """Return the public key, as PEM, that a device was registered with."""
    try:
        return DEVICE_KEYS[token.kid or ""]
    except KeyError:
        raise KeyNotFoundError("Invalid token") from None


@get("/me")
async def me(request: Request[str, Token, Any]) -> str:
    return request.user


jwt_auth = JWTAuth[str, Token](
    retrieve_user_handler=retrieve_user,
    key_provider=key_of_device,
    algorithm="ES256",
    accepted_audiences=["my-api"],
)

app = Litestar([me], on_app_init=[jwt_auth.on_app_init])
