"""Several providers, settings, claims, and connections other than plain requests."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from litestar.exceptions import WebSocketDisconnect
from litestar.security.jwt.testing import LocalIssuer
from tests.examples.test_security.test_jwt.internet import Internet, answer_of, client_of, load, outcome_of

STAFF = "https://login.microsoftonline.com/11111111-1111-1111-1111-111111111111/v2.0"
CUSTOMERS = "https://my-tenant.eu.auth0.com/"
CLIENT = "22222222-2222-2222-2222-222222222222"
IDP, PARTNER, OTHER = "https://idp.example.com", "https://partner.example", "https://other.example"
CONTOSO, FABRIKAM = "https://login.contoso.example", "https://login.fabrikam.example"
EMAIL = {"email": "a@example.com", "email_verified": True}


Hosted = Callable[[str], LocalIssuer]


@pytest.fixture
def hosted(internet: Internet) -> Hosted:
    return lambda name: internet.host(LocalIssuer(issuer=name, audience="my-api"))


@pytest.mark.parametrize(
    ("example", "issuer", "claims", "path", "answer"),
    [
        ("remote_jwks", IDP, {}, "/me", "alice"),
        ("remote_jwks", IDP, {"iss": OTHER}, "/me", "issuer"),
        ("remote_jwks", IDP, {"aud": "another"}, "/me", "audience"),
        ("two_providers", STAFF, {"aud": CLIENT}, "/me", "staff alice"),
        ("two_providers", CUSTOMERS, {"aud": "https://api.example.com"}, "/me", "customer alice"),
        ("two_providers", CUSTOMERS, {"aud": CLIENT}, "/me", "audience"),
        ("two_providers", CUSTOMERS, {"aud": CLIENT, "iss": STAFF}, "/me", "unknown key"),
        ("two_providers", OTHER, {"aud": CLIENT}, "/me", "issuer"),
        ("tenants_from_database", CONTOSO, {}, "/me", "alice of Contoso"),
        ("tenants_from_database", FABRIKAM, {}, "/me", "issuer"),
        ("provider_per_router", IDP, {}, "/me", f"alice of {IDP}"),
        ("provider_per_router", PARTNER, {"aud": "partner-api"}, "/partner/me", f"alice of {PARTNER}"),
        ("provider_per_router", IDP, {}, "/partner/me", "issuer"),
        ("backend_per_router", IDP, {"aud": "orders-api"}, "/orders/me", "alice"),
        ("backend_per_router", IDP, {"aud": "admin-api"}, "/admin/me", "alice"),
        ("backend_per_router", IDP, {"aud": "orders-api"}, "/admin/me", "audience"),
        ("backend_per_router", IDP, {"aud": "admin-api"}, "/orders/me", "audience"),
        ("provider_from_path", CONTOSO, {}, "/contoso/me", "alice of contoso"),
        ("provider_from_path", FABRIKAM, {}, "/fabrikam/me", "alice of fabrikam"),
        ("provider_from_path", CONTOSO, {}, "/fabrikam/me", "issuer"),
        ("provider_from_path", CONTOSO, {}, "/initech/me", "404"),
        ("typed_claims", IDP, {**EMAIL, "groups": ["a"]}, "/me", '{"email":"a@example.com","groups":["a"]}'),
        ("typed_claims", IDP, {**EMAIL, "email_verified": False}, "/me", "no user"),
        ("typed_claims", IDP, {**EMAIL, "groups": "a"}, "/me", "claims do not fit MyToken: groups"),
    ],
)
def test_answer(hosted: Hosted, example: str, issuer: str, claims: Any, path: str, answer: str) -> None:
    hosted(STAFF)
    assert answer_of(example, hosted(issuer).token("alice", **claims), path) == answer


def test_issuer_comes_from_the_environment(idp: LocalIssuer, hosted: Hosted, monkeypatch: pytest.MonkeyPatch) -> None:
    other = hosted(OTHER)
    for issuer, stranger in ((idp, other), (other, idp)):
        monkeypatch.setenv("ISSUER", issuer.issuer)
        with client_of("settings_provide") as client:
            monkeypatch.delenv("ISSUER")  # it is read once, at the start
            assert client.get("/me", headers=issuer.auth_header("alice")).text == "alice"
            assert client.get("/me", headers=stranger.auth_header("alice")).status_code == 401


def test_user_of_a_tenant_that_left(hosted: Hosted) -> None:
    example = load("tenants_from_database")
    contoso = hosted(CONTOSO)
    assert answer_of(example, contoso.token("alice")) == "alice of Contoso"
    example.TENANTS.clear()
    assert answer_of(example, contoso.token("alice")) == "no user"


def test_scopes_and_roles_open_routes(idp: LocalIssuer) -> None:
    with client_of("require_scopes") as client:
        reader = idp.auth_header("alice", scopes=["orders.read"])
        assert client.get("/orders", headers=reader).json() == ["tea"]
        refused = client.post("/orders", headers=reader)
        assert refused.status_code == 403
        assert 'scope="orders.write admin"' in refused.headers["WWW-Authenticate"]
        assert client.post("/orders", headers=idp.auth_header("bob", roles=["admin"])).status_code == 201


def test_tokens_lack_claims() -> None:
    example = load("missing_claims")
    issuer = LocalIssuer(issuer="https://idp.example.com")
    now = int(time.time())

    def decoded(cls: Any, **claims: Any) -> Any:
        return cls.decode(issuer.token(**{"sub": "alice", **claims}), issuer.key_provider, "RS256")

    assert decoded(example.TokenWithoutSub, sub=None, client_id="job").sub == "job"
    assert decoded(example.TokenWithoutSub).sub == "alice"
    assert decoded(example.TokenWithoutIat, iat=None).iat.timestamp() >= now
    assert decoded(example.TokenWithoutExp, exp=None).exp.timestamp() == pytest.approx(now + 3600, abs=60)
    for cls, claims in (
        (example.TokenWithoutSub, {"sub": None}),
        (example.TokenWithoutIat, {"iat": now + 3600}),
        (example.TokenWithoutExp, {"exp": None, "iat": now - 7200}),
        (example.TokenWithoutExp, {"exp": now - 1}),
        (example.TokenWithoutExp, {"exp": None, "iat": None}),
    ):
        with pytest.raises(Exception, match="Invalid token"):
            decoded(cls, **claims)


def test_tokens_are_revoked(idp: LocalIssuer) -> None:
    with client_of("revocation") as client:
        first, second = (idp.auth_header("alice", jti=jti) for jti in ("1", "2"))
        assert client.post("/logout", headers=first).status_code == 201
        assert outcome_of(client.get("/me", headers=first)) == "revoked"
        assert client.get("/me", headers=second).text == "alice"
        assert outcome_of(client.get("/me", headers=idp.auth_header("alice"))) == "missing claim jti"


def test_cookie_authenticates_requests_and_websockets(idp: LocalIssuer) -> None:
    with client_of("cookies_and_websockets") as client:
        with pytest.raises(WebSocketDisconnect) as refused, client.websocket_connect("/chat"):
            pass
        assert "No JWT token" in str(refused.value)
        client.cookies.set("access_token", idp.token("alice"))
        assert client.get("/me").text == "alice"
        with client.websocket_connect("/chat") as socket:
            assert socket.receive_text() == "Hello alice"


def test_mcp_client_finds_the_authorization_server(idp: LocalIssuer) -> None:
    api, metadata = "https://api.example.com", "/.well-known/oauth-protected-resource/mcp"
    with client_of("protected_resource") as client:
        assert client.post("/mcp").headers["WWW-Authenticate"] == f'Bearer resource_metadata="{api}{metadata}"'
        assert client.get(metadata).json()["authorization_servers"] == [idp.issuer]
        assert client.post("/mcp", headers=idp.auth_header("alice", aud=f"{api}/mcp")).json() == {"user": "alice"}


@pytest.mark.parametrize(
    ("name", "scheme"), [("swagger_login", "openIdConnectUrl"), ("swagger_login_entra", "authorizationCode")]
)
def test_swagger_ui_knows_how_to_log_in(name: str, scheme: str) -> None:
    with client_of(name) as client:
        assert f'"{scheme}"' in client.get("/schema/openapi.json").text
        assert '"usePkceWithAuthorizationCodeGrant":true' in client.get("/schema/swagger").text
        assert client.get("/schema/oauth2-redirect.html").status_code == 200


def test_scalar_knows_how_to_log_in() -> None:
    with client_of("scalar_login") as client:
        document = client.get("/schema/openapi.json").json()
        assert document["security"][0] == {"Keycloak": ["openid"]}
        assert "authorizationCode" in document["components"]["securitySchemes"]["Keycloak"]["flows"]
        assert '"x-scalar-client-id":"api-docs"' in client.get("/schema/scalar").text
