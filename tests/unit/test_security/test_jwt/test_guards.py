"""Which claims let a request pass, and what the response and the log say if they do not."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest

from litestar import Router, get, websocket
from litestar.exceptions import ImproperlyConfiguredException, NotAuthorizedException, PermissionDeniedException
from litestar.security.jwt import Reason, Token, TokenRefused
from litestar.security.jwt.guards import ScopeRequirement, requires_scopes
from litestar.testing import RequestFactory

from .backends import ISSUER, SECRET, backend, bearer, client_of, greet, secret_backend, text_of, whoami

EXP = datetime.now(UTC) + timedelta(days=1)
ZITADEL = "urn:zitadel:iam:org:project:roles"
CLAIMS: dict[str, Any] = {
    "realm_access": {"roles": ["admin", "user"]},
    "resource_access": {
        "shop": {"roles": ["buyer"], "example": {"roles": ["nobody"]}},
        "shop.example.com": {"roles": ["seller"]},
        "shop.example": "not an object",
    },
    "permissions": ["read:items"],
    **{"cognito:groups": "staff", "groups": "a b", "memberOf": ["CORP\\Users", "authentik Admins", "/Vertrieb/Süd"]},
    **{"https://me.example/roles": ["editor"], "https://me.example/scopes": "a b"},
    **{"a.b": "exact", "a": {"b": "nested"}, "c.d": None, "c": {"d": "nested"}},
    ZITADEL: {"admin": {"3061": "acme"}, "left": {}, "off": False, "none": None, "on": True, "members": ["a"]},
    "extras": {"scope": "own more", "scp": ["listed"], "roles": "whole string"},
}


@dataclass
class TypedToken(Token):
    permissions: list[str] = field(default_factory=list)
    realm_access: dict[str, Any] = field(default_factory=dict)

    @property
    def plan(self) -> tuple[str, ...]:
        return ("paid",)


def token_with(**extras: Any) -> Token:
    return Token(exp=EXP, sub="user", extras=extras)


def passes(token: Token, *scopes: str, **options: Any) -> bool:
    guard: Any = requires_scopes(*scopes, **options)
    try:
        anyio.run(guard, RequestFactory().get(auth=token), None)
    except PermissionDeniedException:
        return False
    return True


@pytest.mark.parametrize(
    ("claims", "count"),
    [
        pytest.param({"scope": "write other read"}, 2, id="string-of-scopes"),
        pytest.param({"scp": ("read", "write")}, 2, id="tuple"),
        pytest.param({"roles": ["read", "write"]}, 2, id="list-of-roles"),
        pytest.param({"roles": {"read": {"1": "a"}, "write": {"1": "a"}}}, 2, id="object-of-roles"),
        pytest.param({"scope": "read", "roles": "write"}, 2, id="two-claims"),
        pytest.param({"scp": ["read", 1, None, {"write": 1}], "roles": ["write"]}, 2, id="strings-among-others"),
        pytest.param({"scope": "read"}, 1, id="one-scope"),
        pytest.param({"scope": "write other"}, 1, id="one-of-two"),
        pytest.param({"scope": ""}, 0, id="empty"),
        pytest.param({"scope": "other"}, 0, id="other-scope"),
        pytest.param({"scope": "READ WRITE"}, 0, id="upper-case"),
        pytest.param({"scope": "read,write"}, 0, id="commas"),
        pytest.param({"scope": "read\u00a0write"}, 0, id="other-space"),
        pytest.param({"scope": ["read write"]}, 0, id="two-names-in-an-element"),
        pytest.param({"scope": [["read", "write"]]}, 0, id="nested-list"),
        pytest.param({"scope": {"read": {"1": "a"}, "write": True}}, 0, id="object-as-scope"),
        pytest.param({"scope": {"read write": 1}, "scp": {"scope": "read write"}}, 0, id="objects"),
        pytest.param({"scope": 1, "scp": True, "roles": None}, 0, id="other-types"),
        pytest.param({"roles": "read write"}, 0, id="string-of-roles"),
        pytest.param({"Scope": "read write", "permissions": ["read", "write"]}, 0, id="other-claims"),
        pytest.param({"extras": {"scope": "read write"}}, 0, id="nested-in-extras"),
    ],
)
def test_scopes_in_any_of_the_usual_claims_count_and_nothing_else(claims: dict[str, Any], count: int) -> None:
    assert passes(token_with(**claims), "read", "write") is (count == 2)
    assert passes(token_with(**claims), "read", "write", any_of=True) is (count > 0)


@pytest.mark.parametrize(
    ("claims", "granted", "refused"),
    [
        pytest.param("scope", None, "admin", id="absent"),
        pytest.param("realm_access.roles", "admin", "buyer", id="path"),
        pytest.param("realm_access.roles.admin", None, "admin", id="path-through-a-list"),
        pytest.param("resource_access.shop.roles", "buyer", "seller", id="longer-path"),
        pytest.param("resource_access.shop.example.com.roles", "seller", "buyer", id="dots-in-a-name"),
        pytest.param("resource_access.shop.example.roles", None, "nobody", id="longest-name-decides"),
        pytest.param(("permissions", "realm_access.roles"), "user", "staff", id="several"),
        pytest.param(["permissions"], "read:items", "admin", id="list"),
        pytest.param("cognito:groups", "staff", "admin", id="colon"),
        pytest.param("groups", "a b", "a", id="whole-string"),
        pytest.param("memberOf", "CORP\\Users", "CORP", id="backslash"),
        pytest.param("memberOf", "authentik Admins", "authentik", id="space"),
        pytest.param("memberOf", "/Vertrieb/Süd", "/Vertrieb", id="umlaut"),
        pytest.param(("scope", "memberOf"), "authentik Admins", "Admins", id="scope-or-group"),
        pytest.param("https://me.example/roles", "editor", "admin", id="url"),
        pytest.param("https://me.example/scopes", "a b", "b", id="url-that-only-ends-like-scopes"),
        pytest.param("a.b", "exact", "nested", id="exact-name-wins"),
        pytest.param("c.d", "nested", "exact", id="null-is-absent"),
        pytest.param(ZITADEL, "admin", "acme", id="members-of-an-object"),
        pytest.param(ZITADEL, "members", "left", id="empty-member"),
        pytest.param(ZITADEL, "on", "off", id="false-member"),
        pytest.param(ZITADEL, None, "none", id="null-member"),
        pytest.param(f"{ZITADEL}.admin", "3061", "acme", id="members-of-a-member"),
        pytest.param("extras.scope", "own", "own more", id="extras-of-the-application"),
        pytest.param("extras.scp", "listed", "scope", id="list-in-extras"),
        pytest.param("extras.roles", "whole string", "whole", id="string-in-extras"),
        pytest.param("extras", "scope", "own", id="members-of-extras"),
    ],
)
def test_claims_are_names_or_paths(claims: Any, granted: str | None, refused: str) -> None:
    token = token_with(**CLAIMS)
    assert granted is None or passes(token, granted, claims=claims)
    assert not passes(token, refused, claims=claims)


def test_fields_of_the_token_class_are_claims() -> None:
    realm = {"roles": ["admin"]}
    extras = {"permissions": ["read"], "decode": "method"}
    token = TypedToken(EXP, "user", permissions=["write"], realm_access=realm, extras=extras)
    for claims, scope in (("permissions", "write"), ("realm_access.roles", "admin"), ("plan", "paid"), ("sub", "user")):
        assert passes(token, scope, claims=claims)
    assert passes(token, "method", claims="decode")
    for claims, scope in (("permissions", "read"), ("exp", "user"), ("encode", "user"), ("extras", "permissions")):
        assert not passes(token, scope, claims=claims)


@pytest.mark.parametrize("any_of", [True, False])
def test_refusal_names_the_required_scopes_and_nothing_of_the_token(any_of: bool) -> None:
    guard = requires_scopes("write", "https://api.test/read", "write", any_of=any_of)
    guarded = [get("/guarded", guards=[guard])(whoami.fn), websocket("/ws", guards=[guard])(greet.fn)]
    with client_of(backend(ISSUER.key), *guarded) as client:
        response = client.get("/guarded", headers=ISSUER.auth_header(scope="something else"))
        assert (response.status_code, response.json()) == (403, {"status_code": 403, "detail": "Insufficient scope"})
        challenge = 'Bearer error="insufficient_scope", scope="write https://api.test/read"'
        assert response.headers["WWW-Authenticate"] == challenge
        assert anyio.run(text_of, client.app, ISSUER.auth_header()).startswith("Insufficient scope")
        headers = ISSUER.auth_header(scope="write https://api.test/read")
        with client.websocket_connect("/ws", headers=headers) as socket:
            assert socket.receive_text() == "ann"


def test_challenge_has_no_name_that_is_not_a_scope() -> None:
    guards = [requires_scopes("CORP\\Users", "admins", "/Süd", 'a"b', claims="groups")]
    with client_of(backend(ISSUER.key), get("/guarded", guards=guards)(whoami.fn)) as client:
        response = client.get("/guarded", headers=ISSUER.auth_header(groups=["admins"]))
        unauthenticated = client.get("/guarded")
    assert response.headers["WWW-Authenticate"] == 'Bearer error="insufficient_scope", scope="admins"'
    assert unauthenticated.headers["WWW-Authenticate"] == "Bearer"  # clients cannot ask for a group


def test_challenge_leads_to_the_metadata() -> None:
    auth = backend(ISSUER.key, protected_resource="https://me.example/mcp", accepted_issuers=[ISSUER.name])
    guarded = get("/guarded", guards=[requires_scopes("write")])(whoami.fn)
    with client_of(auth, guarded) as client:
        sent = [client.get("/guarded", headers=headers) for headers in ({}, ISSUER.auth_header(scope="read"))]
    url = "https://me.example/.well-known/oauth-protected-resource/mcp"
    assert [response.headers["WWW-Authenticate"] for response in sent] == [
        f'Bearer scope="write", resource_metadata="{url}"',
        f'Bearer error="insufficient_scope", scope="write", resource_metadata="{url}"',
    ]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param({}, "'write' and 'admin' in scope or scp or roles", id="all"),
        pytest.param({"any_of": True, "claims": "groups"}, "'read' or 'write' or 'admin' in groups", id="any"),
    ],
)
def test_each_refusal_logs_what_is_missing_and_where(
    options: Any, expected: str, records: list[logging.LogRecord]
) -> None:
    guarded = get("/guarded", guards=[requires_scopes("read", "write", "admin", **options)])(whoami.fn)
    with client_of(backend(ISSUER.key), guarded) as client:
        assert client.get("/guarded", headers=ISSUER.auth_header(scope="read secret")).status_code == 403
    (record,) = records
    assert (record.levelname, record.name) == ("INFO", "litestar.security.jwt")
    assert record.getMessage() == f"Token refused: insufficient scope (expected: {expected})"
    assert record.__dict__.items() >= {"reason": Reason.SCOPES, "expected": expected}.items()


def test_reason_is_the_cause_of_the_exception() -> None:
    guard: Any = requires_scopes("read")
    with pytest.raises(PermissionDeniedException) as raised:
        anyio.run(guard, RequestFactory().get(auth=token_with()), None)
    assert isinstance(raised.value.__cause__, TokenRefused)
    assert raised.value.__cause__.reason is Reason.SCOPES


@pytest.mark.parametrize(
    "auth",
    [
        pytest.param(None, id="nothing"),
        pytest.param({"scope": "read"}, id="no-token"),
        pytest.param("read", id="text"),
    ],
)
def test_without_a_token_the_response_is_401(auth: Any, records: list[logging.LogRecord]) -> None:
    guard: Any = requires_scopes("read")
    with pytest.raises(NotAuthorizedException) as raised:
        anyio.run(guard, RequestFactory().get(auth=auth), None)
    assert (raised.value.status_code, raised.value.headers) == (401, {"WWW-Authenticate": "Bearer"})
    assert [record.getMessage() for record in records] == ["Token refused: no credentials"]


def test_guard_of_an_optional_route_asks_for_all_scopes_of_the_route() -> None:
    guards = [requires_scopes("admins", claims="groups"), requires_scopes("read"), requires_scopes("write")]
    guarded = get("/guarded", guards=guards, optional_auth=True)(whoami.fn)
    with client_of(backend(ISSUER.key), guarded) as client:
        response = client.get("/guarded")
    assert (response.status_code, response.headers["WWW-Authenticate"]) == (401, 'Bearer scope="read write"')


def test_guard_says_what_it_requires() -> None:
    guard = requires_scopes("read", "write", "read", any_of=True, claims=["scp", "groups"])
    assert guard.required_scopes == ScopeRequirement(("read", "write"), True, ("scp", "groups"))
    assert guard == requires_scopes("read", "write", any_of=True, claims=("scp", "groups"))


def test_guards_of_all_layers_count() -> None:
    roles, scopes = requires_scopes("admin", claims="realm_access.roles"), requires_scopes("read", "write", any_of=True)
    handler = get("/guarded", guards=[roles, requires_scopes("more", claims="scp")])(whoami.fn)
    with client_of(backend(ISSUER.key), Router("/", guards=[scopes], route_handlers=[handler])) as client:
        assert client.get("/guarded").headers["WWW-Authenticate"] == 'Bearer scope="read write more"'
        claims: dict[str, Any] = {"scope": "write", "scp": ["more"], "realm_access": {"roles": ["admin"]}}
        assert client.get("/guarded", headers=ISSUER.auth_header(**claims)).status_code == 200
        for name in claims:
            assert client.get("/guarded", headers=ISSUER.auth_header(**claims | {name: None})).status_code == 403


@pytest.mark.parametrize(
    ("scopes", "options", "message"),
    [
        pytest.param((), {}, "has no scopes. Pass at least one", id="no-scopes"),
        pytest.param(("read", ""), {}, "not a valid scope", id="empty"),
        pytest.param(("read", "a b"), {}, "not a valid scope", id="two-in-one"),
        pytest.param(("a b",), {"claims": "scp"}, "not a valid scope", id="two-in-one-for-scp"),
        pytest.param(('a"b',), {}, "not a valid scope", id="quotation-mark"),
        pytest.param(("a\\b",), {}, "not a valid scope .* set 'claims'", id="backslash"),
        pytest.param(("é",), {}, "not a valid scope", id="not-ascii"),
        pytest.param(("a\n",), {}, "not a valid scope", id="line-feed"),
        pytest.param((None,), {}, "not a valid scope", id="none"),
        pytest.param((["a"],), {"claims": "groups"}, "not a valid scope", id="list"),
        pytest.param(("",), {"claims": "groups"}, "not a valid scope", id="empty-group"),
        pytest.param(("read",), {"any_of": 1}, "Pass True or False", id="any-of"),
        pytest.param(("read",), {"claims": ()}, "Pass names of claims", id="no-claims"),
        pytest.param(("read",), {"claims": ""}, "Pass names of claims", id="empty-claim"),
        pytest.param(("read",), {"claims": None}, "Pass names of claims", id="claims-none"),
        pytest.param(("read",), {"claims": ["scope", 1]}, "Pass names of claims", id="claims-number"),
        pytest.param(("read",), {"claims": b"scope"}, "Pass names of claims", id="claims-bytes"),
    ],
)
def test_invalid_arguments_are_refused(scopes: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ImproperlyConfiguredException, match=message):
        requires_scopes(*scopes, **options)


def test_claims_that_another_issuer_nests_in_extras_grant_nothing() -> None:
    secret, extras = secret_backend(), {"scope": "admin"}
    moved = backend(SECRET, token_secret=SECRET, key_algorithms="HS256")
    for auth, token, statuses in (
        (secret, secret.create_token("ann", token_extras=extras), (200, 403)),
        (moved, secret.create_token("ann", token_extras=extras), (403, 200)),
        (backend(ISSUER.key), ISSUER.token(extras=extras), (403, 200)),
        (backend(ISSUER.key), ISSUER.token(extras=extras, scope="admin"), (200, 200)),
        (backend(ISSUER.key), ISSUER.token(extras="admin", scope="admin"), (200, 403)),
    ):
        usual = get("/usual", guards=[requires_scopes("admin")])(whoami.fn)
        moved_over = get("/extras", guards=[requires_scopes("admin", claims="extras.scope")])(whoami.fn)
        with client_of(auth, usual, moved_over) as client:
            answers = [client.get(path, headers=bearer(token)).status_code for path in ("/usual", "/extras")]
        assert tuple(answers) == statuses
