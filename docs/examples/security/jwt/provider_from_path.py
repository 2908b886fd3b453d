from typing import Any

from litestar import Litestar, Request, get
from litestar.connection import ASGIConnection
from litestar.exceptions import NotFoundException
from litestar.params import FromPath
from litestar.security.jwt import JWTAuth, OpenIDProvider, Token, UnverifiedToken

# A provider keeps the keys that it has fetched, so create it once for all requests.
PROVIDERS = {
    "contoso": OpenIDProvider("https://login.contoso.example"),
    "fabrikam": OpenIDProvider("https://login.fabrikam.example"),
}


async def provider_of_tenant(
    token: UnverifiedToken,
    connection: ASGIConnection,
) -> OpenIDProvider:
    provider = PROVIDERS.get(connection.path_params["tenant"])
    if provider is None:
        raise NotFoundException("There is no such tenant")
    return provider


async def retrieve_user(token: Token, connection: ASGIConnection) -> str:
    return token.sub


@get("/{tenant:str}/me")
async def me(request: Request[str, Token, Any], tenant: FromPath[str]) -> str:
    return f"{request.user} of {tenant}"


jwt_auth = JWTAuth[str, Token](
    retrieve_user_handler=retrieve_user,
    key_provider=provider_of_tenant,
    accepted_audiences=["my-api"],
    exclude=["^/schema"],
)

app = Litestar([me], on_app_init=[jwt_auth.on_app_init])
