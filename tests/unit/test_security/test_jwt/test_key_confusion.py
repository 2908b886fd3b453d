"""The attacks that make a verifier use the wrong key, or the right one in a wrong way."""

from __future__ import annotations

import json
from base64 import b64encode, urlsafe_b64decode
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from litestar.exceptions import ImproperlyConfiguredException, NotAuthorizedException
from litestar.security.jwt import Token
from litestar.security.jwt.keys import public_jwk, thumbprint

from .backends import FORGER, backend, base64url, pem
from .hostile import CLAIMS, KEYS, forms

RSA, EVIL = KEYS["RS256"], FORGER.private_key
ASYMMETRIC = [algorithm for algorithm in KEYS if algorithm != "HS256"]


def token_with(signature: Callable[[bytes], bytes], algorithm: str, **header: Any) -> str:
    """Make a token with right claims and any signature."""
    segments = [json.dumps(part).encode() for part in ({"alg": algorithm, **header}, CLAIMS)]
    signing_input = ".".join(map(base64url, segments))
    return f"{signing_input}.{base64url(signature(signing_input.encode()))}"


def signed(key: Any, algorithm: str, **header: Any) -> str:
    """Make a token with a key that need not be one for its algorithm."""
    return token_with(lambda data: jwt.get_algorithm_by_name(algorithm).sign(data, key), algorithm, **header)


def assert_refused(token: str, key: Any, algorithm: Any) -> None:
    with pytest.raises(NotAuthorizedException, match="Invalid token"):
        Token.decode(token, key, algorithm)


def encodings(key: Any) -> dict[str, bytes]:
    """Return the bytes of a public key that an attacker may take for a secret."""
    members, der = public_jwk(key), key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    coordinate = members.get("n") or members["x"]
    return {
        "PEM": pem(key),
        "PEM without the last line break": pem(key).rstrip(b"\n"),
        "PEM with other line breaks": pem(key).replace(b"\n", b"\r\n"),
        "OpenSSH": key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
        "DER": der,
        "DER in base64": b64encode(der),
        "PEM without its frame": b"".join(pem(key).splitlines(keepends=True)[1:-1]),
        "JWK": json.dumps(members).encode(),
        "DER in hexadecimal": der.hex().encode(),
        "thumbprint": thumbprint(members).encode(),
        "coordinate": coordinate.encode(),
        "coordinate as bytes": urlsafe_b64decode(coordinate + "=="),
        "nothing": b"",
    }


@pytest.mark.parametrize("encoding", encodings(RSA))
@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_public_key_is_no_hmac_secret(algorithm: str, encoding: str) -> None:
    secret = encodings(KEYS[algorithm])[encoding]
    for hmac in ("HS256", "HS384", "HS512"):
        for given in forms(algorithm).values():
            assert_refused(signed(secret, hmac), given, ["RS256", "ES256", "EdDSA"])


@pytest.mark.parametrize("encoding", list(encodings(RSA))[:7])
@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_public_key_cannot_be_configured_as_a_secret(algorithm: str, encoding: str) -> None:
    secret = encodings(KEYS[algorithm])[encoding]
    for option in ("token_secret", "key_provider"):
        for given in (secret, [secret]):
            with pytest.raises(ImproperlyConfiguredException, match="public key"):
                backend(**{"key_provider": None, option: given}, algorithm="HS256")
    if encoding in list(encodings(RSA))[:4]:  # the others are for the backend to know
        with pytest.raises((ImproperlyConfiguredException, NotAuthorizedException)):
            Token.decode(signed(secret, "HS256"), secret, "HS256")


@pytest.mark.parametrize("option", ["token_secret", "key_provider"])
def test_hmac_and_asymmetric_algorithms_are_not_accepted_together(option: str) -> None:
    with pytest.raises(ImproperlyConfiguredException, match="HMAC"):
        backend(**{"key_provider": None, option: RSA.public_key()}, algorithm=["RS256", "HS256"])
    with pytest.raises(ImproperlyConfiguredException, match="HMAC"):
        Token.decode(signed(RSA, "RS256"), RSA.public_key(), ["RS256", "HS256"])


@pytest.mark.parametrize("used", ASYMMETRIC)
def test_signature_of_another_algorithm_is_refused(used: str) -> None:
    def sign(data: bytes) -> bytes:
        return jwt.get_algorithm_by_name(used).sign(data, KEYS[used])

    for accepted in ASYMMETRIC:
        for given in forms(accepted).values():
            if used == accepted:
                assert Token.decode(token_with(sign, used), given, accepted).sub == CLAIMS["sub"]
            else:
                assert_refused(token_with(sign, used), given, accepted)
                assert_refused(token_with(sign, accepted), given, accepted)


NO_SIGNATURES = [b"", b"\0", b"none", bytes(64), bytes(256), b"\1" * 64, b"\xff" * 256, bytes(5_000)]


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", "none ", "n\u043ene", "null", "", *ASYMMETRIC])
def test_token_without_a_signature_is_refused(name: str) -> None:
    for given in forms(name if name in KEYS else "RS256").values():
        for signature in NO_SIGNATURES:  # all zeros are the psychic signatures of ECDSA
            assert_refused(token_with(lambda _: signature, name), given, name if name in KEYS else "RS256")


BROUGHT: dict[str, Any] = {
    "jwk": public_jwk(EVIL),
    "jku": "https://evil.test/keys",
    "x5u": "https://evil.test/chain.pem",
    "x5c": [encodings(EVIL)["DER in base64"].decode()],
    "x5t": "evil",
}


@pytest.mark.parametrize("parameter", BROUGHT)
@pytest.mark.parametrize("kid", [{"kid": "1"}, {}])
def test_key_that_comes_with_a_token_is_never_used(parameter: str, kid: dict[str, str]) -> None:
    keys = jwt.PyJWKSet.from_dict({"keys": [{**public_jwk(RSA), "kid": "1"}]})
    header = {parameter: BROUGHT[parameter], **kid}
    assert_refused(signed(EVIL, "RS256", **header), keys, "RS256")
    assert Token.decode(signed(RSA, "RS256", **header), keys, "RS256").sub == CLAIMS["sub"]


def test_symmetric_key_of_a_set_is_never_used() -> None:
    secret = b"published to everybody, so it is no secret"
    jwk = {"kty": "oct", "kid": "shared", "alg": "HS256", "k": base64url(secret)}
    keys = jwt.PyJWKSet.from_dict({"keys": [jwk, {**public_jwk(RSA), "kid": "1"}]})
    for header in ({"kid": "shared"}, {"kid": "1"}, {}):
        assert_refused(signed(secret, "HS256", **header), keys, "RS256")
    assert Token.decode(signed(RSA, "RS256"), keys, "RS256").sub == CLAIMS["sub"]
