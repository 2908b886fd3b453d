"""The attacks that make a verifier use the wrong key, or the right one in a wrong way."""

from __future__ import annotations

import json
from base64 import b64encode, urlsafe_b64decode
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm

from litestar import Litestar
from litestar.exceptions import ImproperlyConfiguredException, NotAuthorizedException
from litestar.security.jwt import RemoteJWKSet, Token
from litestar.security.jwt.keys import KeySet, UnusableKeyError, VerificationKey, public_jwk, thumbprint
from litestar.security.jwt.testing import LocalIssuer
from litestar.testing import TestClient
from tests.unit.test_security.test_jwt.hostile import CLAIMS, EC_KEY, ED_KEY, RSA_KEY, base64url
from tests.unit.test_security.test_jwt.injected import backend, whoami

KEYS: dict[str, Any] = {"RS256": RSA_KEY, "PS256": RSA_KEY, "ES256": EC_KEY, "EdDSA": ED_KEY}
CURVES: dict[str, Any] = {
    "ES256": EC_KEY,
    "ES256K": ec.generate_private_key(ec.SECP256K1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "ES512": ec.generate_private_key(ec.SECP521R1()),
}
FOREIGN = Ed25519PrivateKey.generate()
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256


def pem(key: Any) -> bytes:
    encoded: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return encoded


def spki(key: Any) -> bytes:
    encoded: bytes = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return encoded


def kid_of(key: Any) -> str:
    return thumbprint(public_jwk(key))


def token_with(signature: Callable[[bytes], bytes], algorithm: str, **header: Any) -> str:
    """Make a token with right claims and any signature."""
    segments = [json.dumps(part).encode() for part in ({"alg": algorithm, **header}, CLAIMS)]
    signing_input = ".".join(map(base64url, segments))
    return f"{signing_input}.{base64url(signature(signing_input.encode()))}"


def signed(key: Any, algorithm: str, **header: Any) -> str:
    """Make a token with a key that need not be one for its algorithm."""
    return token_with(lambda data: jwt.get_algorithm_by_name(algorithm).sign(data, key), algorithm, **header)


def published(key: Any) -> Callable[[Any], Any]:
    jwk = {**public_jwk(key), "kid": kid_of(key)}
    return KeySet([VerificationKey(jwk)]).select


GIVEN: dict[str, Callable[[Any], Any]] = {
    "object": lambda key: key.public_key(),
    "private": lambda key: key,
    "pem": lambda key: pem(key).decode(),
    "pem bytes": pem,
    "jwk": lambda key: jwt.PyJWK(public_jwk(key)),
    "set": lambda key: jwt.PyJWKSet([{**public_jwk(key), "kid": kid_of(key)}]),
    "several": lambda key: [key.public_key(), CURVES["ES384"].public_key()],
    "published": published,
}
"""The ways to give a key to a backend."""


def assert_refused(token: str, key: Any, algorithm: Any) -> None:
    with pytest.raises(NotAuthorizedException, match="Invalid token"):
        Token.decode(token, key, algorithm)


@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("algorithm", KEYS)
def test_right_key_is_not_confused(given: str, algorithm: str) -> None:
    if given == "jwk" and algorithm == "PS256":
        algorithm = "RS256"
    key = KEYS[algorithm]
    assert Token.decode(signed(key, algorithm, kid=kid_of(key)), GIVEN[given](key), algorithm).sub == CLAIMS["sub"]


def encodings(key: Any) -> dict[str, bytes]:
    """Return the bytes of a public key that an attacker may take for a secret."""
    jwk = public_jwk(key)
    return {
        "PEM": pem(key),
        "PEM without the last line break": pem(key).rstrip(b"\n"),
        "PEM with other line breaks": pem(key).replace(b"\n", b"\r\n"),
        "PEM in one line": pem(key).replace(b"\n", b""),
        "PEM without its frame": b"".join(pem(key).splitlines()[1:-1]),
        "SPKI": spki(key),
        "SPKI in base64": b64encode(spki(key)),
        "SPKI in base64url": base64url(spki(key)).encode(),
        "SPKI in hexadecimal": spki(key).hex().encode(),
        "JWK": json.dumps(jwk).encode(),
        "JWK without spaces": json.dumps(jwk, separators=(",", ":"), sort_keys=True).encode(),
        "thumbprint": thumbprint(jwk).encode(),
        "modulus or coordinate": jwk.get("n", jwk.get("x", "")).encode(),
        "modulus or coordinate as bytes": urlsafe_b64decode(jwk.get("n", jwk.get("x", "")) + "=="),
        "OpenSSH": key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
        "nothing": b"",
    }


@pytest.mark.parametrize("encoding", encodings(RSA_KEY))
@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("key", [RSA_KEY, EC_KEY, ED_KEY], ids=["RSA", "EC", "OKP"])
def test_public_key_is_no_hmac_secret(key: Any, given: str, encoding: str) -> None:
    secret = encodings(key)[encoding]
    for algorithm in ("HS256", "HS384", "HS512"):
        token = signed(secret, algorithm, kid=kid_of(key))
        assert_refused(token, GIVEN[given](key), ["RS256", "ES256", "EdDSA"])


@pytest.mark.parametrize(
    "encoding",
    [name for name in encodings(RSA_KEY) if name.startswith(("PEM", "JWK", "OpenSSH"))] + ["SPKI", "SPKI in base64"],
)
@pytest.mark.parametrize("option", ["token_secret", "key_provider"])
def test_public_key_cannot_be_configured_as_a_secret(option: str, encoding: str) -> None:
    with pytest.raises(ImproperlyConfiguredException, match="A key cannot be used"):
        backend(**{"key_provider": None, option: encodings(RSA_KEY)[encoding], "algorithm": "HS256"})


def test_certificate_cannot_be_configured_as_a_secret() -> None:
    name = x509.Name([])
    now = datetime.now(UTC)
    certificate = x509.CertificateBuilder(name, name, RSA_KEY.public_key(), 1, now, now + timedelta(days=1)).sign(
        RSA_KEY, SHA256()
    )
    for encoding in (Encoding.PEM, Encoding.DER):
        with pytest.raises(ImproperlyConfiguredException, match="A key cannot be used"):
            backend(None, token_secret=certificate.public_bytes(encoding), algorithm="HS256")


@pytest.mark.parametrize("given", ["token_secret", "key_provider"])
@pytest.mark.parametrize(
    "public", [RSA_KEY.public_key(), pem(RSA_KEY), jwt.PyJWK(public_jwk(RSA_KEY))], ids=["object", "PEM", "JWK"]
)
def test_secrets_and_public_keys_are_not_used_together(given: str, public: Any) -> None:
    with pytest.raises(ImproperlyConfiguredException, match="secrets and public keys"):
        backend(**{"key_provider": None, given: ["a secret of 32 bytes, or even more", public]})


@pytest.mark.parametrize("accepted", KEYS)
@pytest.mark.parametrize("used", KEYS)
def test_signature_of_another_algorithm_is_refused(accepted: str, used: str) -> None:
    key = KEYS[accepted]
    if used != accepted:
        assert_refused(signed(KEYS[used], used, kid=kid_of(key)), key.public_key(), accepted)
        relabelled = token_with(lambda data: jwt.get_algorithm_by_name(used).sign(data, KEYS[used]), accepted)
        assert_refused(relabelled, key.public_key(), accepted)
    assert_refused(signed(KEYS[used], used).replace(".", ".e30", 1), key.public_key(), list(KEYS))


@pytest.mark.parametrize("accepted", CURVES)
@pytest.mark.parametrize("used", CURVES)
def test_curves_do_not_cross(accepted: str, used: str) -> None:
    key, other = CURVES[accepted], CURVES[used]
    if accepted == used:
        assert Token.decode(signed(key, used), key.public_key(), list(CURVES)).sub == CLAIMS["sub"]
    else:
        assert_refused(signed(other, used), key.public_key(), list(CURVES))
        hashed = jwt.get_algorithm_by_name(used)
        assert_refused(token_with(lambda data: hashed.sign(data, key), used), key.public_key(), list(CURVES))


@pytest.mark.parametrize("declared", ["RS256", "PS256", "RS512"])
@pytest.mark.parametrize("used", ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"])
def test_algorithm_that_a_key_declares_is_the_only_one(declared: str, used: str) -> None:
    jwk = {**public_jwk(RSA_KEY), "kid": "1", "alg": declared}
    token = signed(RSA_KEY, used, kid="1")
    for key in (jwt.PyJWK(jwk), jwt.PyJWKSet([jwk]), KeySet([VerificationKey(jwk)]).select):
        if used == declared:
            assert Token.decode(token, key, [used, declared]).sub == CLAIMS["sub"]
        else:
            assert_refused(token, key, [used, declared])


@pytest.mark.parametrize("members", [{"use": "enc"}, {"key_ops": ["encrypt"]}, {"key_ops": []}])
def test_key_for_something_else_verifies_nothing(members: dict[str, Any]) -> None:
    jwk = {**public_jwk(RSA_KEY), "alg": "RS256", **members}
    assert_refused(signed(RSA_KEY, "RS256"), jwt.PyJWK(jwk), "RS256")
    with pytest.raises(UnusableKeyError):
        VerificationKey(jwk)


@pytest.fixture(scope="module")
def issuer() -> Iterator[LocalIssuer]:
    with LocalIssuer() as running:
        yield running


def test_symmetric_key_of_a_remote_set_is_never_used(issuer: LocalIssuer) -> None:
    secret = {"kty": "oct", "kid": "shared", "alg": "HS256", "k": base64url(b"published to everybody, so no secret")}
    issuer.serve_jwks({"keys": [secret, *issuer.jwks["keys"]]})
    auth = backend(RemoteJWKSet(issuer.jwks_url), algorithm=["RS256"])
    with TestClient(Litestar([whoami], on_app_init=[auth.on_app_init])) as client:
        for kid in ("shared", issuer.kid, None):
            token = signed(b"published to everybody, so no secret", "HS256", **({"kid": kid} if kid else {}))
            assert client.get("/", headers={"Authorization": f"Bearer {token}"}).status_code == 401
        assert client.get("/", headers=issuer.auth_header()).status_code == 200
    issuer.serve_jwks(None)
    with pytest.raises(UnusableKeyError, match="kty"):
        VerificationKey(secret)


@pytest.mark.parametrize("parameter", ["jwk", "jku", "x5u", "x5c", "x5t"])
def test_key_that_comes_with_the_token_is_not_trusted(issuer: LocalIssuer, parameter: str) -> None:
    evil = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    values = {
        "jwk": public_jwk(evil),
        "jku": f"{issuer.url}/evil.json",
        "x5u": f"{issuer.url}/evil.pem",
        "x5c": [b64encode(spki(evil)).decode()],
        "x5t": "evil",
    }
    auth = backend(RemoteJWKSet(issuer.jwks_url), algorithm=["RS256"])
    with TestClient(Litestar([whoami], on_app_init=[auth.on_app_init])) as client:
        for kid in (issuer.kid, None):
            header = {parameter: values[parameter], **({"kid": kid} if kid else {})}
            token = signed(evil, "RS256", **header)
            assert client.get("/", headers={"Authorization": f"Bearer {token}"}).status_code == 401
    assert not [request for request in issuer.requests if "evil" in request.path]


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", "none ", " none", "n\u043ene", "null", ""])
@pytest.mark.parametrize("given", GIVEN)
def test_token_without_a_signature_is_refused(given: str, name: str) -> None:
    for signature in (b"", b"\0", b"none"):
        assert_refused(token_with(lambda _: signature, name), GIVEN[given](RSA_KEY), ["RS256", "none", name])


def test_key_that_decides_for_itself_is_refused() -> None:
    assert_refused(
        token_with(lambda data: FOREIGN.sign(data), "EdDSA", kid=kid_of(ED_KEY)), ED_KEY.public_key(), "EdDSA"
    )


def _without_curve(jwk: dict[str, Any]) -> dict[str, Any]:
    return {**jwk, "crv": "P-256", "x": base64url(b"\0" * 31 + b"\5"), "y": base64url(b"\0" * 31 + b"\1")}


BAD_KEYS: dict[str, dict[str, Any]] = {
    "EC point on no curve": _without_curve(public_jwk(EC_KEY)),
    "EC point on another curve": {**public_jwk(CURVES["ES256K"]), "crv": "P-256"},
    "EC point at infinity": {**public_jwk(EC_KEY), "x": base64url(b"\0" * 32), "y": base64url(b"\0" * 32)},
    "EC coordinate too long": {
        **public_jwk(EC_KEY),
        "x": base64url(b"\0" + urlsafe_b64decode(public_jwk(EC_KEY)["x"] + "=")),
    },
    "EC curve that nobody has": {**public_jwk(EC_KEY), "crv": "P-192"},
    "EC algorithm of another curve": {**public_jwk(EC_KEY), "alg": "ES384"},
    "EC key said to be RSA": {**public_jwk(EC_KEY), "kty": "RSA"},
    "RSA with exponent 1": {**public_jwk(RSA_KEY), "e": "AQ"},
    "RSA with an even exponent": {**public_jwk(RSA_KEY), "e": "Ag"},
    "RSA with exponent 0": {**public_jwk(RSA_KEY), "e": "AA"},
    "RSA with a tiny modulus": {**public_jwk(RSA_KEY), "n": "AQAB"},
    "RSA with an even modulus": {
        **public_jwk(RSA_KEY),
        "n": base64url((RSA_KEY.public_key().public_numbers().n - 1).to_bytes(256, "big")),
    },
    "RSA of 1024 bit": {**public_jwk(RSA_KEY), "n": public_jwk(RSA_KEY)["n"][:171]},
    "RSA that takes minutes": {**public_jwk(RSA_KEY), "n": "_" * 30_000},
    "OKP for key agreement": {**public_jwk(ED_KEY), "crv": "X25519"},
    "OKP too short": {**public_jwk(ED_KEY), "x": public_jwk(ED_KEY)["x"][:20]},
}


@pytest.mark.parametrize("defect", BAD_KEYS)
def test_bad_key_is_skipped_and_never_used(defect: str) -> None:
    keys = KeySet.from_document({"keys": [BAD_KEYS[defect], public_jwk(RSA_KEY)]}, max_keys=10)
    assert len(keys.keys) == len(keys.skipped) == 1
    assert Token.decode(signed(RSA_KEY, "RS256"), keys.select, "RS256").sub == CLAIMS["sub"]


@pytest.mark.parametrize("bits", [1024, 2047])
def test_weak_key_is_refused_however_it_is_given(bits: int) -> None:
    weak = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    for given in (
        weak,
        weak.public_key(),
        pem(weak),
        jwt.PyJWK(RSAAlgorithm.to_jwk(weak.public_key(), True)),
    ):
        with pytest.raises(ImproperlyConfiguredException, match=f"{bits} bit"):
            backend(given)
        # Tokens may name a JWK that others publish, so that it must not be an error of the application.
        expected = NotAuthorizedException if isinstance(given, jwt.PyJWK) else ImproperlyConfiguredException
        with pytest.raises(expected):
            Token.decode(signed(RSA_KEY, "RS256"), given, "RS256")


def _raw(r: int, s: int, size: int = 32) -> Callable[[bytes], bytes]:
    return lambda _: r.to_bytes(size, "big") + s.to_bytes(size, "big")


def _der(data: bytes) -> bytes:
    return EC_KEY.sign(data, ec.ECDSA(SHA256()))


def _overlong(data: bytes) -> bytes:
    r, s = decode_dss_signature(_der(data))
    return _raw(r, s, 33)(data)


def _out_of_range(data: bytes) -> bytes:
    r, s = decode_dss_signature(_der(data))
    return _raw(r + ORDER, s + ORDER, 33)(data)


SIGNATURES: dict[str, Callable[[bytes], bytes]] = {
    "r and s zero (psychic)": _raw(0, 0),
    "r zero": _raw(0, 1),
    "s zero": _raw(1, 0),
    "r and s the order of the curve": _raw(ORDER, ORDER),
    "r one and s the order": _raw(1, ORDER),
    "r and s one": _raw(1, 1),
    "r and s as large as can be": _raw(2**256 - 1, 2**256 - 1),
    "empty": lambda _: b"",
    "one byte": lambda _: b"\0",
    "zeros, twice as long": _raw(0, 0, 64),
    "overlong": _overlong,
    "out of range": _out_of_range,
    "DER": _der,
    "DER of zeros": lambda _: encode_dss_signature(0, 0),
    "with a byte more": lambda data: jwt.get_algorithm_by_name("ES256").sign(data, EC_KEY) + b"\0",
    "without the last byte": lambda data: jwt.get_algorithm_by_name("ES256").sign(data, EC_KEY)[:-1],
}


@pytest.mark.parametrize("name", SIGNATURES)
@pytest.mark.parametrize("given", GIVEN)
def test_signature_that_is_none_is_refused(given: str, name: str) -> None:
    token = token_with(SIGNATURES[name], "ES256", kid=kid_of(EC_KEY))
    assert_refused(token, GIVEN[given](EC_KEY), "ES256")


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 255, 256, 257, 5_000])
@pytest.mark.parametrize("algorithm", KEYS)
def test_blank_signature_is_refused(algorithm: str, size: int) -> None:
    for byte in (b"\0", b"\1", b"\xff"):
        assert_refused(token_with(lambda _: byte * size, algorithm), KEYS[algorithm].public_key(), algorithm)
