import os
from pathlib import Path

from litestar import Litestar, Response, post
from litestar.connection import ASGIConnection
from litestar.params import FromPath
from litestar.security.jwt import JWTAuth, SigningKey, Token, create_jwks_handler


async def retrieve_user(token: Token, connection: ASGIConnection) -> str:
    return token.sub


def create_app() -> Litestar:
    issuer = os.environ["ISSUER"]  # such as https://login.example.com
    files = os.environ["SIGNING_KEYS"].split(os.pathsep)
    keys = [SigningKey(Path(file).read_text()) for file in files]  # the first signs
    jwt_auth = JWTAuth[str, Token](
        retrieve_user_handler=retrieve_user,
        token_secret=keys[0],
        key_provider=[key.jwk for key in keys],
        accepted_issuers=[issuer],
        accepted_audiences=["orders"],
        exclude=["^/schema"],
    )

    @post("/login/{name:str}", exclude_from_auth=True)
    async def login(name: FromPath[str]) -> Response[None]:
        # Verify a password here.
        return jwt_auth.login(name, token_issuer=issuer, token_audience="orders")

    return Litestar(
        [login, create_jwks_handler(keys, issuer=issuer)],
        on_app_init=[jwt_auth.on_app_init],
    )
