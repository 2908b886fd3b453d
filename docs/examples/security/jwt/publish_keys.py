import os
from pathlib import Path
from typing import Any

from litestar import Litestar, Response, post
from litestar.connection import ASGIConnection
from litestar.params import FromPath
from litestar.security.jwt import JWTAuth, Token, create_jwks_handler


async def retrieve_user(token: Token, connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    return token.sub


def create_app() -> Litestar:
    issuer = os.environ["ISSUER"]  # such as https://login.example.com
    keys = [Path(name).read_text() for name in os.environ["SIGNING_KEYS"].split(os.pathsep)]  # the first one signs
    jwt_auth = JWTAuth[str, Token](retrieve_user_handler=retrieve_user, token_secret=keys)

    @post("/login/{name:str}", exclude_from_auth=True)
    async def login(name: FromPath[str]) -> Response[None]:  # verify a password here
        return jwt_auth.login(name, token_issuer=issuer, token_audience="orders")

    return Litestar([login, create_jwks_handler(keys, issuer=issuer)], on_app_init=[jwt_auth.on_app_init])
