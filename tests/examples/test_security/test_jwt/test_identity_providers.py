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
TENANT, STRANGER = (digit * 8 + f"-{digit * 4}" * 3 + "-" + digit * 12 for digit in "19")
CLIENT = TENANT.replace("1", "2")
ENTRA = f"{MICROSOFT}/{TENANT}/v2.0"
ENTRA_V1 = f"https://sts.windows.net/{TENANT}/"
TEMPLATE = f"{MICROSOFT}/{{tenantid}}/v2.0"
AUTH0 = "https://my-tenant.eu.auth0.com/"
GOOGLE = "https://accounts.google.com"
TEAM = "https://my-team.cloudflareaccess.com"
ADFS = "https://adfs.example.com/adfs"
B2C_POLICY = "https://contoso.b2clogin.com/contoso.onmicrosoft.com/b2c_1_sign_in"

Claims = Mapping[str, Any]
Cases = Sequence[tuple[Claims, str]]
ENTRA_CLAIMS: Claims = {"aud": CLIENT, "tid": TENANT, "oid": "alice-in-it", "scp": "Orders.Read", "ver": "2.0"}
V1_CLAIMS: Claims = {"iss": ENTRA_V1, "aud": f"api://{CLIENT}", "ver": "1.0"}
# Entra ID says of each key whose it is, and not which algorithm it is for.
ENTRA_KEY: Claims = {"alg": None, "issuer": ENTRA, "x5c": ["MIIC"]}


@dataclass
class Recipe:
    """An example, what its provider publishes, and what it makes of tokens."""

    issuer: str
    claims: Claims
    answer: str = "alice"
    cases: Cases = ()
    """Claims that are different, with the answer, the reason or the status."""
    path: str = "/me"
    jwks_uri: str = ""
    algorithm: str = "RS256"
    url: str | None = None
    name: str = ""
    members: Claims = field(default_factory=dict)
    """Members of its key that are different."""
    header: str = ""
    """The header that holds the bare token."""

    def publish(self, internet: Internet) -> LocalIssuer:
        issuer = LocalIssuer(issuer=self.issuer, algorithm=self.algorithm)
        members = {**issuer.jwks["keys"][0], **self.members}
        jwk = {name: value for name, value in members.items() if value is not None}
        internet.host(issuer, self.jwks_uri, url=self.url, name=self.name, keys=[jwk])
        return issuer


def entra(answer: str, *cases: tuple[Claims, str], **options: Any) -> Recipe:
    """Describe a recipe for one tenant of Entra ID."""
    cases = (*cases, (OF_STRANGER, "issuer"), ({"aud": f"api://{STRANGER}"}, "audience"))
    return Recipe(ENTRA, ENTRA_CLAIMS, answer, cases, members=ENTRA_KEY, **options)


OF_STRANGER: Claims = {"iss": f"{MICROSOFT}/{STRANGER}/v2.0", "tid": STRANGER}
OTHER_NAME: Claims = {"aud": f"api://{CLIENT}"}

# Besides what is said here, each recipe refuses the issuer with or without a slash at its end, and another audience.
RECIPES = {
    "entra_single_tenant": entra('{"id":"alice"}', (OTHER_NAME, '{"id":"alice"}'), (V1_CLAIMS, "issuer")),
    "settings_pydantic": entra("alice", (OTHER_NAME, "alice"), (V1_CLAIMS, "issuer")),
    "entra_v1_tokens": entra(
        "alice",
        (V1_CLAIMS, "alice"),
        ({"iss": f"https://sts.windows.net/{STRANGER}/"}, "issuer"),
        ({"iss": ENTRA_V1.removesuffix("/")}, "issuer"),
    ),
    "machine_and_user_tokens": entra(
        '["orders of alice"]',
        ({"idtyp": "app", "azp": "job", "scp": None, "roles": ["Orders.Read"]}, '["all orders"]'),
        ({"scp": "Orders.Write"}, "403"),
        path="/orders",
    ),
    "entra_multi_tenant": Recipe(
        ENTRA,
        ENTRA_CLAIMS,
        "alice of Contoso",
        [(OF_STRANGER, "issuer"), ({"tid": STRANGER}, "issuer")],
        url=f"{MICROSOFT}/organizations/v2.0{DISCOVERY}",
        name=TEMPLATE,
        members={"alg": None, "issuer": TEMPLATE},
    ),
    "azure_b2c": Recipe(
        f"https://contoso.b2clogin.com/{TENANT}/v2.0/",
        {"aud": CLIENT, "tfp": "B2C_1_sign_in", "scp": "read", "ver": "1.0"},
        url=f"{B2C_POLICY}/v2.0{DISCOVERY}",
        members={"alg": None},
    ),
    "keycloak": Recipe(
        "https://keycloak.example.com/realms/my-realm",
        {"aud": ["my-api", "account"], "typ": "Bearer", "realm_access": {"roles": ["editor"]}},
        '["a draft"]',
        [({"realm_access": {"roles": ["viewer"]}}, "403"), ({"aud": "account"}, "audience")],
        "/articles",
    ),
    "auth0": Recipe(
        AUTH0,
        {"aud": ["https://api.example.com", f"{AUTH0}userinfo"], "scope": "openid read:messages"},
        '["Hello"]',
        [
            ({"scope": "openid", "permissions": ["read:messages"]}, '["Hello"]'),
            ({"scope": "openid"}, "403"),
            ({"aud": [f"{AUTH0}userinfo"]}, "audience"),
        ],
        "/messages",
    ),
    "okta": Recipe(
        "https://my-company.okta.com/oauth2/default",
        {"aud": "api://default", "cid": "my-client", "scp": ["openid", "messages.read"]},
        '["Hello"]',
        [({"scp": ["openid"]}, "403"), ({"iss": "https://my-company.okta.com"}, "issuer")],
        "/messages",
    ),
    "cognito": Recipe(
        "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_Example",
        {"client_id": "1example23456789", "token_use": "access", "cognito:groups": ["staff"]},
        '["a report"]',
        [
            ({"cognito:groups": ["guests"]}, "403"),
            *((change, "no user") for change in ({"client_id": "another"}, {"token_use": "id"})),
            ({"client_id": None, "aud": "1example23456789", "token_use": "id"}, "no user"),
        ],
        "/reports",
    ),
    "google": Recipe(
        GOOGLE,
        {"aud": "1234567890-example.apps.googleusercontent.com", "hd": "example.com"},
        cases=[({"iss": GOOGLE[8:]}, "alice"), ({"hd": "example.org"}, "no user"), ({"hd": None}, "no user")],
    ),
    "google_iap": Recipe(
        "https://cloud.google.com/iap",
        {"aud": "/projects/1234567890/global/backendServices/9876543210"},
        cases=[({"iss": GOOGLE}, "issuer")],
        jwks_uri="https://www.gstatic.com/iap/verify/public_key-jwk",
        algorithm="ES256",
        header="X-Goog-IAP-JWT-Assertion",
    ),
    "cloudflare_access": Recipe(
        TEAM,
        {"aud": ["4714c1358e65fe4b408ad6d432a5f878f08194bdb4752441fd56faefa9b2b6f2"], "type": "app"},
        cases=[
            ({"iss": GOOGLE}, "issuer"),
            ({"sub": "", "common_name": "job.access"}, "service:job.access"),
            ({"sub": ""}, "claims do not fit CloudflareToken"),
        ],
        jwks_uri=f"{TEAM}/cdn-cgi/access/certs",
        header="Cf-Access-Jwt-Assertion",
    ),
    "clerk": Recipe(
        "https://my-app.clerk.accounts.dev",
        {"azp": "https://app.example.com"},
        cases=[(change, "no user") for change in ({"azp": None}, {"azp": "https://other.test"}, {"sts": "pending"})],
    ),
    "adfs": Recipe(
        "http://adfs.example.com/adfs/services/trust",
        {"aud": "microsoft:identityserver:my-api", "upn": "alice@example.com", "ver": "1.0"},
        cases=[
            ({"sub": None}, "alice@example.com"),
            ({"sub": None, "upn": None}, "claims do not fit AdfsToken"),
            ({"iss": ADFS}, "issuer"),
        ],
        url=f"{ADFS}{DISCOVERY}",
        name=ADFS,
        members={"kid": None},
    ),
}


@pytest.mark.parametrize("name", RECIPES)
def test_recipe(name: str, internet: Internet) -> None:
    recipe = RECIPES[name]
    forger, issuer = (recipe.publish(internet) for _ in range(2))
    slashed = recipe.issuer.removesuffix("/") if recipe.issuer.endswith("/") else f"{recipe.issuer}/"
    cases = [({}, recipe.answer), *recipe.cases, ({"iss": slashed}, "issuer")]
    if "aud" in recipe.claims:
        cases += [({"aud": aud}, "audience") for aud in ("another", ["another"])]
    with client_of(name) as client:
        assert client.get(recipe.path).status_code == 401

        def outcome(token: str) -> str:
            headers = {recipe.header: token} if recipe.header else {"Authorization": f"Bearer {token}"}
            return outcome_of(client.get(recipe.path, headers=headers))

        for claims, expected in cases:
            assert outcome(issuer.token(**{"sub": "alice", **recipe.claims, **claims})) == expected, claims
        kid = issuer.jwks["keys"][0]["kid"]
        assert outcome(forger.token("alice", headers={"kid": kid}, **recipe.claims)) == "signature"
