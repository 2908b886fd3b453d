from prometheus_client import CollectorRegistry, Counter, generate_latest

from litestar import Litestar, get
from litestar.connection import ASGIConnection
from litestar.security.jwt import JWTAuth, OpenIDProvider, Token, TokenRefused
from litestar.types import Scope

registry = CollectorRegistry()
refusals = Counter("jwt_refusals", "Refused requests", ["reason"], registry=registry)


async def count_refusal(exception: Exception, scope: Scope) -> None:
    if isinstance(exception.__cause__, TokenRefused):
        refusals.labels(exception.__cause__.reason.value).inc()


@get("/metrics", exclude_from_auth=True, media_type="text/plain")
async def metrics() -> bytes:
    return generate_latest(registry)


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
    [me, metrics],
    on_app_init=[jwt_auth.on_app_init],
    after_exception=[count_refusal],
)
