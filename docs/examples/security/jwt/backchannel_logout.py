from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, Any

from litestar import Litestar, Request, Response, get, post
from litestar.connection import ASGIConnection
from litestar.enums import RequestEncodingType
from litestar.exceptions import ClientException, NotAuthorizedException
from litestar.params import Body
from litestar.security.jwt import JWTAuth, OpenIDProvider, Token
from litestar.stores.redis import RedisStore

EVENT = "http://schemas.openid.net/event/backchannel-logout"
LONGEST_TOKEN = timedelta(days=1)  # no access token of the issuer is valid for longer
keys = OpenIDProvider("https://idp.example.com")


@dataclass
class LogoutToken(Token):
    sid: str = ""
    events: dict[str, Any] = field(default_factory=dict)


async def retrieve_user(token: Token, connection: ASGIConnection) -> str:
    return token.sub


async def is_logged_out(token: Token, connection: ASGIConnection) -> bool:
    store = connection.app.stores.get("logged_out")
    return await store.exists(str(token.extras["sid"]))


jwt_auth = JWTAuth[str, Token](
    retrieve_user_handler=retrieve_user,
    revoked_token_handler=is_logged_out,
    key_provider=keys,
    require_claims=["sid"],
    accepted_audiences=["my-api"],
    exclude=["^/schema"],
)
logout_auth = JWTAuth[str, LogoutToken](
    retrieve_user_handler=retrieve_user,
    key_provider=keys,
    token_cls=LogoutToken,
    accepted_types="logout+jwt",
    require_claims=["sid"],
    accepted_audiences=["my-client"],  # the ID of the client that users log in with
)


@post("/logout", exclude_from_auth=True, status_code=200)
async def log_out(
    data: Annotated[dict[str, str], Body(media_type=RequestEncodingType.URL_ENCODED)],
    request: Request[Any, Any, Any],
) -> Response[None]:
    """OpenID Connect Back-Channel Logout 1.0: the issuer calls this."""
    try:
        encoded = data.get("logout_token", "")
        token = await logout_auth.verify(encoded, connection=request)
    except NotAuthorizedException as e:
        raise ClientException("Invalid logout token") from e
    if EVENT not in token.events or "nonce" in token.extras:
        raise ClientException("Not a logout token")
    store = request.app.stores.get("logged_out")
    await store.set(token.sid, b"", expires_in=LONGEST_TOKEN)
    return Response(None, headers={"Cache-Control": "no-store"})


@get("/me")
async def me(request: Request[str, Token, Any]) -> str:
    return request.user


app = Litestar(
    [log_out, me],
    on_app_init=[jwt_auth.on_app_init],
    stores={"logged_out": RedisStore.with_client("redis://localhost:6379")},
)
