from typing import Any

from litestar import Litestar, Request, get
from litestar.connection import ASGIConnection
from litestar.security.jwt import JWTAuth, KeyNotFoundException, Token, UnverifiedToken
from litestar.stores.memory import MemoryStore

# In a real application, this is a database table.
DEVICE_KEYS: dict[str, str] = {}
cache = MemoryStore()


async def load_public_key(device: str) -> str | None:
    return DEVICE_KEYS.get(device)


async def find_key(token: UnverifiedToken) -> bytes | str:
    # The key of the device that the token claims to be. Anyone can send another 'kid'.
    device = str(token.claims.get("sub"))
    if (cached := await cache.get(device)) is not None:
        return cached
    pem = await load_public_key(device)
    if pem is None:
        raise KeyNotFoundException("Invalid token")
    await cache.set(device, pem, expires_in=300)
    return pem


async def retrieve_user(token: Token, connection: ASGIConnection) -> str:
    return token.sub


@get("/me")
async def me(request: Request[str, Token, Any]) -> str:
    return request.user


jwt_auth = JWTAuth[str, Token](
    retrieve_user_handler=retrieve_user,
    key_provider=find_key,
    key_algorithms="ES256",
    accepted_audiences=["my-api"],
    exclude=["^/schema"],
)

app = Litestar([me], on_app_init=[jwt_auth.on_app_init])
