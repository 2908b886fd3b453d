import os
from contextlib import suppress
from typing import Any

from litestar import Litestar, Request, get
from litestar.connection import ASGIConnection
from litestar.exceptions import NotAuthorizedException
from litestar.middleware.authentication import AuthenticationResult
from litestar.security.jwt import (
    JWTAuth,
    OpenIDProvider,
    Token,
    TokenRefused,
    UnverifiedToken,
)
from litestar.security.jwt.middleware import JWTAuthenticationMiddleware


async def retrieve_user(token: Token, connection: ASGIConnection) -> str | None:
    # The issuer may use the same 'sub' for somebody else.
    return f"{'local' if token.iss is None else token.iss} {token.sub}"


# Tokens that the application issued before it moved over. They have no audience.
local_auth = JWTAuth[str, Token](
    retrieve_user_handler=retrieve_user,
    key_provider=os.environ["JWT_SECRET"],
    key_algorithms="HS256",
    accepted_audiences="*",
)


def is_local(encoded_token: str) -> bool:
    with suppress(TokenRefused):
        return UnverifiedToken(encoded_token).algorithm == "HS256"
    return False


class EitherMiddleware(JWTAuthenticationMiddleware):
    """Only chooses the backend. Each has keys and algorithms of its own."""

    async def authenticate_token(
        self,
        encoded_token: str,
        connection: ASGIConnection,
    ) -> AuthenticationResult:
        if not is_local(encoded_token):
            return await super().authenticate_token(encoded_token, connection)
        token = await local_auth.verify(encoded_token, connection=connection)
        user = await retrieve_user(token, connection)
        if user is None:
            raise NotAuthorizedException
        return AuthenticationResult(user=user, auth=token)


@get("/me")
async def me(request: Request[str, Token, Any]) -> str:
    return request.user


jwt_auth = JWTAuth[str, Token](
    retrieve_user_handler=retrieve_user,
    key_provider=OpenIDProvider("https://idp.example.com"),
    accepted_audiences=["my-api"],
    authentication_middleware_class=EitherMiddleware,
    exclude=["^/schema"],
)

app = Litestar([me], on_app_init=[jwt_auth.on_app_init])
