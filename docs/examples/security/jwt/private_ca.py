import os
import ssl
from typing import Any

import httpx2

from litestar import Litestar, Request, get
from litestar.connection import ASGIConnection
from litestar.security.jwt import JWTAuth, OpenIDProvider, Token


async def retrieve_user(token: Token, connection: ASGIConnection) -> str:
    return token.sub


@get("/me")
async def me(request: Request[str, Token, Any]) -> str:
    return request.user


def create_app() -> Litestar:
    client = httpx2.AsyncClient(
        verify=ssl.create_default_context(cafile=os.environ["COMPANY_CA"]),
        proxy=os.environ["COMPANY_PROXY"],
    )
    jwt_auth = JWTAuth[str, Token](
        retrieve_user_handler=retrieve_user,
        key_provider=OpenIDProvider("https://idp.example.com", client=client),
        accepted_audiences=["my-api"],
        exclude=["^/schema"],
    )
    return Litestar(
        [me],
        on_app_init=[jwt_auth.on_app_init],
        on_shutdown=[client.aclose],
    )
