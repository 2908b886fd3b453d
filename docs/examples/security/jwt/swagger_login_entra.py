from datetime import timedelta
from typing import Any

from litestar import Litestar, Request, get
from litestar.connection import ASGIConnection
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import SwaggerRenderPlugin
from litestar.openapi.spec import Components, OAuthFlow, OAuthFlows, SecurityScheme
from litestar.security.jwt import JWTAuth, OpenIDProvider, Token

LOGIN = "https://login.microsoftonline.com/11111111-1111-1111-1111-111111111111"
CLIENT_ID = "22222222-2222-2222-2222-222222222222"
SCOPE = f"api://{CLIENT_ID}/access_as_user"

entra_id = SecurityScheme(
    type="oauth2",
    flows=OAuthFlows(
        authorization_code=OAuthFlow(
            authorization_url=f"{LOGIN}/oauth2/v2.0/authorize",
            token_url=f"{LOGIN}/oauth2/v2.0/token",
            scopes={SCOPE: "Use this API"},
        )
    ),
)
swagger = SwaggerRenderPlugin(
    init_oauth={
        "clientId": "33333333-3333-3333-3333-333333333333",
        "scopes": SCOPE,
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
    key_provider=OpenIDProvider(f"{LOGIN}/v2.0", withdrawn_grace=timedelta(days=1)),
    accepted_audiences=[CLIENT_ID, f"api://{CLIENT_ID}"],
    exclude=["^/schema"],
)

app = Litestar(
    [me],
    on_app_init=[jwt_auth.on_app_init],
    openapi_config=OpenAPIConfig(
        title="My API",
        version="1.0.0",
        components=Components(security_schemes={"Entra ID": entra_id}),
        security=[{"Entra ID": [SCOPE]}],
        render_plugins=[swagger],
    ),
)
