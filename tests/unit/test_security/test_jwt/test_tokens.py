"""Making and verifying tokens, without a connection."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from unittest.mock import AsyncMock, Mock

import jwt
import pytest
import time_machine
from jwt.algorithms import HMACAlgorithm

from litestar.exceptions import ImproperlyConfiguredException, NotAuthorizedException
from litestar.security.jwt import Key, KeyNotFoundException, KeysUnavailableException, Token, UnverifiedToken
from litestar.security.jwt.keys import public_jwk

from .backends import FORGER, PRIVATE_KEYS, SECRET, base64url, is_accepted

NOW = 1_900_000_000
IN_AN_HOUR = datetime.fromtimestamp(NOW + 3600, UTC)
PRIVATE: Any = PRIVATE_KEYS["RS256"]
PUBLIC = PRIVATE.public_key()


@pytest.fixture(autouse=True)
def clock() -> Iterator[time_machine.Traveller]:
    with time_machine.travel(NOW, tick=False) as traveller:
        yield traveller


def signed(payload: Any, **headers: Any) -> str:
    """Sign what PyJWT might refuse to."""
    return jwt.api_jws.encode(json.dumps(payload).encode(), PRIVATE, "RS256", headers={"typ": "JWT", **headers})


def claims(**changed: Any) -> dict[str, Any]:
    values = {"sub": "ann", "exp": NOW + 99, "iat": NOW, **changed}
    return {name: value for name, value in values.items() if value is not None}


@pytest.mark.parametrize("secret", [SECRET, SECRET.encode(), [SECRET]])
@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_secret_signs_and_verifies(algorithm: str, secret: Key) -> None:
    encoded: Any = Token(sub="ann", exp=IN_AN_HOUR).encode(secret, algorithm)
    assert Token.decode(encoded, lambda token: secret, algorithm).sub == "ann"
    assert is_accepted(encoded, secret, algorithm)
    assert is_accepted(encoded.encode(), secret, algorithm)
    assert not is_accepted(encoded, SECRET[::-1], algorithm)


@pytest.mark.parametrize("nothing", [None, b"", "", 5, b"\xff", "é", "\ud800"])
@pytest.mark.parametrize(("key", "algorithm"), [(SECRET, "HS256"), (PUBLIC, "RS256")])
def test_what_is_no_token_is_refused(nothing: Any, key: Key, algorithm: str) -> None:
    assert not is_accepted(nothing, key, algorithm)


@pytest.mark.parametrize(("private", "public", "algorithm"), [(SECRET, SECRET, "HS256"), (PRIVATE, PUBLIC, "RS256")])
def test_claims_survive(private: Key, public: Key, algorithm: str) -> None:
    token = Token(IN_AN_HOUR, "ann", iss="issuer", aud=["a", "b"], jti="1", extras={"role": "admin"})
    token.iat -= timedelta(minutes=1)
    assert Token.decode(token.encode(private, algorithm), public, algorithm, audience="b", issuer="issuer") == token


def test_payload_is_verified_without_options_and_leeway() -> None:
    good, expired = signed(claims()), signed(claims(exp=NOW))
    assert Token.decode_payload(good, PUBLIC, ["RS256"]) == claims()
    for wrong, error in ((expired, jwt.ExpiredSignatureError), (f"{good}==", jwt.DecodeError)):
        assert not is_accepted(wrong, PUBLIC)
        with pytest.raises(error):
            Token.decode_payload(wrong, PUBLIC, ["RS256"])


@dataclass
class OwnToken(Token):
    tenant: str = ""
    level: int = 0

    @classmethod
    def decode_payload(cls, *args: Any, **kwargs: Any) -> Any:
        return {"level": 5, **super().decode_payload(*args, **kwargs)}


def test_claims_become_fields_of_a_subclass_or_else_extras() -> None:
    encoded = signed(claims(tenant="t", x=1, extras={"y": 2}))
    token = OwnToken.decode(encoded, PUBLIC, "RS256")
    assert (token.tenant, token.level, token.extras) == ("t", 5, {"x": 1, "y": 2})
    assert OwnToken.decode(signed(claims(level="7")), PUBLIC, "RS256").level == 7
    assert not is_accepted(signed(claims(tenant=[5])), PUBLIC, token_cls=OwnToken)


SUB, EXP = "sub must be a string with a length greater than 0", "exp value must be a datetime in the future"
IAT = "iat must be a current or past time"
MADE: list[tuple[dict[str, Any], str]] = [
    *(({"sub": ""}, SUB), ({"exp": None}, EXP), ({"iat": 5}, IAT)),
    *(({"exp": datetime.fromtimestamp(NOW + n, UTC)}, message) for n, message in ((-1, EXP), (0, ""))),
    *(({"iat": datetime.fromtimestamp(NOW + n, UTC)}, message) for n, message in ((1, IAT), (0, ""))),
]


@pytest.mark.parametrize(("fields", "message"), MADE)
def test_only_a_token_that_could_be_valid_is_made(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ImproperlyConfiguredException, match=f": {message}$") if message else nullcontext():
        assert Token(**{"sub": "ann", "exp": IN_AN_HOUR, **fields}).sub == "ann"


def test_cause_of_a_refusal_says_what_is_wrong() -> None:
    for encoded, key, algorithm, cause in (
        ("\ud800", SECRET, "HS256", "Malformed token"),
        (signed(claims(exp=1e300)), PUBLIC, "RS256", "'exp' or 'iat' is not a time"),
        (signed(claims(extras=5)), PUBLIC, "RS256", "'extras' is not an object"),
        (signed(claims(sub=None)), PUBLIC, "RS256", 'Token is missing the "sub" claim'),
        (signed(claims()), PUBLIC, "PS256", "Algorithm not accepted"),
    ):
        with pytest.raises(NotAuthorizedException, match=r": Invalid token$") as raised:
            Token.decode(encoded, key, algorithm)
        assert str(raised.value.__cause__) == cause


def test_token_made_while_another_is_decoded_is_judged() -> None:
    class Nested(Token):
        def __post_init__(self) -> None:
            super().__post_init__()
            with pytest.raises(ImproperlyConfiguredException):
                Token(sub="ann", exp=datetime.fromtimestamp(NOW - 99, UTC))

    assert Nested.decode(signed(claims()), PUBLIC, "RS256").sub == "ann"


def test_times_are_whole_seconds_in_utc_or_without_a_zone(clock: time_machine.Traveller) -> None:
    for now in (NOW, NOW + 10):
        clock.move_to(now + 0.5)
        assert Token(sub="ann", exp=IN_AN_HOUR).iat == datetime.fromtimestamp(now, UTC)
    exp = datetime.now().replace(microsecond=5) + timedelta(hours=1)
    assert Token(sub="ann", exp=exp).exp == exp.replace(microsecond=0)
    assert Token(sub="ann", exp=exp.astimezone(timezone(timedelta(hours=9)))).exp.tzinfo is UTC


def test_strict_audience_needs_one_audience() -> None:
    message = "^When using 'strict_audience=True', 'audience' must be a sequence of length 1$"
    for audience in (None, [], ["a", "b"]):
        with pytest.raises(ValueError, match=message):
            Token.decode("x.y.z", SECRET, "HS256", audience=audience, strict_audience=True)
    for only in ("a", ["a"]):
        assert Token.decode(signed(claims(aud="a")), PUBLIC, "RS256", only, strict_audience=True).aud == "a"


def test_key_is_found_by_a_provider() -> None:
    answers: list[Any] = [PUBLIC, PUBLIC, None, [], ()]
    provider = Mock(side_effect=answers)
    encoded: Any = signed(claims(), kid="1")
    assert not is_accepted(encoded, provider, "PS256")
    provider.assert_not_called()
    assert [is_accepted(encoded, provider, ["ES256", "RS256"]) for _ in answers] == [True, True, False, False, False]
    [token] = provider.call_args.args
    assert (token.kid, token.algorithm) == ("1", "RS256")
    assert is_accepted(encoded.encode(), PUBLIC)


def test_errors_of_a_provider_tell_whose_fault_it_is() -> None:
    errors_by_kind: dict[type[Exception], list[Exception]] = {
        NotAuthorizedException: [KeyNotFoundException("x"), LookupError("x"), jwt.PyJWKClientError("x")],
        KeysUnavailableException: [jwt.PyJWKClientConnectionError("x"), ConnectionError("x")],
        ZeroDivisionError: [ZeroDivisionError("x")],
    }
    for expected, error in ((expected, error) for expected, errors in errors_by_kind.items() for error in errors):
        with pytest.raises(expected):
            Token.decode(signed(claims()), Mock(side_effect=error), "RS256")


def test_asynchronous_provider_is_refused() -> None:
    message = ": its provider is asynchronous. Use it as the 'key_provider' of a backend$"
    for provider in (AsyncMock(), Mock(return_value=Mock(spec=Awaitable))):
        with pytest.raises(ImproperlyConfiguredException, match=message):
            Token.decode(signed(claims()), provider, "RS256")


def test_algorithm_that_pyjwt_was_taught_is_left_to_it() -> None:
    class Reversed(HMACAlgorithm):
        def sign(self, msg: bytes, key: Any) -> bytes:
            return super().sign(msg, key)[::-1]

    jwt.register_algorithm("REV", Reversed(Reversed.SHA256))
    try:
        encoded = Token(sub="ann", exp=IN_AN_HOUR).encode(SECRET, "REV")
        assert [is_accepted(encoded, SECRET, name) for name in ("REV", "HS256")] == [True, False]
    finally:
        jwt.unregister_algorithm("REV")


def private_jwk(**members: Any) -> jwt.PyJWK:
    return jwt.PyJWK({**jwt.get_algorithm_by_name("RS256").to_jwk(PRIVATE, as_dict=True), **members})


def test_first_key_signs_and_names_itself_in_the_header() -> None:
    token, jwk = Token(sub="ann", exp=IN_AN_HOUR), private_jwk(kid="mine", alg="RS256")
    encoded = token.encode([jwk, FORGER.private_key], "RS256")
    assert jwt.get_unverified_header(encoded)["kid"] == "mine"
    assert Token.decode(encoded, PUBLIC, "RS256") == token
    headers = {"typ": "at+jwt", "kid": "other"}
    assert jwt.get_unverified_header(token.encode(jwk, "RS256", headers)) == {"alg": "RS256", **headers}
    assert jwt.get_unverified_header(token.encode(SECRET, "HS256", {"x": 1}))["x"] == 1


UNFIT: list[tuple[Any, str]] = [
    *((PUBLIC, "RS256"), (jwt.PyJWK(public_jwk(PRIVATE)), "RS256"), (PRIVATE, "ES256"), (private_jwk(), "RS512")),
    *((SECRET, "RS256"), (PRIVATE, "HS256"), (SECRET, "HS1"), ([], "HS256")),
]


@pytest.mark.parametrize(("key", "algorithm"), UNFIT, ids=range(len(UNFIT)))
def test_what_cannot_sign_is_an_error_of_the_application(key: Any, algorithm: str) -> None:
    with pytest.raises(ImproperlyConfiguredException, match=r": Failed to encode token$"):
        Token(sub="ann", exp=IN_AN_HOUR).encode(key, algorithm)


HEADER = {"alg": "RS256", "kid": "k"}


def unsigned(header: Any, payload: Any = b"{}", signature: str = "AA") -> str:
    parts = (part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, payload))
    return f"{'.'.join(map(base64url, parts))}.{signature}"


HEADERS: list[Any] = [
    *([], b"{", b"[" * 6000, b"\xff", {**HEADER, "x": "y" * 9000}, b"\xef\xbb\xbf{}", b'{"alg": "RS256", "x": NaN}'),
    *(b'{"alg": "RS256", "alg": "RS256"}', {}, {"alg": 5}, {"alg": ""}, {**HEADER, "kid": 5}, {**HEADER, "kid": None}),
    *({**HEADER, "crit": ["exp"]}, {**HEADER, "b64": True}, {**HEADER, "zip": "DEF"}),
]
MALFORMED = [
    *(unsigned(HEADER, signature=foreign * 4 + "AA") for foreign in "+/=! \n"),
    *("", "x", "..", unsigned(HEADER)[:-3], unsigned(HEADER) + ".AA", "=" + unsigned(HEADER)),
    *(unsigned(HEADER, signature=signature) for signature in ("AA=", "AA==", "A A", "é", "AAAAA", "AB", "AAB")),
    *map(unsigned, HEADERS),
]


@pytest.mark.parametrize("encoded", MALFORMED)
def test_malformed_token_is_refused_before_anything_else(encoded: str) -> None:
    for given in (encoded, encoded.encode()):
        with pytest.raises(jwt.InvalidTokenError):
            UnverifiedToken(given)


def test_unverified_token_shows_what_the_token_says() -> None:
    payload = {"iss": "a", "sub": "ann"}
    parameter = "?????~~~~~"  # base64 has other characters for these than base64url
    token = UnverifiedToken(unsigned({**HEADER, "x": {"y": parameter}}, payload))
    assert (token.algorithm, token.kid, token.issuer, token.claims) == ("RS256", "k", "a", payload)
    assert "ann" not in repr(token)
    header: Any = token.header
    header["x"]["y"] = header["alg"] = "changed"
    assert UnverifiedToken(token.encoded).header == token.header == {**HEADER, "x": {"y": parameter}}


def test_claims_are_looked_at_when_asked_for() -> None:
    for payload in (b"", b"x", b"[]", b"[" * 5000, b"\xff", b'{"a": NaN}', b'{"a": "\\ud800"}'):
        token = UnverifiedToken(unsigned(HEADER, payload))
        with pytest.raises(jwt.InvalidTokenError):
            _ = token.issuer
    assert UnverifiedToken(unsigned(HEADER, {"iss": 5})).issuer is None


def test_header_of_8192_characters_is_read() -> None:
    room = 8192 * 3 // 4 - len(json.dumps({**HEADER, "x": ""}))
    token = UnverifiedToken(unsigned({**HEADER, "x": "y" * room}))
    assert (token.kid, token.encoded.index(".")) == ("k", 8192)


def test_padding_may_be_allowed() -> None:
    for encoded in (unsigned(HEADER), unsigned(HEADER, signature="AA=="), unsigned(HEADER).replace(".", "==.", 1)):
        token = UnverifiedToken(encoded, allow_padding=True)
        assert (token.encoded, token.header) == (encoded, HEADER)
    for signature in ("AA=", "AA==="):
        with pytest.raises(jwt.InvalidTokenError):
            UnverifiedToken(unsigned(HEADER, signature=signature), allow_padding=True)
