import os
from datetime import UTC, datetime
from typing import Any

from litestar import Litestar, Request, Response, delete, get, post
from litestar.config.csrf import CSRFConfig
from litestar.connection import ASGIConnection
from litestar.datastructures import Cookie
from litestar.security.jwt import JWTCookieAuth, OpenIDProvider, Token

COOKIE = "access_token"


async def retrieve_user(token: Token, connection: ASGIConnection) -> str:
    return token.sub


@post("/session", exclude_from_auth=True)
async def start_session(request: Request[Any, Any, Any]) -> Response[None]:
    # Pages of others cannot send this header, so this needs no CSRF token.
    scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
    token = await jwt_auth.verify(
        encoded if scheme.lower() == "bearer" else "",
        connection=request,
    )
    cookie = Cookie(
        COOKIE,
        value=encoded,  # browsers take at most 4,096 bytes
        max_age=int((token.exp - datetime.now(UTC)).total_seconds()),
        httponly=True,
        secure=True,
        samesite="lax",
    )
    return Response(None, cookies=[cookie])


@delete("/session")
async def end_session() -> Response[None]:
    response = Response(None, status_code=204)
    response.delete_cookie(COOKIE)
    return response


@get("/me")
async def me(request: Request[str, Token, Any]) -> str:
    return request.user


jwt_auth = JWTCookieAuth[str, Token](
    retrieve_user_handler=retrieve_user,
    key_provider=OpenIDProvider("https://idp.example.com"),
    accepted_audiences=["my-api"],
    key=COOKIE,
    exclude=["^/schema"],
)

app = Litestar(
    [start_session, end_session, me],
    on_app_init=[jwt_auth.on_app_init],
    csrf_config=CSRFConfig(
        secret=os.environ["CSRF_SECRET"],
        cookie_secure=True,
        exclude="^/session$",
    ),
)
