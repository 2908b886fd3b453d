import os
from dataclasses import dataclass
from typing import Any

from litestar import Litestar, Request, get
from litestar.connection import ASGIConnection
from litestar.di import Provide
from litestar.security.jwt import JWTAuth, OpenIDProvider, Token


@dataclass
class Settings:
    issuer: str


async def provide_settings() -> Settings:
    return Settings(issuer=os.environ["ISSUER"])


async def provide_key_provider(settings: Settings) -> OpenIDProvider:
    return OpenIDProvider(settings.issuer)


async def retrieve_user(token: Token, connection: ASGIConnection) -> str:
    return token.sub


@get("/me")
async def me(request: Request[str, Token, Any]) -> str:
    return request.user


jwt_auth = JWTAuth[str, Token](
    retrieve_user_handler=retrieve_user,
    key_provider=Provide(provide_key_provider),
    accepted_audiences=["my-api"],
    exclude=["^/schema"],
)

app = Litestar(
    [me],
    dependencies={"settings": Provide(provide_settings)},
    on_app_init=[jwt_auth.on_app_init],
)
