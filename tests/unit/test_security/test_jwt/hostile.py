"""Tokens that mean no good, and how many of them to try."""

from __future__ import annotations

import json
import os
import time
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ed448
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from litestar.security.jwt.keys import public_jwk

from .backends import PRIVATE_KEYS, SECRET, base64url, pem

NOW: Final = int(time.time())
KEYS: Final[dict[str, Any]] = {**PRIVATE_KEYS, "HS256": SECRET}
"""The key that signs, by algorithm."""
CLAIMS: Final[dict[str, Any]] = {
    "sub": "canary-subject",
    "iss": "https://issuer.test",
    "aud": "api",
    "iat": NOW - 60,
    "exp": NOW + 86_400,
}
"""Claims of a token that nothing is wrong with."""


def fuzz(thorough: int, *, default: int) -> settings:
    """Say how many tokens to try: few, or with ``FUZZING=thorough`` in the environment as many as it takes to be sure."""
    is_thorough = os.environ.get("FUZZING") == "thorough"
    return settings(
        deadline=None,
        derandomize=not is_thorough,
        max_examples=thorough if is_thorough else default,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
        database=None,
    )


def forms(algorithm: str) -> dict[str, Any]:
    """Return the key that verifies, in all forms in which it can be given."""
    key = KEYS[algorithm]
    if algorithm == "HS256":
        return {"text": key, "bytes": key.encode(), "tuple": ("another secret of 32 bytes or more", key)}
    jwk, other = {**public_jwk(key), "alg": algorithm}, ed448.Ed448PrivateKey.generate().public_key()
    return {
        "object": key.public_key(),
        "PEM": pem(key),
        "PyJWK": jwt.PyJWK(jwk),
        "PyJWKSet": jwt.PyJWKSet.from_dict({"keys": [public_jwk(other), jwk]}),
        "tuple": (other, key.public_key()),
    }


def sign(header: bytes, payload: bytes, algorithm: str) -> str:
    """Sign whatever bytes, which an issuer never would."""
    signing_input = f"{base64url(header)}.{base64url(payload)}"
    signer = jwt.get_algorithm_by_name(algorithm)
    return f"{signing_input}.{base64url(signer.sign(signing_input.encode(), signer.prepare_key(KEYS[algorithm])))}"


def valid_token(algorithm: str) -> str:
    return sign(json.dumps({"alg": algorithm, "typ": "JWT"}).encode(), json.dumps(CLAIMS).encode(), algorithm)


_numbers = st.one_of(
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.sampled_from([0, -1, 2**31, 2**63, 10**400, 1e308, NOW, NOW + 1000, NOW - 1000, float(NOW) + 0.5]),
)
_texts = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["", " ", "\x00", "\ud800", "\u202e", "null", str(NOW + 99), "a" * 3000, "api", "JWT"]),
)
_nested = st.sampled_from([50, 400]).map(lambda depth: json.loads("[" * depth + "]" * depth))
_json = _nested | st.recursive(
    st.none() | st.booleans() | _numbers | _texts,
    lambda values: st.lists(values, max_size=3) | st.dictionaries(_texts, values, max_size=3),
    max_leaves=6,
)
_HEADER_MEMBERS: Final = ("alg", "typ", "cty", "kid", "jku", "jwk", "x5u", "x5c", "x5t", "crit", "b64", "zip", "enc")
_CLAIM_MEMBERS: Final = ("sub", "iss", "aud", "exp", "nbf", "iat", "jti", "extras", "scope", "roles", "é", "\x00")
_ALGORITHMS: Final = ("none", "nOnE", "", "HS256", "hs256", "HS512", "RS256", "RS384", "PS256", "ES256", "ES521")


@st.composite
def _object(draw: Any, base: dict[str, Any], members: Any, values: Any) -> bytes:
    """Make the JSON text of an object with members changed, left out, or there twice."""
    changed = {**base, **draw(st.dictionaries(members, values, max_size=3))}
    name = draw(st.sampled_from(sorted(base)))
    fate = draw(st.integers(0, 9))
    if fate == 0:
        del changed[name]
    text = json.dumps(changed, ensure_ascii=draw(st.booleans()))
    if fate == 1:
        text = f"{text[:-1]}, {json.dumps(name)}: {json.dumps(draw(values))}}}"
    return text.encode("utf-8", "surrogatepass")


def headers(algorithm: str) -> Any:
    """Headers with every member of every type."""
    values = _json | st.sampled_from(_ALGORITHMS)
    return _object({"alg": algorithm, "typ": "JWT"}, st.sampled_from(_HEADER_MEMBERS) | _texts, values)


claims: Final = _object(CLAIMS, st.sampled_from(_CLAIM_MEMBERS) | _texts, _json)
"""Claims with every member of every type."""

_STRANGE: Final = [
    *(b"", b"{", b"{}", b"null", b"[]", b'""', b"0", b"\xef\xbb\xbf{}", b"\xff\xfe{\x00}\x00", b"{'a': 1}"),
    *(b"[" * 9_999, b'{"a":' * 5_000, b"9" * 5_000, b'{"alg": "HS256", "alg": "none"}', b'{"exp": NaN}'),
    *(b'{"sub": "\\ud800"}', b'{"sub": "\xff"}', b"{} {}", b"{}\x00", b'{"a": 1,}', b'{"a": Infinity}'),
]
strange_segments: Final = st.one_of(
    st.binary(max_size=40), _json.map(lambda value: json.dumps(value).encode()), st.sampled_from(_STRANGE)
)
"""Bytes that are no header and no claims."""


@st.composite
def mutations(draw: Any, token: str) -> str:
    """Change a token so that its bytes differ, on whatever level."""
    parts = token.split(".")
    position, segment = draw(st.integers(0, len(token) - 1)), draw(st.integers(0, 2))
    inserted: str = draw(st.text(st.characters(min_codepoint=33, max_codepoint=255), min_size=1, max_size=9))
    cut = draw(st.integers(1, len(parts[segment]) - 1))
    part, spelled = parts[segment], list(parts)
    match draw(st.integers(0, 9)):
        case 0:
            return token[:position] + inserted[0] + token[position + 1 :]
        case 1:
            return token[:position] + token[position + 1 :]
        case 2:
            return token[:position] + inserted + token[position:]
        case 3:
            return token[:position]
        case 4:
            spelled[segment] += "=" * draw(st.integers(1, 4))
        case 5:
            spelled[segment] = part[:-1] + chr(ord(part[-1]) ^ 1)  # perhaps bits that do not count
        case 6:
            spelled[segment] = part[:cut] + draw(st.sampled_from("\t+/ \n\r\x00%~")) + part[cut:]
        case 7:
            spelled = draw(st.permutations(parts))
        case 8:
            spelled += draw(st.lists(st.sampled_from(["", *parts]), min_size=1, max_size=4))
        case _:
            spelled[segment] = draw(st.sampled_from(["", "e30", "bnVsbA", parts[0] * 2, part.swapcase()]))
    return ".".join(spelled)
