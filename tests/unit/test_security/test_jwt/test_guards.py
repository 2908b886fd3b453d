"""Which claims let a request pass, and what the response says if they do not."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from litestar import Litestar, Request, WebSocket, get, websocket
from litestar.exceptions import ImproperlyConfiguredException, PermissionDeniedException, WebSocketDisconnect
from litestar.security.jwt import JWTAuth, Token, requires_scopes
from litestar.testing import RequestFactory, TestClient

EXP = datetime.now(UTC) + timedelta(days=1)
CLAIMS: dict[str, Any] = {
    # Keycloak
    "realm_access": {"roles": ["admin", "user"]},
    "resource_access": {
        "shop": {"roles": ["buyer"], "example": {"roles": ["nobody"]}},
        "shop.example.com": {"roles": ["seller"]},
        "shop.example": "not an object",
    },
    # Auth0, Cognito
    "permissions": ["read:items"],
    "https://me.example/roles": ["editor"],
    "https://me.example/scopes": "a b",
    "cognito:groups": "staff",
    # Names that are paths too
    "a.b": "exact",
    "a": {"b": "nested"},
    "c.d": None,
    "c": {"d": "nested"},
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


def passes(guard: Any, token: Any) -> bool:
    try:
        anyio.run(guard, RequestFactory().get(auth=token), None)
    except PermissionDeniedException:
        return False
    return True


def app_with(guard: Any, auth: Any) -> Any:
    """Make an application in which every request is authenticated, with this as the result."""

    @get("/", guards=[guard])
    async def guarded() -> str:
        return "in"

    @websocket("/socket", guards=[guard])
    async def guarded_socket(socket: WebSocket[Any, Any, Any]) -> None:
        await socket.accept()
        await socket.send_text("in")
        await socket.close()

    app = Litestar([guarded, guarded_socket])

    async def authenticated(scope: Any, receive: Any, send: Any) -> None:
        scope["auth"] = auth
        await app(scope, receive, send)

    return authenticated


@pytest.mark.parametrize(
    "claims",
    [
        {"scope": "write other read"},
        {"scp": ("read", "write")},
        {"roles": ["read", "write"]},
        {"scope": "read", "roles": "write"},
        {"scp": ["read", 1, None, {"write": 1}], "roles": ["write"]},
    ],
)
def test_scopes_in_any_of_the_usual_claims_count(claims: dict[str, Any]) -> None:
    assert passes(requires_scopes("read", "write"), token_with(**claims))


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"scope": "read"},
        {"scope": "READ WRITE"},
        {"scope": "read,write"},
        {"scope": "read\u00a0write"},
        {"scope": ["read write"]},
        {"scope": {"read": False, "write": True}},
        {"scope": {"read write": 1}, "scp": {"scope": "read write"}},
        {"scope": [["read", "write"]]},
        {"scope": 1, "scp": True, "roles": None},
        {"roles": "read write"},
        {"Scope": "read write", "permissions": ["read", "write"]},
        {"extras": {"scope": "read write"}},
    ],
)
def test_other_claims_and_values_grant_nothing(claims: dict[str, Any]) -> None:
    assert not passes(requires_scopes("read", "write"), token_with(**claims))


@pytest.mark.parametrize(("scope", "expected"), [("read", True), ("write other", True), ("other", False), ("", False)])
def test_one_scope_is_enough_with_any_of(scope: str, expected: bool) -> None:
    assert passes(requires_scopes("read", "write", any_of=True), token_with(scope=scope)) is expected


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
        ("https://me.example/roles", "editor", "admin"),
        ("https://me.example/scopes", "b", "a,b"),
        ("a.b", "exact", "nested"),
        ("c.d", "nested", "exact"),
    ],
)
def test_claims_are_names_or_paths(claims: Any, granted: str | None, refused: str) -> None:
    token = token_with(**CLAIMS)
    assert granted is None or passes(requires_scopes(granted, claims=claims), token)
    assert not passes(requires_scopes(refused, claims=claims), token)


@pytest.mark.parametrize(
    ("claims", "scope", "expected"),
    [
        ("permissions", "write", True),
        ("realm_access.roles", "admin", True),
        ("plan", "paid", True),
        ("sub", "user", True),
        ("exp", "user", False),
        ("permissions", "read", False),
    ],
)
def test_fields_of_the_token_class_are_claims(claims: str, scope: str, expected: bool) -> None:
    realm = {"roles": ["admin"]}
    token = TypedToken(EXP, "user", permissions=["write"], realm_access=realm, extras={"permissions": ["read"]})
    assert passes(requires_scopes(scope, claims=claims), token) is expected


@pytest.mark.parametrize("any_of", [True, False])
def test_refusal_names_the_required_scopes_and_nothing_of_the_token(any_of: bool) -> None:
    guard = requires_scopes("write", "https://api.test/read", "write", any_of=any_of)
    with TestClient(app_with(guard, token_with(scope="something else"))) as client:
        response = client.get("/")
    assert response.status_code == 403
    challenge = response.headers["WWW-Authenticate"]
    assert challenge == 'Bearer error="insufficient_scope", scope="write https://api.test/read"'
    assert response.json() == {"status_code": 403, "detail": "Insufficient scope"}


@pytest.mark.parametrize("auth", [None, {"scope": "read"}, "read"])
def test_without_a_token_the_response_is_401(auth: Any) -> None:
    with TestClient(app_with(requires_scopes("read"), auth)) as client:
        response = client.get("/")
    assert (response.status_code, response.headers["WWW-Authenticate"]) == (401, "Bearer")


def test_websockets_are_guarded_too() -> None:
    app = app_with(requires_scopes("read"), token_with(scope="read"))
    with TestClient(app) as client, client.websocket_connect("/socket") as socket:
        assert socket.receive_text() == "in"
    app = app_with(requires_scopes("write"), token_with(scope="read"))
    with TestClient(app) as client, pytest.raises(WebSocketDisconnect, match="Insufficient scope"):
        client.websocket_connect("/socket").__enter__()


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


@pytest.mark.parametrize("of_another_issuer", [True, False])
def test_claims_that_another_issuer_nests_in_extras_grant_nothing(of_another_issuer: bool) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    claims = {"sub": "ann", "exp": EXP, "iat": EXP - timedelta(days=2), "extras": {"scope": "admin", "tenant": "a"}}
    auth = JWTAuth[str, Token](
        key,
        retrieve_user_handler=lambda token, connection: token.sub,
        key_provider=(lambda token: key.public_key()) if of_another_issuer else None,
        accepted_audiences=[],
    )

    @get("/", guards=[requires_scopes("admin")], sync_to_thread=False)
    def handler() -> None: ...

    @get("/tenant", sync_to_thread=False)
    def tenant(request: Request[str, Token, Any]) -> str:
        return str(request.auth.extras["tenant"])

    headers = {"Authorization": f"Bearer {jwt.encode(claims, key, 'RS256')}"}
    with TestClient(Litestar([handler, tenant], on_app_init=[auth.on_app_init])) as client:
        assert client.get("/", headers=headers).status_code == (403 if of_another_issuer else 200)
        assert client.get("/tenant", headers=headers).text == "a"
        headers = {"Authorization": f"Bearer {jwt.encode({**claims, 'scope': 'admin'}, key, 'RS256')}"}
        assert client.get("/", headers=headers).status_code == 200
