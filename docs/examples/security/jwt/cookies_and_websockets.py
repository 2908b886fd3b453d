from typing import Any

from litestar import Litestar, Request, WebSocket, get, websocket
from litestar.connection import ASGIConnection
from litestar.security.jwt import JWTCookieAuth, OpenIDProvider, Token


async def retrieve_user(token: Token, connection: ASGIConnection) -> str:
    return token.sub


@get("/me")
async def me(request: Request[str, Token, Any]) -> str:
    return request.user


@websocket("/chat")
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
