from typing import Any

from litestar import Litestar, Request, WebSocket, get, websocket
from litestar.connection import ASGIConnection
from litestar.exceptions import PermissionDeniedException
from litestar.handlers.base import BaseRouteHandler
from litestar.security.jwt import JWTCookieAuth, OpenIDProvider, Token

PAGES = {"https://app.example.com"}


async def is_own_page(connection: ASGIConnection, _: BaseRouteHandler) -> None:
    # Browsers send the cookie with websockets that pages of others open, too.
    if connection.headers.get("Origin") not in PAGES:
        raise PermissionDeniedException


async def retrieve_user(token: Token, connection: ASGIConnection) -> str:
    return token.sub


@get("/me")
async def me(request: Request[str, Token, Any]) -> str:
    return request.user


@websocket("/chat", guards=[is_own_page])
async def chat(socket: WebSocket[str, Token, Any]) -> None:
    await socket.accept()
    await socket.send_text(f"Hello {socket.user}")
    await socket.close()


jwt_auth = JWTCookieAuth[str, Token](
    retrieve_user_handler=retrieve_user,
    key_provider=OpenIDProvider("https://idp.example.com"),
    accepted_audiences=["my-api"],
    key="access_token",  # the name of the cookie
    exclude=["^/schema"],
)

app = Litestar([me, chat], on_app_init=[jwt_auth.on_app_init])
