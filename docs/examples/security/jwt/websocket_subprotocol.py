from typing import Any

from litestar import Litestar, WebSocket, websocket
from litestar.connection import ASGIConnection
from litestar.middleware.authentication import AuthenticationResult
from litestar.security.jwt import JWTAuth, OpenIDProvider, Token
from litestar.security.jwt.middleware import JWTAuthenticationMiddleware


class SubprotocolMiddleware(JWTAuthenticationMiddleware):
    """For pages that open ``new WebSocket(url, ["bearer", token])``."""

    async def authenticate_request(
        self,
        connection: ASGIConnection,
    ) -> AuthenticationResult:
        match connection.scope.get("subprotocols"):
            case ["bearer", str(token)]:
                return await self.authenticate_token(token, connection)
        return await super().authenticate_request(connection)


async def retrieve_user(token: Token, connection: ASGIConnection) -> str:
    return token.sub


@websocket("/chat")
async def chat(socket: WebSocket[str, Token, Any]) -> None:
    await socket.accept(subprotocols="bearer")  # browsers insist on one of theirs
    await socket.send_text(f"Hello {socket.user}")
    await socket.close()


jwt_auth = JWTAuth[str, Token](
    retrieve_user_handler=retrieve_user,
    key_provider=OpenIDProvider("https://idp.example.com"),
    accepted_audiences=["my-api"],
    authentication_middleware_class=SubprotocolMiddleware,
    exclude=["^/schema"],
)

app = Litestar([chat], on_app_init=[jwt_auth.on_app_init])
