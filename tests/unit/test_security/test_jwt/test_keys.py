"""Which of several keys may verify a token, and which keys are of no use."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from jwt.algorithms import RSAAlgorithm

from litestar.exceptions import ImproperlyConfiguredException, NotAuthorizedException
from litestar.security.jwt import Key, Token
from litestar.security.jwt.keys import public_jwk, thumbprint
from tests.unit.test_security.test_jwt.backends import backend
from tests.unit.test_security.test_jwt.hostile import KEYS, base64url, public_pem, valid_token

RSA, EC, ED = KEYS["RS256"], KEYS["ES256"], KEYS["EdDSA"]
OTHER = rsa.generate_private_key(65537, 2048)
CURVES: dict[str, Any] = {
    "ES256": EC,
    "ES256K": ec.generate_private_key(ec.SECP256K1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "ES512": KEYS["ES512"],
}
ALL_KEYS: dict[str, Any] = {**dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), RSA), **CURVES}
ALL_KEYS |= {"EdDSA": ED}


def jwk(key: Any, algorithm: str | None = None, /, **members: Any) -> jwt.PyJWK:
    return jwt.PyJWK({**public_jwk(key), **members}, algorithm)


def signed(key: Any, algorithm: str, **headers: Any) -> str:
    claims = jwt.decode(valid_token("HS256"), options={"verify_signature": False})
    return jwt.encode(claims, key, algorithm, headers=headers)


def is_accepted(token: str, key: Any, algorithm: Any) -> bool:
    try:
        return Token.decode(token, key, algorithm).sub == "canary-subject"
    except NotAuthorizedException:
        return False


@pytest.mark.parametrize(
    "form", ["object", "private", "PEM", "text", "private PEM", "JWK", "OpenSSH", "several", "set"]
)
@pytest.mark.parametrize("algorithm", ALL_KEYS)
def test_key_verifies_in_every_form_with_every_algorithm(algorithm: str, form: str) -> None:
    key = ALL_KEYS[algorithm]
    if form == "OpenSSH" and algorithm == "ES256K":  # OpenSSH has no such keys
        return
    given: Any = {
        "object": key.public_key,
        "private": lambda: key,
        "PEM": lambda: public_pem(key),
        "text": lambda: public_pem(key).decode(),
        "private PEM": lambda: key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        "JWK": lambda: jwk(key, algorithm),
        "OpenSSH": lambda: key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
        "several": lambda: (OTHER.public_key(), ED.public_key(), key.public_key()),
        "set": lambda: jwt.PyJWKSet.from_dict({"keys": [{**public_jwk(key), "alg": algorithm}]}),
    }[form]()
    token = signed(key, algorithm)
    assert is_accepted(token, given, algorithm)
    assert is_accepted(token, given, [algorithm, "RS256"])
    assert not is_accepted(token[:-8] + "AAAAAAAA", given, algorithm)


def test_ed448_verifies() -> None:
    key = ed448.Ed448PrivateKey.generate()
    assert is_accepted(signed(key, "EdDSA"), key.public_key(), "EdDSA")


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
    "none": ([jwk(EC)], {}, False),
}


@pytest.mark.parametrize("case", SELECTION)
def test_keys_are_selected_by_id_and_kind(case: str) -> None:
    keys, header, expected = SELECTION[case]
    token = signed(RSA, "RS256", **header)
    as_set = [key for key in keys if isinstance(key, jwt.PyJWK)] == keys
    for given in (keys, tuple(keys), lambda _: keys):
        assert is_accepted(token, given, "RS256") == expected
    if as_set:
        made = jwt.PyJWKSet([key._jwk_data for key in keys])
        assert is_accepted(token, made, "RS256") == expected


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
    ({"use": None, "key_ops": None, "alg": "RS256", "kid": None, "issuer": None, "x5c": None}, True),
    ({"issuer": 1}, True),
    ({"alg": "RS256"}, True),
    ({"alg": "RS512"}, False),
]


@pytest.mark.parametrize(("members", "expected"), MEMBERS)
def test_members_of_a_jwk_say_what_it_is_for(members: dict[str, Any], expected: bool) -> None:
    key = jwk(RSA, **members)
    for given in (key, [key], [jwk(OTHER), key], lambda _: key):
        assert is_accepted(signed(RSA, "RS256"), given, "RS256") == expected


def test_pyjwk_is_bound_to_its_algorithm() -> None:
    for given in (jwk(RSA, "RS256"), jwk(RSA), jwk(RSA, alg="RS256")):
        assert is_accepted(signed(RSA, "RS256"), given, ["RS256", "PS256"])
        assert not is_accepted(signed(RSA, "PS256"), given, ["RS256", "PS256"])
    assert is_accepted(signed(RSA, "PS256"), jwk(RSA, "PS256"), ["RS256", "PS256"])
    assert is_accepted(signed(RSA, "PS256"), RSA.public_key(), ["RS256", "PS256"])


@pytest.mark.parametrize("accepted", CURVES)
@pytest.mark.parametrize("used", CURVES)
def test_curves_do_not_cross(accepted: str, used: str) -> None:
    assert is_accepted(signed(CURVES[used], used), CURVES[accepted].public_key(), [*CURVES]) == (used == accepted)


@pytest.mark.parametrize(("bits", "usable"), [(1024, False), (2047, False), (2048, True), (3072, True)])
@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_rsa_keys_have_2048_bit_or_more(bits: int, usable: bool) -> None:
    key = rsa.generate_private_key(65537, bits)
    token, published = signed(key, "RS256"), jwt.PyJWK(RSAAlgorithm.to_jwk(key.public_key(), as_dict=True))
    for given in (key, key.public_key(), public_pem(key), [key.public_key()]):
        if usable:
            assert is_accepted(token, given, "RS256")
        else:
            with pytest.raises(ImproperlyConfiguredException, match=f"{bits} bit"):
                Token.decode(token, given, "RS256")
            for option in ("key_provider", "token_secret"):
                with pytest.raises(ImproperlyConfiguredException, match=f"{bits} bit"):
                    backend(**{"key_provider": None, option: given}, algorithm="RS256")
    assert is_accepted(token, [jwk(OTHER), published], "RS256") == usable


@pytest.mark.parametrize(("bits", "usable"), [(16_384, True), (16_385, False), (100_000, False)])
def test_rsa_keys_have_16384_bit_or_less(bits: int, usable: bool) -> None:
    modulus = (1 << bits) - 1
    key = jwt.PyJWK({"kty": "RSA", "n": base64url(modulus.to_bytes((bits + 7) // 8, "big")), "e": "AQAB"})
    with pytest.raises(NotAuthorizedException if usable else (NotAuthorizedException, ImproperlyConfiguredException)):
        Token.decode(signed(RSA, "RS256"), key, "RS256")
    with nullcontext() if usable else pytest.raises(ImproperlyConfiguredException, match=f"{bits} bit"):
        backend(key.key)


UNUSABLE: dict[str, Any] = {
    "no key": "not a key",
    "bytes": b"\xff",
    "no PEM": "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
    "DSA": dsa.generate_private_key(2048).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    "other curve": ec.generate_private_key(ec.SECP224R1()).public_key(),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_unusable_key_is_an_error_of_the_application(name: str) -> None:
    key: Key = UNUSABLE[name]
    for given in (key, [key], [RSA.public_key(), key], lambda _: key):
        with pytest.raises(ImproperlyConfiguredException, match="cannot be used"):
            Token.decode(signed(RSA, "RS256"), given, "RS256")


def test_thumbprint_is_that_of_the_public_key() -> None:
    assert thumbprint({**public_jwk(RSA), "kid": "x", "d": "secret"}) == thumbprint(public_jwk(RSA.public_key()))
