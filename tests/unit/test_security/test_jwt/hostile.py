"""What the tests of hostile tokens have in common."""

from __future__ import annotations

import json
import time
from base64 import urlsafe_b64encode
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import strategies as st

__all__ = (
    "ALGORITHMS",
    "CLAIMS",
    "EC_KEY",
    "ED_KEY",
    "JSON",
    "NOW",
    "RSA_KEY",
    "SECRET",
    "base64url",
    "claims",
    "headers",
    "mutations",
    "sign",
    "strange_segments",
    "valid_token",
)

NOW: Final = int(time.time())
RSA_KEY: Final = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY: Final = ec.generate_private_key(ec.SECP256R1())
ED_KEY: Final = Ed25519PrivateKey.generate()
SECRET: Final = "a secret of the application, of 32 bytes or more"

ALGORITHMS: Final[dict[str, Any]] = {"HS256": SECRET, "RS256": RSA_KEY, "ES256": EC_KEY, "EdDSA": ED_KEY}
"""The key that signs, by algorithm."""
CLAIMS: Final[dict[str, Any]] = {
    "sub": "canary-subject",
    "iss": "https://issuer.test",
    "aud": "api",
    "iat": NOW - 60,
    "exp": NOW + 86_400,
}
"""Claims of a token that nothing is wrong with."""


def base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def sign(header: bytes, payload: bytes, algorithm: str) -> str:
    """Sign whatever bytes, which an issuer never would."""
    signing_input = f"{base64url(header)}.{base64url(payload)}"
    signer = jwt.get_algorithm_by_name(algorithm)
    return (
        f"{signing_input}.{base64url(signer.sign(signing_input.encode(), signer.prepare_key(ALGORITHMS[algorithm])))}"
    )


def valid_token(algorithm: str, kid: str | None = None) -> str:
    header = {"alg": algorithm, "typ": "JWT", **({"kid": kid} if kid else {})}
    return sign(json.dumps(header).encode(), json.dumps(CLAIMS).encode(), algorithm)


_numbers = st.one_of(
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.sampled_from([0, -1, 2**31, 2**63, 10**400, 1e308, NOW, NOW - 1, NOW + 1000, NOW - 1000, float(NOW) + 0.5]),
)
_texts = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["", " ", "\x00", "\ud800", "é" * 9, "\u202e", "None", "null", str(NOW + 99), "a" * 3000, "api", "JWT"]
    ),
)
_scalars = st.one_of(st.none(), st.booleans(), _numbers, _texts)


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


JSON: Final = st.one_of(
    st.recursive(_scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(_texts, v, max_size=3), max_leaves=6),
    st.sampled_from([50, 400]).map(_nested),
)
"""Values of every JSON type, and some that Python takes for JSON."""

_HEADER_MEMBERS: Final = (
    "alg",
    "typ",
    "cty",
    "kid",
    "jku",
    "jwk",
    "x5u",
    "x5c",
    "x5t",
    "crit",
    "b64",
    "zip",
    "enc",
    "é",
)
_CLAIM_MEMBERS: Final = ("sub", "iss", "aud", "exp", "nbf", "iat", "jti", "extras", "scope", "roles", "é", "\x00")
_ALGORITHM_NAMES: Final = (
    *(
        "none",
        "None",
        "NONE",
        "nOnE",
        "none ",
        "",
        "HS256",
        "hs256",
        "HS384",
        "HS512",
        "RS256",
        "rs256",
        "RS384",
        "PS256",
    ),
    *(
        "ES256",
        "ES384",
        "ES256K",
        "ES521",
        "EdDSA",
        "Ed25519",
        "RSA-OAEP",
        "dir",
        "A256GCM",
        "RS256\x00",
        "\uff32\uff33256",
    ),
)


def _object(base: dict[str, Any], members: Any, values: Any) -> Any:
    """Make the JSON text of an object with members changed, left out, or there twice."""

    @st.composite
    def draw_object(draw: Any) -> bytes:
        changed = {**base, **draw(st.dictionaries(members, values, max_size=3))}
        for name in draw(st.lists(st.sampled_from(sorted(base)), max_size=1)):
            if draw(st.integers(0, 3)) == 0:
                changed.pop(name, None)
        text = json.dumps(changed, ensure_ascii=draw(st.booleans()))
        if draw(st.integers(0, 5)) == 0:
            name = draw(st.sampled_from(sorted(base)))
            text = f"{text[:-1]}{', ' if changed else ''}{json.dumps(name)}: {json.dumps(draw(values))}}}"
        return text.encode("utf-8", "surrogatepass")

    return draw_object()


def headers(algorithm: str) -> Any:
    """Headers with every member of every type."""
    values = JSON | st.sampled_from(_ALGORITHM_NAMES)
    return _object({"alg": algorithm, "typ": "JWT"}, st.sampled_from(_HEADER_MEMBERS) | _texts, values)


claims: Final = _object(CLAIMS, st.sampled_from(_CLAIM_MEMBERS) | _texts, JSON)
"""Claims with every member of every type."""

strange_segments: Final = st.one_of(
    st.binary(max_size=40),
    JSON.map(lambda value: json.dumps(value).encode()),
    st.sampled_from(
        [
            *(b"", b"{", b"{}", b"null", b"[]", b'""', b"0", b"\xef\xbb\xbf{}", b"\xff\xfe{\x00}\x00", b"{'a': 1}"),
            *(b"[" * 100_000, b'{"a":' * 5_000, b"9" * 5_000, b'{"alg": "HS256", "alg": "none"}', b'{"exp": NaN}'),
            *(b'{"sub": "\\ud800"}', b'{"sub": "\xff"}', b"{} {}", b"{}\x00", b'{"a": 1,}', b'{"a": Infinity}'),
        ]
    ),
)
"""Bytes that are no header and no claims."""


@st.composite
def mutations(draw: Any, token: str) -> str:
    """Change a token so that its bytes differ, on whatever level."""
    parts = token.split(".")
    position = draw(st.integers(0, len(token) - 1))
    segment = draw(st.integers(0, 2))
    spelled = list(parts)
    kind = draw(st.integers(0, 9))
    inserted: str = draw(st.text(st.characters(min_codepoint=33, max_codepoint=255), min_size=1, max_size=9))
    if kind == 0:
        return token[:position] + inserted[0] + token[position + 1 :]
    if kind == 1:
        return token[:position] + token[position + 1 :]
    if kind == 2:
        return token[:position] + inserted + token[position:]
    if kind == 3:
        return token[:position]
    if kind == 4:
        spelled[segment] += "=" * draw(st.integers(1, 4))
    elif kind == 5:
        spelled[segment] = _other_trailing_bits(parts[segment])
    elif kind == 6:
        cut = draw(st.integers(1, len(parts[segment]) - 1))
        spelled[segment] = parts[segment][:cut] + draw(st.sampled_from("\t+/ \n\r\x00%~")) + parts[segment][cut:]
    elif kind == 7:
        spelled = draw(st.permutations(parts))
    elif kind == 8:
        spelled = [*parts, *draw(st.lists(st.sampled_from(["", *parts]), min_size=1, max_size=4))]
    else:
        spelled[segment] = draw(st.sampled_from(["", "e30", "bnVsbA", parts[0] * 2, parts[segment].swapcase()]))
    return ".".join(spelled)


def _other_trailing_bits(segment: str) -> str:
    """Change only bits that do not count, or if there are none, one that does."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return segment[:-1] + alphabet[alphabet.index(segment[-1]) ^ 1]
