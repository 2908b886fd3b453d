"""Which keys may verify a token and which are of no use, the attacks that mix keys up, and what standards publish."""

from __future__ import annotations

import json
import re
from base64 import b64encode, urlsafe_b64decode
from contextlib import nullcontext
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat, PublicFormat
from jwt.algorithms import RSAAlgorithm

from litestar.exceptions import ImproperlyConfiguredException, NotAuthorizedException
from litestar.security.jwt import Token, UnverifiedToken
from litestar.security.jwt.keys import KeySet, UnusableKeyError, VerificationKey, public_jwk, select, thumbprint

from .backends import CLAIMS, FORGER, PRIVATE_KEYS, backend, base64url, is_accepted, pem, private_pem

RSA, EC, ED = PRIVATE_KEYS["RS256"], PRIVATE_KEYS["ES256"], PRIVATE_KEYS["EdDSA"]
OTHER = FORGER.private_key
ALL_KEYS = {**PRIVATE_KEYS, **dict.fromkeys(("RS384", "RS512", "PS384", "PS512"), RSA)}
ALL_KEYS |= {"EdDSA with Ed448": ed448.Ed448PrivateKey.generate()}
VECTORS = json.loads(Path(__file__).with_name("vectors.json").read_text(encoding="utf-8"))


def jwk(key: Any, algorithm: str | None = None, /, **members: Any) -> jwt.PyJWK:
    return jwt.PyJWK({**public_jwk(key), **members}, algorithm)


def forms(name: str) -> list[Any]:
    """Return a key that verifies, in all forms in which it can be given."""
    key, algorithm = ALL_KEYS[name], name.partition(" ")[0]
    public, published = key.public_key(), public_jwk(key)
    several = (OTHER.public_key(), PRIVATE_KEYS["ES384"].public_key(), public)
    made: list[Any] = [public, key, pem(key), pem(key).decode(), private_pem(key), jwk(key, algorithm), several]
    made.append(jwt.PyJWKSet.from_dict({"keys": [{**published, "alg": algorithm}]}))
    made.append(KeySet([VerificationKey.from_jwk({**published, "key_ops": ["verify"]})]).select)
    if name not in {"ES256K", "EdDSA with Ed448"}:  # OpenSSH has no such keys
        made.append(public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH))
    return made


def signed(key: Any, algorithm: str, **header: Any) -> str:
    """Sign with a key and an algorithm that need not be for each other, or what the header says."""
    input_ = ".".join(base64url(json.dumps(part).encode()) for part in ({"alg": algorithm, **header}, CLAIMS))
    return f"{input_}.{base64url(jwt.get_algorithm_by_name(algorithm).sign(input_.encode(), key))}"


@pytest.mark.parametrize("name", ALL_KEYS)
def test_key_verifies_in_every_form_what_it_signed_with_its_algorithm(name: str) -> None:
    algorithm = name.partition(" ")[0]
    token = signed(ALL_KEYS[name], algorithm)
    refused = [token[:-8] + "AAAAAAAA"]
    for used in PRIVATE_KEYS.keys() - {algorithm}:
        refused += [signed(PRIVATE_KEYS[used], used, **header) for header in ({}, {"alg": algorithm})]
    for given in forms(name):
        assert is_accepted(token, given, algorithm)
        assert is_accepted(token, given, [algorithm, "RS256"])
        assert not [other for other in refused if is_accepted(other, given, algorithm)]


NO_SIGNATURES = [b"", b"\0", b"none", bytes(64), bytes(256), b"\1" * 64, b"\xff" * 256, bytes(5_000)]


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", "none ", "n\u043ene", "null", "", *PRIVATE_KEYS])
def test_token_without_a_signature_is_refused(name: str) -> None:
    algorithm, input_ = name if name in PRIVATE_KEYS else "RS256", signed(RSA, "RS256", alg=name).rpartition(".")[0]
    for given, signature in product(forms(algorithm), NO_SIGNATURES):  # all zeros are the psychic signatures of ECDSA
        assert not is_accepted(f"{input_}.{base64url(signature)}", given, algorithm)


def encodings(key: Any) -> list[bytes]:
    """Return the bytes of a public key that an attacker may take for a secret."""
    public, text = key.public_key(), pem(key)
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    texts = [
        text,
        text.rstrip(),
        text.replace(b"\n", b"\r\n"),
        public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
    ]
    return [*texts, der, b64encode(der), b"".join(text.splitlines(keepends=True)[1:-1])]


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_public_key_is_no_hmac_secret(algorithm: str) -> None:
    for number, secret in enumerate(encodings(PRIVATE_KEYS[algorithm])):
        for hmac, key in product(("HS256", "HS384", "HS512"), forms(algorithm)):
            assert not is_accepted(signed(secret, hmac), key, ["RS256", "ES256", "EdDSA"])
        for option, given in product(("token_secret", "key_provider"), (secret, [secret])):
            with pytest.raises(ImproperlyConfiguredException, match="public key"):
                backend(**{"key_provider": None, option: given}, algorithm="HS256")
        if number < 4:  # the others are for the backend to know
            with pytest.raises((ImproperlyConfiguredException, NotAuthorizedException)):
                Token.decode(signed(secret, "HS256"), secret, "HS256")
    with pytest.raises(ImproperlyConfiguredException, match="HMAC"):
        Token.decode(signed(RSA, "RS256"), RSA.public_key(), ["RS256", "HS256"])


@pytest.mark.parametrize("kid", [{"kid": "1"}, {}])
def test_key_that_comes_with_a_token_is_never_used(kid: dict[str, str]) -> None:
    keys = jwt.PyJWKSet.from_dict({"keys": [{**public_jwk(RSA), "kid": "1"}]})
    header: dict[str, Any] = {"jwk": public_jwk(OTHER), "x5c": [encodings(OTHER)[5].decode()], "x5t": "evil", **kid}
    header |= {"jku": "https://evil.test/keys", "x5u": "https://evil.test/chain.pem"}
    assert not is_accepted(signed(OTHER, "RS256", **header), keys)
    assert is_accepted(signed(RSA, "RS256", **header), keys)


SELECTION: dict[str, tuple[list[Any], dict[str, Any], bool]] = {
    "the named one": ([jwk(OTHER, kid="1"), jwk(RSA, kid="2")], {"kid": "2"}, True),
    "another name": ([jwk(OTHER, kid="1"), jwk(RSA, kid="2")], {"kid": "1"}, False),
    "an unknown name": ([jwk(RSA, kid="1")], {"kid": "2"}, False),
    "no name": ([jwk(OTHER, kid="1"), jwk(RSA, kid="2"), jwk(OTHER, kid="3")], {}, True),
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


FOR_SIGNATURES: list[dict[str, Any]] = [
    *({"use": "sig"}, {"use": None}, {"key_ops": ["verify"]}, {"key_ops": ["sign", "verify"]}, {"key_ops": None}),
    {"use": None, "key_ops": None, "alg": "RS256", "kid": None, "issuer": None, "x5c": None, "x5t": 1},
    *({"issuer": 1}, {"alg": "RS256"}),
]
FOR_OTHER_PURPOSES: list[dict[str, Any]] = [
    *({"use": "enc"}, {"use": ["sig"]}, {"key_ops": ["encrypt"]}, {"key_ops": []}, {"key_ops": "verify"}),
    *({"key_ops": 5}, {"alg": "RS512"}),
]


def test_members_of_a_jwk_say_what_it_is_for() -> None:
    for members in (*FOR_SIGNATURES, *FOR_OTHER_PURPOSES):
        key = jwk(RSA, **members)
        for given in (key, [key], [jwk(OTHER), key], lambda _: key):
            assert is_accepted(signed(RSA, "RS256"), given) == (members in FOR_SIGNATURES), members


UNFIT, NO_MATERIAL = "'alg' is unsupported or does not fit the key", "invalid key material"
PUBLISHED: list[tuple[Any, str]] = [
    ([], "not a JSON object"),
    ({"kty": "oct", "k": "AAAA"}, "unsupported 'kty'"),
    ({"kty": ["RSA"]}, "unsupported 'kty'"),
    *(({**public_jwk(RSA), name: 5}, f"'{name}' is not a string") for name in ("kid", "alg", "issuer")),
    ({**public_jwk(RSA), "use": "enc"}, "not for signatures ('use')"),
    ({**public_jwk(RSA), "key_ops": ["sign"]}, "not for verifying signatures ('key_ops')"),
    ({**public_jwk(RSA), "alg": "RS1"}, UNFIT),
    ({**public_jwk(EC), "alg": "ES384"}, UNFIT),
    ({**public_jwk(ED), "alg": "RS256"}, NO_MATERIAL),
    ({"kty": "RSA", "e": "AQAB"}, NO_MATERIAL),
    ({**public_jwk(EC), "crv": "P-1"}, NO_MATERIAL),
]


@pytest.mark.parametrize(("published", "reason"), PUBLISHED)
def test_published_key_that_verifies_nothing_says_why(published: Any, reason: str) -> None:
    with pytest.raises(UnusableKeyError, match=f"^{re.escape(reason)}$"):
        VerificationKey.from_jwk(published)


def test_pyjwk_is_bound_to_its_algorithm() -> None:
    for given in (jwk(RSA, "RS256"), jwk(RSA), jwk(RSA, alg="RS256")):
        assert is_accepted(signed(RSA, "RS256"), given, ["RS256", "PS256"])
        assert not is_accepted(signed(RSA, "PS256"), given, ["RS256", "PS256"])
    for given in (jwk(RSA, "PS256"), RSA.public_key()):
        assert is_accepted(signed(RSA, "PS256"), given, ["RS256", "PS256"])


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_rsa_keys_have_2048_bit_or_more() -> None:
    key = rsa.generate_private_key(65537, 2047)
    token, published = signed(key, "RS256"), jwt.PyJWK(RSAAlgorithm.to_jwk(key.public_key(), as_dict=True))
    for given in (key, key.public_key(), pem(key), [key.public_key()]):
        with pytest.raises(ImproperlyConfiguredException, match="2047 bit"):
            Token.decode(token, given, "RS256")
        for option in ("key_provider", "token_secret"):
            with pytest.raises(ImproperlyConfiguredException, match="2047 bit"):
                backend(**{"key_provider": None, option: given}, algorithm="RS256")
    assert not is_accepted(token, [jwk(OTHER), published])


@pytest.mark.parametrize(("bits", "usable"), [(16_384, True), (16_385, False)])
def test_rsa_keys_have_16384_bit_or_less(bits: int, usable: bool) -> None:
    modulus = (1 << bits) - 1
    key = jwt.PyJWK({"kty": "RSA", "n": base64url(modulus.to_bytes((bits + 7) // 8, "big")), "e": "AQAB"})
    assert not is_accepted(signed(RSA, "RS256"), key)
    with nullcontext() if usable else pytest.raises(ImproperlyConfiguredException, match=f"{bits} bit"):
        backend(key.key)


UNKNOWN_KIND = bytes.fromhex("300b 3004 0602 2a03 0303 000000")  # a public key, by its structure, of the kind 1.2.3
UNUSABLE: list[Any] = [
    *("not a key", b"\xff", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"),
    RSA.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password")),
    *(pem(dsa.generate_private_key(1024)), ec.generate_private_key(ec.SECP224R1()).public_key()),
    *(UNKNOWN_KIND, b64encode(UNKNOWN_KIND).decode()),
]


def test_unusable_key_is_an_error_of_the_application() -> None:
    for key in UNUSABLE:
        for given in (key, [key], [RSA.public_key(), key], Mock(return_value=key)):
            with pytest.raises(ImproperlyConfiguredException, match="cannot be used"):
                Token.decode(signed(RSA, "RS256"), given, "RS256")


@pytest.mark.parametrize("vector", VECTORS["verified"], ids=lambda vector: vector["source"])
def test_published_signature_is_verified_and_belongs_to_nothing_else(vector: dict[str, Any]) -> None:
    token, algorithms = vector["token"], [vector["algorithm"]]
    [key] = select(jwt.PyJWK(vector["jwk"], *algorithms), UnverifiedToken(token)).keys
    assert jwt.PyJWS().decode(token, key, algorithms).decode() == vector["payload"]  # most payloads are no claims
    signing_input, _, signature = token.rpartition(".")
    spoilt = bytearray(urlsafe_b64decode(signature + "=="))
    spoilt[-1] ^= 1
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.PyJWS().decode(f"{signing_input}.{base64url(bytes(spoilt))}", key, algorithms)
    if vector["payload"].startswith("{"):
        claims = Token.decode_payload(token, key, algorithms, options={"verify_exp": False})
        assert claims == {"iss": "joe", "exp": 1300819380, "http://example.com/is_root": True}
        with pytest.raises(jwt.ExpiredSignatureError):
            Token.decode_payload(token, key, algorithms)


def test_published_thumbprint_is_computed() -> None:
    [vector] = VECTORS["thumbprints"]
    assert thumbprint({**vector["jwk"], "kid": "x", "d": "secret"}) == vector["thumbprint"]
