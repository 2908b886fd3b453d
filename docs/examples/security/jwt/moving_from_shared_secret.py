import os
from typing import Any

from litestar import Litestar, Request, Response, get, post
from litestar.connection import ASGIConnection
from litestar.security.jwt import JWTAuth, SigningKey, Token


async def retrieve_user(token: Token, connection: ASGIConnection) -> str:
    return token.sub


@get("/me")
async def me(request: Request[str, Token, Any]) -> str:
    return request.user


def create_app() -> Litestar:
    # This was the shared secret. Now it is the PEM of a private key.
    key = SigningKey(os.environ["JWT_PRIVATE_KEY"])
    jwt_auth = JWTAuth[str, Token](
        retrieve_user_handler=retrieve_user,
        token_secret=key,
        key_provider=key,
        accepted_audiences=["my-api"],
        exclude=["^/login", "^/schema"],
    )

    @post("/login")
    async def login() -> Response[Any]:
        # Verify a password here.
        return jwt_auth.login(
            "alice",
            token_audience="my-api",
            send_token_as_response_body=True,
        )

    return Litestar([login, me], on_app_init=[jwt_auth.on_app_init])
