"""The recipes as they are printed, with what their providers publish and issue. Shapes are those of the real ones."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import anyio
import jwt
import pytest

from litestar.security.jwt.testing import LocalIssuer
from litestar.testing import TestClient
from tests.examples.test_security.test_jwt.internet import Internet, status_of, text_of

Load = Callable[[str], ModuleType]

MICROSOFT = "https://login.microsoftonline.com"
TENANT = "11111111-1111-1111-1111-111111111111"
STRANGER = "99999999-9999-9999-9999-999999999999"
CONSUMERS = "9188040d-6c67-4c5b-b112-36a304b66dad"
ENTRA_CLIENT = "22222222-2222-2222-2222-222222222222"


def entra_issuer(tenant: str) -> str:
    return f"{MICROSOFT}/{tenant}/v2.0"


def entra_keys(issuer: LocalIssuer, name: str) -> dict[str, Any]:
    """Say which issuer each key is of, and not which algorithm, as Entra ID does."""
    return {"keys": [{**key, "x5t": key["kid"], "x5c": ["MIIC"], "issuer": name} for key in issuer.jwks["keys"]]}


def entra_token(issuer: LocalIssuer, tenant: str = TENANT, **claims: Any) -> str:
    defaults = {"iss": entra_issuer(tenant), "tid": tenant, "aud": ENTRA_CLIENT, "ver": "2.0", "scp": "access_as_user"}
    return issuer.token("alice", **{"azp": "client", "oid": "alice-in-the-directory", **defaults, **claims})


@pytest.fixture
def entra() -> LocalIssuer:
    return LocalIssuer(entra_issuer(TENANT), declare_alg=False)


@pytest.fixture
def single_tenant(entra: LocalIssuer, internet: Internet, load: Load) -> ModuleType:
    internet.publish(
        entra,
        f"{MICROSOFT}/{TENANT}/discovery/v2.0/keys",
        id_token_signing_alg_values_supported=["RS256"],
        tenant_region_scope="EU",
    )
    internet.put(f"{MICROSOFT}/{TENANT}/discovery/v2.0/keys", lambda: entra_keys(entra, entra.issuer))
    return load("entra_single_tenant")


@pytest.fixture
def multi_tenant(entra: LocalIssuer, internet: Internet, load: Load) -> ModuleType:
    keys = f"{MICROSOFT}/organizations/discovery/v2.0/keys"
    internet.put(
        f"{MICROSOFT}/organizations/v2.0/.well-known/openid-configuration",
        {
            "issuer": f"{MICROSOFT}/{{tenantid}}/v2.0",
            "jwks_uri": keys,
            "id_token_signing_alg_values_supported": ["RS256"],
        },
    )
    internet.put(keys, lambda: entra_keys(entra, f"{MICROSOFT}/{{tenantid}}/v2.0"))
    return load("entra_multi_tenant")


def test_entra_tokens_of_the_tenant_are_accepted(
    single_tenant: ModuleType, entra: LocalIssuer, internet: Internet
) -> None:
    assert text_of(single_tenant, entra_token(entra)) == "alice"
    assert internet.asked == [
        f"{MICROSOFT}/{TENANT}/v2.0/.well-known/openid-configuration",
        f"{MICROSOFT}/{TENANT}/discovery/v2.0/keys",
    ]


@pytest.mark.parametrize(
    "claims",
    [
        {"tenant": STRANGER},
        {"aud": f"api://{ENTRA_CLIENT}"},
        {"iss": f"https://sts.windows.net/{TENANT}/", "ver": "1.0"},
        {"iss": None},
        {"exp": 1},
    ],
)
def test_entra_tokens_of_others_are_refused(single_tenant: ModuleType, entra: LocalIssuer, claims: Any) -> None:
    assert status_of(single_tenant, entra_token(entra, **claims)) == 401


def test_entra_keys_that_servers_disagree_about_go_on_verifying_for_a_day(
    single_tenant: ModuleType, entra: LocalIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = entra_token(entra)
    provider = single_tenant.jwt_auth.key_provider
    with TestClient(single_tenant.app) as client:

        def status() -> int:
            return client.get("/me", headers={"Authorization": f"Bearer {token}"}).status_code

        assert status() == 200
        entra.rotate(keep=0)
        anyio.run(provider.refresh)
        assert status() == 200
        now = provider._keys._clock()
        for hours, expected in ((23, 200), (25, 401)):
            monkeypatch.setattr(provider._keys, "_clock", lambda hours=hours: now + hours * 3600)
            assert status() == expected


def test_entra_tokens_of_customers_are_accepted(multi_tenant: ModuleType, entra: LocalIssuer) -> None:
    assert text_of(multi_tenant, entra_token(entra)) == "alice of Contoso"


@pytest.mark.parametrize(
    "claims",
    [
        {"tenant": STRANGER},
        {"tenant": CONSUMERS},
        {"tid": STRANGER},
        {"tid": None},
        {"iss": entra_issuer(STRANGER)},
        {"iss": f"{MICROSOFT}/{{tenantid}}/v2.0", "tid": "{tenantid}"},
        {"aud": STRANGER},
    ],
)
def test_entra_tokens_of_other_tenants_are_refused(multi_tenant: ModuleType, entra: LocalIssuer, claims: Any) -> None:
    assert status_of(multi_tenant, entra_token(entra, **claims)) == 401


def test_entra_key_of_another_issuer_does_not_verify(
    multi_tenant: ModuleType, entra: LocalIssuer, internet: Internet
) -> None:
    """Anybody can get tokens that are signed with the key of personal accounts."""
    personal = LocalIssuer(declare_alg=False)
    keys = [
        *entra_keys(personal, entra_issuer(CONSUMERS))["keys"],
        *entra_keys(entra, f"{MICROSOFT}/{{tenantid}}/v2.0")["keys"],
    ]
    internet.put(f"{MICROSOFT}/organizations/discovery/v2.0/keys", {"keys": keys})
    assert status_of(multi_tenant, entra_token(personal)) == 401
    assert status_of(multi_tenant, entra_token(entra)) == 200
    # Were personal accounts welcome, that key would be theirs.
    multi_tenant.CUSTOMERS[entra_issuer(CONSUMERS)] = "somebody"
    assert status_of(multi_tenant, entra_token(personal, CONSUMERS)) == 200


def test_entra_tenant_can_be_turned_away_at_any_time(multi_tenant: ModuleType, entra: LocalIssuer) -> None:
    assert status_of(multi_tenant, entra_token(entra, STRANGER)) == 401
    multi_tenant.CUSTOMERS[entra_issuer(STRANGER)] = "Fabrikam"
    assert text_of(multi_tenant, entra_token(entra, STRANGER)) == "alice of Fabrikam"
    del multi_tenant.CUSTOMERS[entra_issuer(STRANGER)]
    assert status_of(multi_tenant, entra_token(entra, STRANGER)) == 401


REALM = "https://keycloak.example.com/realms/my-realm"


def keycloak_token(issuer: LocalIssuer, **claims: Any) -> str:
    return issuer.token(
        "alice",
        **{
            "aud": ["my-api", "account"],
            "azp": "my-frontend",
            "typ": "Bearer",
            "acr": "1",
            "realm_access": {"roles": ["offline_access", "editor"]},
            "resource_access": {"account": {"roles": ["view-profile"]}},
            "scope": "email profile",
            "preferred_username": "alice",
            **claims,
        },
    )


@pytest.fixture
def realm(internet: Internet) -> LocalIssuer:
    issuer = LocalIssuer(REALM)
    internet.publish(
        issuer,
        f"{REALM}/protocol/openid-connect/certs",
        id_token_signing_alg_values_supported=["PS384", "RS384", "EdDSA", "ES384", "HS256", "HS512", "ES256", "RS256"],
    )
    # Realms publish a key for encryption too.
    encryption = {**LocalIssuer().jwks["keys"][0], "use": "enc", "alg": "RSA-OAEP"}
    internet.put(f"{REALM}/protocol/openid-connect/certs", lambda: {"keys": [encryption, *issuer.jwks["keys"]]})
    return issuer


def test_keycloak_editors_are_let_in(realm: LocalIssuer, load: Load) -> None:
    assert text_of(load("keycloak"), keycloak_token(realm), "/articles") == '["a draft"]'


@pytest.mark.parametrize(
    ("claims", "status_code"),
    [
        ({"realm_access": {"roles": ["viewer"]}}, 403),
        ({"realm_access": {}}, 403),
        ({"realm_access": None}, 403),
        ({"realm_access": None, "resource_access": {"my-api": {"roles": ["editor"]}}}, 403),
        ({"realm_access": "editor"}, 401),
        ({"azp": "other-frontend"}, 401),
        ({"azp": None}, 401),
        ({"aud": "account"}, 401),
        ({"aud": "my-frontend", "typ": "ID"}, 401),
        ({"iss": "https://keycloak.example.com/realms/other"}, 401),
        ({"iss": f"{REALM}/"}, 401),
    ],
)
def test_keycloak_tokens_of_others_are_refused(realm: LocalIssuer, load: Load, claims: Any, status_code: int) -> None:
    assert status_of(load("keycloak"), keycloak_token(realm, **claims), "/articles") == status_code


def test_keycloak_token_with_a_shared_secret_is_refused(realm: LocalIssuer, load: Load) -> None:
    claims = jwt.decode(keycloak_token(realm), options={"verify_signature": False})
    secret = realm.public_pem.replace("PUBLIC KEY", "SECRET")
    for algorithm in ("HS256", "HS512"):
        token = jwt.encode(claims, secret, algorithm, headers={"kid": realm.kid})
        assert status_of(load("keycloak"), token, "/articles") == 401


AUTH0 = "https://my-tenant.eu.auth0.com/"
OKTA = "https://my-company.okta.com/oauth2/default"


def auth0_token(issuer: LocalIssuer, **claims: Any) -> str:
    defaults = {
        "aud": ["https://api.example.com", f"{AUTH0}userinfo"],
        "azp": "my-client",
        "scope": "openid read:messages",
    }
    return issuer.token("auth0|alice", **{**defaults, **claims})


def okta_token(issuer: LocalIssuer, **claims: Any) -> str:
    defaults = {"aud": "api://default", "ver": 1, "cid": "my-client", "uid": "00u1", "scp": ["openid", "messages.read"]}
    return issuer.token("alice@example.com", headers={"typ": None}, **{**defaults, **claims})


@pytest.fixture
def auth0(internet: Internet) -> LocalIssuer:
    issuer = LocalIssuer(AUTH0)
    internet.publish(
        issuer, f"{AUTH0}.well-known/jwks.json", id_token_signing_alg_values_supported=["HS256", "RS256", "PS256"]
    )
    return issuer


@pytest.fixture
def okta(internet: Internet) -> LocalIssuer:
    issuer = LocalIssuer(OKTA)
    internet.publish(issuer, f"{OKTA}/v1/keys", id_token_signing_alg_values_supported=["RS256"])
    return issuer


def test_auth0_tokens_with_the_scope_are_accepted(auth0: LocalIssuer, load: Load) -> None:
    assert text_of(load("auth0"), auth0_token(auth0), "/messages") == '["Hello"]'


@pytest.mark.parametrize(
    ("claims", "status_code"),
    [
        ({"scope": "openid"}, 403),
        ({"scope": None}, 403),
        ({"iss": AUTH0.removesuffix("/")}, 401),
        ({"iss": "https://other-tenant.eu.auth0.com/"}, 401),
        ({"aud": [f"{AUTH0}userinfo"]}, 401),
        ({"aud": "my-client"}, 401),
    ],
)
def test_auth0_tokens_of_others_are_refused(auth0: LocalIssuer, load: Load, claims: Any, status_code: int) -> None:
    assert status_of(load("auth0"), auth0_token(auth0, **claims), "/messages") == status_code


def test_okta_tokens_with_the_scope_are_accepted(okta: LocalIssuer, load: Load) -> None:
    assert text_of(load("okta"), okta_token(okta), "/messages") == '["Hello"]'


@pytest.mark.parametrize(
    ("claims", "status_code"),
    [
        ({"scp": ["openid"]}, 403),
        ({"iss": "https://my-company.okta.com"}, 401),
        ({"iss": "https://my-company.okta.com/oauth2/other"}, 401),
        ({"aud": "https://my-company.okta.com"}, 401),
        ({"aud": "my-client"}, 401),
    ],
)
def test_okta_tokens_of_others_are_refused(okta: LocalIssuer, load: Load, claims: Any, status_code: int) -> None:
    assert status_of(load("okta"), okta_token(okta, **claims), "/messages") == status_code


POOL = "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_Example"
COGNITO_CLIENT = "1example23456789"


def cognito_token(issuer: LocalIssuer, **claims: Any) -> str:
    defaults = {
        "client_id": COGNITO_CLIENT,
        "token_use": "access",
        "scope": "aws.cognito.signin.user.admin",
        "username": "alice",
        "cognito:groups": ["staff"],
    }
    return issuer.token("alice", headers={"typ": None}, **{**defaults, **claims})


@pytest.fixture
def pool(internet: Internet) -> LocalIssuer:
    issuer = LocalIssuer(POOL)
    internet.publish(issuer, f"{POOL}/.well-known/jwks.json", id_token_signing_alg_values_supported=["RS256"])
    return issuer


def test_cognito_access_tokens_are_accepted(pool: LocalIssuer, load: Load) -> None:
    assert text_of(load("cognito"), cognito_token(pool)) == "alice"


@pytest.mark.parametrize(
    "claims",
    [
        {"client_id": "2example23456789"},
        {"client_id": None},
        {"client_id": None, "aud": COGNITO_CLIENT, "token_use": "id"},
        {"token_use": "id"},
        {"token_use": None},
        {"iss": f"{POOL}2"},
    ],
)
def test_cognito_tokens_of_others_are_refused(pool: LocalIssuer, load: Load, claims: Any) -> None:
    assert status_of(load("cognito"), cognito_token(pool, **claims)) == 401


GOOGLE = "https://accounts.google.com"
GOOGLE_CLIENT = "1234567890-example.apps.googleusercontent.com"


def google_token(issuer: LocalIssuer, **claims: Any) -> str:
    defaults = {"azp": GOOGLE_CLIENT, "aud": GOOGLE_CLIENT, "hd": "example.com", "email_verified": True}
    return issuer.token("alice", **{**defaults, **claims})


@pytest.fixture
def google(internet: Internet) -> LocalIssuer:
    issuer = LocalIssuer(GOOGLE)
    issuer.publish()  # there are two keys at any time
    internet.publish(
        issuer, "https://www.googleapis.com/oauth2/v3/certs", id_token_signing_alg_values_supported=["RS256"]
    )
    return issuer


@pytest.mark.parametrize("name", [GOOGLE, "accounts.google.com"])
def test_google_has_two_names(google: LocalIssuer, load: Load, name: str) -> None:
    assert text_of(load("google"), google_token(google, iss=name)) == "alice"


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": f"{GOOGLE}/"},
        {"iss": "http://accounts.google.com"},
        {"aud": "0987654321-example.apps.googleusercontent.com"},
        {"hd": "example.org"},
        {"hd": None},
    ],
)
def test_google_tokens_of_others_are_refused(google: LocalIssuer, load: Load, claims: Any) -> None:
    assert status_of(load("google"), google_token(google, **claims)) == 401


def test_issuers_are_told_apart(auth0: LocalIssuer, single_tenant: ModuleType, entra: LocalIssuer, load: Load) -> None:
    recipe = load("two_providers")
    assert text_of(recipe, entra_token(entra)) == "staff alice"
    assert text_of(recipe, auth0_token(auth0)) == "customer auth0|alice"


def test_issuer_cannot_pass_for_another(
    auth0: LocalIssuer, single_tenant: ModuleType, entra: LocalIssuer, load: Load, internet: Internet
) -> None:
    recipe = load("two_providers")
    assert status_of(recipe, entra_token(auth0)) == 401
    assert status_of(recipe, auth0_token(entra, iss=AUTH0)) == 401
    asked = len(internet.asked)
    assert status_of(recipe, LocalIssuer("https://other.example").token(aud="https://api.example.com")) == 401
    assert len(internet.asked) == asked


PATHS = {
    "entra_single_tenant": "/me",
    "entra_multi_tenant": "/me",
    "keycloak": "/articles",
    "auth0": "/messages",
    "okta": "/messages",
    "cognito": "/me",
    "google": "/me",
    "two_providers": "/me",
}


@pytest.mark.parametrize("name", PATHS)
def test_nobody_is_let_in_without_a_token(name: str, load: Load) -> None:
    """Nor does a provider that cannot be reached keep the app from starting."""
    with TestClient(load(name).app) as client:
        assert client.get(PATHS[name]).status_code == 401


@pytest.mark.parametrize("name", PATHS)
def test_forged_tokens_are_refused(
    name: str,
    load: Load,
    entra: LocalIssuer,
    single_tenant: ModuleType,
    multi_tenant: ModuleType,
    realm: LocalIssuer,
    auth0: LocalIssuer,
    okta: LocalIssuer,
    pool: LocalIssuer,
    google: LocalIssuer,
) -> None:
    good = {
        "entra_single_tenant": entra_token(entra),
        "entra_multi_tenant": entra_token(entra),
        "keycloak": keycloak_token(realm),
        "auth0": auth0_token(auth0),
        "okta": okta_token(okta),
        "cognito": cognito_token(pool),
        "google": google_token(google),
        "two_providers": auth0_token(auth0),
    }[name]
    header = jwt.get_unverified_header(good)
    claims = jwt.decode(good, options={"verify_signature": False})
    forged = jwt.encode(claims, LocalIssuer().private_key, "RS256", headers=header)
    recipe = load(name)
    assert status_of(recipe, good, PATHS[name]) == 200
    assert status_of(recipe, forged, PATHS[name]) == 401
