from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from litestar import Litestar, Router, WebSocket, get, websocket
from litestar.exceptions import ImproperlyConfiguredException
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.spec import OpenAPI
from litestar.security.jwt import JWTAuth, OAuth2PasswordBearerAuth, Token, requires_scopes
from litestar.security.jwt.testing import LocalIssuer
from litestar.testing import TestClient
from tests.unit.test_security.test_jwt.injected import backend, retrieve_user, text_of

ISSUER = LocalIssuer()


@dataclass
class TokenWithScope(Token):
    scope: str | None = field(default=None)
    roles: list[str] = field(default_factory=list)


def handler(*guards: Any, path: str | Sequence[str] = "/", **options: Any) -> Any:
    @get(path, guards=guards, name=f"{path}", **options)
    async def guarded() -> str:
        return "in"

    return guarded


def app_with(*handlers: Any, **options: Any) -> Litestar:
    return Litestar(handlers, on_app_init=[backend(ISSUER.key_provider, **options).on_app_init])


def status_with(guard: Any, *, options: Any = None, **claims: Any) -> int:
    with TestClient(app_with(handler(guard), **(options or {}))) as client:
        return client.get("/", headers=ISSUER.auth_header(**claims)).status_code


@pytest.mark.parametrize(
    "claims",
    [
        {"scope": "read write"},
        {"scope": "write other read"},
        {"scope": ["write", "read"]},
        {"scp": "read write"},
        {"scp": ["read", "write"]},
        {"roles": ["read", "write"]},
        {"scope": "read", "scp": ["write"]},
        {"scope": "read", "roles": "write"},
        {"scp": ["read", 1, None, {"write": 1}], "roles": ["write"]},
    ],
)
def test_all_scopes_are_found_wherever_issuers_put_them(claims: dict[str, Any]) -> None:
    assert status_with(requires_scopes("read", "write"), **claims) == 200


@pytest.mark.parametrize(
    ("claims", "status"),
    [
        ({"scope": "read write"}, 200),
        ({"roles": ["write", "read"]}, 200),
        ({"scope": "read", "roles": ["write"]}, 200),
        ({"scope": "read", "scp": ["write"]}, 200),
        ({"scope": "read"}, 403),
        ({}, 403),
    ],
)
def test_scopes_are_found_in_the_fields_of_a_token_class(claims: dict[str, Any], status: int) -> None:
    guard = requires_scopes("read", "write")
    assert status_with(guard, options={"token_cls": TokenWithScope}, **claims) == status


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"scope": ""},
        {"scope": "read"},
        {"scope": "READ WRITE"},
        {"scope": "readwrite"},
        {"scope": "read,write"},
        {"scope": "read\twrite"},
        {"scope": "read\u00a0write"},
        {"scope": ["read write"]},
        {"roles": "read write"},
        {"roles": {"nested": ["read", "write"]}},
        {"scope": 1, "scp": True, "roles": None},
        {"Scope": "read write"},
        {"permissions": ["read", "write"]},
    ],
)
def test_less_than_all_scopes_is_not_enough(claims: dict[str, Any]) -> None:
    assert status_with(requires_scopes("read", "write"), **claims) == 403


@pytest.mark.parametrize(("scope", "status"), [("read", 200), ("write", 200), ("read write", 200), ("other", 403)])
def test_one_of_several_scopes_is_enough_if_so_wished(scope: str, status: int) -> None:
    assert status_with(requires_scopes("read", "write", any_of=True), scope=scope) == status


def test_scopes_that_the_application_granted_itself_are_found() -> None:
    auth = JWTAuth[str](token_secret="s" * 32, retrieve_user_handler=retrieve_user)
    token = auth.create_token("user", token_extras={"scope": "read"})
    with TestClient(Litestar([handler(requires_scopes("read"))], on_app_init=[auth.on_app_init])) as client:
        assert client.get("/", headers={"Authorization": f"Bearer {token}"}).status_code == 200


@pytest.mark.parametrize("any_of", [True, False])
def test_refusal_names_the_scopes_and_nothing_of_the_token(any_of: bool) -> None:
    guard = requires_scopes("write", "https://api.test/read", "write", any_of=any_of)
    with TestClient(app_with(handler(guard))) as client:
        response = client.get("/", headers=ISSUER.auth_header(scope="something else"))
    assert response.status_code == 403
    assert (
        response.headers["WWW-Authenticate"] == 'Bearer error="insufficient_scope", scope="write https://api.test/read"'
    )
    assert response.json() == {"status_code": 403, "detail": "Insufficient scope"}


def test_who_has_not_been_authenticated_is_told_to() -> None:
    guarded = handler(requires_scopes("read"), exclude_from_auth=True)
    with TestClient(app_with(guarded)) as client:
        response = client.get("/", headers=ISSUER.auth_header(scope="read"))
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"


def test_what_is_not_a_token_grants_nothing() -> None:
    async def authenticated_otherwise(scope: Any, receive: Any, send: Any) -> None:
        scope["auth"] = {"scope": "read"}
        await guarded_app(scope, receive, send)

    guarded_app = Litestar([handler(requires_scopes("read"))])
    with TestClient(app=authenticated_otherwise) as client:
        assert client.get("/").status_code == 401


@pytest.mark.parametrize("scope", ["", " ", "a b", 'a"b', "a\\b", "é", "a\n", "\x7f", None, 1, ["read"]])
def test_names_that_no_scope_can_have_are_refused_at_once(scope: Any) -> None:
    with pytest.raises(ImproperlyConfiguredException, match="name of a scope"):
        requires_scopes("read", scope)


def test_guard_without_scopes_is_refused_at_once() -> None:
    with pytest.raises(ImproperlyConfiguredException, match="at least one"):
        requires_scopes()


@pytest.mark.anyio
async def test_websockets_are_guarded_too() -> None:
    @websocket("/", guards=[requires_scopes("read")])
    async def guarded(socket: WebSocket[str, Token, Any]) -> None:
        await socket.accept()
        await socket.send_text(socket.user)
        await socket.close()

    app = app_with(guarded)
    assert await text_of(app, ISSUER.auth_header("alice", scope="read"), "/") == "alice"
    assert await text_of(app, ISSUER.auth_header("alice", scope="write"), "/") == "Insufficient scope"


def security_of(schema: OpenAPI, path: str = "/") -> Any:
    operation = (schema.paths or {})[path].get
    assert operation
    return operation.security and list(operation.security)


@pytest.mark.parametrize(
    ("guards", "security"),
    [
        ([], None),
        ([requires_scopes("b", "a")], [{"BearerToken": ["a", "b"]}]),
        ([requires_scopes("a", "b", any_of=True)], [{"BearerToken": ["a"]}, {"BearerToken": ["b"]}]),
        (
            [requires_scopes("a", "b", any_of=True), requires_scopes("b", "c")],
            [{"BearerToken": ["a", "b", "c"]}, {"BearerToken": ["b", "c"]}],
        ),
    ],
)
def test_operation_lists_the_scopes(guards: list[Any], security: Any) -> None:
    assert security_of(app_with(handler(*guards)).openapi_schema) == security


def test_operation_of_several_paths_lists_the_scopes_once() -> None:
    guarded = handler(requires_scopes("a", "b", any_of=True), path=["/one", "/two"])
    schema = app_with(guarded).openapi_schema
    expected = [{"BearerToken": ["a"]}, {"BearerToken": ["b"]}]
    assert security_of(schema, "/one") == expected
    assert security_of(schema, "/two") == expected


def test_operation_lists_the_scopes_of_all_layers() -> None:
    router = Router("/api", route_handlers=[handler(requires_scopes("b"))], guards=[requires_scopes("a")])
    schema = app_with(router, guards=[requires_scopes("c")]).openapi_schema
    assert security_of(schema, "/api") == [{"BearerToken": ["a", "b", "c"]}]


def test_requirements_that_the_application_wrote_are_left_alone() -> None:
    written: list[dict[str, list[str]]] = [
        {"BearerToken": ["custom"]},
        {"ApiKey": []},
        {"BearerToken": [], "ApiKey": []},
    ]
    schema = app_with(handler(requires_scopes("a"), security=written)).openapi_schema
    assert security_of(schema) == [{"BearerToken": ["custom"]}, {"ApiKey": []}, {"BearerToken": ["a"], "ApiKey": []}]
    assert written[2] == {"BearerToken": [], "ApiKey": []}


def test_each_backend_lists_the_scopes_of_its_own_scheme() -> None:
    oauth = OAuth2PasswordBearerAuth[str](
        token_url="/login",
        token_secret="s" * 32,
        retrieve_user_handler=retrieve_user,
        openapi_security_scheme_name="OAuth",
    )
    guarded = handler(requires_scopes("a"))
    both = Litestar([guarded], on_app_init=[backend(ISSUER.key_provider).on_app_init, oauth.on_app_init])
    assert security_of(both.openapi_schema) == [{"BearerToken": ["a"]}, {"OAuth": ["a"]}]
    alone = Litestar([guarded], on_app_init=[oauth.on_app_init])
    assert security_of(alone.openapi_schema) == [{"OAuth": ["a"]}]


def test_scopes_are_listed_among_what_else_the_application_requires() -> None:
    config = OpenAPIConfig("api", "1", security=[{"ApiKey": []}])
    auth = backend(ISSUER.key_provider)
    app = Litestar([handler(requires_scopes("a"))], on_app_init=[auth.on_app_init], openapi_config=config)
    assert security_of(app.openapi_schema) == [{"ApiKey": []}, {"BearerToken": ["a"]}]


def test_application_without_openapi_is_guarded() -> None:
    auth = backend(ISSUER.key_provider)
    app = Litestar([handler(requires_scopes("a"))], on_app_init=[auth.on_app_init], openapi_config=None)
    with TestClient(app) as client:
        assert client.get("/", headers=ISSUER.auth_header(scope="a")).status_code == 200
        assert client.get("/", headers=ISSUER.auth_header(scope="b")).status_code == 403
