"""Each refusal says why: in one line of the log, and in the challenge. Neither repeats what the token says."""

from __future__ import annotations

import enum
import re
import time
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, cast

import anyio
import jwt
import pytest

from litestar.exceptions import ImproperlyConfiguredException, NotAuthorizedException
from litestar.security.jwt import KeyNotFoundException, Token

from .backends import (
    CLAIMS,
    FORGER,
    ISSUER,
    SECRET,
    backend,
    bearer,
    client_of,
    greet,
    own_backend,
    text_of,
    with_secret,
)

KEY, KEYS = ISSUER.key, jwt.PyJWKSet.from_dict({"keys": [ISSUER.jwk]})
IN_AN_HOUR = int(time.time()) + 3600
# What a header value may quote: RFC 6750, section 3.
CHALLENGE = re.compile(r'Bearer error="invalid_token", error_description="([\x20-\x21\x23-\x5b\x5d-\x7e]+)"')


def refusal(auth: Any, token: str, records: list[Any], detail: str = "Invalid token") -> tuple[str, str]:
    """Send a token that must be refused, over HTTP and a websocket.

    Returns:
        The line in the log, and the description in the challenge.
    """
    with client_of(auth, greet) as client:
        answer = client.get("/", headers=bearer(token))
        assert (answer.status_code, answer.json()) == (401, {"status_code": 401, "detail": detail})
        challenge = CHALLENGE.fullmatch(answer.headers["WWW-Authenticate"])
        assert challenge is not None
        assert anyio.run(text_of, client.app, bearer(token)) == detail
    line, again = ([record.levelname, record.getMessage()] for record in records)
    assert line == again
    assert line[0] == "INFO"
    for text in (line[1], challenge[1]):
        assert "canary" not in text
        assert text.isprintable()
        assert not any(segment in text for segment in token.split(".") if segment)
    return line[1], challenge[1]


def told(reason: str, expected: str = "") -> tuple[str, str]:
    """Return the line and the description of a refusal."""
    return f"Token refused: {reason}{expected and f' (expected: {expected})'}", f"Token refused: {reason}"


class Case(NamedTuple):
    reason: str
    claims: dict[str, Any] = {}
    expected: str = ""
    options: dict[str, Any] = {}
    detail: str = "Invalid token"


B_TEST = "https://b.test"
A_CLASS = "the claim, or a token class as under 'Tokens without a claim' in the documentation"
BY_ISSUER = {"accepted_audiences": {ISSUER.name: ["my-api"]}}


@dataclass
class Nobody:
    def __call__(self, name: str) -> bool:
        return False


REASONS = {
    "type": Case("type", {"headers": {"typ": "canary"}}, "at+jwt", {"accepted_types": ["at+jwt"]}),
    "expired": Case("expired", {"exp": IN_AN_HOUR - 7200}),
    "not yet valid": Case("not yet valid", {"nbf": IN_AN_HOUR}),
    "issued in the future": Case("issued in the future", {"iat": IN_AN_HOUR}),
    "audience": Case("audience", {}, "my-api", {"accepted_audiences": ["my-api"]}),
    "no audience": Case("missing claim aud", {"aud": None}, "", {"accepted_audiences": ["my-api"]}),
    "audience of an issuer": Case("audience", {}, str({ISSUER.name: ("my-api",)}), BY_ISSUER),
    "issuer": Case("issuer", {"iss": "canary"}, B_TEST, {"accepted_issuers": [B_TEST]}),
    "issuer without audiences": Case(
        "issuer", {}, f"one of {B_TEST}, x", {"accepted_audiences": {B_TEST: ["x"], "x": ["x"]}}
    ),
    "issuer by function": Case(
        "issuer", {}, "one for which str.isalpha returns True", {"accepted_issuers": str.isalpha}
    ),
    "issuer by object": Case("issuer", {}, "one for which Nobody() returns True", {"accepted_issuers": Nobody()}),
    "no issuer": Case("missing claim iss", {"iss": None}, "", {"accepted_issuers": [B_TEST]}),
    "missing claim": Case("missing claim azp", {}, "", {"require_claims": ["azp"]}),
    "no subject": Case("missing claim sub", {"sub": None}, A_CLASS),
    "no time of issue": Case("missing claim iat", {"iat": None}, A_CLASS),
    "no expiration": Case("missing claim exp", {"exp": None}, A_CLASS),
    "subject by number": Case("claims do not fit Token: Subject must be a string", {"sub": 5}),
    "empty subject": Case("claims do not fit Token", {"sub": ""}),
    "extras by number": Case("malformed", {"extras": 5}),
    "revoked": Case("revoked", {}, "", {"revoked_token_handler": lambda token, connection: True}, "Unauthorized"),
    "no user": Case("no user", {}, "", {"retrieve_user_handler": lambda token, connection: None}, "Unauthorized"),
}


@pytest.mark.parametrize("signed_with", ["key", "secret"])
@pytest.mark.parametrize("name", REASONS)
def test_reason_is_logged_once_and_told_in_the_challenge(name: str, signed_with: str, records: list[Any]) -> None:
    case = REASONS[name]
    token = ISSUER.token(**{"sub": "canary", "canary": "canary", **case.claims})
    auth = backend(KEYS, **case.options)
    if signed_with == "secret":
        auth, token = own_backend(**case.options), with_secret(token)
    assert refusal(auth, token, records, case.detail) == told(case.reason, case.expected)


@pytest.mark.parametrize(
    ("reason", "token", "expected", "algorithm"),
    [
        ("malformed", "canary", "", "RS256"),
        ("malformed", "c@nary.canary.canary", "", "RS256"),
        ("malformed", "Y2FuYXJ5.Y2FuYXJ5.Y2FuYXJ5", "", "RS256"),
        ("malformed", "canary.canary.canary", "", "HS256"),
        ("malformed", ISSUER.token(headers={"crit": ["canary"], "canary": 1}), "", "RS256"),
        ("algorithm", jwt.encode(CLAIMS, SECRET, "HS256"), "RS256", "RS256"),
        ("algorithm", jwt.encode(CLAIMS, SECRET, "HS256"), "RS256, ES256", ["RS256", "ES256"]),
        ("algorithm", jwt.encode(CLAIMS, cast("Any", None), "none"), "RS256", "RS256"),
        ("algorithm", jwt.encode(CLAIMS, SECRET, "HS256"), "HS512", "HS512"),
        ("signature", FORGER.token("canary"), "", "RS256"),
        ("signature", jwt.encode(CLAIMS, SECRET[::-1], "HS256"), "", "HS256"),
    ],
    ids=range(11),
)
def test_defect_of_a_token_is_told(reason: str, token: str, expected: str, algorithm: Any, records: list[Any]) -> None:
    is_secret = algorithm in ("HS256", "HS512")
    auth = own_backend(algorithm=algorithm) if is_secret else backend(KEYS, algorithm=algorithm)
    assert refusal(auth, token, records) == told(reason, expected)


def test_challenge_has_question_marks_for_what_it_cannot_quote(records: list[Any]) -> None:
    expected = 'Token refused: missing claim é"x', "Token refused: missing claim ??x"
    assert refusal(backend(KEYS, require_claims=['é"x']), ISSUER.token(), records) == expected


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (jwt.InvalidIssuerError("x"), told("issuer", "x")),
        (None, told("unknown key", f"a known key, not '{ISSUER.name}'")),
    ],
)
def test_provider_tells_the_reason(cause: Exception | None, expected: tuple[str, str], records: list[Any]) -> None:
    def provider(token: Any) -> Any:
        raise KeyNotFoundException("Invalid token") from cause

    assert refusal(backend(provider), ISSUER.token(), records) == expected


def test_token_class_tells_the_reason_for_what_is_no_token(records: list[Any]) -> None:
    class Finding(Token):
        @classmethod
        def decode(cls, *args: Any, **kwargs: Any) -> Any:
            raise KeyNotFoundException("Invalid token")

    assert refusal(own_backend(token_cls=Finding), "canary", records) == told("unknown key")


def test_refusal_of_a_handler_keeps_its_own_words_and_challenge(records: list[Any]) -> None:
    def find_user(token: Token, connection: Any) -> str:
        if token.sub == "ann":
            return f"{token.sub} at {connection.url.path}"
        raise NotAuthorizedException("Blocked", headers={"www-authenticate": "Own"})

    with client_of(backend(KEY, retrieve_user_handler=find_user)) as client:
        assert client.get("/", headers=ISSUER.auth_header()).text == "ann at /"
        assert not records
        answer = client.get("/", headers=ISSUER.auth_header("bob"))
    assert (answer.status_code, answer.json()["detail"]) == (401, "Blocked")
    assert answer.headers["WWW-Authenticate"] == "Own"
    assert ["no user" in record.getMessage() for record in records] == [True]


class Role(enum.Enum):
    ADMIN = "admin"


@dataclass
class Nested:
    level: int


@dataclass
class Typed(Token):
    literal: Literal["admin"] | None = None
    role: Role | None = None
    number: int = 0
    nested: Nested = field(default_factory=lambda: Nested(1))
    by_name: dict[str, int] = field(default_factory=dict)
    checked: str = ""
    array: str = ""

    def __post_init__(self) -> None:
        if self.array:
            raise ImproperlyConfiguredException(self.array)
        if self.checked:
            raise ValueError(self.checked)
        super().__post_init__()


@dataclass(kw_only=True)
class Demanding(Token):
    tenant: str


class Renaming(Token):
    @classmethod
    def decode_payload(cls, *args: Any, **kwargs: Any) -> Any:
        raise KeyError("canary")


@pytest.mark.parametrize(
    ("token_cls", "claims", "named"),
    [
        (Typed, {"literal": "canary"}, "literal"),
        (Typed, {"role": "canary"}, "role"),
        (Typed, {"number": {"canary": 1}}, "number"),
        (Typed, {"number": ["canary"]}, "number"),  # the type that it has is the name of another field
        (Typed, {"array": "canary"}, ""),
        (Typed, {"nested": {"level": ["canary"]}}, "nested"),
        (Typed, {"by_name": {"canary": "canary"}}, "by_name"),
        (Typed, {"checked": "canary"}, ""),
        (Typed, {"checked": "canary - at `$.canary`"}, ""),
        (Typed, {"checked": "Expected `canary`, got `canary`"}, ""),
        (Typed, {"checked": "Expected `int`, got `str` - at `$.canary`"}, ""),
        (Typed, {"checked": "Object missing required field `canary`"}, ""),
        (Demanding, {"canary": "x"}, "tenant"),
        (Renaming, {}, ""),
        (Demanding, {"tenant": ["canary"]}, "tenant"),
    ],
)
def test_class_and_field_that_do_not_fit_are_named(token_cls: Any, claims: Any, named: str, records: list[Any]) -> None:
    expected = told(f"claims do not fit {token_cls.__name__}{named and f': {named}'}")
    assert refusal(backend(KEY, token_cls=token_cls), ISSUER.token("canary", **claims), records) == expected


@pytest.mark.parametrize(
    "kid", ["x\r\nSet-Cookie: a=b", '", error="none', "\\\\\\", "\x00\x1b[31m\x7f", "\u202eключ", ""]
)
def test_odd_name_of_a_key_cannot_break_a_header_or_a_line(kid: str, records: list[Any]) -> None:
    expected = told("unknown key", f"a known key, not {kid!r}")
    assert refusal(backend(KEYS), ISSUER.token("canary", headers={"kid": kid}), records) == expected


def test_name_of_an_unknown_key_is_logged_and_cut(records: list[Any]) -> None:
    token = ISSUER.token(headers={"kid": "none of ours" + "Q" * 5000})
    assert refusal(backend(KEYS), token, records) == told("unknown key", f"a known key, not 'none of ours{'Q' * 52}'")


@pytest.mark.parametrize("claim", ['a"b', "a\\b", "a\r\nSet-Cookie: a=b", "clé", "a\u2028b"])
def test_odd_name_of_a_claim_cannot_break_a_header(claim: str) -> None:
    with client_of(backend(KEYS, require_claims=[claim])) as client:
        answer = client.get("/", headers=ISSUER.auth_header())
    challenge = CHALLENGE.fullmatch(answer.headers["WWW-Authenticate"])
    assert challenge is not None
    assert "missing claim" in challenge[1]


def test_key_that_cannot_be_used_is_logged_as_an_error_of_the_application(records: list[Any]) -> None:
    with client_of(backend(lambda token: "not a key")) as client:
        assert client.get("/", headers=ISSUER.auth_header("canary")).status_code == 500
    (record,) = records
    assert record.levelname == "ERROR"
    assert re.match("The application cannot verify tokens: .* cannot be used: it is not a PEM", record.getMessage())
    assert "canary" not in record.getMessage()
