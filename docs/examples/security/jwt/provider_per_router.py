from typing import Any

from litestar import Litestar, Request, Router, get
from litestar.connection import ASGIConnection
from litestar.di import Provide
from litestar.security.jwt import JWTAuth, OpenIDProvider, Token

STAFF = "https://idp.example.com"
PARTNER = "https://partner.example"


async def provide_partner() -> OpenIDProvider:
    return OpenIDProvider(PARTNER)


async def retrieve_user(token: Token, connection: ASGIConnection) -> str:
    return f"{token.sub} of {token.iss}"


@get("/me")
async def me(request: Request[str, Token, Any]) -> str:
    return request.user


jwt_auth = JWTAuth[str, Token](
    retrieve_user_handler=retrieve_user,
    key_provider=OpenIDProvider(STAFF),
    accepted_audiences={STAFF: ["my-api"], PARTNER: ["partner-api"]},
    exclude=["^/schema"],
)

partner = Router(
    "/partner",
    route_handlers=[me],
    dependencies={"key_provider": Provide(provide_partner)},
)

app = Litestar([me, partner], on_app_init=[jwt_auth.on_app_init])
