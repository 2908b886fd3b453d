from litestar import Litestar, get
from litestar.connection import ASGIConnection
from litestar.security.jwt import JWTAuth, OpenIDProvider, Token, requires_scopes


async def retrieve_user(token: Token, connection: ASGIConnection) -> str:
    return token.sub


@get("/articles", guards=[requires_scopes("editor", claims="realm_access.roles")])
async def articles() -> list[str]:
    return ["a draft"]


jwt_auth = JWTAuth[str, Token](
    retrieve_user_handler=retrieve_user,
    key_provider=OpenIDProvider("https://keycloak.example.com/realms/my-realm"),
    accepted_audiences=["my-api"],
    exclude=["^/schema"],
)

app = Litestar([articles], on_app_init=[jwt_auth.on_app_init])
