"""Signing with a private key whose public half is published under the key ID of the tokens."""

from __future__ import annotations

import copy
from dataclasses import FrozenInstanceError, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa

from litestar.exceptions import ImproperlyConfiguredException
from litestar.security.jwt import JWTAuth, JWTCookieAuth, OAuth2PasswordBearerAuth, Token, UnverifiedToken
from litestar.security.jwt.keys import ASYMMETRIC_ALGORITHMS, public_jwk, thumbprint
from litestar.security.jwt.signing import SigningKey
from litestar.security.jwt.well_known import create_jwks_handler

from .backends import ED448_KEY, PRIVATE_KEYS, SECRET, backend, bearer, client_of, pem, private_pem

RSA, EC = PRIVATE_KEYS["RS256"], PRIVATE_KEYS["ES256"]
TOKEN = Token(exp=datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1), sub="ann", extras={"scope": "read"})
KEYS = [pytest.param(key, id=name) for name, key in PRIVATE_KEYS.items() if name != "PS256"]


def private_jwk(key: Any, algorithm: str, **members: Any) -> dict[str, Any]:
    jwk: Any = jwt.get_algorithm_by_name(algorithm).to_jwk(key, as_dict=True)
    return {**{name: value for name, value in jwk.items() if name != "key_ops"}, **members}


@dataclass
class RemoteKey(rsa.RSAPrivateKey):
    """A key that never leaves the device that signs with it."""

    signatures: int = 0

    @property
    def key_size(self) -> int:
        return 2048

    def public_key(self) -> rsa.RSAPublicKey:
        return RSA.public_key()  # type: ignore[no-any-return]

    def sign(self, data: Any, padding: Any, algorithm: Any) -> bytes:
        self.signatures += 1
        return RSA.sign(data, padding, algorithm)  # type: ignore[no-any-return]

    def never(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("This cannot be had")

    decrypt = private_bytes = private_numbers = __copy__ = __deepcopy__ = never


@pytest.mark.parametrize("key", KEYS)
def test_key_id_is_the_thumbprint_in_whatever_form_the_key_comes(key: Any) -> None:
    expected = thumbprint(public_jwk(key))
    algorithm = SigningKey(key).algorithms[0]
    jwk = private_jwk(key, algorithm)
    forms = [key, private_pem(key), private_pem(key).decode(), jwk, jwt.PyJWK({**jwk, "alg": algorithm})]
    for form in forms:
        signing_key = SigningKey(form)
        assert (signing_key.key_id, signing_key.thumbprint) == (expected, expected)
        assert signing_key.public_key == key.public_key()
        token = UnverifiedToken(signing_key.encode(TOKEN))
        assert (token.algorithm, token.kid, token.typ) == (algorithm, expected, "jwt")
        assert Token.decode(token.encoded, jwt.PyJWK(signing_key.jwk), algorithm).sub == "ann"


@pytest.mark.parametrize("algorithm", ASYMMETRIC_ALGORITHMS)
def test_each_algorithm_that_fits_the_key_signs(algorithm: str) -> None:
    by_kind = {"RS": RSA, "PS": RSA, "Ed": PRIVATE_KEYS["EdDSA"], **PRIVATE_KEYS, "Ed448": ED448_KEY}
    key = SigningKey(by_kind.get(algorithm) or by_kind[algorithm[:2]])
    encoded = key.encode(TOKEN, algorithm)
    assert jwt.get_unverified_header(encoded) == {"alg": algorithm, "kid": key.key_id, "typ": "JWT"}
    assert Token.decode(encoded, key, algorithm).sub == "ann"


def test_default_of_the_backends_stands_for_the_first_algorithm() -> None:
    assert JWTAuth.algorithm == "HS256"
    assert [UnverifiedToken(SigningKey(key).encode(TOKEN, "HS256")).algorithm for key in (RSA, EC)] == [
        "RS256",
        "ES256",
    ]


@pytest.mark.parametrize(
    ("given", "key_id", "expected"),
    [
        pytest.param(RSA, "mine", "mine", id="given"),
        pytest.param(private_jwk(RSA, "RS256", kid="theirs"), None, "theirs", id="of-the-jwk"),
        pytest.param(private_jwk(RSA, "RS256", kid="theirs"), "mine", "mine", id="given-over-that-of-the-jwk"),
        pytest.param(jwt.PyJWK(private_jwk(RSA, "RS256", kid="theirs")), None, "theirs", id="of-the-pyjwk"),
    ],
)
def test_key_id_can_be_chosen(given: Any, key_id: str | None, expected: str) -> None:
    key = SigningKey(given, key_id)
    assert (key.key_id, key.jwk["kid"], UnverifiedToken(key.encode(TOKEN)).kid) == (expected, expected, expected)


@pytest.mark.parametrize(
    ("members", "algorithms"),
    [
        pytest.param({"alg": "PS384"}, ("PS384",), id="declared-algorithm"),
        pytest.param({"use": "sig", "key_ops": ["sign"]}, SigningKey(RSA).algorithms, id="for-signing"),
    ],
)
def test_jwk_says_what_the_key_is_for(members: dict[str, Any], algorithms: tuple[str, ...]) -> None:
    assert SigningKey(private_jwk(RSA, "RS256", **members)).algorithms == algorithms


@pytest.mark.parametrize(
    ("key", "message"),
    [
        pytest.param(SECRET, "not a PEM|no PEM|secret", id="secret"),
        pytest.param(pem(RSA), "it is a public key. Pass the private one", id="public-pem"),
        pytest.param(RSA.public_key(), "it is a public key. Pass the private one", id="public-object"),
        pytest.param(public_jwk(RSA), "public or symmetric JWK. Pass the private one", id="public-jwk"),
        pytest.param({"kty": "oct", "k": "AAAA"}, "public or symmetric JWK", id="symmetric-jwk"),
        pytest.param(private_jwk(RSA, "RS256", use="enc"), "not for signatures", id="encryption-jwk"),
        pytest.param(private_jwk(RSA, "RS256", key_ops=["verify"]), "not for signing", id="jwk-for-verifying"),
        pytest.param(private_jwk(RSA, "RS256", key_ops="sign"), "not for signing", id="key-ops-no-list"),
        pytest.param(private_jwk(RSA, "RS256", p=5), "its private members are invalid", id="jwk-with-odd-members"),
        pytest.param(private_jwk(RSA, "RS256", alg="ES256"), "invalid key material", id="misfit"),
        pytest.param(rsa.generate_private_key(65537, 1024), "RSA key of 1024 bits", id="short-rsa-key"),
        pytest.param(ec.generate_private_key(ec.SECP224R1()), "no algorithm takes", id="curve"),
        pytest.param(dsa.generate_private_key(1024), "no algorithm takes", id="dsa"),
        pytest.param(5, "no algorithm takes", id="number"),
    ],
)
def test_refuses_what_does_not_sign(key: Any, message: str) -> None:
    with pytest.raises(ImproperlyConfiguredException, match=message) as raised:
        SigningKey(key)
    assert SECRET not in raised.value.detail


@pytest.mark.parametrize("key_id", [pytest.param("", id="empty"), pytest.param(5, id="number")])
def test_refuses_key_ids_that_are_no_text(key_id: Any) -> None:
    with pytest.raises(ImproperlyConfiguredException, match="Pass a string that is not empty"):
        SigningKey(RSA, key_id)


@pytest.mark.parametrize(
    ("token", "algorithm", "headers", "message"),
    [
        pytest.param(
            TOKEN, "ES256", None, "'algorithm' is 'ES256', and the key .* is for RS256 or PS256", id="algorithm"
        ),
        pytest.param(TOKEN, "none", None, "'algorithm' is 'none'", id="none"),
        pytest.param(TOKEN, "RS256", {"kid": "other"}, "cannot change 'kid'", id="kid"),
        pytest.param(TOKEN, "RS256", {"alg": "RS512"}, "cannot change 'alg'", id="alg"),
        pytest.param(TOKEN, "RS256", {"x": object()}, "not JSON serializable", id="header"),
        pytest.param(Token(TOKEN.exp, "ann", extras={"x": {1, 2}}), "RS256", None, "not JSON serializable", id="claim"),
    ],
)
def test_says_why_a_token_cannot_be_signed(token: Token, algorithm: str, headers: Any, message: str) -> None:
    with pytest.raises(ImproperlyConfiguredException, match=message):
        SigningKey(RSA).encode(token, algorithm, headers)


def test_claims_and_headers_are_those_of_released_tokens() -> None:
    key = SigningKey(RSA, "k")
    released = Token.encode(TOKEN, SECRET, "HS256")
    ours = key.encode(TOKEN, headers={"cty": "x", "typ": "at+jwt", "kid": "k", "alg": "RS256"})
    assert UnverifiedToken(ours).claims == UnverifiedToken(released).claims
    assert UnverifiedToken(ours).header == {"alg": "RS256", "cty": "x", "kid": "k", "typ": "at+jwt"}


@pytest.mark.parametrize("kind", [JWTAuth, JWTCookieAuth, OAuth2PasswordBearerAuth])
def test_backend_issues_and_verifies_with_it(kind: Any) -> None:
    key = SigningKey(EC)
    auth = backend(key, kind, token_secret=key, accepted_audiences="api")
    with client_of(auth, create_jwks_handler(key)) as client:
        token = auth.create_token("ann", token_audience="api")
        assert client.get("/", headers=bearer(token)).text == "ann"
        (jwk,) = client.get("/.well-known/jwks.json").json()["keys"]
    assert jwk == {**key.jwk, "key_ops": ["verify"]}
    assert jwt.decode(token, jwt.PyJWK(jwk), audience="api")["sub"] == "ann"


def test_key_of_another_name_verifies_nothing() -> None:
    key, other = SigningKey(RSA, "a"), SigningKey(RSA, "b")
    auth = backend(key, algorithm="RS256")
    with client_of(auth) as client:
        sent = [client.get("/", headers=bearer(each.encode(TOKEN))).status_code for each in (key, other)]
    assert sent == [200, 401]


def test_object_that_signs_elsewhere_takes_the_place_of_a_key() -> None:
    device: Any = RemoteKey()
    key = SigningKey(device)
    assert key.public_key == RSA.public_key()
    assert Token.decode(key.encode(TOKEN, "PS256"), key, ["PS256", "RS256"]).sub == "ann"
    assert device.signatures == 1
    assert copy.deepcopy(key) is key  # Litestar copies the options of middleware


def test_key_is_frozen_hashable_and_shows_nothing_private() -> None:
    key, same, other = SigningKey(RSA), SigningKey(private_pem(RSA)), SigningKey(EC)
    assert len({key, same, other}) == 2
    assert (key, key) != (same, other)
    with pytest.raises(FrozenInstanceError):
        key.key_id = "x"  # type: ignore[misc]
    assert repr(other) == f"SigningKey(key_id={other.key_id!r}, algorithms=('ES256',), thumbprint={other.thumbprint!r})"
    assert "SigningKey" not in repr(backend(key, token_secret=None))
