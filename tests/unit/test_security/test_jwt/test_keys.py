"""What a key is, which algorithms it is for, and its thumbprint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa, x25519

from litestar.exceptions import HTTPException
from litestar.security.jwt.keys import (
    ASYMMETRIC_ALGORITHMS,
    RSA_ALGORITHMS,
    KeyNotFoundException,
    KeysUnavailableException,
    SelectedKeys,
    UnknownIssuerException,
    UnusableKeyError,
    VerificationKey,
    algorithms_of,
    get_algorithm,
    is_key,
    is_private,
    is_public_or_private,
    names_of,
    public_half,
    public_jwk,
    single_keys,
    thumbprint,
)

from .backends import ED448_KEY, ISSUER, PRIVATE_KEYS, SECRET, pem

RSA, ED = PRIVATE_KEYS["RS256"], PRIVATE_KEYS["EdDSA"]
MODULUS = RSA.public_key().public_numbers().n
VECTORS = json.loads(Path(__file__).with_name("vectors.json").read_text(encoding="utf-8"))


def rsa_key(bits: int = 2048, exponent: int = 65537) -> rsa.RSAPublicKey:
    """Make an odd modulus of some bits. Nobody knows a private key for it."""
    return rsa.RSAPublicNumbers(exponent, (1 << bits) - 1).public_key()


@pytest.mark.parametrize(
    ("key", "names"),
    [
        pytest.param(RSA, RSA_ALGORITHMS, id="rsa"),
        pytest.param(PRIVATE_KEYS["ES256"], ("ES256",), id="p-256"),
        pytest.param(PRIVATE_KEYS["ES384"], ("ES384",), id="p-384"),
        pytest.param(PRIVATE_KEYS["ES512"], ("ES512",), id="p-521"),
        pytest.param(PRIVATE_KEYS["ES256K"], ("ES256K",), id="secp256k1"),
        pytest.param(ED, ("EdDSA", "Ed25519"), id="ed25519"),
        pytest.param(ED448_KEY, ("EdDSA", "Ed448"), id="ed448"),
    ],
)
def test_key_is_for_the_algorithms_of_its_kind(key: Any, names: tuple[str, ...]) -> None:
    assert algorithms_of(key.public_key()) == names
    assert {*names} <= {*ASYMMETRIC_ALGORITHMS}


@pytest.mark.parametrize(
    ("key", "message"),
    [
        pytest.param(rsa_key(2047), "it is an RSA key of 2047 bits. Use one of 2048 to 8192 bits", id="short"),
        pytest.param(rsa_key(8193), "it is an RSA key of 8193 bits. Use one of 2048 to 8192 bits", id="long"),
        pytest.param(
            rsa_key(3072, (1 << 3071) - 1), "it is an RSA key with an exponent of more than 32 bits", id="exponent"
        ),
        pytest.param(
            rsa_key(exponent=2**32 + 1), "it is an RSA key with an exponent of more than 32 bits", id="33-bit"
        ),
        pytest.param(
            rsa.RSAPublicNumbers(65537, MODULUS - 1).public_key(), "it is an RSA key with an even modulus", id="even"
        ),
        pytest.param(ec.generate_private_key(ec.SECP224R1()).public_key(), "no algorithm takes a key", id="p-224"),
        pytest.param(x25519.X25519PrivateKey.generate().public_key(), "no algorithm takes a key", id="x25519"),
        pytest.param(dsa.generate_private_key(1024).public_key(), "no algorithm takes a key", id="dsa"),
    ],
)
def test_unusable_key_says_which_rule_it_breaks(key: Any, message: str) -> None:
    with pytest.raises(UnusableKeyError, match=f"^{message}"):
        algorithms_of(key)


@pytest.mark.parametrize("key", [rsa_key(2048), rsa_key(8192), rsa_key(exponent=3), rsa_key(exponent=2**32 - 1)])
def test_rsa_key_within_the_limits_is_usable(key: rsa.RSAPublicKey) -> None:
    assert algorithms_of(key) == RSA_ALGORITHMS


@pytest.mark.parametrize("private", [*PRIVATE_KEYS.values(), ED448_KEY], ids=[*PRIVATE_KEYS, "Ed448"])
def test_public_jwk_has_the_required_members_only(private: Any) -> None:
    public = public_half(private)
    assert not is_private(public)
    assert is_private(private)
    assert public_half(public) is public
    assert public_jwk(private) == public_jwk(public)
    assert {*public_jwk(private)} in ({"crv", "kty", "x"}, {"crv", "kty", "x", "y"}, {"e", "kty", "n"})
    assert public_jwk(jwt.PyJWK(public_jwk(public), algorithms_of(public)[0]).key) == public_jwk(public)


def test_published_thumbprint_is_computed() -> None:
    [vector] = VECTORS["thumbprints"]
    assert thumbprint({**vector["jwk"], "kid": "x", "d": "secret"}) == vector["thumbprint"]


def test_verification_key_knows_its_thumbprint_and_hides_the_rest() -> None:
    key = VerificationKey({"HS256": SECRET.encode(), "HS512": SECRET.encode()}, "k", jwk=public_jwk(ED))
    assert (key.algorithms, key.thumbprint) == (("HS256", "HS512"), thumbprint(public_jwk(ED)))
    assert repr(key) == "VerificationKey(kid='k', issuer=None)"
    assert key != VerificationKey(key.prepared, key.kid, jwk=key.jwk)


@pytest.mark.parametrize(
    ("given", "names"),
    [("RS256", ("RS256",)), (["a", "b"], ("a", "b")), ((), ()), (iter(["a"]), ("a",))],
    ids=["text", "list", "empty", "iterator"],
)
def test_lone_name_is_one_name(given: Any, names: tuple[str, ...]) -> None:
    assert names_of(given) == names


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", "RS1", "", "rs256", "HS256 "])
def test_unknown_algorithm_is_refused(name: str) -> None:
    with pytest.raises(NotImplementedError):
        get_algorithm(name)


def test_curves_are_names_of_eddsa() -> None:
    assert get_algorithm("Ed25519") is get_algorithm("Ed448") is get_algorithm("EdDSA")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(SECRET, True, id="text"),
        pytest.param(pem(RSA), True, id="bytes"),
        pytest.param(RSA, True, id="private-key"),
        pytest.param(ED.public_key(), True, id="public-key"),
        pytest.param(ISSUER.key, True, id="pyjwk"),
        pytest.param(jwt.PyJWKSet([ISSUER.jwk]), True, id="pyjwkset"),
        pytest.param(ISSUER.jwk, True, id="jwk"),
        pytest.param({"keys": []}, True, id="empty-set"),
        pytest.param(VerificationKey({}), True, id="verification-key"),
        pytest.param(SelectedKeys("RS256", ()), True, id="selected-keys"),
        pytest.param([ISSUER.key, pem(ED)], True, id="list"),
        pytest.param((SECRET,), True, id="tuple"),
        pytest.param([], False, id="empty-list"),
        pytest.param([ISSUER.key, 5], False, id="list-with-a-number"),
        pytest.param(None, False, id="none"),
        pytest.param(5, False, id="number"),
        pytest.param(ISSUER.key_provider, False, id="function"),
        pytest.param(str, False, id="class"),
        pytest.param(x25519.X25519PrivateKey.generate(), False, id="key-for-encryption"),
        pytest.param(type("Both", (dict,), {"__call__": lambda self, token: None})(), False, id="callable-mapping"),
    ],
)
def test_keys_and_providers_are_told_apart(value: object, expected: bool) -> None:
    assert is_key(value) == expected


def test_several_keys_are_taken_one_by_one() -> None:
    keys: Any = [ISSUER.key, SECRET]
    assert single_keys(keys) is keys
    assert single_keys(SECRET) == (SECRET,)
    assert single_keys(ISSUER.jwk) == (ISSUER.jwk,)
    assert single_keys({"keys": [ISSUER.jwk, 5]}) == [ISSUER.jwk, 5]
    assert single_keys({"keys": 5}) == ({"keys": 5},)
    assert [key.key_id for key in single_keys(jwt.PyJWKSet([ISSUER.jwk]))] == [ISSUER.name]  # type: ignore[union-attr]
    key = VerificationKey({})
    assert single_keys(SelectedKeys("RS256", (key,))) == (key,)
    assert [is_public_or_private(value) for value in (RSA, RSA.public_key(), SECRET, None)] == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(("seconds", "shown"), [(6.2, "7"), (30, "30"), (0, "1"), (-5, "1")])
def test_unavailable_keys_say_when_to_try_again(seconds: float, shown: str) -> None:
    error = KeysUnavailableException("down", retry_after=seconds)
    assert (error.status_code, error.detail, error.headers) == (503, "down", {"Retry-After": shown})


def test_exceptions_are_answers() -> None:
    error = UnknownIssuerException("https://a.test", "https://b.test")
    assert isinstance(error, KeyNotFoundException)
    assert isinstance(error, HTTPException)
    assert (error.status_code, error.detail, error.expected) == (
        401,
        "Invalid token",
        ("https://a.test", "https://b.test"),
    )
    assert KeysUnavailableException(headers={"X": "1"}).headers == {"Retry-After": "30", "X": "1"}
    assert KeysUnavailableException().headers == {"Retry-After": "30"}
