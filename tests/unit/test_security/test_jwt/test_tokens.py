"""Making and verifying tokens, without a connection."""

from __future__ import annotations

import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Awaitable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from jwt.algorithms import HMACAlgorithm, get_default_algorithms

from litestar.exceptions import ImproperlyConfiguredException, NotAuthorizedException
from litestar.security.jwt import Key, KeyNotFoundError, KeysUnavailableError, Token, UnverifiedToken
from litestar.security.jwt.keys import (
    ASYMMETRIC_ALGORITHMS,
    SYMMETRIC_ALGORITHMS,
    UnusableKeyError,
    VerificationKey,
    algorithms_of,
)
from litestar.security.jwt.testing import LocalIssuer

SECRET = "a secret that is long enough for any of the HMAC algorithms, even those of 512 bit"
NOW = int(time.time())


@pytest.fixture(scope="module")
def issuer() -> LocalIssuer:
    return LocalIssuer()


def in_an_hour() -> datetime:
    return datetime.now(UTC) + timedelta(hours=1)


def signed(claims: dict[str, Any], **headers: Any) -> str:
    return jwt.encode(claims, SECRET, "HS256", headers=headers)


def private_pem(key: Any) -> bytes:
    return bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def public_pem(key: Any) -> bytes:
    return bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


@pytest.fixture(scope="module")
def private_keys() -> dict[str, Any]:
    rsa_key = rsa.generate_private_key(65537, 2048)
    curves = {"ES256": ec.SECP256R1(), "ES256K": ec.SECP256K1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
    return {
        **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), rsa_key),
        **{name: ec.generate_private_key(curve) for name, curve in curves.items()},
        "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    }


def test_every_algorithm_of_pyjwt_for_signatures_is_known() -> None:
    misspelt = "ES521"  # PyJWT's former name of ES512
    known = set(get_default_algorithms()) - {"none", misspelt}
    assert known == ASYMMETRIC_ALGORITHMS | SYMMETRIC_ALGORITHMS


@pytest.mark.parametrize("form", ["key", "pem", "text", "jwk", "sequence"])
@pytest.mark.parametrize("algorithm", sorted(ASYMMETRIC_ALGORITHMS))
def test_private_key_signs_and_public_key_verifies(algorithm: str, form: str, private_keys: dict[str, Any]) -> None:
    private = private_keys[algorithm]
    public = private.public_key()
    members = jwt.get_algorithm_by_name(algorithm).to_jwk
    private_form, public_form = {
        "key": (private, public),
        "pem": (private_pem(private), public_pem(private)),
        "text": (private_pem(private).decode(), public_pem(private).decode()),
        "jwk": tuple(jwt.PyJWK({**members(key, as_dict=True), "alg": algorithm}) for key in (private, public)),
        "sequence": ([private], [public]),
    }[form]
    encoded = Token(sub="ann", exp=in_an_hour()).encode(private_form, algorithm)
    for key in (public_form, private_form):
        assert Token.decode(encoded, key, algorithm).sub == "ann"
        with pytest.raises(NotAuthorizedException):
            Token.decode(encoded[:-8] + "AAAAAAAA", key, algorithm)


@pytest.mark.parametrize("secret", [SECRET, SECRET.encode(), [SECRET]])
@pytest.mark.parametrize("algorithm", sorted(SYMMETRIC_ALGORITHMS))
def test_secret_signs_and_verifies(algorithm: str, secret: Key) -> None:
    encoded = Token(sub="ann", exp=in_an_hour()).encode(secret, algorithm)
    assert Token.decode(encoded, secret, algorithm).sub == "ann"
    with pytest.raises(NotAuthorizedException):
        Token.decode(encoded, SECRET[::-1], algorithm)


def test_ed448_signs_and_verifies() -> None:
    key = ed448.Ed448PrivateKey.generate()
    assert Token.decode(Token(sub="ann", exp=in_an_hour()).encode(key, "EdDSA"), key.public_key(), "EdDSA").sub == "ann"


def test_openssh_public_key_verifies(private_keys: dict[str, Any]) -> None:
    key = private_keys["EdDSA"]
    line = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    assert Token.decode(Token(sub="ann", exp=in_an_hour()).encode(key, "EdDSA"), line, "EdDSA").sub == "ann"


def test_claims_survive() -> None:
    token = Token(
        sub="ann",
        exp=in_an_hour(),
        iat=datetime.now(UTC) - timedelta(minutes=1),
        iss="issuer",
        aud=["a", "b"],
        jti="1",
        extras={"role": "admin"},
    )
    assert Token.decode(token.encode(SECRET, "HS256"), SECRET, "HS256", audience="b", issuer="issuer") == token


def test_claims_without_a_field_become_extras() -> None:
    @dataclass
    class WithTenant(Token):
        tenant: str = ""

    encoded = signed({"sub": "ann", "exp": NOW + 9999, "iat": NOW, "tenant": "t", "x": 1, "extras": {"y": 2}})
    token = WithTenant.decode(encoded, SECRET, "HS256")
    assert (token.tenant, token.extras) == ("t", {"x": 1, "y": 2})


@pytest.mark.parametrize(
    "wrong",
    [
        {"sub": ""},
        {"sub": None},
        {"sub": 5},
        {"sub": ["ann"]},
        {"exp": None},
        {"exp": "soon"},
        {"exp": NOW - 9},
        {"exp": 1e300},
        {"exp": 10**400},
        {"exp": [NOW]},
        {"exp": {}},
        {"iat": None},
        {"iat": "now"},
        {"iat": NOW + 9999},
        {"nbf": NOW + 9999},
        {"nbf": []},
        {"extras": 5},
        {"extras": [1]},
        {"aud": 5},
        {"iss": 5},
        {"jti": {}},
    ],
)
def test_wrong_claims_are_refused(wrong: dict[str, Any]) -> None:
    claims = {"sub": "ann", "exp": NOW + 9999, "iat": NOW, "x": 1, **wrong}
    encoded = signed_as_is({name: value for name, value in claims.items() if value is not None})
    with pytest.raises(NotAuthorizedException):
        Token.decode(encoded, SECRET, "HS256", audience=None if "aud" not in wrong else "a")


def signed_as_is(claims: Any) -> str:
    """Sign what PyJWT would refuse to."""
    return jwt.api_jws.encode(json.dumps(claims).encode(), SECRET, "HS256", headers={"typ": "JWT"})


@pytest.mark.parametrize("claims", [[], None, "x", 5])
def test_payload_that_is_no_object_is_refused(claims: Any) -> None:
    with pytest.raises(NotAuthorizedException):
        Token.decode(signed_as_is(claims), SECRET, "HS256")


@pytest.mark.parametrize(
    "fields",
    [
        {"sub": ""},
        {"exp": datetime.now(UTC) - timedelta(seconds=3)},
        {"iat": datetime.now(UTC) + timedelta(hours=1)},
        {"exp": None},
        {"iat": 5},
    ],
)
def test_token_that_could_not_be_valid_is_not_made(fields: dict[str, Any]) -> None:
    with pytest.raises(ImproperlyConfiguredException):
        Token(**{"sub": "ann", "exp": in_an_hour(), **fields})


def test_times_without_a_zone_stay_without_one() -> None:
    exp = datetime.now().replace(microsecond=5) + timedelta(hours=1)
    assert Token(sub="ann", exp=exp).exp == exp.replace(microsecond=0)


@pytest.mark.parametrize("ahead", [{"exp": -20}, {"iat": 20}, {"nbf": 20}, {"exp": -20, "iat": 20}])
def test_leeway_lets_clocks_differ(ahead: dict[str, int]) -> None:
    needed, now = 30, int(time.time())
    claims = {name: now + seconds for name, seconds in {"exp": 99, "iat": 0, **ahead}.items()}
    encoded = signed({"sub": "ann", **claims})
    for leeway in (needed, timedelta(seconds=needed)):
        assert Token.decode(encoded, SECRET, "HS256", leeway=leeway).sub == "ann"
    for leeway in (0, timedelta(), 5):
        with pytest.raises(NotAuthorizedException):
            Token.decode(encoded, SECRET, "HS256", leeway=leeway)


def test_time_claims_may_go_unverified() -> None:
    encoded = signed({"sub": "ann", "exp": NOW + 9999, "iat": NOW, "nbf": NOW + 9999})
    assert Token.decode(encoded, SECRET, "HS256", verify_exp=False, verify_nbf=False).sub == "ann"


def test_required_claims_are_required() -> None:
    encoded = signed({"sub": "ann", "exp": NOW + 9999, "iat": NOW})
    with pytest.raises(NotAuthorizedException):
        Token.decode(encoded, SECRET, "HS256", require_claims=["jti"])


@pytest.mark.parametrize(
    ("issuer", "accepted"),
    [("a", True), (["a", "b"], True), (["b"], False), (lambda name: name == "a", True), (lambda name: False, False)],
)
def test_issuer_is_accepted_by_name_or_by_a_function(issuer: Any, accepted: bool) -> None:
    encoded = signed({"sub": "ann", "exp": NOW + 9999, "iat": NOW, "iss": "a"})
    without = signed({"sub": "ann", "exp": NOW + 9999, "iat": NOW})
    if accepted:
        assert Token.decode(encoded, SECRET, "HS256", issuer=issuer).iss == "a"
    for refused in [without] if accepted else [encoded, without]:
        with pytest.raises(NotAuthorizedException):
            Token.decode(refused, SECRET, "HS256", issuer=issuer)


def test_function_that_fails_on_an_issuer_does_not_accept_it() -> None:
    encoded = signed({"sub": "ann", "exp": NOW + 9999, "iat": NOW, "iss": "a"})
    with pytest.raises(NotAuthorizedException):
        Token.decode(encoded, SECRET, "HS256", issuer=lambda name: int(name) > 5)


@pytest.mark.parametrize("algorithm", ["RSA-OAEP", "none", "HS256", "RS1"])
def test_published_key_for_another_algorithm_is_not_used(algorithm: str, issuer: LocalIssuer) -> None:
    with pytest.raises(UnusableKeyError, match="unsupported 'alg'"):
        VerificationKey({**issuer.jwks["keys"][0], "alg": algorithm})


@pytest.mark.parametrize(("audience", "accepted"), [("a", True), (["a"], True), ("b", False)])
def test_strict_audience_takes_one_value(audience: Any, accepted: bool) -> None:
    encoded = signed({"sub": "ann", "exp": NOW + 9999, "iat": NOW, "aud": "a"})
    several = signed({"sub": "ann", "exp": NOW + 9999, "iat": NOW, "aud": ["a"]})
    if accepted:
        assert Token.decode(encoded, SECRET, "HS256", audience=audience, strict_audience=True).aud == "a"
    for refused in [several] if accepted else [encoded, several]:
        with pytest.raises(NotAuthorizedException):
            Token.decode(refused, SECRET, "HS256", audience=audience, strict_audience=True)


@pytest.mark.parametrize("audience", [None, [], ["a", "b"]])
def test_strict_audience_needs_one_audience(audience: Any) -> None:
    with pytest.raises(ValueError, match="length 1"):
        Token.decode("x.y.z", SECRET, "HS256", audience=audience, strict_audience=True)


def test_one_of_several_algorithms_will_do(issuer: LocalIssuer) -> None:
    assert Token.decode(issuer.token(), issuer.public_pem, ["ES256", "RS256"]).sub == "user"
    with pytest.raises(NotAuthorizedException):
        Token.decode(issuer.token(), issuer.public_pem, ["ES256", "PS256"])


@pytest.mark.parametrize("kind", ["object", "pem", "jwk", "set"])
def test_token_signed_with_a_secret_is_refused_by_a_public_key(kind: str, issuer: LocalIssuer) -> None:
    key = {
        "object": issuer.private_key.public_key(),
        "pem": issuer.public_pem,
        "jwk": issuer.pyjwk,
        "set": jwt.PyJWKSet.from_dict(issuer.jwks),
    }[kind]
    encoded = signed({"sub": "ann", "exp": NOW + 9999, "iat": NOW}, kid=issuer.kid)
    with pytest.raises(NotAuthorizedException):
        Token.decode(encoded, key, ["HS256"] if kind == "object" else "RS256")


def test_key_set_is_searched_by_key_id(issuer: LocalIssuer) -> None:
    other = LocalIssuer()
    keys = jwt.PyJWKSet.from_dict({"keys": [*other.jwks["keys"], *issuer.jwks["keys"]]})
    assert Token.decode(issuer.token(), keys, "RS256").sub == "user"
    assert Token.decode(issuer.token(headers={"kid": None}), keys, "RS256").sub == "user"
    for refused in (issuer.token(headers={"kid": "unknown"}), issuer.token(headers={"kid": other.kid})):
        with pytest.raises(NotAuthorizedException):
            Token.decode(refused, keys, "RS256")


def test_key_without_an_id_may_verify_any_token(issuer: LocalIssuer) -> None:
    keys: Key = [LocalIssuer().pyjwk, issuer.public_pem]
    assert Token.decode(issuer.token(headers={"kid": "unknown"}), keys, "RS256").sub == "user"


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "RS512"])
def test_key_that_declares_no_algorithm_takes_that_of_the_token(algorithm: str) -> None:
    issuer = LocalIssuer(algorithm=algorithm, declare_alg=False)
    jwk = jwt.PyJWK({name: value for name, value in issuer.jwks["keys"][0].items() if name != "alg"})
    assert Token.decode(issuer.token(), jwk, algorithm).sub == "user"
    with pytest.raises(NotAuthorizedException):
        Token.decode(issuer.token(), jwk, "ES256")


@pytest.mark.parametrize("members", [{"alg": "RS512"}, {"use": "enc"}, {"key_ops": ["encrypt"]}])
def test_key_for_something_else_verifies_nothing(members: dict[str, Any], issuer: LocalIssuer) -> None:
    with pytest.raises(NotAuthorizedException):
        Token.decode(issuer.token(), jwt.PyJWK({**issuer.jwks["keys"][0], **members}), "RS256")


def test_key_is_found_by_a_function(issuer: LocalIssuer) -> None:
    asked: list[UnverifiedToken] = []

    def provider(token: UnverifiedToken) -> Key:
        asked.append(token)
        return issuer.public_pem

    assert Token.decode(issuer.token(), provider, "RS256").sub == "user"
    assert [token.kid for token in asked] == [issuer.kid]
    with pytest.raises(NotAuthorizedException):
        Token.decode(issuer.token(), provider, "PS256")
    assert len(asked) == 1


def test_provider_is_told_what_need_not_be_verified_again(issuer: LocalIssuer) -> None:
    told: list[set[str]] = []

    def provider(token: UnverifiedToken) -> Key:
        told.append(set(token.checked))
        return issuer.public_pem

    Token.decode(issuer.token(), provider, "RS256")
    Token.decode(issuer.token(), provider, "RS256", issuer=issuer.issuer)
    assert told == [{"alg"}, {"alg", "iss"}]


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (KeyNotFoundError("x"), NotAuthorizedException),
        (LookupError("x"), NotAuthorizedException),
        (jwt.PyJWKClientError("x"), NotAuthorizedException),
        (jwt.PyJWKClientConnectionError("x"), KeysUnavailableError),
        (ConnectionError("x"), KeysUnavailableError),
        (ZeroDivisionError("x"), ZeroDivisionError),
    ],
)
def test_errors_of_a_provider_tell_whose_fault_it_is(
    raised: Exception, expected: type[Exception], issuer: LocalIssuer
) -> None:
    def provider(token: UnverifiedToken) -> Key:
        raise raised

    with pytest.raises(expected):
        Token.decode(issuer.token(), provider, "RS256")


def test_asynchronous_provider_is_refused(issuer: LocalIssuer) -> None:
    async def provider(token: UnverifiedToken) -> Key:
        return issuer.public_pem

    class Later:
        def __await__(self) -> Any:
            return iter(())

    def other(token: UnverifiedToken) -> Awaitable[Key]:
        return Later()

    for given in (provider, other):
        with pytest.raises(ImproperlyConfiguredException, match="await provider"):
            Token.decode(issuer.token(), given, "RS256")


@pytest.mark.parametrize("key", ["not a key", b"\xff", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"])
def test_unusable_key_is_an_error_of_the_application(key: Key, issuer: LocalIssuer) -> None:
    with pytest.raises(ImproperlyConfiguredException, match="cannot be used"):
        Token.decode(issuer.token(), key, "RS256")


def test_weak_and_foreign_keys_are_errors_of_the_application(issuer: LocalIssuer) -> None:
    weak = rsa.generate_private_key(65537, 1024)
    foreign = dsa.generate_private_key(2048)
    exotic = ec.generate_private_key(ec.SECP224R1())
    for key in (weak.public_key(), exotic.public_key(), public_pem(foreign), public_pem(weak)):
        with pytest.raises(ImproperlyConfiguredException):
            Token.decode(issuer.token(), key, "RS256")
    with pytest.raises(UnusableKeyError, match="unsupported kind"):
        algorithms_of(foreign)


def test_pem_is_no_secret_to_verify_with(issuer: LocalIssuer) -> None:
    encoded = signed({"sub": "ann", "exp": NOW + 9999, "iat": NOW})
    with pytest.raises(ImproperlyConfiguredException):
        Token.decode(encoded, issuer.public_pem, "HS256")


def test_algorithm_that_pyjwt_was_taught_is_left_to_it() -> None:
    class Reversed(HMACAlgorithm):
        def sign(self, msg: bytes, key: Any) -> bytes:
            return super().sign(msg, key)[::-1]

    jwt.register_algorithm("REV", Reversed(Reversed.SHA256))
    try:
        encoded = Token(sub="ann", exp=in_an_hour()).encode(SECRET, "REV")
        assert Token.decode(encoded, SECRET, "REV").sub == "ann"
        with pytest.raises(NotAuthorizedException):
            Token.decode(encoded, SECRET, "HS256")
    finally:
        jwt.unregister_algorithm("REV")


def test_key_id_goes_into_the_header(issuer: LocalIssuer) -> None:
    token = Token(sub="ann", exp=in_an_hour())
    members = jwt.get_algorithm_by_name("RS256").to_jwk(issuer.private_key, as_dict=True)
    jwk = jwt.PyJWK({**members, "kid": "my key", "alg": "RS256"})
    assert jwt.get_unverified_header(token.encode(jwk, "RS256"))["kid"] == "my key"
    headers = {"typ": "at+jwt", "kid": "other"}
    assert jwt.get_unverified_header(token.encode(jwk, "RS256", headers)) == {"alg": "RS256", **headers}
    assert jwt.get_unverified_header(token.encode(SECRET, "HS256", {"x": 1}))["x"] == 1


@pytest.mark.parametrize(
    "kind", ["public", "public jwk", "wrong", "wrong jwk", "secret", "key", "unknown", "empty", "claim"]
)
def test_what_cannot_sign_is_an_error_of_the_application(kind: str, issuer: LocalIssuer) -> None:
    token = Token(sub="ann", exp=in_an_hour())
    key, algorithm = {
        "public": (issuer.public_pem, "RS256"),
        "public jwk": (issuer.pyjwk, "RS256"),
        "wrong": (issuer.private_key, "ES256"),
        "wrong jwk": (issuer.pyjwk, "RS512"),
        "secret": (SECRET, "RS256"),
        "key": (issuer.private_key, "HS256"),
        "unknown": (SECRET, "HS1"),
        "empty": ([], "HS256"),
        "claim": (SECRET, "HS256"),
    }[kind]
    if kind == "claim":
        token = replace(token, iss=5)  # type: ignore[arg-type]
        with pytest.raises((ImproperlyConfiguredException, TypeError)):
            token.encode(key, algorithm)  # type: ignore[arg-type]
        return
    with pytest.raises(ImproperlyConfiguredException, match="Failed to encode token"):
        token.encode(key, algorithm)  # type: ignore[arg-type]


def segment(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return urlsafe_b64encode(data).rstrip(b"=").decode()


HEADER = {"alg": "RS256", "kid": "k"}
TWICE = b'{"alg": "RS256", "alg": "RS256"}'
CONSTANT = b'{"alg": "RS256", "x": NaN}'


@pytest.mark.parametrize(
    "encoded",
    [
        "",
        "x",
        "..",
        f"{segment(HEADER)}.{segment({})}",
        f"{segment(HEADER)}.{segment({})}.AA.AA",
        f"{segment(HEADER)}.{segment({})}.AA=",
        f"{segment(HEADER)}.{segment({})}.A A",
        f"{segment(HEADER)}.{segment({})}.é",
        f"{segment(HEADER)}.{segment({})}.AAAAA",
        f"{segment(HEADER)}.{segment({})}.AB",
        f"{segment(HEADER)}.{segment({})}.AAB",
        f"{segment([])}.{segment({})}.AA",
        f"{segment(b'{')}.{segment({})}.AA",
        f"{segment(b'[' * 6000)}.{segment({})}.AA",
        f"{segment(bytes([255]))}.{segment({})}.AA",
        f"{segment({**HEADER, 'x': 'y' * 9000})}.{segment({})}.AA",
        f"{segment(TWICE)}.{segment({})}.AA",
        f"{segment(CONSTANT)}.{segment({})}.AA",
        f"{segment({})}.{segment({})}.AA",
        f"{segment({'alg': 5})}.{segment({})}.AA",
        f"{segment({'alg': ''})}.{segment({})}.AA",
        f"{segment({**HEADER, 'kid': 5})}.{segment({})}.AA",
        f"{segment({**HEADER, 'crit': ['exp']})}.{segment({})}.AA",
        f"{segment({**HEADER, 'b64': True})}.{segment({})}.AA",
        f"{segment({**HEADER, 'zip': 'DEF'})}.{segment({})}.AA",
    ],
)
def test_malformed_token_is_refused_before_anything_else(encoded: str) -> None:
    with pytest.raises(jwt.InvalidTokenError):
        UnverifiedToken(encoded)


def test_unverified_token_shows_what_the_token_says() -> None:
    claims = {"iss": "a", "sub": "ann"}
    token = UnverifiedToken(f"{segment({**HEADER, 'x': 1})}.{segment(claims)}.AA")
    assert (token.algorithm, token.kid, token.issuer, token.claims) == ("RS256", "k", "a", claims)
    assert token.header == {**HEADER, "x": 1}
    assert token.claims is token.claims
    assert "ann" not in repr(token)


@pytest.mark.parametrize("payload", [b"", b"x", b"[]", b"[" * 5000, b"\xff"])
def test_claims_are_looked_at_when_asked_for(payload: bytes) -> None:
    token = UnverifiedToken(f"{segment(HEADER)}.{segment(payload)}.AA")
    with pytest.raises(jwt.InvalidTokenError):
        _ = token.issuer


def test_issuer_that_is_no_string_is_none() -> None:
    assert UnverifiedToken(f"{segment(HEADER)}.{segment({'iss': 5})}.AA").issuer is None


def test_deeply_nested_claims_are_refused() -> None:
    payload = b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    with pytest.raises(NotAuthorizedException):
        Token.decode(jwt.api_jws.encode(payload, SECRET, "HS256"), SECRET, "HS256")


@pytest.mark.parametrize("operations", [["sign"], "verify", 5])
def test_published_key_has_to_be_for_verifying(operations: Any, issuer: LocalIssuer) -> None:
    with pytest.raises(UnusableKeyError, match="not for verifying"):
        VerificationKey({**issuer.jwks["keys"][0], "key_ops": operations})


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_weak_jwk_verifies_nothing() -> None:
    members = jwt.get_algorithm_by_name("RS256").to_jwk(rsa.generate_private_key(65537, 1024), as_dict=True)
    weak = jwt.PyJWK(members)
    encoded = jwt.encode({"sub": "ann", "exp": NOW + 9999, "iat": NOW}, weak.key, "RS256")
    for key in (weak, [weak, LocalIssuer().pyjwk]):
        with pytest.raises(NotAuthorizedException):
            Token.decode(encoded, key, "RS256")


def test_key_of_a_set_does_not_show_its_material(issuer: LocalIssuer) -> None:
    key = VerificationKey(issuer.jwks["keys"][0])
    assert repr(key) == f"VerificationKey(kid={issuer.kid!r}, algorithms=['RS256'])"
