from datetime import UTC, datetime
from typing import Any

import anyio

from litestar import Litestar, WebSocket, websocket
from litestar.connection import ASGIConnection
from litestar.exceptions import NotAuthorizedException
from litestar.security.jwt import JWTAuth, OpenIDProvider, Token


async def retrieve_user(token: Token, connection: ASGIConnection) -> str:
    return token.sub


@websocket("/chat", exclude_from_auth=True)
async def chat(socket: WebSocket[Any, Any, Any]) -> None:
    await socket.accept()
    try:
        with anyio.fail_after(5):
            encoded = await socket.receive_text()
        token = await jwt_auth.verify(encoded, connection=socket)
        user = await retrieve_user(token, socket)  # 'verify' does not call this
    except (NotAuthorizedException, TimeoutError):
        await socket.close(code=4401, reason="Not authenticated")
        return
    left = token.exp - datetime.now(UTC)
    with anyio.move_on_after(left.total_seconds()):
        while True:
            await socket.send_text(f"{user}: {await socket.receive_text()}")
    await socket.close(code=4401, reason="The token has expired")


jwt_auth = JWTAuth[str, Token](
    retrieve_user_handler=retrieve_user,
    key_provider=OpenIDProvider("https://idp.example.com"),
    accepted_audiences=["my-api"],
    exclude=["^/schema"],
)

app = Litestar([chat], on_app_init=[jwt_auth.on_app_init])
