from hashlib import sha256
from typing import Any

from litestar import Litestar, Request, get
from litestar.connection import ASGIConnection
from litestar.exceptions import NotAuthorizedException
from litestar.middleware.authentication import AuthenticationResult
from litestar.security.jwt import JWTAuth, OpenIDProvider, Token
from litestar.security.jwt.middleware import JWTAuthenticationMiddleware

# In a real application, this is a database table. It has the hashes of keys that
# 'secrets.token_urlsafe(32)' made. For passwords, a plain hash is too weak.
CLIENTS: dict[str, str] = {}


class ApiKeyOrTokenMiddleware(JWTAuthenticationMiddleware):
    async def authenticate_request(
        self,
        connection: ASGIConnection,
    ) -> AuthenticationResult:
        api_key = connection.headers.get("X-API-Key")
        if api_key is None:
            return await super().authenticate_request(connection)
        client = CLIENTS.get(sha256(api_key.encode()).hexdigest())
        if client is None:
            raise NotAuthorizedException
        # There is no token: 'requires_scopes' refuses API keys.
        return AuthenticationResult(user=f"client {client}", auth=None)


async def retrieve_user(token: Token, connection: ASGIConnection) -> str:
    return f"user {token.sub}"


@get("/me")
async def me(request: Request[str, Token | None, Any]) -> str:
    return request.user


jwt_auth = JWTAuth[str, Token](
    retrieve_user_handler=retrieve_user,
    key_provider=OpenIDProvider("https://idp.example.com"),
    accepted_audiences=["my-api"],
    authentication_middleware_class=ApiKeyOrTokenMiddleware,
    exclude=["^/schema"],
)

app = Litestar([me], on_app_init=[jwt_auth.on_app_init])
