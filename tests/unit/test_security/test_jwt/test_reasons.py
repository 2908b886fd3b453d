"""Each refusal has the one true reason: in the log, in the challenge, and as the cause. Nothing else of the token shows."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, cast

import anyio
import jwt
import pytest

from litestar.security.jwt import Reason, Token, UnverifiedToken
from litestar.security.jwt.keys import UnknownIssuerException

from .backends import CLAIMS, FORGER, ISSUER, SECRET, Issuer, backend, bearer, client_of, compact, greet, text_of

KEYS = jwt.PyJWKSet([ISSUER.jwk])
NOW = int(time.time())
MANY_KEYS = [Issuer(ISSUER.name).jwk] * 9


@dataclass(kw_only=True)
class TenantToken(Token):
    tenant: int


def unknown_issuer(token: UnverifiedToken) -> Any:
    raise UnknownIssuerException("https://b.test", "https://c.test")


def refused(token: str, description: str, details: str = "", id: str = "", /, **options: Any) -> Any:
    """Make a row: a token, its reason and what that is about, what else the log line says, and options of the backend."""
    return pytest.param(token, description, details, options, id=id or description.replace(" ", "-"))


def signed(**claims: Any) -> str:
    return ISSUER.token("canary", canary="canary", **claims)


ROWS = [
    # Its form
    refused("canary", "malformed", "", "one-segment"),
    refused("c@nary.canary.canary", "malformed", "expected: canonical base64url", "no-base64"),
    refused(f"{ISSUER.token('canary')}=", "malformed", "expected: unpadded base64url", "padding"),
    refused("canary.canary.canary.canary.canary", "encrypted"),
    refused(signed(headers={"crit": ["canary"], "canary": 1}), "unsupported header parameter crit"),
    refused(
        signed(headers={"kid": "\ud800"}),
        "malformed",
        "expected: a string of at most 1,024 characters as 'kid'",
        "surrogate",
    ),
    refused(
        compact({"alg": "RS256"}, b"[" * 60000),
        "malformed",
        "expected: ASCII text of at most 65,536 characters",
        "long",
    ),
    # Its algorithm and kind
    refused(
        jwt.encode({"canary": 1}, SECRET, "HS256"),
        "algorithm",
        "expected: RS256; received: 'HS256'",
        key_algorithms="RS256",
    ),
    refused(
        compact({"alg": "none"}),
        "algorithm",
        "expected: ES256 or RS256; received: 'none'",
        "none",
        key_algorithms=["RS256", "ES256"],
    ),
    refused(compact({"alg": 5}), "algorithm", "expected: a string as 'alg'", "no-algorithm"),
    refused(signed(headers={"typ": "x"}), "type", "expected: at+jwt; received: 'x'", accepted_types=["at+jwt"]),
    refused(
        signed(headers={"typ": "logout+jwt"}),
        "type",
        "expected: an access token; received: 'logout+jwt'",
        "logout-token",
    ),
    refused(signed(cnf={"jkt": "canary"}), "bound to a sender", "expected: a token without 'cnf'"),
    # Its key
    refused(signed(headers={"kid": "none of ours"}), "unknown key", "received: 'none of ours'"),
    refused(
        signed(headers={"kid": "\r\nSet-Cookie: a=b"}), "unknown key", r"received: '\r\nSet-Cookie: a=b'", "line-break"
    ),
    refused(signed(headers={"kid": "\u202e\x1b[31m"}), "unknown key", r"received: '\u202e\x1b[31m'", "escape-sequence"),
    refused(signed(headers={"kid": "q" * 999}), "unknown key", f"received: '{'q' * 63}…", "long-kid"),
    refused(signed(), "too many keys", "expected: at most 8 keys that fit", key_provider=lambda token: MANY_KEYS),
    refused(
        signed(), "issuer", "expected: https://b.test or https://c.test", "unknown-issuer", key_provider=unknown_issuer
    ),
    refused(FORGER.token("canary"), "signature"),
    # Its times
    refused(signed(exp=NOW - 7200), "expired"),
    refused(signed(nbf=NOW + 7200), "not yet valid"),
    refused(signed(iat=NOW + 7200), "issued in the future"),
    refused(
        signed(exp=1796082706000),
        "invalid claim exp",
        "expected: seconds, not milliseconds, since 1970",
        "milliseconds",
    ),
    refused(signed(exp="1796082706"), "invalid claim exp", "expected: a number of seconds", "exp-is-a-text"),
    refused(signed(nbf="x"), "invalid claim nbf", "expected: a number of seconds"),
    refused(signed(iat=True), "invalid claim iat", "expected: a number of seconds"),
    # For whom, and by whom
    refused(signed(), "audience", "expected: mine; received: 'api'", accepted_audiences="mine"),
    refused(
        signed(aud=["a", "b"]),
        "audience",
        "expected: c or d; received: ['a', 'b']",
        "audiences",
        accepted_audiences=["c", "d"],
    ),
    refused(signed(aud=None), "missing claim aud", "expected: mine", accepted_audiences="mine"),
    refused(signed(aud=[5]), "invalid claim aud", "expected: a string or a list of strings", accepted_audiences="mine"),
    refused(
        signed(),
        "audience",
        "expected: mine; received: 'api'",
        "audience-by-issuer",
        accepted_audiences={ISSUER.name: "mine"},
    ),
    refused(
        signed(),
        "issuer",
        "expected: x or y; received: 'https://a.test'",
        "issuer-by-audience",
        accepted_audiences={"x": "a", "y": "b"},
    ),
    refused(signed(), "issuer", "expected: x; received: 'https://a.test'", accepted_issuers="x"),
    refused(signed(iss=None), "missing claim iss", accepted_issuers="x"),
    refused(signed(iss=5), "invalid claim iss", "expected: a string"),
    refused(
        signed(),
        "issuer",
        "expected: an issuer for which str.isalpha returns True; received: 'https://a.test'",
        "function",
        accepted_issuers=str.isalpha,
    ),
    # What else it says
    refused(signed(), "missing claim azp", require_claims=["azp"]),
    refused(ISSUER.token(None), "missing claim sub", "expected: a 'sub' claim, or a token class that adds one"),
    refused(ISSUER.token(""), "invalid claim sub", "expected: a string that is not empty", "empty-sub"),
    refused(ISSUER.token(5), "invalid claim sub", "expected: a string", "numeric-sub"),
    refused(signed(jti=5), "invalid claim jti", "expected: a string"),
    refused(
        signed(tenant="canary"),
        "claims do not fit TenantToken.tenant",
        "expected: a claim that fits the field, or another type of the field",
        token_cls=TenantToken,
    ),
    refused(
        signed(),
        "claims do not fit TenantToken",
        "expected: the claims that the class requires, or a class with fewer fields",
        token_cls=TenantToken,
    ),
    # What the application says
    refused(signed(), "revoked", revoked_token_handler=lambda token, connection: True),
    refused(signed(), "no user", retrieve_user_handler=lambda token, connection: None),
]


@pytest.mark.parametrize(("token", "description", "details", "options"), ROWS)
def test_reason_is_told(
    token: str, description: str, details: str, options: dict[str, Any], records: list[Any]
) -> None:
    with client_of(backend(**{"key_provider": KEYS, **options}), greet) as client:
        answer = client.get("/", headers=bearer(token))
        assert anyio.run(text_of, client.app, bearer(token)) == answer.json()["detail"]
    challenge = f'Bearer error="invalid_token", error_description="Token refused: {description}"'
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, challenge)
    line = f"Token refused: {description}{details and f' ({details})'}"
    assert [(record.levelname, record.getMessage()) for record in records] == [("INFO", line)] * 2
    assert description.startswith(records[0].reason)
    for text in ("canary", *(part for part in token.split(".") if len(part) > 9)):
        assert text not in line + challenge + answer.text


def test_every_reason_has_a_row() -> None:
    told = {cast("str", row.values[1]) for row in ROWS}
    missing = {reason for reason in Reason if not any(description.startswith(reason) for description in told)}
    assert missing == {
        Reason.NO_CREDENTIALS,
        Reason.SCOPES,
    }  # the first is in test_challenge, the second in test_guards


def test_good_token_is_not_refused(records: list[Any]) -> None:
    with client_of(backend(KEYS)) as client:
        assert client.get("/", headers=bearer(signed())).text == "canary"
        assert client.get("/", headers=bearer(jwt.encode(CLAIMS, SECRET, "HS256"))).status_code == 401
    assert [record.reason for record in records] == [Reason.ALGORITHM]
