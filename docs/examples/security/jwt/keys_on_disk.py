import json
import os
from pathlib import Path
from typing import Any

from litestar import Litestar, Request, get
from litestar.connection import ASGIConnection
from litestar.security.jwt import JWTAuth, Token, UnverifiedToken


async def retrieve_user(token: Token, connection: ASGIConnection) -> str:
    return token.sub


@get("/me")
async def me(request: Request[str, Token, Any]) -> str:
    return request.user


def create_app() -> Litestar:
    file = Path(os.environ["JWKS_FILE"])  # a JWK Set in a mounted secret or volume

    def read_keys(token: UnverifiedToken) -> Any:
        # Read for each request, so a new file counts at once. If there is none, the
        # error is an OSError, and the response is 503.
        return json.loads(file.read_bytes())

    jwt_auth = JWTAuth[str, Token](
        retrieve_user_handler=retrieve_user,
        key_provider=read_keys,
        key_algorithms="ES256",
        accepted_issuers=["https://idp.example.com"],
        accepted_audiences=["my-api"],
        exclude=["^/schema"],
    )
    return Litestar([me], on_app_init=[jwt_auth.on_app_init])
