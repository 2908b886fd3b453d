import os
from typing import Any

import httpx2

from litestar import Litestar, Request, get
from litestar.connection import ASGIConnection
from litestar.exceptions import ServiceUnavailableException
from litestar.security.jwt import JWTAuth, OpenIDProvider, Token

ENDPOINT = "https://idp.example.com/introspect"


async def retrieve_user(token: Token, connection: ASGIConnection) -> str:
    return token.sub


async def is_revoked(token: Token, connection: ASGIConnection) -> bool:
    """Ask the issuer whether the token is still active (RFC 7662)."""
    encoded = connection.headers["Authorization"].partition(" ")[2].strip()
    try:
        response = await connection.app.state.issuer.post(
            ENDPOINT,
            data={"token": encoded},
        )
        answer = response.raise_for_status().json()
    except (httpx2.HTTPError, ValueError) as e:  # nobody can tell
        raise ServiceUnavailableException("Revocation cannot be checked") from e
    return answer.get("active") is not True


@get("/me")
async def me(request: Request[str, Token, Any]) -> str:
    return request.user


jwt_auth = JWTAuth[str, Token](
    retrieve_user_handler=retrieve_user,
    revoked_token_handler=is_revoked,
    key_provider=OpenIDProvider("https://idp.example.com"),
    accepted_audiences=["my-api"],
    exclude=["^/schema"],
)


async def open_client(app: Litestar) -> None:
    credentials = ("my-api", os.environ["CLIENT_SECRET"])
    app.state.issuer = httpx2.AsyncClient(auth=credentials, timeout=5)


async def close_client(app: Litestar) -> None:
    await app.state.issuer.aclose()


app = Litestar(
    [me],
    on_app_init=[jwt_auth.on_app_init],
    on_startup=[open_client],
    on_shutdown=[close_client],
)
