from litestar import Litestar, get
from litestar.connection import ASGIConnection
from litestar.security.jwt import JWTAuth, OpenIDProvider, Token, requires_scopes


async def retrieve_user(token: Token, connection: ASGIConnection) -> str:
    return token.sub


@get("/messages", guards=[requires_scopes("messages.read")])
async def messages() -> list[str]:
    return ["Hello"]


jwt_auth = JWTAuth[str, Token](
    retrieve_user_handler=retrieve_user,
    key_provider=OpenIDProvider("https://my-company.okta.com/oauth2/default"),
    accepted_audiences=["api://default"],
    exclude=["^/schema"],
)

app = Litestar([messages], on_app_init=[jwt_auth.on_app_init])
