from dataclasses import dataclass
from typing import Any

from litestar import Litestar, Request, get
from litestar.connection import ASGIConnection
from litestar.security.jwt import JWTAuth, OpenIDProvider, Token


@dataclass(kw_only=True)
class TenantAuth(JWTAuth[str, Token]):
    # A dataclass has a constructor of its own, which would require the secret.
    token_secret: str | None = None  # type: ignore[assignment]
    tenant: str


async def retrieve_user(token: Token, connection: ASGIConnection) -> str:
    return f"{token.sub} of {jwt_auth.tenant}"


@get("/me")
async def me(request: Request[str, Token, Any]) -> str:
    return request.user


jwt_auth = TenantAuth(
    tenant="Contoso",
    retrieve_user_handler=retrieve_user,
    key_provider=OpenIDProvider("https://idp.example.com"),
    accepted_audiences=["my-api"],
    exclude=["^/schema"],
)

app = Litestar([me], on_app_init=[jwt_auth.on_app_init])
