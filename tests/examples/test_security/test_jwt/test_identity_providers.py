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
TEAM = "https://my-team.cloudflareaccess.com"
B2C_POLICY = "https://contoso.b2clogin.com/contoso.onmicrosoft.com/b2c_1_sign_in"

Claims = Mapping[str, Any]
ENTRA_CLAIMS: Claims = {"aud": CLIENT, "tid": TENANT, "oid": "alice-in-it", "scp": "Orders.Read", "ver": "2.0"}
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
    members: Claims = field(default_factory=dict)
    """Members of its key that are different."""
    header: str = ""
    """The header that holds the bare token."""

    def publish(self, internet: Internet) -> LocalIssuer:
        issuer = LocalIssuer(issuer=self.issuer, algorithm=self.algorithm)
        internet.host(issuer, self.jwks_uri, url=self.url, name=self.name)
        members = {**issuer.jwks["keys"][0], **self.members}
        jwk = {name: value for name, value in members.items() if value is not None}
        internet.put(self.jwks_uri, lambda: {"keys": [jwk]})
        return issuer


# Entra ID says of each key whose it is, and not which algorithm it is for.
ENTRA_KEY: Claims = {"alg": None, "issuer": ENTRA, "x5c": ["MIIC"]}
ENTRA_TENANT: tuple[str, str, Claims] = (ENTRA, f"{MICROSOFT}/{TENANT}/discovery/v2.0/keys", ENTRA_CLAIMS)
OF_STRANGER: Claims = {"iss": f"{MICROSOFT}/{STRANGER}/v2.0", "tid": STRANGER}
ENTRA_CASES: list[tuple[Claims, str]] = [(OF_STRANGER, "issuer"), (V1_CLAIMS, "issuer")]

# Besides what is said here, each recipe refuses the issuer with or without a slash at its end, and another audience.
RECIPES = {
    "entra_single_tenant": Recipe(*ENTRA_TENANT, [({}, '{"id":"alice"}'), *ENTRA_CASES], members=ENTRA_KEY),
    "settings_pydantic": Recipe(*ENTRA_TENANT, [({}, "alice"), *ENTRA_CASES], members=ENTRA_KEY),
    "entra_v1_tokens": Recipe(
        *ENTRA_TENANT,
        [
            ({}, "alice"),
            (V1_CLAIMS, "alice"),
            ({"iss": f"https://sts.windows.net/{STRANGER}/"}, "issuer"),
            ({"iss": ENTRA_V1.removesuffix("/")}, "issuer"),
            ({"aud": f"api://{STRANGER}"}, "audience"),
        ],
        members=ENTRA_KEY,
    ),
    "entra_multi_tenant": Recipe(
        ENTRA,
        f"{MICROSOFT}/organizations/discovery/v2.0/keys",
        ENTRA_CLAIMS,
        [({}, "alice of Contoso"), (OF_STRANGER, "issuer"), ({"tid": STRANGER}, "issuer")],
        url=f"{MICROSOFT}/organizations/v2.0{DISCOVERY}",
        name=TEMPLATE,
        members={"alg": None, "issuer": TEMPLATE},
    ),
    "machine_and_user_tokens": Recipe(
        *ENTRA_TENANT,
        [
            ({}, '["orders of alice"]'),
            ({"idtyp": "app", "azp": "job", "scp": None, "roles": ["Orders.Read"]}, '["all orders"]'),
            ({"scp": "Orders.Write"}, "403"),
        ],
        "/orders",
        members=ENTRA_KEY,
    ),
    "azure_b2c": Recipe(
        f"https://contoso.b2clogin.com/{TENANT}/v2.0/",
        f"{B2C_POLICY}/discovery/v2.0/keys",
        {"aud": CLIENT, "tfp": "B2C_1_sign_in", "scp": "read", "ver": "1.0"},
        [({}, "alice")],
        url=f"{B2C_POLICY}/v2.0{DISCOVERY}",
        members={"alg": None},
    ),
    "keycloak": Recipe(
        REALM,
        f"{REALM}/protocol/openid-connect/certs",
        {"aud": ["my-api", "account"], "typ": "Bearer", "realm_access": {"roles": ["editor"]}},
        [({}, '["a draft"]'), ({"realm_access": {"roles": ["viewer"]}}, "403"), ({"aud": "account"}, "audience")],
        "/articles",
    ),
    "auth0": Recipe(
        AUTH0,
        f"{AUTH0}.well-known/jwks.json",
        {"aud": ["https://api.example.com", f"{AUTH0}userinfo"], "scope": "openid read:messages"},
        [
            ({}, '["Hello"]'),
            ({"scope": "openid", "permissions": ["read:messages"]}, '["Hello"]'),
            ({"scope": "openid"}, "403"),
            ({"aud": [f"{AUTH0}userinfo"]}, "audience"),
        ],
        "/messages",
    ),
    "okta": Recipe(
        OKTA,
        f"{OKTA}/v1/keys",
        {"aud": "api://default", "cid": "my-client", "scp": ["openid", "messages.read"]},
        [({}, '["Hello"]'), ({"scp": ["openid"]}, "403"), ({"iss": "https://my-company.okta.com"}, "issuer")],
        "/messages",
    ),
    "cognito": Recipe(
        POOL,
        f"{POOL}/.well-known/jwks.json",
        {"client_id": POOL_CLIENT, "token_use": "access", "cognito:groups": ["staff"]},
        [
            ({}, '["a report"]'),
            ({"cognito:groups": ["guests"]}, "403"),
            *((change, "no user") for change in ({"client_id": "another"}, {"token_use": "id"})),
            ({"client_id": None, "aud": POOL_CLIENT, "token_use": "id"}, "no user"),
        ],
        "/reports",
    ),
    "google": Recipe(
        GOOGLE,
        "https://www.googleapis.com/oauth2/v3/certs",
        {"aud": "1234567890-example.apps.googleusercontent.com", "hd": "example.com"},
        [({}, "alice"), ({"iss": GOOGLE[8:]}, "alice"), ({"hd": "example.org"}, "no user"), ({"hd": None}, "no user")],
    ),
    "google_iap": Recipe(
        "https://cloud.google.com/iap",
        "https://www.gstatic.com/iap/verify/public_key-jwk",
        {"aud": "/projects/1234567890/global/backendServices/9876543210"},
        [({}, "alice"), ({"iss": GOOGLE}, "issuer")],
        algorithm="ES256",
        header="X-Goog-IAP-JWT-Assertion",
    ),
    "cloudflare_access": Recipe(
        TEAM,
        f"{TEAM}/cdn-cgi/access/certs",
        {"aud": ["4714c1358e65fe4b408ad6d432a5f878f08194bdb4752441fd56faefa9b2b6f2"], "type": "app"},
        [({}, "alice"), ({"iss": GOOGLE}, "issuer")],
        header="Cf-Access-Jwt-Assertion",
    ),
}


@pytest.mark.parametrize("name", RECIPES)
def test_recipe(name: str, internet: Internet) -> None:
    recipe = RECIPES[name]
    forger = recipe.publish(internet)
    issuer = recipe.publish(internet)
    slashed = recipe.issuer.removesuffix("/") if recipe.issuer.endswith("/") else f"{recipe.issuer}/"
    cases = [*recipe.cases, ({"iss": slashed}, "issuer")]
    if "aud" in recipe.claims:
        cases += [({"aud": aud}, "audience") for aud in ("another", ["another"])]
    with client_of(name) as client:
        assert client.get(recipe.path).status_code == 401

        def outcome(token: str) -> str:
            headers = {recipe.header: token} if recipe.header else {"Authorization": f"Bearer {token}"}
            return outcome_of(client.get(recipe.path, headers=headers))

        for claims, expected in cases:
            assert outcome(issuer.token("alice", **{**recipe.claims, **claims})) == expected, claims
        kid = issuer.jwks["keys"][0]["kid"]
        assert outcome(forger.token("alice", headers={"kid": kid}, **recipe.claims)) == "signature"
