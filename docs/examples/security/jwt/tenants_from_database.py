from typing import Any

from litestar import Litestar, Request, get
from litestar.connection import ASGIConnection
from litestar.security.jwt import IssuerKeyProvider, JWTAuth, OpenIDProvider, Token

# In a real application, this is a database table.
TENANTS = {"https://login.contoso.example": "Contoso"}


async def load_tenant(issuer: str) -> str | None:
    return TENANTS.get(issuer)


async def provider_of(issuer: str) -> OpenIDProvider | None:
    return OpenIDProvider(issuer) if await load_tenant(issuer) else None


async def retrieve_user(token: Token, connection: ASGIConnection) -> str | None:
    tenant = await load_tenant(str(token.iss))
    return tenant and f"{token.sub} of {tenant}"


@get("/me")
async def me(request: Request[str, Token, Any]) -> str:
    return request.user


jwt_auth = JWTAuth[str, Token](
    retrieve_user_handler=retrieve_user,
    key_provider=IssuerKeyProvider(provider_of),
    accepted_audiences=["my-api"],
    exclude=["^/schema"],
)

app = Litestar([me], on_app_init=[jwt_auth.on_app_init])
