from __future__ import annotations

import json
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from litestar import Litestar
from litestar.security.jwt import (
    IssuerKeyProvider,
    JWTAuth,
    JWTCookieAuth,
    OAuth2PasswordBearerAuth,
    OpenIDProvider,
    RemoteJWKSet,
)
from litestar.security.jwt.testing import LocalIssuer
from tests.unit.test_security.test_jwt.injected import backend, provide, retrieve_user, whoami

ISSUER = LocalIssuer("https://idp.test")

HTTP_BEARER = {"type": "http", "scheme": "Bearer", "bearerFormat": "JWT"}
OPENID_CONNECT = {
    "type": "openIdConnect",
    "openIdConnectUrl": "https://idp.test/realms/demo/.well-known/openid-configuration",
}

PROVIDERS: dict[str, tuple[Any, dict[str, str]]] = {
    "key": (ISSUER.public_pem, HTTP_BEARER),
    "keys": ([ISSUER.pyjwk, ISSUER.private_key.public_key()], HTTP_BEARER),
    "function": (ISSUER.key_provider, HTTP_BEARER),
    "dependency": (provide(ISSUER.pyjwk), HTTP_BEARER),
    "key set": (RemoteJWKSet("https://idp.test/keys"), HTTP_BEARER),
    "issuers": (IssuerKeyProvider({"https://idp.test": OpenIDProvider("https://idp.test")}), HTTP_BEARER),
    "discovery": (OpenIDProvider("https://idp.test/realms/demo"), OPENID_CONNECT),
    "discovery elsewhere": (
        OpenIDProvider("https://login.test/{tenantid}", discovery_url=OPENID_CONNECT["openIdConnectUrl"]),
        OPENID_CONNECT,
    ),
    "metadata of OAuth": (
        OpenIDProvider("https://idp.test/realms/demo", well_known="oauth-authorization-server"),
        HTTP_BEARER,
    ),
}


def document_of(auth: Any) -> dict[str, Any]:
    """Return the OpenAPI document of an app, as clients get it."""
    app = Litestar([whoami], on_app_init=[auth.on_app_init])
    document: dict[str, Any] = json.loads(json.dumps(app.openapi_schema.to_schema()))
    return document


@pytest.mark.parametrize("backend_class", [JWTAuth, JWTCookieAuth])
@pytest.mark.parametrize("kind", PROVIDERS)
def test_security_scheme_shows_where_tokens_come_from(kind: str, backend_class: Any) -> None:
    key_provider, scheme = PROVIDERS[kind]
    auth = backend_class(retrieve_user_handler=retrieve_user, key_provider=key_provider, accepted_audiences=[])
    document = document_of(auth)
    OpenAPIV31SpecValidator(document).validate()
    described = {**scheme, "description": auth.description}
    assert document["components"]["securitySchemes"] == {"BearerToken": described}
    assert document["security"] == [{"BearerToken": []}]


@pytest.mark.parametrize("kind", PROVIDERS)
def test_header_has_the_scheme_of_bearer_tokens(kind: str) -> None:
    assert backend(PROVIDERS[kind][0]).format_auth_header("token") == "Bearer token"


def test_name_and_description_are_those_of_the_backend() -> None:
    auth = backend(PROVIDERS["discovery"][0], openapi_security_scheme_name="Demo", description="Log in first.")
    document = document_of(auth)
    OpenAPIV31SpecValidator(document).validate()
    assert document["components"]["securitySchemes"] == {"Demo": {**OPENID_CONNECT, "description": "Log in first."}}
    assert auth.format_auth_header("token") == "Bearer token"


def test_login_answers_with_a_bearer_token_beside_discovery() -> None:
    auth = backend(PROVIDERS["discovery"][0], token_secret=ISSUER.private_key)
    assert auth.login("alice").headers["Authorization"].startswith("Bearer ey")


@pytest.mark.parametrize("kind", PROVIDERS)
def test_password_flow_stays_what_it_is(kind: str) -> None:
    auth: OAuth2PasswordBearerAuth[str] = OAuth2PasswordBearerAuth(
        token_url="/login",
        oauth_scopes={"read": "Read"},
        retrieve_user_handler=retrieve_user,
        key_provider=PROVIDERS[kind][0],
        accepted_audiences=[],
    )
    scheme = document_of(auth)["components"]["securitySchemes"]["BearerToken"]
    assert scheme["type"] == "oauth2"
    assert scheme["flows"] == {"password": {"tokenUrl": "/login", "scopes": {"read": "Read"}}}
    assert auth.format_auth_header("token") == "Bearer token"


@pytest.mark.parametrize(
    ("backend_class", "name", "place"), [(JWTAuth, "Authorization", None), (JWTCookieAuth, "token", "cookie")]
)
def test_own_tokens_are_described_as_ever(backend_class: Any, name: str, place: str | None) -> None:
    auth = backend_class(retrieve_user_handler=retrieve_user, token_secret="x" * 32)
    scheme = document_of(auth)["components"]["securitySchemes"]["BearerToken"]
    described = {**HTTP_BEARER, "name": name, "description": auth.description}
    assert scheme == ({**described, "in": place} if place else described)
