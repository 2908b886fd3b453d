from typing import Any

import jwt

from litestar import Litestar, Request, get
from litestar.connection import ASGIConnection
from litestar.middleware.authentication import AuthenticationResult
from litestar.security.jwt import JWTAuth, Token
from litestar.security.jwt.middleware import JWTAuthenticationMiddleware

client = jwt.PyJWKClient("https://idp.example.com/keys")


class RotatingKeyMiddleware(JWTAuthenticationMiddleware):
    async def authenticate_token(
        self,
        encoded_token: str,
        connection: ASGIConnection,
    ) -> AuthenticationResult:
        # This blocks all other requests.
        key = client.get_signing_key_from_jwt(encoded_token)
        self.token_secret = key  # type: ignore[assignment]
        return await super().authenticate_token(encoded_token, connection)


async def retrieve_user(token: Token, connection: ASGIConnection) -> str:
    return token.sub


@get("/me")
async def me(request: Request[str, Token, Any]) -> str:
    return request.user


jwt_auth = JWTAuth[str, Token](
    retrieve_user_handler=retrieve_user,
    token_secret="not used",
    algorithm="RS256",
    authentication_middleware_class=RotatingKeyMiddleware,
    accepted_audiences=["my-api"],
    exclude=["^/schema"],
)

app = Litestar([me], on_app_init=[jwt_auth.on_app_init])
