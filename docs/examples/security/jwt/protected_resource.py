from typing import Any

from litestar import Litestar, Request, post
from litestar.connection import ASGIConnection
from litestar.security.jwt import JWTAuth, OpenIDProvider, Token

RESOURCE = "https://api.example.com/mcp"


async def retrieve_user(token: Token, connection: ASGIConnection) -> str:
    return token.sub


@post("/mcp")
async def mcp(request: Request[str, Token, Any]) -> dict[str, str]:
    return {"user": request.user}  # your MCP server answers here


jwt_auth = JWTAuth[str, Token](
    retrieve_user_handler=retrieve_user,
    key_provider=OpenIDProvider("https://idp.example.com"),
    accepted_audiences=[RESOURCE],
    protected_resource=RESOURCE,
    exclude=["^/schema"],
)

app = Litestar([mcp], on_app_init=[jwt_auth.on_app_init])
