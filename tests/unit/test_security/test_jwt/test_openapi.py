"""What backends say about themselves in an OpenAPI document."""

from __future__ import annotations

import json
from typing import Any

import jwt
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from litestar import Litestar
from litestar.security.jwt import JWTAuth, JWTCookieAuth, OAuth2PasswordBearerAuth, UnverifiedToken
from litestar.security.jwt.testing import LocalIssuer
from tests.unit.test_security.test_jwt.backends import SECRET, backend, provide, retrieve_user, whoami

ISSUER = LocalIssuer(issuer="https://idp.test")
KEY = jwt.PyJWK(ISSUER.jwks["keys"][0])
HTTP_BEARER = {"type": "http", "scheme": "Bearer", "bearerFormat": "JWT"}
URL = "https://idp.test/.well-known/openid-configuration"


class Discovering:
    """A provider that has found its keys by way of a discovery document."""

    openid_connect_url = URL

    def __call__(self, token: UnverifiedToken) -> Any:
        return KEY


SCHEMES: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "key": ({"key_provider": KEY}, HTTP_BEARER),
    "function": ({"key_provider": ISSUER.key_provider}, HTTP_BEARER),
    "dependency": ({"key_provider": provide(KEY)}, HTTP_BEARER),
    "discovery": ({"key_provider": Discovering()}, {"type": "openIdConnect", "openIdConnectUrl": URL}),
    "other scheme": ({"key_provider": KEY, "auth_scheme": "DPoP"}, {"type": "http", "scheme": "DPoP"}),
    "bare": ({"key_provider": KEY, "auth_scheme": ""}, {"type": "apiKey", "name": "Authorization", "in": "header"}),
}


def document_of(auth: Any) -> dict[str, Any]:
    """Return the OpenAPI document of an application, as clients get it."""
    app = Litestar([whoami], on_app_init=[auth.on_app_init])
    document: dict[str, Any] = json.loads(json.dumps(app.openapi_schema.to_schema()))
    return document


@pytest.mark.parametrize("backend_class", [JWTAuth, JWTCookieAuth])
@pytest.mark.parametrize("name", SCHEMES)
def test_security_scheme_shows_where_tokens_come_from(name: str, backend_class: Any) -> None:
    options, scheme = SCHEMES[name]
    auth = backend_class(retrieve_user_handler=retrieve_user, accepted_audiences=[], description="Log in.", **options)
    document = document_of(auth)
    OpenAPIV31SpecValidator(document).validate()
    assert document["components"]["securitySchemes"] == {"BearerToken": {**scheme, "description": "Log in."}}
    assert document["security"] == [{"BearerToken": []}]
    assert "parameters" not in document["paths"]["/"]["get"]


def test_key_provider_does_not_change_a_password_flow() -> None:
    options: Any = {"token_url": "/login", "oauth_scopes": {"read": "Read"}, "retrieve_user_handler": retrieve_user}
    own = document_of(OAuth2PasswordBearerAuth(SECRET, **options))["components"]
    provided: OAuth2PasswordBearerAuth[str] = OAuth2PasswordBearerAuth(
        key_provider=Discovering(), accepted_audiences=[], **options
    )
    flows = own["securitySchemes"]["BearerToken"]["flows"]
    assert flows == {"password": {"tokenUrl": "/login", "scopes": {"read": "Read"}}}
    assert document_of(provided)["components"] == own


def test_header_has_the_scheme_of_bearer_tokens_beside_discovery() -> None:
    assert backend(Discovering()).format_auth_header("token") == "Bearer token"
