"""Which of several keys may verify a token, and which keys are of no use."""

from __future__ import annotations

import re
from base64 import b64encode
from contextlib import nullcontext
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat, PublicFormat
from jwt.algorithms import RSAAlgorithm

from litestar.exceptions import ImproperlyConfiguredException, NotAuthorizedException
from litestar.security.jwt import Key, Token, UnverifiedToken
from litestar.security.jwt.keys import KeySet, UnusableKeyError, VerificationKey, public_jwk

from .backends import CLAIMS, FORGER, PRIVATE_KEYS, backend, base64url, pem, private_pem

RSA, EC, ED = PRIVATE_KEYS["RS256"], PRIVATE_KEYS["ES256"], PRIVATE_KEYS["EdDSA"]
OTHER = FORGER.private_key
ALL_KEYS = {**PRIVATE_KEYS, **dict.fromkeys(("RS384", "RS512", "PS384", "PS512"), RSA)}
ALL_KEYS |= {"EdDSA with Ed448": ed448.Ed448PrivateKey.generate()}


def jwk(key: Any, algorithm: str | None = None, /, **members: Any) -> jwt.PyJWK:
    return jwt.PyJWK({**public_jwk(key), **members}, algorithm)


def signed(key: Any, algorithm: str, **headers: Any) -> str:
    return jwt.encode(CLAIMS, key, algorithm, headers=headers)


def is_accepted(token: str, key: Any, algorithm: Any = "RS256") -> bool:
    try:
        return Token.decode(token, key, algorithm).sub == "ann"
    except NotAuthorizedException:
        return False


@pytest.mark.parametrize("name", ALL_KEYS)
def test_key_verifies_in_every_form_with_every_algorithm(name: str) -> None:
    key, algorithm = ALL_KEYS[name], name.partition(" ")[0]
    public = key.public_key()
    several = (OTHER.public_key(), PRIVATE_KEYS["ES384"].public_key(), public)
    forms: list[Any] = [public, key, pem(key), pem(key).decode(), private_pem(key), jwk(key, algorithm), several]
    forms.append(jwt.PyJWKSet.from_dict({"keys": [{**public_jwk(key), "alg": algorithm}]}))
    forms.append(KeySet([VerificationKey.from_jwk({**public_jwk(key), "key_ops": ["verify"]})]).select)
    if name not in {"ES256K", "EdDSA with Ed448"}:  # OpenSSH has no such keys
        forms.append(public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH))
    token = signed(key, algorithm)
    for given in forms:
        assert is_accepted(token, given, algorithm)
        assert is_accepted(token, given, [algorithm, "RS256"])
        assert not is_accepted(token[:-8] + "AAAAAAAA", given, algorithm)


SELECTION: dict[str, tuple[list[Any], dict[str, Any], bool]] = {
    "the named one": ([jwk(OTHER, kid="1"), jwk(RSA, kid="2")], {"kid": "2"}, True),
    "another name": ([jwk(OTHER, kid="1"), jwk(RSA, kid="2")], {"kid": "1"}, False),
    "an unknown name": ([jwk(RSA, kid="1")], {"kid": "2"}, False),
    "no name": ([jwk(OTHER, kid="1"), jwk(RSA, kid="2")], {}, True),
    "one without a name": ([jwk(OTHER, kid="1"), RSA.public_key()], {"kid": "2"}, True),
    "one name twice": ([jwk(OTHER, kid="1"), jwk(RSA, kid="1")], {"kid": "1"}, True),
    "one name twice, of other kinds": ([jwk(EC, kid="1"), jwk(RSA, kid="1")], {"kid": "1"}, True),
    "the eighth without a name": ([*[jwk(OTHER)] * 7, jwk(RSA)], {}, True),
    "the ninth without a name": ([*[jwk(OTHER)] * 8, jwk(RSA)], {}, False),
    "the eighth that fits": ([*[jwk(EC)] * 9, *[jwk(OTHER)] * 7, jwk(RSA)], {}, True),
    "a name that is null": ([jwk(RSA, kid=None)], {"kid": "1"}, True),
    "a name that is no string": ([jwk(RSA, kid=[1])], {"kid": "1"}, True),
    "one that is a secret": ([jwt.PyJWK({"kty": "oct", "k": "AAAA"}), jwk(RSA)], {}, True),
    "none": ([jwk(EC)], {}, False),
}


@pytest.mark.parametrize("case", SELECTION)
def test_keys_are_selected_by_id_and_kind(case: str) -> None:
    keys, header, expected = SELECTION[case]
    token = signed(RSA, "RS256", **header)
    for given in (keys, tuple(keys), lambda _: keys):
        assert is_accepted(token, given) == expected
    if all(isinstance(key, jwt.PyJWK) for key in keys):
        assert is_accepted(token, jwt.PyJWKSet([key._jwk_data for key in keys])) == expected


def test_choice_of_keys_is_kept_for_the_ids_of_keys_and_not_for_made_up_ones() -> None:
    keys = KeySet(VerificationKey.from_jwk({**public_jwk(RSA), "kid": kid}) for kid in ("1", None))
    for kid, is_kept in (("1", True), ("2", False)):
        token = UnverifiedToken(signed(RSA, "RS256", kid=kid))
        assert (keys.select(token) is keys.select(token)) == is_kept


MEMBERS: list[tuple[dict[str, Any], bool]] = [
    ({"use": "sig"}, True),
    ({"use": "enc"}, False),
    ({"use": ["sig"]}, False),
    ({"use": None}, True),
    ({"key_ops": ["verify"]}, True),
    ({"key_ops": ["sign", "verify"]}, True),
    ({"key_ops": ["encrypt"]}, False),
    ({"key_ops": []}, False),
    ({"key_ops": "verify"}, False),
    ({"key_ops": 5}, False),
    ({"key_ops": None}, True),
    ({"use": None, "key_ops": None, "alg": "RS256", "kid": None, "issuer": None, "x5c": None, "x5t": 1}, True),
    ({"issuer": 1}, True),
    ({"alg": "RS256"}, True),
    ({"alg": "RS512"}, False),
]


@pytest.mark.parametrize(("members", "expected"), MEMBERS)
def test_members_of_a_jwk_say_what_it_is_for(members: dict[str, Any], expected: bool) -> None:
    key = jwk(RSA, **members)
    for given in (key, [key], [jwk(OTHER), key], lambda _: key):
        assert is_accepted(signed(RSA, "RS256"), given) == expected


PUBLISHED: dict[str, tuple[Any, str]] = {
    "no object": ([], "not a JSON object"),
    "a symmetric key": ({"kty": "oct", "k": "AAAA"}, "unsupported 'kty'"),
    "a kind that is no string": ({"kty": ["RSA"]}, "unsupported 'kty'"),
    **{name: ({**public_jwk(RSA), name: 5}, f"'{name}' is not a string") for name in ("kid", "alg", "issuer")},
    "for encryption": ({**public_jwk(RSA), "use": "enc"}, "not for signatures ('use')"),
    "for signing alone": ({**public_jwk(RSA), "key_ops": ["sign"]}, "not for verifying signatures ('key_ops')"),
    "another algorithm": ({**public_jwk(RSA), "alg": "RS1"}, "'alg' is unsupported or does not fit the key"),
    "an algorithm for other keys": ({**public_jwk(ED), "alg": "RS256"}, "invalid key material"),
    "an algorithm for another curve": (
        {**public_jwk(EC), "alg": "ES384"},
        "'alg' is unsupported or does not fit the key",
    ),
    "no modulus": ({"kty": "RSA", "e": "AQAB"}, "invalid key material"),
    "an unknown curve": ({**public_jwk(EC), "crv": "P-1"}, "invalid key material"),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_key_that_verifies_nothing_says_why(name: str) -> None:
    published, reason = PUBLISHED[name]
    with pytest.raises(UnusableKeyError, match=f"^{re.escape(reason)}$"):
        VerificationKey.from_jwk(published)


def test_pyjwk_is_bound_to_its_algorithm() -> None:
    for given in (jwk(RSA, "RS256"), jwk(RSA), jwk(RSA, alg="RS256")):
        assert is_accepted(signed(RSA, "RS256"), given, ["RS256", "PS256"])
        assert not is_accepted(signed(RSA, "PS256"), given, ["RS256", "PS256"])
    assert is_accepted(signed(RSA, "PS256"), jwk(RSA, "PS256"), ["RS256", "PS256"])
    assert is_accepted(signed(RSA, "PS256"), RSA.public_key(), ["RS256", "PS256"])


@pytest.mark.parametrize(("bits", "usable"), [(2047, False), (2048, True)])
@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_rsa_keys_have_2048_bit_or_more(bits: int, usable: bool) -> None:
    key = rsa.generate_private_key(65537, bits)
    token, published = signed(key, "RS256"), jwt.PyJWK(RSAAlgorithm.to_jwk(key.public_key(), as_dict=True))
    for given in (key, key.public_key(), pem(key), [key.public_key()]):
        if usable:
            assert is_accepted(token, given)
            continue
        with pytest.raises(ImproperlyConfiguredException, match=f"{bits} bit"):
            Token.decode(token, given, "RS256")
        for option in ("key_provider", "token_secret"):
            with pytest.raises(ImproperlyConfiguredException, match=f"{bits} bit"):
                backend(**{"key_provider": None, option: given}, algorithm="RS256")
    assert is_accepted(token, [jwk(OTHER), published]) == usable


@pytest.mark.parametrize(("bits", "usable"), [(16_384, True), (16_385, False), (100_000, False)])
def test_rsa_keys_have_16384_bit_or_less(bits: int, usable: bool) -> None:
    modulus = (1 << bits) - 1
    key = jwt.PyJWK({"kty": "RSA", "n": base64url(modulus.to_bytes((bits + 7) // 8, "big")), "e": "AQAB"})
    with pytest.raises(NotAuthorizedException if usable else (NotAuthorizedException, ImproperlyConfiguredException)):
        Token.decode(signed(RSA, "RS256"), key, "RS256")
    with nullcontext() if usable else pytest.raises(ImproperlyConfiguredException, match=f"{bits} bit"):
        backend(key.key)


UNKNOWN_KIND = bytes.fromhex("300b 3004 0602 2a03 0303 000000")  # a public key, by its structure, of the kind 1.2.3
UNUSABLE: dict[str, Any] = {
    "no key": "not a key",
    "bytes": b"\xff",
    "no PEM": "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
    "encrypted": RSA.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password")),
    "DSA": pem(dsa.generate_private_key(1024)),
    "an unknown kind": UNKNOWN_KIND,
    "an unknown kind in base64": b64encode(UNKNOWN_KIND).decode(),
    "other curve": ec.generate_private_key(ec.SECP224R1()).public_key(),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_unusable_key_is_an_error_of_the_application(name: str) -> None:
    key: Key = UNUSABLE[name]
    for given in (key, [key], [RSA.public_key(), key], lambda _: key):
        with pytest.raises(ImproperlyConfiguredException, match="cannot be used"):
            Token.decode(signed(RSA, "RS256"), given, "RS256")
