"""Several providers, settings, claims, and connections other than plain requests."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from litestar.security.jwt.testing import LocalIssuer
from tests.examples.test_security.test_jwt.internet import Internet, answer_of, client_of, load, text_of

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
        ("subclassed_backend", IDP, {}, "/me", "alice of Contoso"),
        ("subclassed_backend", IDP, {"aud": "another"}, "/me", "audience"),
        ("typed_claims", IDP, {**EMAIL, "groups": ["a"]}, "/me", '{"email":"a@example.com","groups":["a"]}'),
        ("typed_claims", IDP, {**EMAIL, "email_verified": False}, "/me", "no user"),
        ("typed_claims", IDP, {**EMAIL, "groups": "a"}, "/me", "claims do not fit MyToken.groups"),
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

    assert decoded(example.TokenWithoutSub, sub=None, client_id="alice").sub == "client:alice"
    assert decoded(example.TokenWithoutSub).sub == "user:alice"
    assert decoded(example.TokenWithNumericSub, sub=7).sub == "7"
    assert decoded(example.TokenWithoutIat, iat=None).iat.timestamp() >= now
    assert decoded(example.TokenWithoutExp, exp=None).exp.timestamp() == pytest.approx(now + 3600, abs=60)
    key = ec.generate_private_key(ec.SECP256R1())
    null = jwt.encode({"sub": None, "client_id": "alice", "iat": now, "exp": now + 60}, key, "ES256")
    assert example.TokenWithoutSub.decode(null, [key.public_key()], "ES256").sub == "client:alice"
    rejected: list[tuple[Any, dict[str, Any]]] = [
        (example.TokenWithoutSub, {"sub": None}),
        (example.TokenWithNumericSub, {"sub": None}),
        (example.TokenWithNumericSub, {"sub": ["alice"]}),
        (example.TokenWithoutIat, {"iat": now + 3600}),
        (example.TokenWithoutExp, {"exp": None, "iat": now - 7200}),
        (example.TokenWithoutExp, {"exp": now - 60}),
        *((example.TokenWithoutExp, {"exp": None, "iat": iat}) for iat in (None, "yesterday", str(now), [now])),
    ]
    for cls, claims in rejected:
        with pytest.raises(Exception, match="Invalid token"):
            decoded(cls, **claims)


def test_cookie_authenticates_requests_and_websockets(idp: LocalIssuer) -> None:
    example = load("cookies_and_websockets")
    cookie, page = {"Cookie": f"access_token={idp.token('alice')}"}, {"Origin": "https://app.example.com"}
    with client_of(example) as client:
        assert client.get("/me", headers=cookie).text == "alice"
    assert text_of(example, headers={**cookie, **page}) == "Hello alice"
    assert "No JWT token" in text_of(example, headers=page)
    for origin in ({}, {"Origin": OTHER}):
        assert text_of(example, headers={**cookie, **origin}).startswith("4")


def test_mcp_client_finds_the_authorization_server(idp: LocalIssuer) -> None:
    api, metadata = "https://api.example.com", "/.well-known/oauth-protected-resource/mcp"
    with client_of("protected_resource") as client:
        assert client.post("/mcp").headers["WWW-Authenticate"] == f'Bearer resource_metadata="{api}{metadata}"'
        assert client.get(metadata).json()["authorization_servers"] == [idp.issuer]
        assert client.post("/mcp", headers=idp.auth_header("alice", aud=f"{api}/mcp")).json() == {"user": "alice"}


@pytest.mark.parametrize(
    ("name", "scheme", "page", "option"),
    [
        ("swagger_login", '"openIdConnectUrl"', "swagger", '"usePkceWithAuthorizationCodeGrant":true'),
        ("swagger_login_entra", '"authorizationCode"', "swagger", '"usePkceWithAuthorizationCodeGrant":true'),
        ("scalar_login", '"security":[{"Keycloak":["openid"]}', "scalar", '"x-scalar-client-id":"api-docs"'),
    ],
)
def test_documentation_knows_how_to_log_in(name: str, scheme: str, page: str, option: str) -> None:
    with client_of(name) as client:
        assert scheme in client.get("/schema/openapi.json").text
        assert option in client.get(f"/schema/{page}").text
