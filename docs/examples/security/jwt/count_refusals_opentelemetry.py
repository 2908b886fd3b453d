from opentelemetry.metrics import get_meter

from litestar import Litestar, get
from litestar.connection import ASGIConnection
from litestar.security.jwt import JWTAuth, OpenIDProvider, Token, TokenRefused
from litestar.types import Scope

meter = get_meter("my-api")
refusals = meter.create_counter("jwt.refusals", description="Refused requests")


async def count_refusal(exception: Exception, scope: Scope) -> None:
    if isinstance(exception.__cause__, TokenRefused):
        refusals.add(1, {"reason": exception.__cause__.reason.value})


async def retrieve_user(token: Token, connection: ASGIConnection) -> str:
    return token.sub


@get("/me")
async def me() -> str:
    return "secret"


jwt_auth = JWTAuth[str, Token](
    retrieve_user_handler=retrieve_user,
    key_provider=OpenIDProvider("https://idp.example.com"),
    accepted_audiences=["my-api"],
    exclude=["^/schema"],
)

app = Litestar(
    [me],
    on_app_init=[jwt_auth.on_app_init],
    after_exception=[count_refusal],
)
