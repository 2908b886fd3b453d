import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from litestar import Litestar, Request, get
from litestar.connection import ASGIConnection
from litestar.security.jwt import JWTAuth, OpenIDProvider, Token


@dataclass
class Settings:
    issuer: str
    client_id: str

    @classmethod
    def from_environment(cls) -> "Settings":
        tenant_id = os.environ["TENANT_ID"]
        return cls(
            issuer=f"https://login.microsoftonline.com/{tenant_id}/v2.0",
            client_id=os.environ["CLIENT_ID"],
        )


@dataclass
class User:
    id: str


async def retrieve_user(token: Token, connection: ASGIConnection) -> User:
    return User(id=token.sub)


@get("/me")
async def me(request: Request[User, Token, Any]) -> User:
    return request.user


def create_app(settings: Settings | None = None) -> Litestar:
    settings = settings or Settings.from_environment()
    jwt_auth = JWTAuth[User, Token](
        retrieve_user_handler=retrieve_user,
        key_provider=OpenIDProvider(settings.issuer, withdrawn_grace=timedelta(days=1)),
        accepted_audiences=[settings.client_id, f"api://{settings.client_id}"],
        exclude=["^/schema"],
    )
    return Litestar([me], on_app_init=[jwt_auth.on_app_init])
