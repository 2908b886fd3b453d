"""Each refusal says why: in one line of the log, and in the challenge. Neither repeats what the token says."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Literal, NamedTuple, cast

import anyio
import jwt
import pytest

from litestar.exceptions import ImproperlyConfiguredException, NotAuthorizedException
from litestar.security.jwt import KeyNotFoundException, Token

from .backends import CLAIMS, FORGER, ISSUER, SECRET, backend, client_of, greet, own_backend, text_of, with_secret

KEYS = jwt.PyJWKSet.from_dict({"keys": [ISSUER.jwk]})
IN_AN_HOUR = int(time.time()) + 3600
# What a header value may quote: RFC 6750, section 3.
CHALLENGE = re.compile(r'Bearer error="invalid_token", error_description="([\x20-\x21\x23-\x5b\x5d-\x7e]+)"')


def refusal(auth: Any, token: str, records: list[Any], detail: str = "Invalid token") -> tuple[str, str]:
    """Send a token that must be refused, over HTTP and a websocket. Return the log line and the description."""
    headers = {"Authorization": f"Bearer {token}"}
    with client_of(auth, greet) as client:
        answer = client.get("/", headers=headers)
        assert (answer.status_code, answer.json()) == (401, {"status_code": 401, "detail": detail})
        challenge = CHALLENGE.fullmatch(answer.headers["WWW-Authenticate"])
        assert challenge is not None
        assert anyio.run(text_of, client.app, headers) == detail
    line, again = ((record.levelname, record.getMessage()) for record in records)
    assert line == again == ("INFO", line[1])
    assert line[1].isprintable()
    assert not [text for text in ("canary", *token.split(".")) if text and text in line[1] + challenge[1]]
    return line[1], challenge[1]


def told(reason: str, expected: str = "") -> tuple[str, str]:
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
OF_OTHERS = {"accepted_audiences": {B_TEST: ["x"], "x": ["x"]}}


@dataclass
class Nobody:
    def __call__(self, name: str) -> bool:
        return False


REASONS = [
    Case("type", {"headers": {"typ": "canary"}}, "at+jwt", {"accepted_types": ["at+jwt"]}),
    Case("expired", {"exp": IN_AN_HOUR - 7200}),
    Case("not yet valid", {"nbf": IN_AN_HOUR}),
    Case("issued in the future", {"iat": IN_AN_HOUR}),
    Case("audience", {}, "my-api", {"accepted_audiences": ["my-api"]}),
    Case("missing claim aud", {"aud": None}, "", {"accepted_audiences": ["my-api"]}),
    Case("audience", {}, str({ISSUER.name: ("my-api",)}), BY_ISSUER),
    Case("issuer", {"iss": "canary"}, B_TEST, {"accepted_issuers": [B_TEST]}),
    Case("issuer", {}, f"one of {B_TEST}, x", OF_OTHERS),
    Case("issuer", {}, "one for which str.isalpha returns True", {"accepted_issuers": str.isalpha}),
    Case("issuer", {}, "one for which Nobody() returns True", {"accepted_issuers": Nobody()}),
    Case("missing claim iss", {"iss": None}, "", {"accepted_issuers": [B_TEST]}),
    Case("missing claim azp", {}, "", {"require_claims": ["azp"]}),
    *(Case(f"missing claim {name}", {name: None}, A_CLASS) for name in ("sub", "iat", "exp")),
    Case("claims do not fit Token: Subject must be a string", {"sub": 5}),
    Case("claims do not fit Token", {"sub": ""}),
    Case("malformed", {"extras": 5}),
    Case("revoked", {}, "", {"revoked_token_handler": lambda token, connection: True}, "Unauthorized"),
    Case("no user", {}, "", {"retrieve_user_handler": lambda token, connection: None}, "Unauthorized"),
]


@pytest.mark.parametrize("signed_with", ["key", "secret"])
@pytest.mark.parametrize("case", REASONS, ids=lambda case: case.reason)
def test_reason_is_logged_once_and_told_in_the_challenge(case: Case, signed_with: str, records: list[Any]) -> None:
    token = ISSUER.token(**{"sub": "canary", "canary": "canary", **case.claims})
    auth = backend(KEYS, **case.options)
    if signed_with == "secret":
        auth, token = own_backend(**case.options), with_secret(token)
    assert refusal(auth, token, records, case.detail) == told(case.reason, case.expected)


HMAC = jwt.encode(CLAIMS, SECRET, "HS256")
DEFECTS: list[tuple[str, str, str, Any]] = [
    *(("malformed", text, "", "RS256") for text in ("canary", "c@nary.canary.canary", "Y2FuYXJ5.Y2FuYXJ5.Y2FuYXJ5")),
    ("malformed", "canary.canary.canary", "", "HS256"),
    ("malformed", ISSUER.token(headers={"crit": ["canary"], "canary": 1}), "", "RS256"),
    ("algorithm", HMAC, "RS256", "RS256"),
    ("algorithm", HMAC, "RS256, ES256", ["RS256", "ES256"]),
    ("algorithm", jwt.encode(CLAIMS, cast("Any", None), "none"), "RS256", "RS256"),
    ("algorithm", HMAC, "HS512", "HS512"),
    ("signature", FORGER.token("canary"), "", "RS256"),
    ("signature", jwt.encode(CLAIMS, SECRET[::-1], "HS256"), "", "HS256"),
]


@pytest.mark.parametrize(("reason", "token", "expected", "algorithm"), DEFECTS, ids=range(len(DEFECTS)))
def test_defect_of_a_token_is_told(reason: str, token: str, expected: str, algorithm: Any, records: list[Any]) -> None:
    is_secret = algorithm in ("HS256", "HS512")
    auth = own_backend(algorithm=algorithm) if is_secret else backend(KEYS, algorithm=algorithm)
    assert refusal(auth, token, records) == told(reason, expected)


def test_challenge_has_question_marks_for_what_it_cannot_quote(records: list[Any]) -> None:
    name, line = 'é"\\\r\n\u2028 Set-Cookie: a=b', "Token refused: missing claim "
    with client_of(backend(KEYS, require_claims=[name])) as client:
        challenge = client.get("/", headers=ISSUER.auth_header()).headers["WWW-Authenticate"]
    assert challenge == f'Bearer error="invalid_token", error_description="{line}?????? Set-Cookie: a=b"'
    assert [record.getMessage() for record in records] == [line + name]


def test_provider_or_token_class_tells_the_reason(records: list[Any]) -> None:
    causes: list[Exception | None] = [jwt.InvalidIssuerError("x"), None]

    class Finding(Token):
        @classmethod
        def decode(cls, *args: Any, **kwargs: Any) -> Any:
            raise KeyNotFoundException("Invalid token") from causes[0]

    def provider(token: Any) -> Any:
        Finding.decode()

    assert refusal(backend(provider), ISSUER.token(), records) == told("issuer", "x")
    del causes[0], records[:]
    expected = told("unknown key", f"a known key, not '{ISSUER.name}'")
    assert refusal(backend(provider), ISSUER.token(), records) == expected
    records.clear()
    assert refusal(own_backend(token_cls=Finding), "canary", records) == told("unknown key")  # of what is no token


def test_refusal_of_a_handler_keeps_its_own_words_and_challenge(records: list[Any]) -> None:
    def find_user(token: Token, connection: Any) -> str:
        if token.sub == "ann":
            return f"{token.sub} at {connection.url.path}"
        raise NotAuthorizedException("Blocked", headers={"WWW-authenticate": "Own"})

    with client_of(backend(KEYS, retrieve_user_handler=find_user)) as client:
        assert client.get("/", headers=ISSUER.auth_header()).text == "ann at /"
        assert not records
        answer = client.get("/", headers=ISSUER.auth_header("bob"))
    assert (answer.status_code, answer.json()["detail"]) == (401, "Blocked")
    assert answer.headers["WWW-Authenticate"] == "Own"
    assert ["no user" in record.getMessage() for record in records] == [True]


@dataclass(kw_only=True)
class Demanding(Token):
    tenant: str


@dataclass
class Typed(Token):
    literal: Literal["admin"] | None = None
    number: int = 0
    nested: Demanding | None = None
    by_name: dict[str, int] = field(default_factory=dict)
    checked: str = ""
    array: str = ""

    def __post_init__(self) -> None:
        if self.array:
            raise ImproperlyConfiguredException(self.array)
        if self.checked:
            raise ValueError(self.checked)
        super().__post_init__()


class Renaming(Token):
    @classmethod
    def decode_payload(cls, *args: Any, **kwargs: Any) -> Any:
        raise KeyError("canary")


TYPED = {"literal": "canary", "number": {"canary": 1}, "nested": {"canary": 1}, "by_name": {"canary": "canary"}}
CHECKED = [
    *("canary", "canary - at `$.canary`", "Expected `canary`, got `canary`", "Object missing required field `canary`"),
    "Expected `int`, got `str` - at `$.canary`",
]
FIELDS: list[tuple[Any, dict[str, Any], str]] = [
    *((Typed, {name: value}, name) for name, value in TYPED.items()),
    (Typed, {"number": ["canary"]}, "number"),  # the type that it has is the name of another field
    *((Typed, {name: text}, "") for name, text in [("array", "canary"), *product(["checked"], CHECKED)]),
    (Demanding, {"canary": "x"}, "tenant"),
    (Demanding, {"tenant": ["canary"]}, "tenant"),
    (Renaming, {}, ""),
]


@pytest.mark.parametrize(("token_cls", "claims", "named"), FIELDS)
def test_class_and_field_that_do_not_fit_are_named(token_cls: Any, claims: Any, named: str, records: list[Any]) -> None:
    expected = told(f"claims do not fit {token_cls.__name__}{named and f': {named}'}")
    assert refusal(backend(KEYS, token_cls=token_cls), ISSUER.token("canary", **claims), records) == expected


KIDS = [
    *("x\r\nSet-Cookie: a=b", '", error="none', "\\\\\\", "\x00\x1b[31m\x7f", "\u202eключ", ""),
    "none of ours" + "Q" * 5000,
]


@pytest.mark.parametrize("kid", KIDS, ids=range(len(KIDS)))
def test_name_of_an_unknown_key_is_cut_and_cannot_break_a_header_or_a_line(kid: str, records: list[Any]) -> None:
    expected = told("unknown key", f"a known key, not {kid[:64]!r}")
    assert refusal(backend(KEYS), ISSUER.token("canary", headers={"kid": kid}), records) == expected


def test_key_that_cannot_be_used_is_logged_as_an_error_of_the_application(records: list[Any]) -> None:
    with client_of(backend(lambda token: "not a key")) as client:
        assert client.get("/", headers=ISSUER.auth_header("canary")).status_code == 500
    (record,) = records
    assert record.levelname == "ERROR"
    assert re.match("The application cannot verify tokens: .* cannot be used: it is not a PEM", record.getMessage())
    assert "canary" not in record.getMessage()
