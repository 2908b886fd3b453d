"""Which claims let a request pass, and what the response says if they do not."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest

from litestar import get, websocket
from litestar.exceptions import ImproperlyConfiguredException, NotAuthorizedException, PermissionDeniedException
from litestar.security.jwt import Token, requires_scopes
from litestar.testing import RequestFactory

from .backends import ISSUER, backend, client_of, greet, own_backend, text_of, whoami

EXP = datetime.now(UTC) + timedelta(days=1)
CLAIMS: dict[str, Any] = {
    "realm_access": {"roles": ["admin", "user"]},
    "resource_access": {
        "shop": {"roles": ["buyer"], "example": {"roles": ["nobody"]}},
        "shop.example.com": {"roles": ["seller"]},
        "shop.example": "not an object",
    },
    "permissions": ["read:items"],
    **{"cognito:groups": "staff", "groups": "a b"},
    **{"https://me.example/roles": ["editor"], "https://me.example/scopes": "a b"},
    **{"a.b": "exact", "a": {"b": "nested"}, "c.d": None, "c": {"d": "nested"}},
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
        ({"scope": "write other read"}, 2),
        ({"scp": ("read", "write")}, 2),
        ({"roles": ["read", "write"]}, 2),
        ({"scope": "read", "roles": "write"}, 2),
        ({"scp": ["read", 1, None, {"write": 1}], "roles": ["write"]}, 2),
        *(({"scope": scope}, 1) for scope in ("read", "write other")),
        *(({"scope": text}, 0) for text in ("", "other", "READ WRITE", "read,write", "read\u00a0write")),
        *(({"scope": value}, 0) for value in (["read write"], [["read", "write"]], {"read": False, "write": True})),
        ({"scope": {"read write": 1}, "scp": {"scope": "read write"}}, 0),
        ({"scope": 1, "scp": True, "roles": None}, 0),
        ({"roles": "read write"}, 0),
        ({"Scope": "read write", "permissions": ["read", "write"]}, 0),
        ({"extras": {"scope": "read write"}}, 0),
    ],
)
def test_scopes_in_any_of_the_usual_claims_count_and_nothing_else(claims: dict[str, Any], count: int) -> None:
    assert passes(token_with(**claims), "read", "write") is (count == 2)
    assert passes(token_with(**claims), "read", "write", any_of=True) is (count > 0)


@pytest.mark.parametrize(
    ("claims", "granted", "refused"),
    [
        ("scope", None, "admin"),
        ("realm_access", None, "roles"),
        ("realm_access.roles", "admin", "buyer"),
        ("realm_access.roles.admin", None, "admin"),
        ("resource_access.shop.roles", "buyer", "seller"),
        ("resource_access.shop.example.com.roles", "seller", "buyer"),
        ("resource_access.shop.example.roles", None, "nobody"),
        (("permissions", "realm_access.roles"), "user", "staff"),
        ("permissions", "read:items", "admin"),
        ("cognito:groups", "staff", "admin"),
        ("groups", None, "a"),
        ("https://me.example/roles", "editor", "admin"),
        ("https://me.example/scopes", "b", "a,b"),
        ("a.b", "exact", "nested"),
        ("c.d", "nested", "exact"),
    ],
)
def test_claims_are_names_or_paths(claims: Any, granted: str | None, refused: str) -> None:
    token = token_with(**CLAIMS)
    assert granted is None or passes(token, granted, claims=claims)
    assert not passes(token, refused, claims=claims)


def test_fields_of_the_token_class_are_claims() -> None:
    realm = {"roles": ["admin"]}
    token = TypedToken(EXP, "user", permissions=["write"], realm_access=realm, extras={"permissions": ["read"]})
    for claims, scope in (("permissions", "write"), ("realm_access.roles", "admin"), ("plan", "paid"), ("sub", "user")):
        assert passes(token, scope, claims=claims)
    for claims, scope in (("permissions", "read"), ("exp", "user")):
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


@pytest.mark.parametrize("auth", [None, {"scope": "read"}, "read"])
def test_without_a_token_the_response_is_401(auth: Any) -> None:
    guard: Any = requires_scopes("read")
    with pytest.raises(NotAuthorizedException) as raised:
        anyio.run(guard, RequestFactory().get(auth=auth), None)
    assert (raised.value.status_code, raised.value.headers) == (401, {"WWW-Authenticate": "Bearer"})


@pytest.mark.parametrize(
    ("scopes", "options", "message"),
    [
        ((), {}, "has no scopes. Pass at least one"),
        *((("read", name), {}, "not a valid scope") for name in ("", "a b", 'a"b', "a\\b", "é", "a\n", None, ["a"])),
        (("read",), {"any_of": 1}, "Pass True or False"),
        *((("read",), {"claims": claims}, "Pass names of claims") for claims in ((), "", None, ["scope", 1], b"scope")),
    ],
)
def test_invalid_arguments_are_refused(scopes: Any, options: Any, message: str) -> None:
    with pytest.raises(ImproperlyConfiguredException, match=message):
        requires_scopes(*scopes, **options)


def test_claims_that_another_issuer_nests_in_extras_grant_nothing() -> None:
    guarded = get("/guarded", guards=[requires_scopes("admin")])(whoami.fn)
    own, extras = own_backend(token_secret=ISSUER.private_key), {"scope": "admin"}
    for auth, token, status in (
        (own, own.create_token("ann", token_extras=extras), 200),
        (backend(ISSUER.key), ISSUER.token(extras=extras), 403),
        (backend(ISSUER.key), ISSUER.token(extras=extras, scope="admin"), 200),
    ):
        with client_of(auth, guarded) as client:
            assert client.get("/guarded", headers={"Authorization": f"Bearer {token}"}).status_code == status
