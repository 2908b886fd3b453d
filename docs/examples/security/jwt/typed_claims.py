from dataclasses import dataclass, field
from typing import Any

from litestar import Litestar, Request, get
from litestar.connection import ASGIConnection
from litestar.security.jwt import JWTAuth, OpenIDProvider, Token


@dataclass
class MyToken(Token):
    email: str = ""
    email_verified: bool = False
    groups: list[str] = field(default_factory=list)


@dataclass
class User:
    email: str
    groups: list[str]


async def retrieve_user(token: MyToken, connection: ASGIConnection) -> User | None:
    if not token.email_verified:
        return None
    return User(email=token.email, groups=token.groups)


@get("/me")
async def me(request: Request[User, MyToken, Any]) -> User:
    return request.user


jwt_auth = JWTAuth[User, MyToken](
    retrieve_user_handler=retrieve_user,
    key_provider=OpenIDProvider("https://idp.example.com"),
    token_cls=MyToken,
    accepted_audiences=["my-api"],
    exclude=["^/schema"],
)

app = Litestar([me], on_app_init=[jwt_auth.on_app_init])
