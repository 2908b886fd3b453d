from typing import Any

from litestar import Litestar, Request, get
from litestar.connection import ASGIConnection
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import SwaggerRenderPlugin
from litestar.security.jwt import JWTAuth, OpenIDProvider, Token

swagger = SwaggerRenderPlugin(
    init_oauth={
        "clientId": "api-docs",
        "scopes": "openid",
        "usePkceWithAuthorizationCodeGrant": True,
    }
)


async def retrieve_user(token: Token, connection: ASGIConnection) -> str:
    return token.sub


@get("/me")
async def me(request: Request[str, Token, Any]) -> str:
    return request.user


jwt_auth = JWTAuth[str, Token](
    retrieve_user_handler=retrieve_user,
    key_provider=OpenIDProvider("https://keycloak.example.com/realms/my-realm"),
    accepted_audiences=["my-api"],
    exclude=["^/schema"],
)

app = Litestar(
    [me],
    on_app_init=[jwt_auth.on_app_init],
    openapi_config=OpenAPIConfig(
        title="My API",
        version="1.0.0",
        render_plugins=[swagger],
    ),
)
