"""``Token.decode`` with several keys or a key provider, and what is left to Litestar's own lines."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import AsyncMock, Mock

import jwt
import pytest
import time_machine
from jwt.algorithms import HMACAlgorithm

from litestar.exceptions import ImproperlyConfiguredException, NotAuthorizedException
from litestar.security.jwt import KeysUnavailableException, Reason, Token, TokenRefused, UnverifiedToken
from litestar.security.jwt.key_set import KeySet, parse_jwk
from litestar.security.jwt.lookup import as_lookup

from .backends import CLAIMS, ED448_KEY, FORGER, ISSUER, OTHER, PRIVATE_KEYS, SECRET, pem, sign

NOW = 1_900_000_000
HEADER = {"alg": "RS256", "typ": "JWT"}


@pytest.fixture(autouse=True)
def clock() -> Iterator[None]:
    with time_machine.travel(NOW, tick=False):
        yield


def signed(header: dict[str, Any] = HEADER, **claims: Any) -> str:
    """Sign with the key of the issuer. A claim that is ``None`` is left out."""
    values = {"sub": "ann", "exp": NOW + 99, "iat": NOW, **claims}
    payload = {name: value for name, value in values.items() if value is not None}
    return sign({**HEADER, **header}, payload, ISSUER.private_key, "RS256")


def reason_for(token: str, key: Any = (ISSUER.key,), algorithm: Any = "RS256", **options: Any) -> Reason | None:
    """Return why a token is refused, ``None`` if it is accepted."""
    try:
        Token.decode(token, key, algorithm, **options)
    except NotAuthorizedException as e:
        assert e.detail == "Invalid token"
        assert isinstance(e.__cause__, TokenRefused)
        return e.__cause__.reason
    return None


@pytest.mark.parametrize(
    "key",
    [
        pytest.param([OTHER.key, ISSUER.key], id="list"),
        pytest.param((pem(OTHER.private_key), pem(ISSUER.private_key)), id="tuple-of-pems"),
        pytest.param(jwt.PyJWKSet([OTHER.jwk, ISSUER.jwk]), id="pyjwkset"),
        pytest.param({"keys": [OTHER.jwk, ISSUER.jwk]}, id="set-as-dict"),
        pytest.param(ISSUER.jwk, id="jwk-as-dict"),
        pytest.param(parse_jwk(ISSUER.jwk), id="verification-key"),
        pytest.param(ISSUER.key_provider, id="provider"),
        pytest.param(lambda token: ISSUER.key_provider, id="provider-of-a-provider"),
        pytest.param(KeySet([parse_jwk(ISSUER.jwk)]).select, id="selection"),
        pytest.param(as_lookup(ISSUER.key_provider, ()), id="lookup"),
    ],
)
def test_keys_and_providers_verify(key: Any) -> None:
    assert Token.decode(ISSUER.token(), key, ["RS256", "ES256"]).sub == "ann"
    assert reason_for(FORGER.token(), key, ["RS256", "ES256"]) is Reason.SIGNATURE
    assert Token.decode(ISSUER.token().encode(), [ISSUER.key], "RS256").sub == "ann"  # type: ignore[arg-type]


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_several_secrets_verify(algorithm: str) -> None:
    token = jwt.encode(CLAIMS, SECRET, algorithm)
    for key in ([SECRET[::-1], SECRET], lambda token: SECRET):
        assert reason_for(token, key, algorithm) is None
        assert reason_for(token, key, "HS256") is (None if algorithm == "HS256" else Reason.ALGORITHM)
    assert reason_for(token, [SECRET[::-1]], algorithm) is Reason.SIGNATURE


@pytest.mark.parametrize(
    ("key", "label", "accepted", "expected"),
    [
        *((PRIVATE_KEYS["EdDSA"], label, "EdDSA", None) for label in ("EdDSA", "Ed25519")),
        *((ED448_KEY, label, "EdDSA", None) for label in ("EdDSA", "Ed448")),
        *((PRIVATE_KEYS["EdDSA"], label, "Ed25519", None) for label in ("EdDSA", "Ed25519")),
        (ED448_KEY, "EdDSA", "Ed25519", Reason.UNKNOWN_KEY),
        (ED448_KEY, "Ed448", "Ed25519", Reason.ALGORITHM),
        (ED448_KEY, "Ed25519", "Ed25519", Reason.UNKNOWN_KEY),
    ],
)
def test_curves_are_names_of_eddsa(key: Any, label: str, accepted: str, expected: Any) -> None:
    token = sign({"alg": label}, CLAIMS, key, "EdDSA")
    assert reason_for(token, lambda token: key, accepted) is expected


@pytest.mark.parametrize(
    ("token", "options", "expected"),
    [
        pytest.param(None, {}, Reason.MALFORMED, id="none"),
        pytest.param("a.b.c.d.e", {}, Reason.ENCRYPTED, id="encrypted"),
        pytest.param(signed({"alg": "PS256"}), {}, Reason.ALGORITHM, id="algorithm"),
        pytest.param(signed({"typ": "logout+jwt"}), {}, Reason.TYPE, id="logout-token"),
        pytest.param(signed(cnf={"jkt": "x"}), {}, Reason.BOUND, id="bound"),
        pytest.param(signed({"kid": "?"}), {}, Reason.UNKNOWN_KEY, id="unknown-key"),
        pytest.param(signed()[:-4] + "AAAA", {}, Reason.SIGNATURE, id="signature"),
        pytest.param(signed(exp=NOW - 29), {}, None, id="expired-within-leeway"),
        pytest.param(signed(exp=NOW - 30), {}, Reason.EXPIRED, id="expired"),
        pytest.param(signed(exp=NOW - 29), {"leeway": 0}, Reason.EXPIRED, id="expired-without-leeway"),
        pytest.param(signed(exp=NOW - 99), {"leeway": timedelta(minutes=2)}, None, id="expired-within-two-minutes"),
        pytest.param(signed(exp=5), {"verify_exp": False}, None, id="long-expired-and-unchecked"),
        pytest.param(signed(nbf=NOW + 31), {}, Reason.NOT_YET_VALID, id="not-yet-valid"),
        pytest.param(signed(nbf=NOW + 31), {"verify_nbf": False}, None, id="not-yet-valid-and-unchecked"),
        pytest.param(signed(aud="a"), {}, None, id="any-audience"),
        pytest.param(signed(aud=["x", "a"]), {"audience": ["a", "b"]}, None, id="one-of-two-audiences"),
        pytest.param(signed(aud="x"), {"audience": "a"}, Reason.AUDIENCE, id="other-audience"),
        pytest.param(signed(aud=["a"]), {"audience": "a", "strict_audience": True}, Reason.AUDIENCE, id="strict"),
        pytest.param(signed(iss="a"), {"issuer": "a"}, None, id="issuer"),
        pytest.param(signed(iss="x"), {"issuer": ["a", "b"]}, Reason.ISSUER, id="other-issuer"),
        pytest.param(signed(), {"require_claims": ["azp"]}, Reason.MISSING_CLAIM, id="missing-claim"),
    ],
)
def test_token_is_verified(token: Any, options: dict[str, Any], expected: Reason | None) -> None:
    assert reason_for(token, **options) is expected


def test_decoded_token_has_the_claims() -> None:
    token = Token.decode(
        signed(iss="a", aud=["x"], jti="1", role="admin", exp=NOW - 5, iat=NOW + 5), [ISSUER.key], "RS256"
    )
    assert (token.sub, token.iss, token.aud, token.jti, token.extras) == ("ann", "a", ["x"], "1", {"role": "admin"})
    assert (token.exp, token.iat) == tuple(datetime.fromtimestamp(NOW + seconds, UTC) for seconds in (-5, 5))


def test_provider_is_called_for_accepted_algorithms_only() -> None:
    provider = Mock(spec=[], return_value=ISSUER.key)
    assert reason_for(signed(), provider, "PS256") is Reason.ALGORITHM
    provider.assert_not_called()
    assert reason_for(signed({"kid": "k"}), provider, ["ES256", "RS256"]) is Reason.UNKNOWN_KEY
    [token] = provider.call_args.args
    assert isinstance(token, UnverifiedToken)
    assert (token.kid, token.algorithm) == ("k", "RS256")


def test_provider_says_whose_fault_it_is() -> None:
    assert reason_for(signed(), Mock(spec=[], return_value=None)) is Reason.UNKNOWN_KEY
    assert reason_for(signed(), Mock(spec=[], side_effect=LookupError)) is Reason.UNKNOWN_KEY
    for error, expected in ((OSError(), KeysUnavailableException), (ZeroDivisionError(), ZeroDivisionError)):
        with pytest.raises(expected):
            Token.decode(signed(), Mock(spec=[], side_effect=error), "RS256")
    providers: list[Any] = [AsyncMock(spec=[]), lambda token, connection: ISSUER.key]
    for provider in providers:
        with pytest.raises(ImproperlyConfiguredException, match=r"asynchronous|takes the connection"):
            Token.decode(signed(), provider, "RS256")


@pytest.mark.parametrize(
    ("key", "algorithm", "message"),
    [
        pytest.param([ISSUER.key], ["RS256", "HS256"], "HMAC and asymmetric algorithms cannot be mixed", id="mixed"),
        pytest.param([OTHER.key], "RS256", "it is a key for ES256, not for RS256", id="ec-key-for-rs256"),
        pytest.param([pem(ISSUER.private_key)], "HS256", "it is a key, or a part of one", id="pem-as-secret"),
        pytest.param([SECRET], "RS256", "it is not a PEM", id="secret-as-key"),
        pytest.param({"keys": []}, "RS256", "it is empty", id="empty-set"),
        pytest.param([ISSUER.key], "none", "A token without a signature proves nothing", id="none"),
        pytest.param([ISSUER.key], "RS1", "Algorithm not supported", id="unknown-algorithm"),
        pytest.param(lambda token: "no key", "RS256", "it is not a PEM", id="provider-of-text"),
    ],
)
def test_unusable_key_is_an_error_of_the_application(key: Any, algorithm: Any, message: str) -> None:
    with pytest.raises(ImproperlyConfiguredException, match=f"The key to verify tokens with cannot be used: {message}"):
        Token.decode(signed(), key, algorithm)


@pytest.mark.parametrize(
    "key",
    [pem(ISSUER.private_key), pem(ISSUER.private_key).decode(), ISSUER.key, ISSUER.private_key.public_key()],
    ids=["pem", "text", "pyjwk", "object"],
)
def test_one_key_is_left_to_litestar(key: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("litestar.security.jwt.decoding.decode_with_keys", Mock(side_effect=AssertionError))
        assert Token.decode(signed({"kid": "?"}), key, "RS256").sub == "ann"
    with pytest.raises(
        ValueError, match=r"^'leeway' needs a key provider or a sequence of keys\. Pass \[key\] as 'secret'$"
    ):
        Token.decode(signed(), key, "RS256", leeway=5)
    for algorithms in (["RS256"], ("RS256", "ES256"), {"RS256"}):
        with pytest.raises(ValueError, match=r"^Several algorithms need a key provider or a sequence of keys"):
            Token.decode(signed(), key, algorithms)  # type: ignore[arg-type]


@pytest.mark.parametrize("leeway", [float("nan"), float("inf"), 1e300, -1, 601, timedelta.max, True, "5"], ids=repr)
def test_leeway_is_between_0_and_600_seconds(leeway: Any) -> None:
    with pytest.raises(ValueError, match="Pass 0 to 600 seconds"):
        Token.decode(signed(exp=5), [ISSUER.key], "RS256", leeway=leeway)


@pytest.mark.parametrize("audience", [None, [], "", ["a", "b"]])
def test_strict_audience_needs_one_audience(audience: Any) -> None:
    with pytest.raises(ValueError, match=r"^'strict_audience' needs exactly one 'audience'$"):
        Token.decode(signed(aud="a"), [ISSUER.key], "RS256", audience, strict_audience=True)


def test_algorithm_of_the_application_is_used() -> None:
    class Reversed(HMACAlgorithm):
        def sign(self, msg: bytes, key: Any) -> bytes:
            return super().sign(msg, key)[::-1]

    jwt.register_algorithm("REV", Reversed(Reversed.SHA256))
    try:
        token = jwt.encode(CLAIMS, SECRET, "REV")
        assert reason_for(token, [SECRET], "REV") is None
        assert reason_for(token, [SECRET], ["HS256"]) is Reason.ALGORITHM
        assert reason_for(sign({"alg": "REV"}, CLAIMS, SECRET, "HS256"), [SECRET], "REV") is Reason.SIGNATURE
    finally:
        jwt.unregister_algorithm("REV")
