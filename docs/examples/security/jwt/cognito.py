from dataclasses import dataclass

from litestar import Litestar, get
from litestar.connection import ASGIConnection
from litestar.security.jwt import JWTAuth, OpenIDProvider, Token, requires_scopes

POOL = "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_Example"
CLIENT_ID = "1example23456789"


@dataclass
class CognitoToken(Token):
    client_id: str = ""
    token_use: str = ""


async def retrieve_user(token: CognitoToken, connection: ASGIConnection) -> str | None:
    if token.token_use != "access" or token.client_id != CLIENT_ID:
        return None
    return token.sub


@get("/reports", guards=[requires_scopes("staff", claims="cognito:groups")])
async def reports() -> list[str]:
    return ["a report"]


jwt_auth = JWTAuth[str, CognitoToken](
    retrieve_user_handler=retrieve_user,
    key_provider=OpenIDProvider(POOL),
    token_cls=CognitoToken,
    accepted_audiences="*",  # access tokens have no audience: see retrieve_user
    exclude=["^/schema"],
)

app = Litestar([reports], on_app_init=[jwt_auth.on_app_init])
