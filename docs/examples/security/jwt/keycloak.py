from dataclasses import dataclass, field
from typing import Any

from litestar import Litestar, get
from litestar.connection import ASGIConnection
from litestar.exceptions import PermissionDeniedException
from litestar.handlers import BaseRouteHandler
from litestar.security.jwt import JWTAuth, OpenIDProvider, Token


@dataclass
class KeycloakToken(Token):
    azp: str = ""
    realm_access: dict[str, list[str]] = field(default_factory=dict)


async def retrieve_user(token: KeycloakToken, connection: ASGIConnection[Any, Any, Any, Any]) -> str | None:
    return token.sub if token.azp == "my-frontend" else None


def requires_editor(connection: ASGIConnection[Any, Any, KeycloakToken, Any], handler: BaseRouteHandler) -> None:
    if "editor" not in connection.auth.realm_access.get("roles", []):
        raise PermissionDeniedException("This takes the realm role 'editor'")


@get("/articles", guards=[requires_editor])
async def articles() -> list[str]:
    return ["a draft"]


jwt_auth = JWTAuth[str, KeycloakToken](
    retrieve_user_handler=retrieve_user,
    key_provider=OpenIDProvider("https://keycloak.example.com/realms/my-realm"),
    token_cls=KeycloakToken,
    # An audience mapper of the client puts it there.
    accepted_audiences=["my-api"],
)

app = Litestar([articles], on_app_init=[jwt_auth.on_app_init])
