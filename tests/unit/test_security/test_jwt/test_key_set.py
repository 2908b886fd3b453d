"""Which keys can be loaded, which of them fit a token, and the attacks that mix keys up."""

from __future__ import annotations

import json
import re
import time
from base64 import urlsafe_b64decode
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import HMACAlgorithm

from litestar.security.jwt.key_set import EncryptionKeyError, KeySet, is_issuer, load_keys, parse_jwk, select
from litestar.security.jwt.keys import (
    ASYMMETRIC_ALGORITHMS,
    RSA_ALGORITHMS,
    SelectedKeys,
    UnusableKeyError,
    VerificationKey,
    get_algorithm,
    public_jwk,
)
from litestar.security.jwt.refusals import TokenRefused
from litestar.security.jwt.unverified import UnverifiedToken

from .backends import CLAIMS, ED448_KEY, FORGER, PRIVATE_KEYS, SECRET, base64url, pem, private_pem, sign

RSA, EC, ED, P384 = (PRIVATE_KEYS[name] for name in ("RS256", "ES256", "EdDSA", "ES384"))
FORGED = FORGER.private_key
VECTORS = json.loads(Path(__file__).with_name("vectors.json").read_text(encoding="utf-8"))
# The key that signs with each algorithm, and what PyJWT calls the algorithm.
SIGNERS: dict[str, tuple[Any, str]] = {
    **{name: (PRIVATE_KEYS.get(name, RSA), name) for name in ASYMMETRIC_ALGORITHMS},
    "Ed25519": (ED, "EdDSA"),
    "Ed448": (ED448_KEY, "EdDSA"),
    "EdDSA": (ED, "EdDSA"),
}
ALL_KEYS: dict[str, Any] = {**PRIVATE_KEYS, "Ed448": ED448_KEY, "forged": FORGED}
MICROSOFT = "https://login.microsoftonline.com/{tenantid}/v2.0"


def pyjwk(key: Any, algorithm: str | None = None, /, **members: Any) -> jwt.PyJWK:
    return jwt.PyJWK({**public_jwk(key), **members}, algorithm)


def signed(key: Any = RSA, algorithm: str = "RS256", claims: Any = CLAIMS, **header: Any) -> UnverifiedToken:
    """Sign some claims. A text passes for a secret even where PyJWT refuses to sign with it."""
    name = "EdDSA" if algorithm in ("Ed25519", "Ed448") else algorithm
    key = key.encode() if isinstance(key, str) else key
    return UnverifiedToken(sign({"alg": algorithm, **header}, claims, key, name))


def verifies(keys: Iterable[VerificationKey], token: UnverifiedToken) -> bool:
    return any(
        get_algorithm(token.algorithm).verify(token.signing_input, key.prepared[token.algorithm], token.signature)
        for key in keys
    )


def is_verified(key: Any, token: UnverifiedToken) -> bool:
    return verifies(select(key, token).keys, token)


def forms(key: Any, algorithm: str) -> Iterator[Any]:
    """Return a key in all forms in which an application can give it."""
    jwk = public_jwk(key)
    yield from (key, key.public_key(), pem(key), pem(key).decode(), private_pem(key))
    yield from (jwk, {**jwk, "alg": algorithm, "d": "private"}, {"keys": [jwk]}, [FORGED.public_key(), key])
    yield jwt.PyJWKSet.from_dict({"keys": [{**jwk, "alg": algorithm}]})
    yield pyjwk(key, algorithm)
    yield parse_jwk(jwk)


@pytest.mark.parametrize("algorithm", ASYMMETRIC_ALGORITHMS)
def test_key_in_every_form_verifies_what_it_signed(algorithm: str) -> None:
    key, known_name = SIGNERS[algorithm]
    token, forged = signed(key, algorithm), UnverifiedToken(signed(key, algorithm).encoded[:-8] + "AAAAAAAA")
    for given in forms(key, known_name):
        loaded = load_keys(given, ASYMMETRIC_ALGORITHMS)
        assert verifies(KeySet(loaded).select(token).keys, token)
        assert is_verified(given, token)
        assert not is_verified(given, forged)


# PyJWT itself takes some of these keys for these algorithms. That they are of another kind is for the selection to see.
@pytest.mark.parametrize("algorithm", ASYMMETRIC_ALGORITHMS)
@pytest.mark.parametrize("name", ALL_KEYS)
def test_other_key_verifies_nothing(algorithm: str, name: str) -> None:
    key, known_name = SIGNERS[algorithm]
    other = ALL_KEYS[name]
    if other is not key:
        token = signed(key, algorithm)
        for given in (
            other,
            pem(other),
            public_jwk(other),
            {"keys": [public_jwk(other)]},
            [parse_jwk(public_jwk(other))],
        ):
            assert not is_verified(given, token)
        for members in ({"alg": known_name}, {"alg": algorithm}):
            assert not is_verified({**public_jwk(other), **members}, token)


@pytest.mark.parametrize(
    ("key", "algorithm", "label"),
    [
        pytest.param(P384, "ES384", "ES256", id="p-384-key-for-es256"),
        pytest.param(PRIVATE_KEYS["ES256K"], "ES256K", "ES256", id="secp256k1-key-for-es256"),
        pytest.param(EC, "ES256", "ES256K", id="p-256-key-for-es256k"),
        pytest.param(RSA, "PS256", "RS256", id="pss-signature-for-rs256"),
        pytest.param(RSA, "RS512", "RS256", id="longer-hash-for-rs256"),
        pytest.param(ED448_KEY, "EdDSA", "Ed25519", id="ed448-key-for-ed25519"),
        pytest.param(ED, "EdDSA", "Ed448", id="ed25519-key-for-ed448"),
    ],
)
def test_header_does_not_choose_the_algorithm_of_a_key(key: Any, algorithm: str, label: str) -> None:
    token = UnverifiedToken(sign({"alg": label}, CLAIMS, key, algorithm))
    for given in (key, pem(key), public_jwk(key), pyjwk(key, algorithm)):
        assert not is_verified(given, token)


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
@pytest.mark.parametrize("name", PRIVATE_KEYS)
def test_public_key_is_no_hmac_secret(name: str, algorithm: str) -> None:
    key = PRIVATE_KEYS[name]
    for text in (pem(key), pem(key).rstrip(), pem(key).replace(b"\n", b"\r\n"), b"".join(pem(key).splitlines()[1:-1])):
        token = signed(text, algorithm)
        for given in (text, [text]):
            with pytest.raises(UnusableKeyError, match="a key, or a part of one"):
                load_keys(given, [algorithm])
            with pytest.raises(UnusableKeyError):
                select(given, token)
    for public in (key, key.public_key(), pyjwk(key, name)):
        with pytest.raises(UnusableKeyError, match=f"it is not a secret. .* not {algorithm}$"):
            load_keys(public, [algorithm])
    jwk: Any = public_jwk(key)
    for listed in (jwk, {"keys": [jwk]}, parse_jwk(jwk), jwt.PyJWKSet([jwk])):
        assert not select(listed, signed(pem(key), algorithm)).keys


def test_pyjwt_refuses_a_public_key_as_a_secret_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("litestar.security.jwt.key_set.reject_key_as_secret", lambda secret: None)
    with pytest.raises(UnusableKeyError, match=r"^HS256 refuses it: "):
        load_keys(pem(RSA), ["HS256"])


@pytest.mark.parametrize("algorithm", ["none", "None", "nOnE", "n\u043ene", "null", *ASYMMETRIC_ALGORITHMS])
def test_made_up_signature_is_refused(algorithm: str) -> None:
    front = signed(alg=algorithm).encoded.rpartition(".")[0]
    keys = [parse_jwk(public_jwk(key)) for key in PRIVATE_KEYS.values()]
    # All zeros are the psychic signatures of ECDSA.
    for signature in (b"", b"\0", bytes(64), bytes(256), b"\1" * 64, b"\xff" * 256, bytes(5_000)):
        assert not is_verified(keys, UnverifiedToken(f"{front}.{base64url(signature)}"))


@pytest.mark.parametrize(
    "secret", [SECRET, SECRET.encode(), [SECRET], jwt.PyJWK({"kty": "oct", "k": base64url(SECRET.encode())})]
)
@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_secret_verifies_what_it_signed(algorithm: str, secret: Any) -> None:
    token, forged = signed(SECRET, algorithm), signed(SECRET[::-1], algorithm)
    for keys in (load_keys(secret, ["HS256", "HS384", "HS512"]), select(secret, token).keys):
        assert [verifies(KeySet(keys).select(each).keys, each) for each in (token, forged)] == [True, False]
        assert keys[0].jwk == {}


@pytest.mark.parametrize("kid", [{"kid": "1"}, {}], ids=str)
def test_key_that_comes_with_a_token_is_never_used(kid: dict[str, str]) -> None:
    keys = {"keys": [{**public_jwk(RSA), "kid": "1"}]}
    header: dict[str, Any] = {"jwk": public_jwk(FORGED), "x5c": ["evil"], "x5t": "evil", **kid}
    header |= {"jku": "https://evil.test/keys", "x5u": "https://evil.test/chain.pem"}
    assert not is_verified(keys, signed(FORGED, **header))
    assert is_verified(keys, signed(**header))


FORGED_1 = pyjwk(FORGED, kid="1")


@pytest.mark.parametrize(
    ("keys", "header", "expected"),
    [
        pytest.param([FORGED_1, pyjwk(RSA, kid="2")], {"kid": "2"}, True, id="named-one"),
        pytest.param([FORGED_1, pyjwk(RSA, kid="2")], {"kid": "1"}, False, id="name-of-another"),
        pytest.param([pyjwk(RSA, kid="1")], {"kid": "2"}, False, id="unknown-name"),
        pytest.param([FORGED_1, pyjwk(RSA, kid="2"), pyjwk(FORGED, kid="3")], {}, True, id="token-without-a-name"),
        pytest.param([FORGED_1, RSA.public_key()], {"kid": "2"}, True, id="key-without-a-name"),
        pytest.param([pyjwk(FORGED, kid="2"), RSA.public_key()], {"kid": "2"}, False, id="name-before-key-without-one"),
        pytest.param([FORGED_1, pyjwk(RSA, kid="1")], {"kid": "1"}, True, id="one-name-twice"),
        pytest.param([pyjwk(EC, kid="1"), pyjwk(RSA, kid="1")], {"kid": "1"}, True, id="one-name-for-two-kinds"),
        pytest.param([*[pyjwk(FORGED)] * 7, pyjwk(RSA)], {}, True, id="eighth"),
        pytest.param([*[pyjwk(EC)] * 9, *[pyjwk(FORGED)] * 7, pyjwk(RSA)], {}, True, id="eighth-that-fits"),
        pytest.param([pyjwk(RSA, kid=None)], {"kid": "1"}, True, id="null-as-a-name"),
        pytest.param([pyjwk(RSA, kid=[1])], {"kid": "1"}, True, id="list-as-a-name"),
        pytest.param([jwt.PyJWK({"kty": "oct", "k": "AAAA"}), pyjwk(RSA)], {}, True, id="beside-a-secret"),
        pytest.param([pyjwk(EC)], {}, False, id="none-that-fits"),
    ],
)
def test_key_is_selected_by_name_and_kind(keys: list[Any], header: dict[str, Any], expected: bool) -> None:
    for given in (keys, tuple(keys), keys[::-1]):
        assert is_verified(given, signed(**header)) == expected


def test_more_than_eight_keys_that_fit_are_refused() -> None:
    keys = KeySet([*[parse_jwk(public_jwk(FORGED))] * 8, parse_jwk(public_jwk(RSA))])
    with pytest.raises(TokenRefused, match=r"^too many keys \(expected: at most 8 keys that fit\)$"):
        keys.select(signed())


def test_selection_is_kept_for_names_of_keys_and_not_for_made_up_ones() -> None:
    keys = KeySet(parse_jwk({**public_jwk(RSA), "kid": kid}) for kid in ("1", None))
    for kid, is_kept in (("1", True), ("2", False)):
        assert (keys.select(signed(kid=kid)) is keys.select(signed(kid=kid))) == is_kept
        assert keys.select(signed(kid=kid)) == keys.select(signed(kid=kid))
    assert not KeySet(()).select(signed()).keys


@pytest.mark.parametrize(
    ("issuer", "claims", "expected"),
    [
        pytest.param("https://a.test", {"iss": "https://a.test"}, True, id="same"),
        pytest.param("https://a.test", {"iss": "https://b.test"}, False, id="other"),
        pytest.param("https://a.test", {"iss": "https://a.test/"}, False, id="with-a-slash"),
        pytest.param("https://a.test", {}, False, id="absent"),
        pytest.param("https://a.test", {"iss": ["https://a.test"]}, False, id="list"),
        pytest.param(MICROSOFT, {"tid": "t1", "iss": MICROSOFT.replace("{tenantid}", "t1")}, True, id="tenant"),
        pytest.param(MICROSOFT, {"tid": "t1", "iss": MICROSOFT.replace("{tenantid}", "t2")}, False, id="other-tenant"),
        pytest.param(MICROSOFT, {"iss": MICROSOFT.replace("{tenantid}", "t1")}, False, id="no-tenant"),
        pytest.param(MICROSOFT, {"tid": 5, "iss": MICROSOFT.replace("{tenantid}", "5")}, False, id="numeric-tenant"),
        pytest.param(MICROSOFT, {"tid": "{tenantid}", "iss": MICROSOFT}, False, id="placeholder-as-tenant"),
        pytest.param(MICROSOFT, {"tid": "x", "iss": MICROSOFT}, False, id="placeholder-in-the-issuer"),
    ],
)
def test_key_that_names_an_issuer_verifies_its_tokens_only(issuer: str, claims: Any, expected: bool) -> None:
    token = signed(claims={**CLAIMS, **claims}, kid="1")
    assert is_issuer(issuer, token) == expected
    jwk = {**public_jwk(RSA), "kid": "1", "issuer": issuer}
    keys = KeySet([parse_jwk(jwk)])
    assert parse_jwk(jwk).issuer == issuer
    for given in (keys.select(token), keys.select(token), jwk, {"keys": [jwk]}, [jwk]):
        assert is_verified(given, token) == expected


def test_selection_for_one_issuer_is_not_used_for_another() -> None:
    keys = KeySet([parse_jwk({**public_jwk(RSA), "kid": "1", "issuer": MICROSOFT})])
    tokens = [
        signed(claims={"tid": tid, "iss": MICROSOFT.replace("{tenantid}", "t1")}, kid="1") for tid in ("t1", "t2")
    ]
    assert [bool(keys.select(token).keys) for token in [*tokens, *tokens]] == [True, False] * 2


@pytest.mark.parametrize(
    "members",
    [
        pytest.param({"use": "sig"}, id="use"),
        pytest.param({"key_ops": ["verify"]}, id="key-ops"),
        pytest.param({"key_ops": ["sign", "verify"]}, id="several-key-ops"),
        pytest.param({"use": None, "key_ops": None, "alg": None, "kid": None, "issuer": None, "x5c": None}, id="nulls"),
        pytest.param({"alg": "RS256"}, id="alg"),
        pytest.param({"x5t": 1, "x5c": ["x"], "d": "x", "ext": True, "n2": {}}, id="unknown-and-private-members"),
    ],
)
def test_jwk_for_signatures_is_usable(members: dict[str, Any]) -> None:
    assert is_verified({**public_jwk(RSA), **members}, signed())
    assert parse_jwk({**public_jwk(RSA), **members}).jwk == public_jwk(RSA)


NOT_FITTING, NO_MATERIAL = "'alg' is unsupported or does not fit the key", "invalid key material"
RSA_JWK = public_jwk(RSA)


@pytest.mark.parametrize(
    ("jwk", "message"),
    [
        pytest.param([], "not a JSON object", id="list"),
        pytest.param(None, "not a JSON object", id="null"),
        pytest.param({"kty": "oct", "k": "AAAA"}, "unsupported 'kty'", id="secret"),
        pytest.param({"kty": ["RSA"]}, "unsupported 'kty'", id="list-as-kty"),
        pytest.param({}, "unsupported 'kty'", id="empty"),
        *(
            pytest.param({**RSA_JWK, name: 5}, f"'{name}' is not a string", id=f"{name}-is-a-number")
            for name in ("kid", "alg", "issuer")
        ),
        pytest.param({**RSA_JWK, "use": "enc"}, "not for signatures ('use')", id="for-encryption"),
        pytest.param({**RSA_JWK, "use": ["sig"]}, "not for signatures ('use')", id="list-as-use"),
        *(
            pytest.param({**RSA_JWK, "key_ops": ops}, "not for verifying signatures ('key_ops')", id=f"key-ops-{ops}")
            for ops in (["sign"], [], "verify", 5, {"verify": 1})
        ),
        pytest.param({**RSA_JWK, "alg": "RS1"}, NOT_FITTING, id="unknown-alg"),
        pytest.param({**RSA_JWK, "alg": "RSA-OAEP"}, NOT_FITTING, id="alg-for-encryption"),
        pytest.param({**RSA_JWK, "alg": "HS256"}, NOT_FITTING, id="hmac"),
        pytest.param({**RSA_JWK, "alg": "none"}, NOT_FITTING, id="none"),
        pytest.param({**public_jwk(EC), "alg": "ES384"}, NOT_FITTING, id="p-256-key-for-es384"),
        pytest.param({**public_jwk(ED), "alg": "Ed448"}, NOT_FITTING, id="ed25519-key-for-ed448"),
        pytest.param({**public_jwk(ED), "alg": "RS256"}, NO_MATERIAL, id="ed25519-key-for-rs256"),
        pytest.param({"kty": "RSA", "e": "AQAB"}, NO_MATERIAL, id="without-modulus"),
        pytest.param({**RSA_JWK, "n": 5}, NO_MATERIAL, id="number-as-modulus"),
        pytest.param({**RSA_JWK, "e": ""}, NO_MATERIAL, id="empty-exponent"),
        pytest.param({**public_jwk(EC), "crv": "P-1"}, NO_MATERIAL, id="unknown-curve"),
        pytest.param({**public_jwk(EC), "y": public_jwk(EC)["x"]}, NO_MATERIAL, id="not-on-the-curve"),
        pytest.param({**public_jwk(ED), "crv": "X25519"}, NO_MATERIAL, id="x25519"),
        pytest.param({**RSA_JWK, "n": base64url(b"\xff" * 128)}, "it is an RSA key of 1024 bits", id="rsa-1024"),
        pytest.param(
            {"kty": "RSA", "n": base64url(b"\xff" * 384), "e": base64url(b"\x7f" + b"\xff" * 383)},
            "it is an RSA key with an exponent of more than 32 bits",
            id="exponent-of-3071-bits",
        ),
    ],
)
def test_jwk_that_verifies_nothing_says_why(jwk: Any, message: str) -> None:
    with pytest.raises(UnusableKeyError, match=f"^{re.escape(message)}") as raised:
        parse_jwk(jwk)
    assert isinstance(raised.value, EncryptionKeyError) == ("for signatures" in message)


@pytest.mark.parametrize(
    ("key", "declared", "algorithms"),
    [
        pytest.param(RSA, None, RSA_ALGORITHMS, id="rsa"),
        pytest.param(RSA, "PS512", ("PS512",), id="rsa-for-one"),
        pytest.param(EC, None, ("ES256",), id="p-256"),
        pytest.param(ED, None, ("EdDSA", "Ed25519"), id="ed25519"),
        pytest.param(ED, "EdDSA", ("EdDSA", "Ed25519"), id="ed25519-for-eddsa"),
        pytest.param(ED, "Ed25519", ("EdDSA", "Ed25519"), id="ed25519-by-its-name"),
        pytest.param(ED448_KEY, "Ed448", ("EdDSA", "Ed448"), id="ed448-by-its-name"),
    ],
)
def test_jwk_is_for_the_algorithm_that_it_declares(key: Any, declared: Any, algorithms: tuple[str, ...]) -> None:
    assert parse_jwk({**public_jwk(key), "alg": declared}).algorithms == algorithms


def test_pyjwk_is_bound_to_its_algorithm() -> None:
    for given in (pyjwk(RSA, "RS256"), pyjwk(RSA), pyjwk(RSA, alg="RS256")):
        assert [is_verified(given, signed(RSA, name)) for name in ("RS256", "PS256")] == [True, False]
    for given in (pyjwk(RSA, "PS256"), RSA.public_key()):
        assert is_verified(given, signed(RSA, "PS256"))
    assert pyjwk(RSA, "RS256").algorithm_name == load_keys(pyjwk(RSA, "RS256"), ["RS256"])[0].algorithms[0]


@pytest.mark.parametrize("form", [pyjwk, lambda key, **members: {**public_jwk(key), **members}], ids=["pyjwk", "dict"])
def test_provider_may_list_keys_for_other_purposes(form: Any) -> None:
    unusable = [form(RSA, use="enc"), form(RSA, alg="RS512"), jwt.PyJWK({"kty": "oct", "k": "AAAA"}), {"kty": "?"}]
    for listed in ([*unusable, form(RSA)], [form(RSA), *unusable]):
        assert is_verified(listed, signed())
    assert not is_verified(unusable, signed())
    assert is_verified({"keys": [5, None, "x", *unusable, form(RSA)]}, signed())


@pytest.mark.parametrize("nothing", [None, [], (), {"keys": []}, SelectedKeys("RS256", ())], ids=repr)
def test_provider_may_return_nothing(nothing: Any) -> None:
    assert select(nothing, signed()).keys == ()


def test_selected_keys_are_for_one_algorithm() -> None:
    selected = KeySet([parse_jwk(public_jwk(RSA))]).select(signed())
    assert select(selected, signed()) is selected
    assert select(selected, signed(RSA, "PS256")) == SelectedKeys("PS256", ())


@pytest.mark.parametrize(
    "unusable", ["not a key", b"", ec.generate_private_key(ec.SECP224R1()), 5], ids=["text", "empty", "p-224", "number"]
)
def test_unusable_key_of_the_application_is_an_error(unusable: Any) -> None:
    for given in (unusable, [unusable], [RSA.public_key(), unusable]):
        with pytest.raises(UnusableKeyError):
            select(given, signed())
        with pytest.raises(UnusableKeyError):
            load_keys(given, ["RS256"])


@pytest.mark.parametrize(
    ("key", "algorithms", "message"),
    [
        pytest.param(P384, ["RS256", "ES256"], "it is a key for ES384, not for RS256 or ES256.", id="ec-key-for-rs256"),
        pytest.param([RSA, EC], ["RS256"], "it is a key for ES256, not for RS256.", id="one-of-two"),
        pytest.param(pyjwk(RSA, use="enc"), ["RS256"], "not for signatures ('use')", id="for-encryption"),
        pytest.param({**RSA_JWK, "key_ops": ["encrypt"]}, ["RS256"], "not for verifying", id="key-ops"),
        pytest.param(
            jwt.PyJWK({"kty": "oct", "k": "AAAA"}), ["RS256"], "the JWK is not one for HS256", id="secret-as-jwk"
        ),
        pytest.param([], ["RS256"], "it is empty", id="empty"),
        pytest.param({"keys": []}, ["RS256"], "it is empty", id="empty-set"),
        pytest.param(
            {"keys": [{**RSA_JWK, "use": "enc"}]}, ["RS256"], "there is no usable key in it", id="set-for-encryption"
        ),
        pytest.param({"keys": [RSA_JWK]}, ["ES256"], "there is no usable key in it", id="set-of-another-kind"),
        pytest.param(pyjwk(EC, "ES256"), ["HS256"], "it is not a secret.", id="public-jwk-as-secret"),
        pytest.param(SECRET, ["RS256"], "it is not a PEM, or encrypted.", id="secret-as-public-key"),
        pytest.param("", ["HS256"], "it is an empty text.", id="empty-secret"),
    ],
)
def test_key_of_an_application_that_verifies_nothing_says_why(key: Any, algorithms: list[str], message: str) -> None:
    with pytest.raises(UnusableKeyError, match=f"^{re.escape(message)}"):
        load_keys(key, algorithms)


def test_set_of_an_issuer_may_list_other_keys() -> None:
    listed = [{**RSA_JWK, "use": "enc"}, public_jwk(EC), RSA_JWK]
    for given in ({"keys": listed}, jwt.PyJWKSet(listed)):
        [key] = load_keys(given, ["RS256"])
        assert key.jwk == RSA_JWK
        assert len(load_keys(given, ["RS256", "ES256"])) == 2


def test_refusal_of_a_library_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jwt.algorithms.RSAAlgorithm.prepare_key", Mock(side_effect=jwt.InvalidKeyError("too odd")))
    with pytest.raises(UnusableKeyError, match=r"^PyJWT refuses it: too odd$"):
        parse_jwk(RSA_JWK)


def test_algorithm_of_the_application_gets_the_keys_without_selection() -> None:
    class Reversed(HMACAlgorithm):
        def prepare_key(self, key: Any) -> bytes:
            if key == "unfit":
                raise TypeError("unfit")
            return super().prepare_key(key)

        def sign(self, msg: bytes, key: Any) -> bytes:
            return super().sign(msg, key)[::-1]

    jwt.register_algorithm("REV", Reversed(Reversed.SHA256))
    try:
        token = signed(SECRET, "REV", kid="1")
        jwk = jwt.PyJWK({"kty": "oct", "k": base64url(SECRET.encode()), "kid": "2"})
        for given, loads in product(
            (SECRET, jwk, [SECRET[::-1], SECRET]), (load_keys, lambda key, _: select(key, token).keys)
        ):
            keys = loads(given, ["REV"])
            assert verifies(keys, token)
            assert not verifies(keys, signed(SECRET[::-2], "REV"))
        with pytest.raises(UnusableKeyError, match=r"^REV refuses it: unfit$"):
            load_keys("unfit", ["REV"])
        bound = pyjwk(RSA, "RS256")
        bound.algorithm_name = "REV"
        with pytest.raises(UnusableKeyError, match=r"^the JWK is not one for REV$"):
            load_keys(bound, ["RS256"])
    finally:
        jwt.unregister_algorithm("REV")


def test_forged_tokens_without_a_name_are_cheap() -> None:
    """Eight RSA keys with an exponent of 3,071 bits would take 163 ms."""
    jwk = {"kty": "RSA", "n": base64url(b"\xff" * 384), "e": base64url(b"\x7f" + b"\xff" * 383)}
    token = UnverifiedToken(signed().encoded[:-8] + "AAAAAAAA")
    start = time.process_time()
    assert not select([*[jwk] * 8, *[public_jwk(FORGED)] * 8], token).keys == ()
    assert time.process_time() - start < 0.1


@pytest.mark.parametrize("vector", VECTORS["verified"], ids=lambda vector: vector["source"])
def test_published_signature_is_verified_and_belongs_to_nothing_else(vector: dict[str, Any]) -> None:
    key = vector["jwk"] if vector["jwk"]["kty"] != "oct" else jwt.PyJWK(vector["jwk"], vector["algorithm"])
    token = UnverifiedToken(vector["token"])
    assert token.payload.decode() == vector["payload"]  # most payloads are no claims
    assert is_verified(key, token)
    front, _, signature = vector["token"].rpartition(".")
    spoilt = bytearray(urlsafe_b64decode(signature + "=="))
    spoilt[-1] ^= 1
    assert not is_verified(key, UnverifiedToken(f"{front}.{base64url(bytes(spoilt))}"))


def test_key_that_an_algorithm_of_the_application_refuses_is_left_out() -> None:
    class Odd(HMACAlgorithm):
        def prepare_key(self, key: Any) -> Any:
            raise AttributeError("not one of mine")

    jwt.register_algorithm("ODD", Odd(Odd.SHA256))
    try:
        assert select(RSA.public_key(), UnverifiedToken(sign({"alg": "ODD"}, {}, RSA, "RS256"))).keys == ()
    finally:
        jwt.unregister_algorithm("ODD")
