from dataclasses import dataclass
from typing import Any

from litestar import Litestar, Request, get
from litestar.connection import ASGIConnection
from litestar.security.jwt import JWTAuth, OpenIDProvider, Token

CLIENT_ID = "1example23456789"


@dataclass
class CognitoToken(Token):
    client_id: str = ""
    token_use: str = ""


async def retrieve_user(token: CognitoToken, connection: ASGIConnection[Any, Any, Any, Any]) -> str | None:
    if token.token_use != "access" or token.client_id != CLIENT_ID:
        return None
    return token.sub


@get("/me")
async def me(request: Request[str, CognitoToken, Any]) -> str:
    return request.user


jwt_auth = JWTAuth[str, CognitoToken](
    retrieve_user_handler=retrieve_user,
    key_provider=OpenIDProvider("https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_Example"),
    token_cls=CognitoToken,
    # The access tokens of Cognito have none. 'retrieve_user' checks the client instead.
    accepted_audiences=[],
)

app = Litestar([me], on_app_init=[jwt_auth.on_app_init])
