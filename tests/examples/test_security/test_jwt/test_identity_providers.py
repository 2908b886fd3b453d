"""Each recipe with what its provider publishes and issues. The shapes are those of the real documents and tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from litestar.security.jwt.testing import LocalIssuer
from tests.examples.test_security.test_jwt.internet import DISCOVERY, Internet, Load, client_of, merged, reason_of, send

MICROSOFT = "https://login.microsoftonline.com"
TENANT = "11111111-1111-1111-1111-111111111111"
STRANGER = "99999999-9999-9999-9999-999999999999"
CLIENT = "22222222-2222-2222-2222-222222222222"
ENTRA = f"{MICROSOFT}/{TENANT}/v2.0"
ENTRA_V1 = f"https://sts.windows.net/{TENANT}/"
TEMPLATE = f"{MICROSOFT}/{{tenantid}}/v2.0"
REALM = "https://keycloak.example.com/realms/my-realm"
AUTH0 = "https://my-tenant.eu.auth0.com/"
OKTA = "https://my-company.okta.com/oauth2/default"
POOL = "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_Example"
POOL_CLIENT = "1example23456789"
GOOGLE = "https://accounts.google.com"
GOOGLE_CLIENT = "1234567890-example.apps.googleusercontent.com"
IAP_AUDIENCE = "/projects/1234567890/global/backendServices/9876543210"
TEAM = "https://my-team.cloudflareaccess.com"
TAG = "4714c1358e65fe4b408ad6d432a5f878f08194bdb4752441fd56faefa9b2b6f2"
B2C = f"https://contoso.b2clogin.com/{TENANT}/v2.0/"
B2C_POLICY = "https://contoso.b2clogin.com/contoso.onmicrosoft.com/b2c_1_sign_in"

Claims = Mapping[str, Any]
ENTRA_CLAIMS: Claims = {
    "aud": CLIENT,
    "tid": TENANT,
    "oid": "alice-in-the-directory",
    "scp": "Orders.Read",
    "ver": "2.0",
}
V1_CLAIMS: Claims = {"iss": ENTRA_V1, "aud": f"api://{CLIENT}", "ver": "1.0"}


@dataclass
class Recipe:
    """An example, what its provider publishes, and which tokens it accepts and refuses."""

    issuer: str
    jwks_uri: str
    answer: str
    claims: Claims
    refused: Sequence[tuple[Claims, str]]
    accepted: Sequence[tuple[Claims, str]] = ()
    path: str = "/me"
    algorithm: str = "RS256"
    url: str | None = None
    name: str | None = None
    extra: Claims = field(default_factory=dict)
    header: str = "Authorization"
    scheme: str = "Bearer "
    drop: Sequence[str] = ()

    def made(self) -> LocalIssuer:
        return LocalIssuer(issuer=self.issuer, algorithm=self.algorithm)

    def publish(self, internet: Internet, issuer: LocalIssuer) -> None:
        internet.publish(issuer, self.jwks_uri, url=self.url, name=self.name)
        internet.put(self.jwks_uri, lambda: {"keys": [self._jwk(key) for key in issuer.jwks["keys"]]})

    def _jwk(self, key: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in {**key, **self.extra}.items() if name not in self.drop}

    def token(self, issuer: LocalIssuer, claims: Claims) -> str:
        return issuer.token("alice", **merged(self.claims, claims))


ENTRA_TENANT: dict[str, Any] = {
    "issuer": ENTRA,
    "jwks_uri": f"{MICROSOFT}/{TENANT}/discovery/v2.0/keys",
    "claims": ENTRA_CLAIMS,
    # Entra ID says of each key whose it is, and not which algorithm it is for.
    "extra": {"issuer": ENTRA, "x5c": ["MIIC"]},
    "drop": ["alg"],
}
ENTRA_REFUSED: list[tuple[Claims, str]] = [
    ({"iss": f"{MICROSOFT}/{STRANGER}/v2.0", "tid": STRANGER}, "issuer"),
    ({"aud": STRANGER}, "audience"),
    (V1_CLAIMS, "issuer"),
    ({"iss": None}, "issuer"),
    ({"exp": 1}, "expired"),
]

RECIPES = {
    "entra_single_tenant": Recipe(**ENTRA_TENANT, answer='{"id":"alice"}', refused=ENTRA_REFUSED),
    "settings_pydantic": Recipe(**ENTRA_TENANT, answer="alice", refused=ENTRA_REFUSED),
    "entra_v1_tokens": Recipe(
        **ENTRA_TENANT,
        answer="alice",
        accepted=[(V1_CLAIMS, "alice")],
        refused=[
            ({"iss": f"https://sts.windows.net/{STRANGER}/"}, "issuer"),
            ({"iss": ENTRA_V1.removesuffix("/")}, "issuer"),
            ({"aud": f"api://{STRANGER}"}, "audience"),
        ],
    ),
    "entra_multi_tenant": Recipe(
        issuer=ENTRA,
        jwks_uri=f"{MICROSOFT}/organizations/discovery/v2.0/keys",
        url=f"{MICROSOFT}/organizations/v2.0{DISCOVERY}",
        name=TEMPLATE,
        extra={"issuer": TEMPLATE},
        drop=["alg"],
        claims=ENTRA_CLAIMS,
        answer="alice of Contoso",
        refused=[
            ({"iss": f"{MICROSOFT}/{STRANGER}/v2.0", "tid": STRANGER}, "issuer"),
            ({"tid": STRANGER}, "issuer"),
            ({"tid": None}, "issuer"),
            ({"iss": TEMPLATE, "tid": "{tenantid}"}, "issuer"),
            ({"aud": STRANGER}, "audience"),
        ],
    ),
    "machine_and_user_tokens": Recipe(
        **ENTRA_TENANT,
        path="/orders",
        answer='["orders of alice"]',
        accepted=[({"idtyp": "app", "azp": "job", "scp": None, "roles": ["Orders.Read"]}, '["all orders"]')],
        refused=[({"scp": "Orders.Write"}, "403"), ({"scp": None, "roles": ["Orders"]}, "403")],
    ),
    "azure_b2c": Recipe(
        issuer=B2C,
        jwks_uri=f"{B2C_POLICY}/discovery/v2.0/keys",
        url=f"{B2C_POLICY}/v2.0{DISCOVERY}",
        claims={"aud": CLIENT, "tfp": "B2C_1_sign_in", "scp": "read", "ver": "1.0"},
        drop=["alg"],
        answer="alice",
        refused=[({"iss": B2C.removesuffix("/")}, "issuer"), ({"aud": STRANGER}, "audience")],
    ),
    "keycloak": Recipe(
        issuer=REALM,
        jwks_uri=f"{REALM}/protocol/openid-connect/certs",
        claims={"aud": ["my-api", "account"], "typ": "Bearer", "realm_access": {"roles": ["editor"]}},
        path="/articles",
        answer='["a draft"]',
        refused=[
            ({"realm_access": {"roles": ["viewer"]}}, "403"),
            ({"realm_access": {}}, "403"),
            ({"realm_access": "editor"}, "403"),
            ({"resource_access": {"my-api": {"roles": ["editor"]}}, "realm_access": None}, "403"),
            ({"aud": "account"}, "audience"),
            ({"iss": f"{REALM}/"}, "issuer"),
        ],
    ),
    "auth0": Recipe(
        issuer=AUTH0,
        jwks_uri=f"{AUTH0}.well-known/jwks.json",
        claims={"aud": ["https://api.example.com", f"{AUTH0}userinfo"], "scope": "openid read:messages"},
        path="/messages",
        answer='["Hello"]',
        accepted=[({"scope": "openid", "permissions": ["read:messages"]}, '["Hello"]')],
        refused=[
            ({"scope": "openid"}, "403"),
            ({"iss": AUTH0.removesuffix("/")}, "issuer"),
            ({"aud": [f"{AUTH0}userinfo"]}, "audience"),
        ],
    ),
    "okta": Recipe(
        issuer=OKTA,
        jwks_uri=f"{OKTA}/v1/keys",
        claims={"aud": "api://default", "cid": "my-client", "scp": ["openid", "messages.read"]},
        path="/messages",
        answer='["Hello"]',
        refused=[
            ({"scp": ["openid"]}, "403"),
            ({"iss": "https://my-company.okta.com"}, "issuer"),
            ({"aud": "my-client"}, "audience"),
        ],
    ),
    "cognito": Recipe(
        issuer=POOL,
        jwks_uri=f"{POOL}/.well-known/jwks.json",
        claims={"client_id": POOL_CLIENT, "token_use": "access", "cognito:groups": ["staff"]},
        path="/reports",
        answer='["a report"]',
        refused=[
            ({"cognito:groups": ["guests"]}, "403"),
            ({"client_id": "another"}, "no user"),
            ({"client_id": None, "aud": POOL_CLIENT, "token_use": "id"}, "no user"),
            ({"token_use": "id"}, "no user"),
            ({"iss": f"{POOL}2"}, "issuer"),
        ],
    ),
    "google": Recipe(
        issuer=GOOGLE,
        jwks_uri="https://www.googleapis.com/oauth2/v3/certs",
        claims={"aud": GOOGLE_CLIENT, "hd": "example.com"},
        answer="alice",
        accepted=[({"iss": "accounts.google.com"}, "alice")],
        refused=[
            ({"iss": f"{GOOGLE}/"}, "issuer"),
            ({"aud": "another"}, "audience"),
            ({"hd": "example.org"}, "no user"),
            ({"hd": None}, "no user"),
        ],
    ),
    "google_iap": Recipe(
        issuer="https://cloud.google.com/iap",
        jwks_uri="https://www.gstatic.com/iap/verify/public_key-jwk",
        algorithm="ES256",
        header="X-Goog-IAP-JWT-Assertion",
        scheme="",
        claims={"aud": IAP_AUDIENCE},
        answer="alice",
        refused=[({"aud": "another"}, "audience"), ({"iss": GOOGLE}, "issuer")],
    ),
    "cloudflare_access": Recipe(
        issuer=TEAM,
        jwks_uri=f"{TEAM}/cdn-cgi/access/certs",
        header="Cf-Access-Jwt-Assertion",
        scheme="",
        claims={"aud": [TAG], "type": "app"},
        answer="alice",
        refused=[({"aud": ["another"]}, "audience"), ({"iss": GOOGLE}, "issuer")],
    ),
}


def cases(kind: str) -> list[Any]:
    return [
        pytest.param(name, claims, expected) for name, r in RECIPES.items() for claims, expected in getattr(r, kind)
    ]


@pytest.mark.parametrize(
    ("name", "claims", "answer"), [*cases("accepted"), *((n, {}, r.answer) for n, r in RECIPES.items())]
)
def test_tokens_are_accepted(name: str, claims: Claims, answer: str, internet: Internet, load: Load) -> None:
    recipe = RECIPES[name]
    issuer = recipe.made()
    recipe.publish(internet, issuer)
    response = send(load(name), recipe.token(issuer, claims), recipe.path, recipe.header, recipe.scheme)
    assert (response.status_code, response.text) == (200, answer)


@pytest.mark.parametrize(("name", "claims", "reason"), cases("refused"))
def test_other_tokens_are_refused(name: str, claims: Claims, reason: str, internet: Internet, load: Load) -> None:
    recipe = RECIPES[name]
    issuer = recipe.made()
    recipe.publish(internet, issuer)
    response = send(load(name), recipe.token(issuer, claims), recipe.path, recipe.header, recipe.scheme)
    if reason != "403":
        assert (response.status_code, reason_of(response)) == (401, reason)
    else:
        assert (response.status_code, "insufficient_scope" in str(response.headers)) == (403, True)


@pytest.mark.parametrize("name", RECIPES)
def test_forged_tokens_are_refused(name: str, internet: Internet, load: Load) -> None:
    recipe = RECIPES[name]
    issuer, forger = recipe.made(), recipe.made()
    recipe.publish(internet, issuer)
    kid = issuer.jwks["keys"][0]["kid"]
    forged = forger.token("alice", headers={"kid": kid}, **recipe.claims)
    assert reason_of(send(load(name), forged, recipe.path, recipe.header, recipe.scheme)) == "signature"


@pytest.mark.parametrize("name", RECIPES)
def test_nobody_is_let_in_without_a_token_even_if_the_provider_is_down(name: str, load: Load) -> None:
    with client_of(load(name)) as client:
        assert client.get(RECIPES[name].path).status_code == 401


def test_keycloak_realm_has_a_key_for_encryption_too(internet: Internet, load: Load) -> None:
    recipe, issuer = RECIPES["keycloak"], RECIPES["keycloak"].made()
    recipe.publish(internet, issuer)
    encryption = {**LocalIssuer().jwks["keys"][0], "use": "enc", "alg": "RSA-OAEP"}
    internet.put(recipe.jwks_uri, lambda: {"keys": [encryption, *issuer.jwks["keys"]]})
    assert send(load("keycloak"), recipe.token(issuer, {}), recipe.path).status_code == 200


def test_entra_tenant_can_be_turned_away_at_any_time(internet: Internet, load: Load) -> None:
    recipe, issuer = RECIPES["entra_multi_tenant"], RECIPES["entra_multi_tenant"].made()
    recipe.publish(internet, issuer)
    example = load("entra_multi_tenant")
    name = f"{MICROSOFT}/{STRANGER}/v2.0"
    token = recipe.token(issuer, {"iss": name, "tid": STRANGER})
    statuses = []
    for customers in ({}, {name: "Fabrikam"}, {}):
        example.CUSTOMERS.clear()
        example.CUSTOMERS.update(customers)
        statuses.append(send(example, token).status_code)
    assert statuses == [401, 200, 401]
