from litestar import Litestar, get
from litestar.connection import ASGIConnection
from litestar.security.jwt import JWTAuth, OpenIDProvider, Token, requires_scopes


async def retrieve_user(token: Token, connection: ASGIConnection) -> str:
    return token.sub


can_read = requires_scopes("read:messages", claims=["scope", "permissions"])


@get("/messages", guards=[can_read])
async def messages() -> list[str]:
    return ["Hello"]


jwt_auth = JWTAuth[str, Token](
    retrieve_user_handler=retrieve_user,
    key_provider=OpenIDProvider("https://my-tenant.eu.auth0.com/"),
    accepted_audiences=["https://api.example.com"],
    exclude=["^/schema"],
)

app = Litestar([messages], on_app_init=[jwt_auth.on_app_init])
