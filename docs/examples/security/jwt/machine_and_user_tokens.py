from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from litestar import Litestar, Request, get
from litestar.connection import ASGIConnection
from litestar.security.jwt import JWTAuth, OpenIDProvider, Token, requires_scopes

TENANT_ID = "11111111-1111-1111-1111-111111111111"
CLIENT_ID = "22222222-2222-2222-2222-222222222222"
ISSUER = f"https://login.microsoftonline.com/{TENANT_ID}/v2.0"


@dataclass
class User:
    id: str


@dataclass
class Machine:
    client_id: str


async def retrieve_caller(token: Token, connection: ASGIConnection) -> User | Machine:
    if token.extras.get("idtyp") == "app":
        return Machine(client_id=token.extras["azp"])
    return User(id=token.sub)


@get("/orders", guards=[requires_scopes("Orders.Read")])
async def orders(request: Request[User | Machine, Token, Any]) -> list[str]:
    if isinstance(request.user, Machine):
        return ["all orders"]
    return [f"orders of {request.user.id}"]


jwt_auth = JWTAuth[User | Machine, Token](
    retrieve_user_handler=retrieve_caller,
    key_provider=OpenIDProvider(ISSUER, withdrawn_grace=timedelta(days=1)),
    accepted_audiences=[CLIENT_ID, f"api://{CLIENT_ID}"],
    exclude=["^/schema"],
)

app = Litestar([orders], on_app_init=[jwt_auth.on_app_init])
