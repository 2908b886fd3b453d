"""Each recipe with what its provider publishes and issues. The shapes are those of the real documents and tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from litestar.security.jwt.testing import LocalIssuer
from tests.examples.test_security.test_jwt.internet import Internet, client_of, outcome_of
from tests.unit.test_security.test_jwt.key_providers.issuer_server import DISCOVERY

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
    """An example, what its provider publishes, and what it makes of tokens."""

    issuer: str
    jwks_uri: str
    claims: Claims
    cases: Sequence[tuple[Claims, str]]
    """Claims that are different, with the answer, the reason or the status."""
    path: str = "/me"
    algorithm: str = "RS256"
    url: str | None = None
    name: str = ""
    extra: Claims = field(default_factory=dict)
    header: str = "Authorization"
    scheme: str = "Bearer "
    drop: Sequence[str] = ()

    def publish(self, internet: Internet) -> LocalIssuer:
        issuer = LocalIssuer(issuer=self.issuer, algorithm=self.algorithm)
        internet.host(issuer, self.jwks_uri, url=self.url, name=self.name)
        internet.put(self.jwks_uri, lambda: {"keys": [self._jwk(key) for key in issuer.jwks["keys"]]})
        return issuer

    def _jwk(self, key: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in {**key, **self.extra}.items() if name not in self.drop}


ENTRA_TENANT: dict[str, Any] = {
    "issuer": ENTRA,
    "jwks_uri": f"{MICROSOFT}/{TENANT}/discovery/v2.0/keys",
    "claims": ENTRA_CLAIMS,
    # Entra ID says of each key whose it is, and not which algorithm it is for.
    "extra": {"issuer": ENTRA, "x5c": ["MIIC"]},
    "drop": ["alg"],
}
ENTRA_CASES: list[tuple[Claims, str]] = [
    ({"iss": f"{MICROSOFT}/{STRANGER}/v2.0", "tid": STRANGER}, "issuer"),
    ({"aud": STRANGER}, "audience"),
    (V1_CLAIMS, "issuer"),
]

RECIPES = {
    "entra_single_tenant": Recipe(**ENTRA_TENANT, cases=[({}, '{"id":"alice"}'), *ENTRA_CASES]),
    "settings_pydantic": Recipe(**ENTRA_TENANT, cases=[({}, "alice"), *ENTRA_CASES]),
    "entra_v1_tokens": Recipe(
        **ENTRA_TENANT,
        cases=[
            ({}, "alice"),
            (V1_CLAIMS, "alice"),
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
        cases=[
            ({}, "alice of Contoso"),
            ({"iss": f"{MICROSOFT}/{STRANGER}/v2.0", "tid": STRANGER}, "issuer"),
            ({"tid": STRANGER}, "issuer"),
            ({"aud": STRANGER}, "audience"),
        ],
    ),
    "machine_and_user_tokens": Recipe(
        **ENTRA_TENANT,
        path="/orders",
        cases=[
            ({}, '["orders of alice"]'),
            ({"idtyp": "app", "azp": "job", "scp": None, "roles": ["Orders.Read"]}, '["all orders"]'),
            ({"scp": "Orders.Write"}, "403"),
        ],
    ),
    "azure_b2c": Recipe(
        issuer=B2C,
        jwks_uri=f"{B2C_POLICY}/discovery/v2.0/keys",
        url=f"{B2C_POLICY}/v2.0{DISCOVERY}",
        claims={"aud": CLIENT, "tfp": "B2C_1_sign_in", "scp": "read", "ver": "1.0"},
        drop=["alg"],
        cases=[({}, "alice"), ({"iss": B2C.removesuffix("/")}, "issuer"), ({"aud": STRANGER}, "audience")],
    ),
    "keycloak": Recipe(
        issuer=REALM,
        jwks_uri=f"{REALM}/protocol/openid-connect/certs",
        claims={"aud": ["my-api", "account"], "typ": "Bearer", "realm_access": {"roles": ["editor"]}},
        path="/articles",
        cases=[
            ({}, '["a draft"]'),
            ({"realm_access": {"roles": ["viewer"]}}, "403"),
            ({"aud": "account"}, "audience"),
            ({"iss": f"{REALM}/"}, "issuer"),
        ],
    ),
    "auth0": Recipe(
        issuer=AUTH0,
        jwks_uri=f"{AUTH0}.well-known/jwks.json",
        claims={"aud": ["https://api.example.com", f"{AUTH0}userinfo"], "scope": "openid read:messages"},
        path="/messages",
        cases=[
            ({}, '["Hello"]'),
            ({"scope": "openid", "permissions": ["read:messages"]}, '["Hello"]'),
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
        cases=[
            ({}, '["Hello"]'),
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
        cases=[
            ({}, '["a report"]'),
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
        cases=[
            ({}, "alice"),
            ({"iss": "accounts.google.com"}, "alice"),
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
        cases=[({}, "alice"), ({"aud": "another"}, "audience"), ({"iss": GOOGLE}, "issuer")],
    ),
    "cloudflare_access": Recipe(
        issuer=TEAM,
        jwks_uri=f"{TEAM}/cdn-cgi/access/certs",
        header="Cf-Access-Jwt-Assertion",
        scheme="",
        claims={"aud": [TAG], "type": "app"},
        cases=[({}, "alice"), ({"aud": ["another"]}, "audience"), ({"iss": GOOGLE}, "issuer")],
    ),
}


@pytest.mark.parametrize("name", RECIPES)
def test_recipe(name: str, internet: Internet) -> None:
    recipe = RECIPES[name]
    forger = recipe.publish(internet)
    issuer = recipe.publish(internet)
    with client_of(name) as client:
        assert client.get(recipe.path).status_code == 401

        def outcome(token: str) -> str:
            return outcome_of(client.get(recipe.path, headers={recipe.header: recipe.scheme + token}))

        for claims, expected in recipe.cases:
            assert outcome(issuer.token("alice", **{**recipe.claims, **claims})) == expected, claims
        kid = issuer.jwks["keys"][0]["kid"]
        assert outcome(forger.token("alice", headers={"kid": kid}, **recipe.claims)) == "signature"
