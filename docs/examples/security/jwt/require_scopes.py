from litestar import Litestar, get, post
from litestar.connection import ASGIConnection
from litestar.security.jwt import JWTAuth, OpenIDProvider, Token, requires_scopes


async def retrieve_user(token: Token, connection: ASGIConnection) -> str:
    return token.sub


@get("/orders", guards=[requires_scopes("orders.read")])
async def list_orders() -> list[str]:
    return ["tea"]


@post("/orders", guards=[requires_scopes("orders.write", "admin", any_of=True)])
async def add_order() -> None: ...


jwt_auth = JWTAuth[str, Token](
    retrieve_user_handler=retrieve_user,
    key_provider=OpenIDProvider("https://idp.example.com"),
    accepted_audiences=["my-api"],
    exclude=["^/schema"],
)

app = Litestar([list_orders, add_order], on_app_init=[jwt_auth.on_app_init])
