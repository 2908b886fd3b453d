"""Options that would let tokens in that are no good, refused before there is any token."""

from __future__ import annotations

from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import RSAAlgorithm

from litestar.exceptions import ImproperlyConfiguredException
from litestar.security.jwt import JWTAuth, JWTCookieAuth, OAuth2PasswordBearerAuth
from litestar.security.jwt.keys import public_jwk
from tests.unit.test_security.test_jwt.hostile import EC_KEY, ED_KEY, RSA_KEY, SECRET
from tests.unit.test_security.test_jwt.injected import provide, retrieve_user

WEAK_KEY = rsa.generate_private_key(public_exponent=65537, key_size=1024)
OTHER_CURVE = ec.generate_private_key(ec.BrainpoolP256R1())
EVEN_KEY = rsa.RSAPublicNumbers(65537, RSA_KEY.public_key().public_numbers().n - 1).public_key()
SYMMETRIC = jwt.PyJWK({"kty": "oct", "k": "c2VjcmV0IG9mIDMyIGJ5dGVzIG9yIGV2ZW4gbW9yZQ"})

DEFECTS: dict[str, tuple[dict[str, Any], str]] = {
    "nothing to verify with": ({}, "Either 'token_secret' or 'key_provider'"),
    "no algorithm": ({"token_secret": SECRET, "algorithm": []}, "empty"),
    "none": ({"token_secret": SECRET, "algorithm": "none"}, "not an algorithm that tokens"),
    "none in capitals": ({"token_secret": SECRET, "algorithm": ["HS256", "NONE"]}, "not an algorithm that tokens"),
    "an algorithm that is no name": (
        {"token_secret": SECRET, "algorithm": ["HS256", None]},
        "not an algorithm that tokens",
    ),
    "an unknown algorithm": ({"token_secret": SECRET, "algorithm": "HS257"}, "Unknown algorithm 'HS257'"),
    "an algorithm in small letters": ({"token_secret": SECRET, "algorithm": "hs256"}, "Unknown algorithm 'hs256'"),
    "HMAC and RSA": ({"token_secret": SECRET, "algorithm": ["HS256", "RS256"]}, "cannot be accepted by the same"),
    "EdDSA and HMAC": ({"key_provider": ED_KEY, "algorithm": ["EdDSA", "HS512"]}, "cannot be accepted by the same"),
    "an empty secret": ({"token_secret": ""}, "must not be empty"),
    "a secret for RSA": ({"token_secret": SECRET, "algorithm": "RS256"}, "not a PEM"),
    "a symmetric JWK for RSA": ({"key_provider": SYMMETRIC, "algorithm": "RS256"}, "not one for RS256"),
    "RSA for HMAC": ({"token_secret": RSA_KEY, "algorithm": "HS256"}, "not one for HS256"),
    "RSA for ECDSA": ({"token_secret": RSA_KEY, "algorithm": "ES256"}, "not one for ES256"),
    "EC for another curve": ({"key_provider": EC_KEY, "algorithm": ["ES384", "ES512"]}, "not one for ES384 or ES512"),
    "EC on a strange curve": ({"key_provider": OTHER_CURVE}, "unsupported curve"),
    "one of several that does not fit": (
        {"key_provider": [RSA_KEY, EC_KEY], "algorithm": "RS256"},
        "not one for RS256",
    ),
    "a private key too weak": ({"token_secret": WEAK_KEY, "algorithm": "RS256"}, "1024 bit"),
    "a public key too weak": ({"key_provider": WEAK_KEY.public_key()}, "1024 bit"),
    "a JWK too weak": ({"key_provider": jwt.PyJWK(RSAAlgorithm.to_jwk(WEAK_KEY, True))}, "1024 bit"),
    "an even modulus": ({"key_provider": EVEN_KEY}, "even modulus"),
    "a weak key to sign with": ({"key_provider": RSA_KEY, "token_secret": WEAK_KEY}, "1024 bit"),
    "a public key to sign with": (
        {"key_provider": RSA_KEY, "token_secret": RSA_KEY.public_key()},
        "a private key signs",
    ),
    "a key for encryption": ({"key_provider": jwt.PyJWK({**public_jwk(RSA_KEY), "use": "enc"})}, "not one for RS256"),
    "strict without an audience": ({"token_secret": SECRET, "strict_audience": True}, "exactly one"),
    "strict with two audiences": (
        {"token_secret": SECRET, "strict_audience": True, "accepted_audiences": ["a", "b"]},
        "exactly one",
    ),
    "a negative leeway": ({"token_secret": SECRET, "leeway": -1}, "negative"),
    "no length at all": ({"token_secret": SECRET, "max_token_length": 0}, "not positive"),
}
BACKENDS: dict[str, Any] = {
    "header": JWTAuth,
    "cookie": JWTCookieAuth,
    "oauth": lambda **options: OAuth2PasswordBearerAuth(token_url="/login", **options),
}


@pytest.mark.parametrize("defect", DEFECTS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_defect_is_named_at_construction(backend: str, defect: str) -> None:
    options, message = DEFECTS[defect]
    with pytest.raises(ImproperlyConfiguredException, match=message):
        BACKENDS[backend](**{"retrieve_user_handler": retrieve_user, "accepted_audiences": [], **options})


@pytest.mark.parametrize("length", [1, 16, 31])
def test_short_secret_works_as_it_always_did(length: int) -> None:
    """PyJWT warns of it each time."""
    auth = JWTAuth[str](retrieve_user_handler=retrieve_user, token_secret="s" * length)
    with pytest.warns(jwt.InsecureKeyLengthWarning, match=f"{length} bytes"):
        token = auth.create_token("user")
    with pytest.warns(jwt.InsecureKeyLengthWarning, match=f"{length} bytes"):
        assert auth.token_cls.decode(token, "s" * length, "HS256").sub == "user"


def test_what_a_provider_will_return_is_not_judged_before_it_does() -> None:
    for given in (provide(WEAK_KEY), lambda _: WEAK_KEY):
        JWTAuth[str](retrieve_user_handler=retrieve_user, key_provider=given, accepted_audiences=[])
