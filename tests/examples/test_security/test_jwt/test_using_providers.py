"""Several providers, settings, claims, and connections other than plain requests."""

from __future__ import annotations

import time
from typing import Any

import pytest

from litestar.exceptions import WebSocketDisconnect
from litestar.security.jwt.testing import LocalIssuer
from tests.examples.test_security.test_jwt.internet import Internet, answer_of, client_of, load, outcome_of

STAFF = "https://login.microsoftonline.com/11111111-1111-1111-1111-111111111111/v2.0"
CUSTOMERS = "https://my-tenant.eu.auth0.com/"
CLIENT = "22222222-2222-2222-2222-222222222222"


def hosted(internet: Internet, name: str, **options: Any) -> LocalIssuer:
    return internet.host(LocalIssuer(issuer=name, **{"audience": "my-api", **options}))


def test_issuer_comes_from_the_environment(
    idp: LocalIssuer, internet: Internet, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = hosted(internet, "https://other.example")
    for issuer, stranger in ((idp, other), (other, idp)):
        monkeypatch.setenv("ISSUER", issuer.issuer)
        with client_of("settings_provide") as client:
            monkeypatch.delenv("ISSUER")  # it is read once, at the start
            assert client.get("/me", headers=issuer.auth_header("alice")).text == "alice"
            assert client.get("/me", headers=stranger.auth_header("alice")).status_code == 401


def test_missing_setting_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ISSUER")
    with pytest.raises(BaseException) as e, client_of("settings_provide"):
        pass
    assert "KeyError('ISSUER')" in str(e.value) + repr(e.value)


def test_key_set_is_enough(idp: LocalIssuer, internet: Internet) -> None:
    assert answer_of("remote_jwks", idp.token("alice")) == "alice"
    assert internet.requests == ["https://idp.example.com/keys"]


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"iss": "https://other.example"}, "issuer"),
        ({"iss": None}, "missing claim iss"),
        ({"aud": "another"}, "audience"),
        ({"aud": None}, "missing claim aud"),
        ({"exp": 1}, "expired"),
        ({"exp": None}, "missing claim exp"),
    ],
)
def test_key_set_verifies_nothing_else(idp: LocalIssuer, claims: Any, reason: str) -> None:
    assert answer_of("remote_jwks", idp.token("alice", **claims)) == reason


def test_issuers_are_told_apart(internet: Internet) -> None:
    staff = hosted(internet, STAFF, audience=CLIENT)
    customers = hosted(internet, CUSTOMERS, audience="https://api.example.com")
    example = load("two_providers")
    assert answer_of(example, staff.token("alice")) == "staff alice"
    assert answer_of(example, customers.token("bob")) == "customer bob"
    assert answer_of(example, customers.token("bob", aud=CLIENT)) == "audience"
    assert answer_of(example, customers.token("bob", iss=STAFF, aud=CLIENT)) == "unknown key"
    asked = len(internet.requests)
    assert answer_of(example, LocalIssuer(issuer="https://x.example").token()) == "issuer"
    assert len(internet.requests) == asked


def test_tenants_come_from_a_database(internet: Internet) -> None:
    contoso = hosted(internet, "https://login.contoso.example")
    fabrikam = hosted(internet, "https://login.fabrikam.example")
    example = load("tenants_from_database")
    assert answer_of(example, contoso.token("alice")) == "alice of Contoso"
    assert answer_of(example, fabrikam.token("bob")) == "issuer"
    assert not any("fabrikam" in url for url in internet.requests)
    example.TENANTS.clear()
    assert answer_of(example, contoso.token("alice")) == "no user"


def test_router_has_a_provider_and_an_audience_of_its_own(idp: LocalIssuer, internet: Internet) -> None:
    partner = hosted(internet, "https://partner.example", audience="partner-api")
    example = load("provider_per_router")
    for token, path, answer in (
        (idp.token("alice"), "/me", "alice of https://idp.example.com"),
        (partner.token("bob"), "/partner/me", "bob of https://partner.example"),
        (partner.token("bob"), "/me", "issuer"),
        (idp.token("alice"), "/partner/me", "issuer"),
        (partner.token("bob", aud="my-api"), "/partner/me", "audience"),
    ):
        assert answer_of(example, token, path) == answer


@pytest.mark.parametrize(
    ("audience", "path", "answer"),
    [
        ("orders-api", "/orders/me", "alice"),
        ("admin-api", "/admin/me", "alice"),
        ("orders-api", "/admin/me", "audience"),
        ("admin-api", "/orders/me", "audience"),
    ],
)
def test_router_has_a_backend_of_its_own(idp: LocalIssuer, audience: str, path: str, answer: str) -> None:
    assert answer_of("backend_per_router", idp.token("alice", aud=audience), path) == answer


def test_path_names_the_tenant(internet: Internet) -> None:
    contoso = hosted(internet, "https://login.contoso.example")
    fabrikam = hosted(internet, "https://login.fabrikam.example", algorithm="EdDSA")
    example = load("provider_from_path")
    assert answer_of(example, contoso.token("alice"), "/contoso/me") == "alice of contoso"
    assert answer_of(example, fabrikam.token("bob"), "/fabrikam/me") == "bob of fabrikam"
    assert answer_of(example, contoso.token("alice"), "/fabrikam/me") == "issuer"
    assert answer_of(example, contoso.token("alice"), "/initech/me") == "404"


def test_scopes_and_roles_open_routes(idp: LocalIssuer) -> None:
    with client_of("require_scopes") as client:
        reader = idp.auth_header("alice", scopes=["orders.read"])
        assert client.get("/orders", headers=reader).json() == ["tea"]
        refused = client.post("/orders", headers=reader)
        assert refused.status_code == 403
        assert 'scope="orders.write admin"' in refused.headers["WWW-Authenticate"]
        assert client.post("/orders", headers=idp.auth_header("bob", roles=["admin"])).status_code == 201


@pytest.mark.parametrize(
    ("claims", "answer"),
    [
        (
            {"email": "a@example.com", "email_verified": True, "groups": ["staff"]},
            '{"email":"a@example.com","groups":["staff"]}',
        ),
        ({"email": "a@example.com", "email_verified": False}, "no user"),
        ({"email": "a@example.com", "email_verified": True, "groups": "staff"}, "claims do not fit MyToken: groups"),
    ],
)
def test_claims_have_types(idp: LocalIssuer, claims: Any, answer: str) -> None:
    assert answer_of("typed_claims", idp.token("alice", **claims)) == answer


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
    resource = "https://api.example.com/mcp"
    metadata = "/.well-known/oauth-protected-resource/mcp"
    with client_of("protected_resource") as client:
        challenge = client.post("/mcp").headers["WWW-Authenticate"]
        assert challenge == f'Bearer resource_metadata="https://api.example.com{metadata}"'
        assert client.get(metadata).json() == {
            "resource": resource,
            "authorization_servers": ["https://idp.example.com"],
            "bearer_methods_supported": ["header"],
        }
        headers = idp.auth_header("alice", aud=resource)
        assert client.post("/mcp", headers=headers).json() == {"user": "alice"}


@pytest.mark.parametrize(
    ("name", "scheme"), [("swagger_login", "openIdConnectUrl"), ("swagger_login_entra", "authorizationCode")]
)
def test_swagger_ui_knows_how_to_log_in(name: str, scheme: str) -> None:
    with client_of(name) as client:
        assert f'"{scheme}"' in client.get("/schema/openapi.json").text
        assert '"usePkceWithAuthorizationCodeGrant":true' in client.get("/schema/swagger").text
        assert client.get("/schema/oauth2-redirect.html").status_code == 200
