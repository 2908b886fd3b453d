"""What backends with a key provider say about themselves and the routes in an OpenAPI document."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from litestar import Litestar, get, post, websocket
from litestar.connection import WebSocket
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, OAuthFlow, OAuthFlows, SecurityScheme
from litestar.security.jwt import JWTAuth, JWTCookieAuth, OAuth2PasswordBearerAuth
from litestar.testing import TestClient

from .backends import ISSUER, Issuer, app_of, backend, provide, secret_backend, whoami

KEY = ISSUER.key
HTTP_BEARER = {"type": "http", "scheme": "Bearer", "bearerFormat": "JWT"}
URL = "https://idp.test/.well-known/openid-configuration"
REQUIRED: list[Any] = [{"BearerToken": []}]


class Discovering:
    openid_connect_url = f"{URL}?token=canary"
    __call__ = Issuer.key_provider
    key = KEY


def config(**options: Any) -> OpenAPIConfig:
    return OpenAPIConfig(title="API", version="1", **options)


def document_of(app: Litestar) -> Any:
    """Start an application, and return its OpenAPI document as clients get it."""
    with TestClient(app):
        document = json.loads(json.dumps(app.openapi_schema.to_schema()))
    OpenAPIV31SpecValidator(document).validate()
    assert "canary" not in str(document)
    return document


def scheme_of(auth: Any) -> Any:
    return document_of(app_of(auth, openapi_config=config()))["components"]["securitySchemes"]["BearerToken"]


@pytest.mark.parametrize("kind", [JWTAuth, JWTCookieAuth])
@pytest.mark.parametrize(
    ("key_provider", "options", "scheme"),
    [
        pytest.param(KEY, {}, HTTP_BEARER, id="key"),
        pytest.param(ISSUER.key_provider, {}, HTTP_BEARER, id="function"),
        pytest.param(provide(KEY), {}, HTTP_BEARER, id="factory"),
        pytest.param(Discovering(), {}, {"type": "openIdConnect", "openIdConnectUrl": URL}, id="discovery"),
        pytest.param(KEY, {"auth_scheme": "bearer"}, {**HTTP_BEARER, "scheme": "bearer"}, id="lower-case"),
        pytest.param(KEY, {"auth_scheme": "Token"}, {"type": "http", "scheme": "Token"}, id="other-scheme"),
        pytest.param(
            KEY,
            {"auth_scheme": "", "auth_header": "X-Token"},
            {"type": "apiKey", "name": "X-Token", "in": "header"},
            id="bare",
        ),
    ],
)
def test_scheme_shows_where_tokens_come_from(
    key_provider: Any, options: Any, scheme: dict[str, str], kind: Any
) -> None:
    assert scheme_of(backend(key_provider, kind, description="Log in.", **options)) == {
        **scheme,
        "description": "Log in.",
    }


@pytest.mark.parametrize("scopes", [None, {"read": "Read"}])
def test_password_flow_is_valid(scopes: dict[str, str] | None) -> None:
    for key_provider in (KEY, Discovering()):
        scheme = scheme_of(backend(key_provider, OAuth2PasswordBearerAuth, oauth_scopes=scopes, description="Log in."))
        flows = {"password": {"tokenUrl": "/login", "scopes": scopes or {}}}
        assert scheme == {"type": "oauth2", "description": "Log in.", "flows": flows}


class Described(JWTAuth[Any, Any]):
    scheme: SecurityScheme

    @property
    def openapi_components(self) -> Components:
        return Components(security_schemes={"BearerToken": self.scheme})


@pytest.mark.parametrize(
    "scheme",
    [
        SecurityScheme(type="apiKey", name="key", security_scheme_in="cookie"),
        SecurityScheme(
            type="oauth2",
            flows=OAuthFlows(client_credentials=OAuthFlow(token_url="/token", scopes={"a": "A"})),
            description="Machine to machine",
        ),
    ],
    ids=lambda scheme: scheme.type,
)
def test_scheme_of_a_subclass_stays(scheme: SecurityScheme) -> None:
    Described.scheme = scheme
    assert scheme_of(backend(KEY, Described)) == json.loads(json.dumps(scheme.to_schema()))


def test_routes_say_whether_they_need_a_token() -> None:
    @get("/free", opt={"exclude_from_auth": True})
    async def free() -> None: ...

    @get(["/optional", "/optional/{name:str}"], opt={"optional_auth": True})
    async def optional() -> None: ...

    @get("/own", security=[{"Own": []}], opt={"exclude_from_auth": True})
    async def own() -> None: ...

    @get("/hidden", include_in_schema=False, opt={"exclude_from_auth": True})
    async def hidden() -> None: ...

    @get("/health/live")
    async def health() -> None: ...

    @post("/", opt={"optional_auth": True, "exclude_from_auth": True})
    async def create() -> None: ...

    @websocket("/ws", opt={"optional_auth": True})
    async def connect(socket: WebSocket[Any, Any, Any]) -> None: ...

    handlers = (whoami, free, optional, own, hidden, health, create, connect)
    components = Components(security_schemes={"Own": SecurityScheme(type="http", scheme="basic")})
    app = app_of(backend(KEY, exclude="/health"), *handlers, openapi_config=config(components=components))
    document = document_of(app)
    assert document["security"] == REQUIRED
    found = {
        f"{method} {path}": operation.get("security")
        for path, item in document["paths"].items()
        for method, operation in item.items()
    }
    assert found == {
        **{"get /": None, "post /": [], "get /free": [], "get /health/live": [], "get /own": [{"Own": []}]},
        **{f"get /optional{name}": [{}, *REQUIRED] for name in ("", "/{name}")},
    }


def test_methods_may_be_excluded() -> None:
    document = document_of(app_of(backend(KEY, exclude_http_methods=["GET"]), openapi_config=config()))
    assert document["paths"]["/"]["get"]["security"] == []


def test_each_of_two_backends_relaxes_its_requirement() -> None:
    first = backend(KEY, exclude=["/b", "/free"])
    second = backend(KEY, exclude=["^/$", "/free"], key_provider_name="keys", openapi_security_scheme_name="Second")
    handlers = [
        get(path, opt=opt)(whoami.fn)
        for path, opt in (("/", {}), ("/b", {}), ("/free", {}), ("/either", {"optional_auth": True}))
    ]
    paths = document_of(app_of([first, second], *handlers, openapi_config=config()))["paths"]
    found = {path: item["get"].get("security") for path, item in paths.items()}
    both = [*REQUIRED, {"Second": []}]
    assert found == {"/": REQUIRED, "/b": [{"Second": []}], "/free": [], "/either": [{}, *both]}


def test_application_without_a_document_starts() -> None:
    def remove(app_config: Any) -> Any:
        app_config.openapi_config = None
        return app_config

    auth = backend(KEY)
    for app in (app_of(auth), app_of(auth, on_app_init=[auth.on_app_init, remove], openapi_config=config())):
        with TestClient(app) as client:
            assert client.get("/").status_code == 401


def test_document_is_as_released_without_a_key_provider() -> None:
    @get("/free", opt={"exclude_from_auth": True, "optional_auth": True})
    async def free() -> None: ...

    with TestClient(app_of(secret_backend(), whoami, free, openapi_config=config())) as client:
        document = client.app.openapi_schema.to_schema()
    assert document["components"]["securitySchemes"]["BearerToken"]["type"] == "http"
    assert "security" not in document["paths"]["/free"]["get"]
