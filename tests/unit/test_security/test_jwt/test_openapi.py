"""What backends say about themselves in an OpenAPI document."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from litestar import Request
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig
from litestar.security.jwt import JWTAuth, JWTCookieAuth, OAuth2PasswordBearerAuth

from .backends import ISSUER, Issuer, app_of, backend, own_backend

KEY = ISSUER.key
HTTP_BEARER = {"type": "http", "scheme": "Bearer", "bearerFormat": "JWT"}
URL = "https://idp.test/.well-known/openid-configuration"


def keys_for(request: Request[Any, Any, Any], query: Any, limit: int = 1) -> Any:
    return KEY


class Discovering:
    openid_connect_url = URL
    __call__ = Issuer.key_provider


SCHEMES: dict[str, tuple[Any, dict[str, Any], dict[str, str]]] = {
    "key": (KEY, {}, HTTP_BEARER),
    "function": (ISSUER.key_provider, {}, HTTP_BEARER),
    "dependency": (Provide(keys_for, sync_to_thread=False), {}, HTTP_BEARER),
    "discovery": (Discovering(), {}, {"type": "openIdConnect", "openIdConnectUrl": URL}),
    "other scheme": (KEY, {"auth_scheme": "DPoP"}, {"type": "http", "scheme": "DPoP"}),
    "bare": (KEY, {"auth_scheme": ""}, {"type": "apiKey", "name": "Authorization", "in": "header"}),
}


def document_of(auth: Any) -> Any:
    """Return the OpenAPI document of an application, as clients get it."""
    app = app_of(auth, openapi_config=OpenAPIConfig(title="API", version="1"))
    return json.loads(json.dumps(app.openapi_schema.to_schema()))


@pytest.mark.parametrize("kind", [JWTAuth, JWTCookieAuth])
@pytest.mark.parametrize("name", SCHEMES)
def test_security_scheme_shows_where_tokens_come_from(name: str, kind: Any) -> None:
    key_provider, options, scheme = SCHEMES[name]
    auth = backend(key_provider, kind, description="Log in.", **options)
    document = document_of(auth)
    OpenAPIV31SpecValidator(document).validate()
    assert document["components"]["securitySchemes"] == {"BearerToken": {**scheme, "description": "Log in."}}
    assert document["security"] == [{"BearerToken": []}]
    assert auth.format_auth_header("token") == f"{options.get('auth_scheme', 'Bearer')} token".lstrip()
    assert not {"parameters", "requestBody"} & document["paths"]["/"]["get"].keys()


def test_key_provider_does_not_change_a_password_flow() -> None:
    scopes = {"read": "Read"}
    own = document_of(own_backend(OAuth2PasswordBearerAuth, oauth_scopes=scopes))["components"]
    flows = own["securitySchemes"]["BearerToken"]["flows"]
    assert flows == {"password": {"tokenUrl": "/login", "scopes": scopes}}
    assert document_of(backend(Discovering(), OAuth2PasswordBearerAuth, oauth_scopes=scopes))["components"] == own
