from typing import Any

from litestar import Litestar, Response, get
from litestar.connection import ASGIConnection
from litestar.security.jwt import JWTAuth, OpenIDProvider, Token

keys = OpenIDProvider("https://idp.example.com")


async def retrieve_user(token: Token, connection: ASGIConnection) -> str:
    return token.sub


@get("/health", exclude_from_auth=True)
async def health() -> Response[dict[str, Any]]:
    status = keys.status()
    content = {"keys": len(status.key_ids), "last_error": status.last_error}
    return Response(content, status_code=200 if status.usable else 503)


jwt_auth = JWTAuth[str, Token](
    retrieve_user_handler=retrieve_user,
    key_provider=keys,
    accepted_audiences=["my-api"],
    exclude=["^/schema"],
)

app = Litestar([health], on_app_init=[jwt_auth.on_app_init])
