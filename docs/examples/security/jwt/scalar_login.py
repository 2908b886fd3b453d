from typing import Any

from litestar import Litestar, Request, get
from litestar.connection import ASGIConnection
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import ScalarRenderPlugin
from litestar.openapi.spec import Components, OAuthFlow, OAuthFlows, SecurityScheme
from litestar.security.jwt import JWTAuth, OpenIDProvider, Token

ISSUER = "https://keycloak.example.com/realms/my-realm"
ENDPOINTS = f"{ISSUER}/protocol/openid-connect"

login = SecurityScheme(
    type="oauth2",
    flows=OAuthFlows(
        authorization_code=OAuthFlow(
            authorization_url=f"{ENDPOINTS}/auth",
            token_url=f"{ENDPOINTS}/token",
            scopes={"openid": "Log in"},
        )
    ),
)
client = {
    "x-scalar-client-id": "api-docs",
    "x-usePkce": "SHA-256",
    "selectedScopes": ["openid"],
}
scalar = ScalarRenderPlugin(
    options={
        "authentication": {
            "preferredSecurityScheme": "Keycloak",
            "securitySchemes": {"Keycloak": {"flows": {"authorizationCode": client}}},
        }
    }
)
openapi_config = OpenAPIConfig(
    title="My API",
    version="1.0.0",
    components=Components(security_schemes={"Keycloak": login}),
    security=[{"Keycloak": ["openid"]}],
    render_plugins=[scalar],
)


async def retrieve_user(token: Token, connection: ASGIConnection) -> str:
    return token.sub


@get("/me")
async def me(request: Request[str, Token, Any]) -> str:
    return request.user


jwt_auth = JWTAuth[str, Token](
    retrieve_user_handler=retrieve_user,
    key_provider=OpenIDProvider(ISSUER),
    accepted_audiences=["my-api"],
    exclude=["^/schema"],
)

app = Litestar([me], on_app_init=[jwt_auth.on_app_init], openapi_config=openapi_config)
