import os
from pathlib import Path
from typing import Any

from litestar import Litestar, Request, get
from litestar.connection import ASGIConnection
from litestar.security.jwt import JWTAuth, Token


def read_public_key() -> str:
    if path := os.environ.get("JWT_PUBLIC_KEY_FILE"):
        return Path(path).read_text()
    # Some tools store line breaks as two characters, a backslash and an n.
    return os.environ["JWT_PUBLIC_KEY"].replace("\\n", "\n")


async def retrieve_user(token: Token, connection: ASGIConnection) -> str:
    return token.sub


@get("/me")
async def me(request: Request[str, Token, Any]) -> str:
    return request.user


def create_app() -> Litestar:
    jwt_auth = JWTAuth[str, Token](
        retrieve_user_handler=retrieve_user,
        key_provider=read_public_key(),
        key_algorithms="RS256",
        accepted_issuers=["https://idp.example.com"],
        accepted_audiences=["my-api"],
        exclude=["^/schema"],
    )
    return Litestar([me], on_app_init=[jwt_auth.on_app_init])
