from typing import Any

from litestar import Litestar, Request, get
from litestar.connection import ASGIConnection
from litestar.di import Provide
from litestar.exceptions import NotFoundException
from litestar.params import FromPath
from litestar.security.jwt import JWTAuth, OpenIDProvider, Token

# A provider keeps the keys that it has fetched, so make it once, not for each request.
PROVIDERS = {
    "contoso": OpenIDProvider("https://login.contoso.example"),
    "fabrikam": OpenIDProvider("https://login.fabrikam.example"),
}


async def provide_key_provider(tenant: FromPath[str]) -> OpenIDProvider:
    if tenant not in PROVIDERS:
        raise NotFoundException("There is no such tenant")
    return PROVIDERS[tenant]


async def retrieve_user(token: Token, connection: ASGIConnection) -> str:
    return token.sub


@get("/{tenant:str}/me")
async def me(request: Request[str, Token, Any], tenant: FromPath[str]) -> str:
    return f"{request.user} of {tenant}"


jwt_auth = JWTAuth[str, Token](
    retrieve_user_handler=retrieve_user,
    key_provider=Provide(provide_key_provider),
    accepted_audiences=["my-api"],
    exclude=["^/schema"],
)

app = Litestar([me], on_app_init=[jwt_auth.on_app_init])
