"""The verdict on a token is that of PyJWT with the same key, algorithm and options, or stricter, and never looser."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from litestar.exceptions import NotAuthorizedException
from litestar.security.jwt import Token

from .hostile import CLAIMS, KEYS, NOW, claims, forms, fuzz, headers, mutations, sign, strange_segments, valid_token

FORMS = {algorithm: forms(algorithm) for algorithm in KEYS}
each_algorithm = pytest.mark.parametrize("algorithm", KEYS)


class Taken:
    """A token as it is read by those who are lenient."""

    def __init__(self, token: str) -> None:
        self.token = token
        header, _, rest = token.partition(".")
        payload = rest.rpartition(".")[0]
        self.header_bytes, self.payload_bytes = (urlsafe_b64decode(s.rstrip("=") + "==") for s in (header, payload))
        self.header, self.claims = json.loads(self.header_bytes), json.loads(self.payload_bytes)


def _unlike(path: str, kind: Callable[[Any], bool]) -> Callable[[Taken], bool]:
    return lambda taken: path not in taken.claims or not kind(taken.claims[path])


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and 0 <= value < 253_402_300_800


def _is_text(value: Any) -> bool:
    return isinstance(value, (str, type(None)))


def _is_no_json(text: bytes) -> bool:
    """Tell whether a text is not what RFC 8259 calls JSON, in UTF-8 without a byte order mark."""

    def refuse(_: str) -> Any:
        raise ValueError

    try:
        json.dumps(json.loads(text.decode(), parse_constant=refuse), ensure_ascii=False, allow_nan=False).encode()
    except ValueError:
        return True
    return False


def _has_duplicates(text: bytes) -> bool:
    found = []

    def look(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found.append(len(dict(pairs)) != len(pairs))
        return dict(pairs)

    json.loads(text, object_pairs_hook=look)
    return any(found)


# What does not fit the fields of Token: refused by released Litestar too, with a secret as with any other key.
RULES_OF_TOKEN: dict[str, Callable[[Taken], bool]] = {
    "no 'exp', or one that is not the number of a time": _unlike("exp", _is_number),
    "no 'iat', or one that is not the number of a time": _unlike("iat", _is_number),
    "no 'sub', or an empty one": _unlike("sub", bool),
    "'iss' that is not a string": lambda t: not _is_text(t.claims.get("iss")),
    "'aud' that is not a string or a list of strings": lambda t: (
        not (_is_text(a := t.claims.get("aud")) or (isinstance(a, list) and all(isinstance(v, str) for v in a)))
    ),
    "'extras' that is not an object": lambda t: not isinstance(t.claims.get("extras", {}), dict),
}
STRICTER: dict[str, Callable[[Taken], bool]] = {
    "padding at the end of a segment": lambda t: "=" in t.token,
    "a header with a member twice": lambda t: _has_duplicates(t.header_bytes),
    "a header that is no JSON in UTF-8": lambda t: _is_no_json(t.header_bytes),
    "claims that are no JSON in UTF-8": lambda t: _is_no_json(t.payload_bytes),
    "'crit', 'b64' or 'zip' in the header": lambda t: not {"crit", "b64", "zip"}.isdisjoint(t.header),
    "a header of more than 8,192 characters": lambda t: t.token.index(".") > 8_192,
}
"""All ways to be refused with a public key and accepted by PyJWT."""


class Options(NamedTuple):
    """Options of PyJWT, and the same in the words of :meth:`Token.decode`."""

    theirs: dict[str, Any]
    ours: dict[str, Any]


API: dict[str, Any] = {"audience": "api"}
OPTIONS = [
    Options({"options": {"verify_aud": False}}, {}),
    Options({"audience": ["api", "other"]}, {"audience": ["api", "other"]}),
    Options({**API, "options": {"strict_aud": True}}, {"audience": ["api"], "strict_audience": True}),
    Options({**API, "options": {"strict_aud": True}}, {**API, "strict_audience": True}),
    Options({**API, "issuer": [CLAIMS["iss"]]}, {**API, "issuer": [CLAIMS["iss"]]}),
    Options({**API, "leeway": 3000}, {**API, "leeway": timedelta(seconds=3000)}),
    Options({**API, "options": {"require": ["nbf"]}}, {**API, "require_claims": ["nbf"]}),
    Options({**API, "options": {"verify_nbf": False}}, {**API, "verify_nbf": False}),
    Options({**API, "options": {"verify_exp": False}}, {**API, "verify_exp": False}),
]


def verdict_of_pyjwt(token: str, algorithm: str, **options: Any) -> bool:
    key = KEYS[algorithm]
    try:
        jwt.decode(token, key if isinstance(key, str) else key.public_key(), [algorithm], **options)
    except (jwt.InvalidTokenError, TypeError, ValueError, OverflowError, RecursionError):  # PyJWT's ways to stumble
        return False
    return True


def verdict(token: str, key: Any, algorithm: str, **options: Any) -> bool:
    try:
        Token.decode(token, key, algorithm, **options)
    except NotAuthorizedException:
        return False
    return True


def assert_same_verdict(token: str, algorithm: str, form: str | None = None, options: Options = OPTIONS[0]) -> None:
    theirs = verdict_of_pyjwt(token, algorithm, **options.theirs)
    for key in [FORMS[algorithm][form]] if form else FORMS[algorithm].values():
        first, second = (verdict(token, key, algorithm, **options.ours) for _ in range(2))
        assert first == second  # whether the signature is remembered or not
        if theirs and not first:
            further = {} if algorithm == "HS256" else STRICTER
            assert [reason for reason, applies in {**RULES_OF_TOKEN, **further}.items() if applies(Taken(token))]
        else:
            assert theirs == first


@each_algorithm
@given(data=st.data(), options=st.sampled_from(OPTIONS))
@fuzz(5_000, default=25)
def test_signed_token_gets_the_same_verdict(algorithm: str, data: st.DataObject, options: Any) -> None:
    header = data.draw(headers(algorithm) | st.just(b'{"alg": "%s"}' % algorithm.encode()) | strange_segments)
    payload = data.draw(claims | strange_segments)
    form = data.draw(st.sampled_from(sorted(FORMS[algorithm])))
    assert_same_verdict(sign(header, payload, algorithm), algorithm, form, options)


@each_algorithm
@given(data=st.data(), options=st.sampled_from(OPTIONS))
@fuzz(5_000, default=25)
def test_changed_token_gets_the_same_verdict(algorithm: str, data: st.DataObject, options: Any) -> None:
    form = data.draw(st.sampled_from(sorted(FORMS[algorithm])))
    assert_same_verdict(data.draw(mutations(valid_token(algorithm))), algorithm, form, options)


@each_algorithm
def test_untouched_token_gets_the_same_verdict(algorithm: str) -> None:
    for key in FORMS[algorithm].values():
        assert verdict(valid_token(algorithm), key, algorithm)
    for options in OPTIONS:
        assert_same_verdict(valid_token(algorithm), algorithm, options=options)


PLAIN = b'{"alg": "%s"}'
EXAMPLES: dict[str, tuple[bytes, dict[str, Any]]] = {
    "a header with a member twice": (b'{"alg": "%s", "alg": "%s"}', {}),
    "a header that is no JSON in UTF-8": (b'{"alg": "%s", "x": NaN}', {}),
    "claims that are no JSON in UTF-8": (PLAIN, {"x": "\ud800"}),
    "'crit', 'b64' or 'zip' in the header": (b'{"alg": "%s", "zip": "DEF"}', {}),
    "a header of more than 8,192 characters": (b'{"alg": "%%s", "x": "%s"}' % (b"x" * 9_000), {}),
    "no 'exp', or one that is not the number of a time": (PLAIN, {"exp": str(NOW + 86_400)}),
    "no 'iat', or one that is not the number of a time": (PLAIN, {"iat": str(NOW - 99)}),
    "no 'sub', or an empty one": (PLAIN, {"sub": ""}),
    "'iss' that is not a string": (PLAIN, {"iss": 1}),
    "'aud' that is not a string or a list of strings": (PLAIN, {"aud": {"api": 1}}),
    "'extras' that is not an object": (PLAIN, {"extras": None}),
}


@pytest.mark.parametrize("algorithm", ["HS256", "RS256"])
@pytest.mark.parametrize("reason", EXAMPLES)
def test_public_keys_are_stricter_and_secrets_are_as_released(reason: str, algorithm: str) -> None:
    header, changed = EXAMPLES[reason]
    payload = json.dumps({**CLAIMS, **changed}).encode()
    token = sign(header.replace(b"%s", algorithm.encode()), payload, algorithm)
    applying = [name for name, applies in {**RULES_OF_TOKEN, **STRICTER}.items() if applies(Taken(token))]
    assert applying == [reason]
    assert verdict_of_pyjwt(token, algorithm, options={"verify_aud": False, "verify_iss": False})
    assert verdict(token, KEYS[algorithm], algorithm) == (algorithm == "HS256" and reason in STRICTER)


@pytest.mark.parametrize("algorithm", ["HS256", "RS256"])
def test_other_spellings_of_a_token_get_the_same_verdict(algorithm: str) -> None:
    good, payload = valid_token(algorithm), json.dumps(CLAIMS).encode()
    signing_input, _, signature = good.rpartition(".")
    spellings = [
        *(f"{good}{padding}" for padding in ("=", "==", "===")),
        *(f"{good[:-1]}{chr(ord(good[-1]) + bit)}" for bit in (1, 2)),
        *(signing_input + ".!" + signature, good + "\n", good.replace(".", "..")),
        *(sign(header, payload, algorithm) for header in (b'{"alg": "HS512"}', b'{"alg": "RS256", "kid": 5}')),
        *(
            sign(b'{"alg": "%s", %s}' % (algorithm.encode(), m), payload, algorithm)
            for m in (b'"kid": 5', b'"b64": true')
        ),
        sign(b'{"alg": "%s"}' % algorithm.encode(), payload[:-1] + b', "x": "' + b"x" * 100_000 + b'"}', algorithm),
    ]
    for token in spellings:
        assert_same_verdict(token, algorithm)
