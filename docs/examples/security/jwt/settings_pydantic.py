from datetime import timedelta
from typing import Any

from pydantic_settings import BaseSettings, SettingsConfigDict

from litestar import Litestar, Request, get
from litestar.connection import ASGIConnection
from litestar.security.jwt import JWTAuth, OpenIDProvider, Token


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_file=".env")

    tenant_id: str
    client_id: str

    @property
    def issuer(self) -> str:
        return f"https://login.microsoftonline.com/{self.tenant_id}/v2.0"


async def retrieve_user(token: Token, connection: ASGIConnection) -> str:
    return token.sub


@get("/me")
async def me(request: Request[str, Token, Any]) -> str:
    return request.user


def create_app() -> Litestar:
    settings = Settings()  # type: ignore[call-arg]
    jwt_auth = JWTAuth[str, Token](
        retrieve_user_handler=retrieve_user,
        key_provider=OpenIDProvider(settings.issuer, withdrawn_grace=timedelta(days=1)),
        accepted_audiences=[settings.client_id, f"api://{settings.client_id}"],
        exclude=["^/schema"],
    )
    return Litestar([me], on_app_init=[jwt_auth.on_app_init])
