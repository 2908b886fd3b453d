"""The verdict on a token is that of PyJWT, with the same key, algorithm and options, save where it is stricter."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from litestar.exceptions import NotAuthorizedException
from litestar.security.jwt import Token
from tests.unit.test_security.test_jwt.hostile import (
    ALGORITHMS,
    CLAIMS,
    NOW,
    base64url,
    claims,
    headers,
    mutations,
    sign,
    strange_segments,
    valid_token,
)


class Taken:
    """A token as it is read by those who are lenient."""

    def __init__(self, token: str) -> None:
        self.token = token
        header, _, rest = token.partition(".")
        payload = rest.rpartition(".")[0]
        self.header_bytes, self.payload_bytes = (urlsafe_b64decode(s.rstrip("=") + "==") for s in (header, payload))
        self.header = json.loads(self.header_bytes)
        self.claims = json.loads(self.payload_bytes)


def _unlike(path: str, kind: Callable[[Any], bool]) -> Callable[[Taken], bool]:
    return lambda taken: path not in taken.claims or not kind(taken.claims[path])


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and 0 <= value < 253_402_300_800


def _is_text(value: Any) -> bool:
    return isinstance(value, (str, type(None)))


def _refuses_text(text: bytes) -> bool:
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


STRICTER: dict[str, Callable[[Taken], bool]] = {
    "padding at the end of a segment": lambda t: "=" in t.token,
    "a header with a member twice": lambda t: _has_duplicates(t.header_bytes),
    "a header that is no JSON in UTF-8": lambda t: _refuses_text(t.header_bytes),
    "claims that are no JSON in UTF-8": lambda t: _refuses_text(t.payload_bytes),
    "'crit', 'b64' or 'zip' in the header": lambda t: not {"crit", "b64", "zip"}.isdisjoint(t.header),
    "a header of more than 8,192 characters": lambda t: t.token.index(".") > 8_192,
    "no 'exp', or one that is not the number of a time": _unlike("exp", _is_number),
    "no 'iat', or one that is not the number of a time": _unlike("iat", _is_number),
    "no 'sub', or an empty one": _unlike("sub", bool),
    "'iss' that is not a string": lambda t: not _is_text(t.claims.get("iss")),
    "'aud' that is not a string or a list of strings": lambda t: (
        not (_is_text(a := t.claims.get("aud")) or (isinstance(a, list) and all(isinstance(v, str) for v in a)))
    ),
    "'extras' that is not an object": lambda t: not isinstance(t.claims.get("extras", {}), dict),
}
"""All ways to be refused here and accepted by PyJWT."""

EXAMPLES: dict[str, tuple[bytes, dict[str, Any]]] = {
    "a header with a member twice": (b'{"alg": "HS256", "alg": "HS256"}', {}),
    "a header that is no JSON in UTF-8": (b'{"alg": "HS256", "x": NaN}', {}),
    "claims that are no JSON in UTF-8": (b'{"alg": "HS256"}', {"x": "\ud800"}),
    "'crit', 'b64' or 'zip' in the header": (b'{"alg": "HS256", "zip": "DEF"}', {}),
    "a header of more than 8,192 characters": (b'{"alg": "HS256", "x": "%s"}' % (b"x" * 9_000), {}),
    "no 'exp', or one that is not the number of a time": (b'{"alg": "HS256"}', {"exp": str(NOW + 86_400)}),
    "no 'iat', or one that is not the number of a time": (b'{"alg": "HS256"}', {"iat": str(NOW - 99)}),
    "no 'sub', or an empty one": (b'{"alg": "HS256"}', {"sub": ""}),
    "'iss' that is not a string": (b'{"alg": "HS256"}', {"iss": 1}),
    "'aud' that is not a string or a list of strings": (b'{"alg": "HS256"}', {"aud": {"api": 1}}),
    "'extras' that is not an object": (b'{"alg": "HS256"}', {"extras": None}),
}


def bare_verdict(token: str, algorithm: str, **options: Any) -> bool:
    key = ALGORITHMS[algorithm]
    try:
        jwt.decode(token, key if isinstance(key, str) else key.public_key(), [algorithm], **options)
    except jwt.InvalidTokenError:
        return False
    except (TypeError, ValueError, OverflowError, RecursionError):  # PyJWT's way to stumble
        return False
    return True


def verdict(token: str, algorithm: str, **options: Any) -> bool:
    key = ALGORITHMS[algorithm]
    try:
        Token.decode(token, key if isinstance(key, str) else key.public_key(), algorithm, **options)
    except NotAuthorizedException:
        return False
    return True


OPTIONS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"options": {"verify_aud": False}}, {}),
    ({"audience": ["api", "other"]}, {"audience": ["api", "other"]}),
    ({"audience": "api", "options": {"strict_aud": True}}, {"audience": ["api"], "strict_audience": True}),
    ({"audience": "api", "issuer": [CLAIMS["iss"]]}, {"audience": "api", "issuer": [CLAIMS["iss"]]}),
    ({"audience": "api", "leeway": 3000}, {"audience": "api", "leeway": 3000}),
    ({"audience": "api", "options": {"require": ["nbf"]}}, {"audience": "api", "require_claims": ["nbf"]}),
    ({"audience": "api", "options": {"verify_nbf": False}}, {"audience": "api", "verify_nbf": False}),
]


def assert_same_verdict(token: str, algorithm: str, options: tuple[dict[str, Any], dict[str, Any]]) -> None:
    bare, ours = bare_verdict(token, algorithm, **options[0]), verdict(token, algorithm, **options[1])
    if bare and not ours:
        taken = Taken(token)
        assert [reason for reason, applies in STRICTER.items() if applies(taken)]
    else:
        assert bare == ours


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(data=st.data(), options=st.sampled_from(OPTIONS))
@settings(deadline=None, max_examples=250)
def test_signed_token_gets_the_same_verdict(algorithm: str, data: st.DataObject, options: Any) -> None:
    header = data.draw(headers(algorithm) | st.just(b'{"alg": "%s"}' % algorithm.encode()))
    assert_same_verdict(sign(header, data.draw(claims), algorithm), algorithm, options)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(data=st.data(), options=st.sampled_from(OPTIONS))
@settings(deadline=None, max_examples=80)
def test_changed_token_gets_the_same_verdict(algorithm: str, data: st.DataObject, options: Any) -> None:
    token = data.draw(mutations(valid_token(algorithm)))
    assert_same_verdict(token, algorithm, options)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(header=strange_segments, payload=strange_segments)
@settings(deadline=None, max_examples=50)
def test_strange_token_gets_the_same_verdict(algorithm: str, header: bytes, payload: bytes) -> None:
    plain = b'{"alg": "%s"}' % algorithm.encode()
    assert_same_verdict(sign(plain, payload, algorithm), algorithm, OPTIONS[0])
    assert_same_verdict(sign(header, json.dumps(CLAIMS).encode(), algorithm), algorithm, OPTIONS[0])


@pytest.mark.parametrize("reason", EXAMPLES)
def test_where_it_is_stricter_it_refuses(reason: str) -> None:
    header, changed = EXAMPLES[reason]
    token = sign(header, json.dumps({**CLAIMS, **changed}).encode(), "HS256")
    assert [name for name, applies in STRICTER.items() if applies(Taken(token))] == [reason]
    if reason.startswith("'aud'"):
        assert bare_verdict(token, "HS256", options={"verify_aud": False})
    else:
        assert bare_verdict(token, "HS256", options={"verify_aud": False, "verify_iss": False})
    assert not verdict(token, "HS256")


def test_padding_is_refused() -> None:
    """Whatever the version of PyJWT makes of it. Some refuse it too."""
    token = next(t for n in range(3) if len((t := _padded(n)).split(".")[1]) % 4 == 0 and "=" in t)
    assert not verdict(token, "HS256")
    assert set(STRICTER) == {"padding at the end of a segment", *EXAMPLES}


def _padded(length: int) -> str:
    """Make a token whose payload is padded, where its length allows, and signed with the padding."""
    payload = base64url(json.dumps({**CLAIMS, "x": "x" * length}).encode())
    header = base64url(b'{"alg": "HS256"}')
    signing_input = f"{header}.{payload}{'=' * (-len(payload) % 4)}"
    signer = jwt.get_algorithm_by_name("HS256")
    return f"{signing_input}.{base64url(signer.sign(signing_input.encode(), ALGORITHMS['HS256'].encode()))}"
