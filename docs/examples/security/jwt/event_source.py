from collections.abc import AsyncIterator
from typing import Any

from litestar import Litestar, Request, get
from litestar.connection import ASGIConnection
from litestar.middleware.authentication import AuthenticationResult
from litestar.response import ServerSentEvent
from litestar.security.jwt import JWTAuth, OpenIDProvider, Token
from litestar.security.jwt.middleware import JWTAuthenticationMiddleware


class QueryMiddleware(JWTAuthenticationMiddleware):
    """For pages that open ``new EventSource("/events?access_token=" + token)``.

    Proxies log URLs. So only routes that say so take such a token, and it should live
    for minutes.
    """

    async def authenticate_request(
        self,
        connection: ASGIConnection,
    ) -> AuthenticationResult:
        token = connection.query_params.get("access_token")
        if token and connection.route_handler.opt.get("token_in_query") is True:
            return await self.authenticate_token(token, connection)
        return await super().authenticate_request(connection)


async def retrieve_user(token: Token, connection: ASGIConnection) -> str:
    return token.sub


async def greet(name: str) -> AsyncIterator[str]:
    yield f"Hello {name}"


@get("/events", opt={"token_in_query": True})
async def events(request: Request[str, Token, Any]) -> ServerSentEvent:
    return ServerSentEvent(greet(request.user))


@get("/me")
async def me(request: Request[str, Token, Any]) -> str:
    return request.user


jwt_auth = JWTAuth[str, Token](
    retrieve_user_handler=retrieve_user,
    key_provider=OpenIDProvider("https://idp.example.com"),
    accepted_audiences=["my-api"],
    authentication_middleware_class=QueryMiddleware,
    exclude=["^/schema"],
)

app = Litestar([events, me], on_app_init=[jwt_auth.on_app_init])
