"""Whatever is sent as a token, it is accepted only if PyJWT accepts it. The answer is 200 or 401, and repeats nothing of it."""

from __future__ import annotations

import json
import logging
import os
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import product
from typing import Any, NamedTuple

import anyio
import jwt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from litestar.security.jwt import JWTCookieAuth

from .backends import FORGER, PRIVATE_KEYS, SECRET, app_of, backend, base64url, exchange, is_accepted, own_backend

NOW = int(time.time())
CLAIMS = {"sub": "canary-subject", "iss": "https://issuer.test", "aud": "api", "iat": NOW - 60, "exp": NOW + 86_400}
PLAIN, PAYLOAD = b'{"alg": "%s", "typ": "JWT"}', json.dumps(CLAIMS).encode()
# The keys that sign, and the keys that verify: one, and several of which one fits.
KEYS: dict[str, Any] = {**PRIVATE_KEYS, "HS256": SECRET}
FORMS: dict[str, Any] = {a: (k.public_key(), [FORGER.private_key, k]) for a, k in PRIVATE_KEYS.items()}
FORMS["HS256"] = SECRET, [SECRET[::-1], SECRET]
APPS = {a: app_of(backend(FORMS[a][0], JWTCookieAuth, algorithm=a)) for a in PRIVATE_KEYS}
APPS["HS256"] = app_of(own_backend(JWTCookieAuth))
LINES: list[str] = []
each_algorithm = pytest.mark.parametrize("algorithm", KEYS)
# With FUZZING=thorough in the environment, as many tokens are tried as it takes to be sure.
QUICK = os.environ.get("FUZZING") != "thorough"
fuzz = settings(deadline=None, derandomize=QUICK, max_examples=40 if QUICK else 2_000, database=None)
fuzz = settings(fuzz, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@pytest.fixture(autouse=True, scope="module")
def _logging() -> Iterator[None]:
    """Collect what is logged by whomever, at whatever level."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("logging.Logger.isEnabledFor", lambda *_: True)
        patch.setattr("logging.Logger.handle", lambda _, record: LINES.append(logging.Formatter().format(record)))
        yield


def sign(header: bytes, payload: bytes, algorithm: str) -> str:
    """Sign whatever bytes, which an issuer never would."""
    signing_input = ".".join(map(base64url, (header.replace(b"%s", algorithm.encode()), payload)))
    signer = jwt.get_algorithm_by_name(algorithm)
    return f"{signing_input}.{base64url(signer.sign(signing_input.encode(), signer.prepare_key(KEYS[algorithm])))}"


_NUMBERS = [0, -1, 2**31, 2**63, 10**400, 1e308, NOW, NOW + 1000, NOW - 1000, float(NOW) + 0.5]
_TEXTS = ["", " ", "\x00", "\ud800", "\u202e", "null", str(NOW + 99), "a" * 3000, "api", "JWT"]
_numbers = st.integers(-(2**70), 2**70) | st.floats() | st.sampled_from(_NUMBERS)
_texts = st.text(max_size=12) | st.sampled_from(_TEXTS)
_nested = st.sampled_from([50, 400]).map(lambda depth: json.loads("[" * depth + "]" * depth))
_json = _nested | st.recursive(
    st.none() | st.booleans() | _numbers | _texts,
    lambda values: st.lists(values, max_size=3) | st.dictionaries(_texts, values, max_size=3),
    max_leaves=6,
)
_HEADER_MEMBERS = "alg typ cty kid jku jwk x5u x5c x5t crit b64 zip enc".split()
_CLAIM_MEMBERS = "sub iss aud exp nbf iat jti extras scope roles é \x00".split(" ")
_ALGORITHMS = "none nOnE HS256 hs256 HS512 RS256 RS384 PS256 ES256 ES521".split()
_STRANGE = [
    *(b"", b"{", b"{}", b"null", b"[]", b'""', b"0", b"\xef\xbb\xbf{}", b"\xff\xfe{\x00}\x00", b"{'a': 1}"),
    *(b"[" * 9_999, b'{"a":' * 5_000, b"9" * 5_000, b'{"alg": "HS256", "alg": "none"}', b'{"exp": NaN}'),
    *(b'{"sub": "\\ud800"}', b'{"sub": "\xff"}', b"{} {}", b"{}\x00", b'{"a": 1,}', b'{"a": Infinity}'),
]


@st.composite
def _object(draw: Any, base: dict[str, Any], members: Any, values: Any) -> bytes:
    """Make the JSON text of an object with members changed, left out, or there twice."""
    changed = {**base, **draw(st.dictionaries(st.sampled_from(members) | _texts, values, max_size=3))}
    name, fate = draw(st.sampled_from(sorted(base))), draw(st.integers(0, 9))
    if fate == 0:
        del changed[name]
    text = json.dumps(changed, ensure_ascii=draw(st.booleans()))
    if fate == 1:
        text = f"{text[:-1]}, {json.dumps(name)}: {json.dumps(draw(values))}}}"
    return text.encode("utf-8", "surrogatepass")


_strange = st.binary(max_size=40) | _json.map(lambda v: json.dumps(v).encode()) | st.sampled_from(_STRANGE)
payloads = _object(CLAIMS, _CLAIM_MEMBERS, _json) | _strange


def headers(algorithm: str) -> Any:
    values = _json | st.sampled_from(_ALGORITHMS)
    return _object({"alg": algorithm, "typ": "JWT"}, _HEADER_MEMBERS, values) | st.just(PLAIN) | _strange


@st.composite
def mutations(draw: Any, token: str) -> str:
    """Change a token so that its bytes differ, on whatever level."""
    parts = token.split(".")
    position, segment = draw(st.integers(0, len(token) - 1)), draw(st.integers(0, 2))
    start, rest, part = token[:position], token[position + 1 :], parts[segment]
    inserted: str = draw(st.text(st.characters(min_codepoint=33, max_codepoint=255), min_size=1, max_size=9))
    cut = draw(st.integers(1, len(part) - 1))
    spellings = [
        *(part + "=" * draw(st.integers(1, 4)), part[:cut] + draw(st.sampled_from("\t+/ \n\r\x00%~")) + part[cut:]),
        part[:-1] + chr(ord(part[-1]) ^ 1),  # perhaps bits that do not count
        draw(st.sampled_from(["", "e30", "bnVsbA", parts[0] * 2, part.swapcase()])),
    ]
    changed = [[*parts[:segment], spelled, *parts[segment + 1 :]] for spelled in spellings]
    further = st.lists(st.sampled_from(["", *parts]), min_size=1, max_size=4)
    changed += [draw(st.permutations(parts)), parts + draw(further)]
    whole = [start + inserted[0] + rest, start + rest, start + inserted + token[position:], start]
    return str(draw(st.sampled_from([*whole, *map(".".join, changed)])))


class Taken:
    """A token as it is read by those who are lenient."""

    def __init__(self, token: str) -> None:
        self.token = token
        header, _, rest = token.partition(".")
        segments = header, rest.rpartition(".")[0]
        self.texts = [urlsafe_b64decode(segment.rstrip("=") + "==") for segment in segments]
        self.header, self.claims = map(json.loads, self.texts)


def _is_time(value: Any) -> bool:
    return isinstance(value, (int, float)) and 0 <= value < 253_402_300_800


def _is_text(value: Any) -> bool:
    return isinstance(value, (str, type(None)))


def _is_audience(value: Any) -> bool:
    return _is_text(value) or (isinstance(value, list) and all(isinstance(v, str) for v in value))


def _is_no_json(text: bytes) -> bool:
    """Tell whether a text is not what RFC 8259 calls JSON, in UTF-8 without a byte order mark."""
    try:
        value = json.loads(text.decode(), parse_constant=int)  # which refuses NaN and Infinity
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except ValueError:
        return True
    return False


def _has_duplicates(text: bytes) -> bool:
    found: list[bool] = []
    json.loads(text, object_pairs_hook=lambda pairs: found.append(len(dict(pairs)) != len(pairs)))
    return any(found)


class Rule(NamedTuple):
    """A reason to refuse what PyJWT accepts, and an example."""

    applies: Callable[[Taken], bool]
    claims: dict[str, Any] = {}
    header: bytes = PLAIN


LONG = b'{"alg": "%%s", "x": "%s"}' % (b"x" * 9_000)
# What does not fit the fields of Token: refused by released Litestar too, with a secret as with any other key.
RULES_OF_TOKEN = {
    "'exp' is no time": Rule(lambda t: not _is_time(t.claims.get("exp")), {"exp": str(NOW + 86_400)}),
    "'iat' is no time": Rule(lambda t: not _is_time(t.claims.get("iat")), {"iat": str(NOW - 99)}),
    "'sub' is absent or empty": Rule(lambda t: not t.claims.get("sub"), {"sub": ""}),
    "'iss' is no text": Rule(lambda t: not _is_text(t.claims.get("iss")), {"iss": 1}),
    "'aud' is no text and no list of texts": Rule(lambda t: not _is_audience(t.claims.get("aud")), {"aud": [None]}),
    "'extras' is no object": Rule(lambda t: not isinstance(t.claims.get("extras", {}), dict), {"extras": None}),
}
# All further ways to be refused with a public key.
STRICTER = {
    "padding": Rule(lambda t: "=" in t.token),
    "header with a member twice": Rule(lambda t: _has_duplicates(t.texts[0]), {}, b'{"alg": "%s", "alg": "%s"}'),
    "header that is no JSON": Rule(lambda t: _is_no_json(t.texts[0]), {}, b'{"alg": "%s", "x": NaN}'),
    "claims that are no JSON": Rule(lambda t: _is_no_json(t.texts[1]), {"x": "\ud800"}),
    "extension": Rule(lambda t: not {"crit", "b64", "zip"}.isdisjoint(t.header), {}, b'{"alg": "%s", "zip": "DEF"}'),
    "header of more than 8,192 characters": Rule(lambda t: t.token.index(".") > 8_192, {}, LONG),
}
RULES = {**RULES_OF_TOKEN, **STRICTER}
API: dict[str, Any] = {"audience": "api"}
# Options of PyJWT, and the same in the words of Token.decode.
OPTIONS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"options": {"verify_aud": False}}, {}),
    ({"audience": ["api", "other"]}, {"audience": ["api", "other"]}),
    ({**API, "options": {"strict_aud": True}}, {"audience": ["api"], "strict_audience": True}),
    ({**API, "options": {"strict_aud": True}}, {**API, "strict_audience": True}),
    ({**API, "issuer": [CLAIMS["iss"]]}, {**API, "issuer": [CLAIMS["iss"]]}),
    ({**API, "leeway": 3000}, {**API, "leeway": timedelta(seconds=3000)}),
    ({**API, "options": {"require": ["nbf"]}}, {**API, "require_claims": ["nbf"]}),
    ({**API, "options": {"verify_nbf": False}}, {**API, "verify_nbf": False}),
    ({**API, "options": {"verify_exp": False}}, {**API, "verify_exp": False}),
]


def claims_by_pyjwt(token: str, algorithm: str, **options: Any) -> dict[str, Any] | None:
    key = KEYS[algorithm]
    try:
        return jwt.decode(token, key if algorithm == "HS256" else key.public_key(), [algorithm], **options)
    except (jwt.InvalidTokenError, TypeError, ValueError, OverflowError, RecursionError):  # its ways to stumble
        return None


def judged(token: str, algorithm: str, options: Any = OPTIONS[0]) -> bool:
    """Tell whether a token is accepted, in whatever form the key is given, and whether its signature is remembered or not."""
    by_pyjwt = claims_by_pyjwt(token, algorithm, **options[0]) is not None
    [accepted] = {is_accepted(token, key, algorithm, **options[1]) for key in FORMS[algorithm] for _ in range(2)}
    rules = RULES_OF_TOKEN if algorithm == "HS256" else RULES
    assert accepted == by_pyjwt or (by_pyjwt and any(rule.applies(Taken(token)) for rule in rules.values()))
    assert offered(token, algorithm) == is_accepted(token, FORMS[algorithm][0], algorithm)
    return accepted


def sent(algorithm: str, *fields: tuple[bytes, bytes]) -> tuple[int, dict[str, str], str]:
    start, *rest = anyio.run(exchange, APPS[algorithm], fields)
    shown = {name.decode().lower(): value.decode("latin-1") for name, value in start["headers"]}
    return start["status"], shown, b"".join(message.get("body", b"") for message in rest).decode()


def offered(token: str, algorithm: str) -> bool:
    """Send a token to an application in a header twice, and in a cookie. Tell whether it is accepted in the header."""
    LINES.clear()
    header = b"authorization", b"Bearer " + token.encode("latin-1")
    answers = [sent(algorithm, header), sent(algorithm, header)]
    assert answers[0] == answers[1]
    if token.isascii():
        answers.append(sent(algorithm, (b"cookie", b"token=" + token.encode())))
    parts = [part for part in (token, *token.split("."), "canary") if len(part) > 5]
    for status, challenged, body in answers:
        shown = LINES if status == 200 else [*LINES, *challenged.values(), body]
        assert not [line for line in shown if any(part in line for part in parts)]
        if status == 200:
            by_pyjwt = claims_by_pyjwt(token.strip(), algorithm, options={"verify_aud": False})  # so cookies are read
            assert by_pyjwt is not None
            assert body == by_pyjwt["sub"]
        else:
            assert (status, json.loads(body)["status_code"]) == (401, 401)
            assert challenged["www-authenticate"].startswith("Bearer")
    assert answers[0][0] == 200 or 'error="invalid_token"' in answers[0][1]["www-authenticate"]
    return answers[0][0] == 200


@each_algorithm
@given(data=st.data(), options=st.sampled_from(OPTIONS))
@fuzz
def test_whatever_an_issuer_signs_gets_the_same_verdict(algorithm: str, data: st.DataObject, options: Any) -> None:
    judged(sign(data.draw(headers(algorithm)), data.draw(payloads), algorithm), algorithm, options)


@each_algorithm
@given(data=st.data(), options=st.sampled_from(OPTIONS))
@fuzz
def test_changed_or_unsigned_token_is_refused(algorithm: str, data: st.DataObject, options: Any) -> None:
    good = sign(PLAIN, PAYLOAD, algorithm)
    signatures = st.binary(max_size=300) | st.sampled_from([b"", bytes(64), bytes(256)])
    parts = st.tuples(headers(algorithm), payloads, signatures)
    token = data.draw((mutations(good) | parts.map(lambda p: ".".join(map(base64url, p)))).filter(bool))
    assert not judged(token, algorithm, options) or token.rstrip("=") == good


@pytest.mark.parametrize("algorithm", ["HS256", "RS256"])
@pytest.mark.parametrize("reason", sorted(RULES.keys() - {"padding"}))  # PyJWT 2.14 refuses that, too
def test_public_keys_are_stricter_and_secrets_are_as_released(reason: str, algorithm: str) -> None:
    _, changed, header = RULES[reason]
    token = sign(header, json.dumps({**CLAIMS, **changed}).encode(), algorithm)
    assert [name for name, rule in RULES.items() if rule.applies(Taken(token))] == [reason]
    assert claims_by_pyjwt(token, algorithm, options={"verify_aud": False, "verify_iss": False})
    assert is_accepted(token, KEYS[algorithm], algorithm) == (algorithm == "HS256" and reason in STRICTER)


@each_algorithm
def test_good_token_and_its_other_spellings_get_the_same_verdict(algorithm: str) -> None:
    good = sign(PLAIN, PAYLOAD, algorithm)
    assert [judged(good, algorithm, options) for options in OPTIONS] == [True] * 6 + [False, True, True]
    spellings = [
        *(good + "==", good + "===", good + "\n", good.replace(".", ".."), ".!".join(good.rsplit(".", 1))),
        *(f"{good[:-1]}{chr(ord(good[-1]) + bit)}" for bit in (1, 2)),
        *(sign(header, PAYLOAD, algorithm) for header in (b'{"alg": "HS512"}', b'{"alg": "RS256", "kid": 5}')),
        *(sign(b'{"alg": "%s", ' + rest, PAYLOAD, algorithm) for rest in (b'"kid": 5}', b'"b64": true}')),
        sign(PLAIN, PAYLOAD[:-1] + b', "x": "' + b"x" * 100_000 + b'"}', algorithm),
    ]
    for token in spellings:
        judged(token, algorithm)


@pytest.mark.parametrize("algorithm", ["RS256", "HS256"])
def test_options_mean_what_they_mean_to_pyjwt(algorithm: str) -> None:
    wrong: list[Any] = [{"aud": ["api"]}, {"aud": "x"}, {"iss": "x"}, {"exp": NOW - 1000}, {"nbf": NOW + 1000}]
    for changed, options in product(wrong, OPTIONS):
        judged(sign(PLAIN, json.dumps({**CLAIMS, **changed}).encode(), algorithm), algorithm, options)


@pytest.mark.parametrize("algorithm", ["RS256", "HS256"])
def test_depth_and_length_are_no_server_error(algorithm: str) -> None:
    for depth in (100, 5_000):
        deep = b', "deep": ' + b"[" * depth + b"]" * depth + b"}"
        offered(sign(PLAIN, PAYLOAD[:-1] + deep, algorithm), algorithm)
        offered(sign(PLAIN[:-1] + deep, PAYLOAD, algorithm), algorithm)
        assert not any(offered(text * 100 * depth, algorithm) for text in (".", "A", "e30."))


FIELDS = st.binary(max_size=60) | st.sampled_from(b"|=|Bearer|bearer  |Basic Zm9vOmJhcg==|Bearer ..".split(b"|"))


@given(values=st.lists(FIELDS, max_size=5), cookies=st.lists(FIELDS, max_size=3))
@fuzz
def test_garbage_in_headers_is_refused(values: list[bytes], cookies: list[bytes]) -> None:
    fields = [(b"authorization", value) for value in values] + [(b"cookie", b"token=" + value) for value in cookies]
    assert [sent(algorithm, *fields)[0] for algorithm in ("RS256", "HS256")] == [401, 401]


def test_cheap_checks_come_before_the_mathematics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jwt.algorithms.RSAAlgorithm.verify", lambda *_: pytest.fail("verified"))
    for rest in (b'"none"', b'"HS512"', b'"RS256", "crit": ["exp"]', b'"RS256", "alg": "RS256"', b""):
        assert not offered(sign(b'{"alg": %b}' % rest, PAYLOAD, "RS256"), "RS256")
