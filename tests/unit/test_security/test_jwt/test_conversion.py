"""From verified claims to an instance of a token class: overrides, times, and claims that do not fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

import jwt
import pytest
import time_machine

from litestar.exceptions import (
    ImproperlyConfiguredException,
    NotAuthorizedException,
    NotFoundException,
    PermissionDeniedException,
)
from litestar.security.jwt import Reason, Token, TokenRefused
from litestar.security.jwt.claims import ClaimRules
from litestar.security.jwt.conversion import overrides, to_token
from litestar.security.jwt.key_set import parse_jwk
from litestar.security.jwt.keys import public_jwk
from litestar.security.jwt.unverified import UnverifiedToken

from .backends import ISSUER, Issuer, sign

NOW = 1_900_000_000
LATER = datetime.fromtimestamp(NOW + 3600, UTC)
# What Microsoft Entra ID, Keycloak and Auth0 call the user.
USER_CLAIMS = ("oid", "preferred_username", "email")


@pytest.fixture(autouse=True)
def clock() -> Iterator[None]:
    with time_machine.travel(NOW, tick=False):
        yield


def convert(token_cls: Any, issuer: Issuer = ISSUER, options: Any = (), token: Any = None, **claims: Any) -> Any:
    """Make an instance of a token class from claims. Those that are ``None`` are left out."""
    arguments: dict[str, Any] = {"rules": ClaimRules(), "audiences": (), "strict_audience": False, **dict(options)}
    return to_token(token_cls, token or UnverifiedToken(issuer.token(**claims)), parse_jwk(issuer.jwk), **arguments)


def refusal_of(token_cls: Any, **claims: Any) -> TokenRefused:
    with pytest.raises(TokenRefused) as raised:
        convert(token_cls, **claims)
    return raised.value


@dataclass
class TenantToken(Token):
    tenant: str = ""
    level: int = 0
    nested: dict[str, int] = field(default_factory=dict)


def test_claims_become_fields_or_else_extras() -> None:
    token = convert(TenantToken, tenant="t", level="7", aud=["a", "b"], jti="j", x=1)
    assert (token.tenant, token.level, token.aud, token.jti, token.iss) == ("t", 7, ["a", "b"], "j", ISSUER.name)
    assert token.extras == {"x": 1}
    assert (token.exp, token.iat) == (LATER, datetime.fromtimestamp(NOW, UTC))


@pytest.mark.parametrize("extras", [{"scope": "admin"}, 5, None, "x", []], ids=repr)
def test_claim_named_extras_is_an_ordinary_claim(extras: Any) -> None:
    claims = {"sub": "ann", "iat": 1, "exp": NOW + 9, "extras": extras}
    made = convert(Token, token=UnverifiedToken(sign({"alg": "RS256"}, claims, ISSUER.private_key, "RS256")))
    assert made.extras == {"extras": extras}
    assert replace(made).extras == made.extras
    assert "scope" not in made.extras


def test_each_token_has_claims_of_its_own() -> None:
    parsed = UnverifiedToken(ISSUER.token(roles=["user"]))
    made = [convert(Token, token=parsed) for _ in range(2)]
    made[0].extras["x"] = 1
    assert made[1].extras == {"roles": ["user"]}


@pytest.mark.parametrize(
    ("exp", "iat"), [(NOW - 20, NOW - 60), (NOW + 9, NOW + 20), (NOW - 5, NOW + 5), (5, 1), (NOW, NOW)]
)
def test_times_within_the_leeway_stay_the_real_ones(exp: int, iat: int) -> None:
    seen: list[Any] = []

    @dataclass
    class Watching(Token):
        def __post_init__(self) -> None:
            seen.append((self.exp, self.iat))
            super().__post_init__()

    token = convert(Watching, exp=exp + 0.75, iat=iat)
    assert (token.exp, token.iat) == (datetime.fromtimestamp(exp, UTC), datetime.fromtimestamp(iat, UTC))
    now = datetime.fromtimestamp(NOW, UTC)
    assert seen[0][0] >= now >= seen[0][1]
    if exp < NOW:
        with pytest.raises(ImproperlyConfiguredException, match="exp"):
            replace(token)


def test_token_made_meanwhile_is_checked() -> None:
    class Nesting(Token):
        def __post_init__(self) -> None:
            super().__post_init__()
            with pytest.raises(ImproperlyConfiguredException):
                Token(sub="ann", exp=datetime.fromtimestamp(NOW - 99, UTC))

    assert convert(Nesting, exp=NOW - 9).sub == "ann"


@pytest.mark.parametrize(
    ("claims", "reason", "subject", "expected"),
    [
        pytest.param(
            {"sub": None}, Reason.MISSING_CLAIM, "sub", "a 'sub' claim, or a token class that adds one", id="no-sub"
        ),
        pytest.param(
            {"exp": None}, Reason.MISSING_CLAIM, "exp", "a 'exp' claim, or a token class that adds one", id="no-exp"
        ),
        pytest.param(
            {"iat": None}, Reason.MISSING_CLAIM, "iat", "a 'iat' claim, or a token class that adds one", id="no-iat"
        ),
        pytest.param({"sub": 5}, Reason.INVALID_CLAIM, "sub", "a string", id="numeric-sub"),
        pytest.param({"sub": ["a"]}, Reason.INVALID_CLAIM, "sub", "a string", id="list-as-sub"),
        pytest.param({"sub": ""}, Reason.INVALID_CLAIM, "sub", "a string that is not empty", id="empty-sub"),
    ],
)
def test_claims_that_every_token_needs(claims: dict[str, Any], reason: Reason, subject: str, expected: str) -> None:
    refused = refusal_of(Token, **claims)
    assert (refused.reason, refused.subject) == (reason, subject)
    assert refused.expected == expected


class FromUserClaim(Token):
    """Takes the subject from another claim, and adds times where there are none."""

    @classmethod
    def decode_payload(cls, *args: Any, **kwargs: Any) -> Any:
        claims: dict[str, Any] = super().decode_payload(*args, **kwargs)
        user = next((claims[name] for name in USER_CLAIMS if name in claims), claims.get("sub"))
        return {"iat": 5, "exp": NOW + 9, **claims, "sub": user}


def test_override_of_decode_payload_adds_and_renames_claims() -> None:
    token = convert(FromUserClaim, sub=None, exp=None, iat=None, oid="u1", aud="other", nbf=NOW + 99)
    assert (token.sub, token.iat, token.extras["oid"]) == ("u1", datetime.fromtimestamp(5, UTC), "u1")
    assert convert(FromUserClaim, sub=7, email="e").sub == "e"
    assert convert(FromUserClaim, exp=NOW - 9).exp == datetime.fromtimestamp(NOW - 9, UTC)  # expiry is checked before
    assert refusal_of(FromUserClaim, sub=None).subject == "sub"
    assert refusal_of(FromUserClaim, sub=7).subject == "FromUserClaim.sub"


@pytest.mark.parametrize("algorithm", ["RS256", "ES384", "EdDSA", "Ed25519"])
def test_overrides_get_what_has_been_verified(algorithm: str) -> None:
    known_name = "EdDSA" if algorithm == "Ed25519" else algorithm
    issuer, calls = Issuer("https://c.test", known_name), list[dict[str, Any]]()

    class Watching(Token):
        @classmethod
        def decode_payload(cls, *args: Any, **kwargs: Any) -> Any:
            calls.append(kwargs)
            return super().decode_payload(**kwargs)

    token = UnverifiedToken(issuer.token(headers={"alg": algorithm}))
    convert(Watching, issuer, {"rules": ClaimRules(issuers=(issuer.name,)), "audiences": ("api",)}, token)
    [call] = calls
    assert (call["algorithms"], call["issuer"], call["audience"]) == ([algorithm], [issuer.name], ["api"])
    assert call["encoded_token"] == token.encoded
    assert public_jwk(getattr(call["secret"], "key", call["secret"])) == public_jwk(issuer.private_key)
    checked = ("verify_exp", "verify_nbf", "verify_iat", "verify_aud", "verify_iss", "verify_sub")
    assert call["options"] == dict.fromkeys(checked, False)


def test_override_of_decode_gets_what_has_been_verified() -> None:
    calls: list[dict[str, Any]] = []

    @dataclass
    class Decoding(Token):
        tenant: str = ""

        @classmethod
        def decode(cls, *args: Any, **kwargs: Any) -> Any:
            calls.append(kwargs)
            token = super().decode(**kwargs)
            token.tenant = "t"
            return token

    options = {
        "rules": ClaimRules(issuers=(ISSUER.name,), required=("azp",)),
        "audiences": ("api",),
        "strict_audience": True,
    }
    assert convert(Decoding, options=options, azp="x").tenant == "t"
    expected = {"audience": ["api"], "issuer": [ISSUER.name], "require_claims": ["azp"], "strict_audience": True}
    call = calls[0]
    assert {name: call[name] for name in expected} == expected
    assert (call["algorithm"], call["verify_exp"], call["verify_nbf"]) == ("RS256", False, False)
    assert convert(Decoding, options={"through_decode": False}).tenant == ""
    assert len(calls) == 1
    convert(Decoding)
    assert (calls[1]["audience"], calls[1]["issuer"], calls[1]["require_claims"]) == (None, None, None)


def test_overrides_are_recognized() -> None:
    class Inheriting(FromUserClaim):
        pass

    assert [overrides(cls, "decode_payload") for cls in (Token, TenantToken, FromUserClaim, Inheriting)] == [
        False,
        False,
        True,
        True,
    ]
    assert not overrides(FromUserClaim, "decode")


def raising(error: Exception, method: str = "decode_payload") -> Any:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise error

    return dataclass(type("Raising", (Token,), {method: fail if method == "__post_init__" else classmethod(fail)}))


@pytest.mark.parametrize("method", ["decode_payload", "decode", "__post_init__"])
@pytest.mark.parametrize(
    "error",
    [
        ImproperlyConfiguredException("x"),
        NotAuthorizedException("x"),
        jwt.InvalidTokenError("x"),
        *(kind("x") for kind in (KeyError, ValueError, TypeError, AttributeError, ArithmeticError, RecursionError)),
    ],
    ids=lambda error: type(error).__name__,
)
def test_class_that_cannot_use_the_claims_refuses_the_token(error: Exception, method: str) -> None:
    refused = refusal_of(raising(error, method))
    assert (refused.reason, refused.subject) == (Reason.CLAIMS, "Raising")


@pytest.mark.parametrize("method", ["decode_payload", "decode"])
@pytest.mark.parametrize(
    "error", [NotFoundException("x"), PermissionDeniedException("x"), OSError("x"), AssertionError("x")], ids=repr
)
def test_other_errors_of_a_class_are_its_own(error: Exception, method: str) -> None:
    with pytest.raises(type(error)):
        convert(raising(error, method))


def test_override_has_to_return_a_dict() -> None:
    cls = type("Wrong", (Token,), {"decode_payload": classmethod(lambda cls, **kwargs: None)})
    refused = refusal_of(cls)
    assert (refused.reason, refused.expected) == (Reason.CLAIMS, "'decode_payload' to return a dict")


@pytest.mark.parametrize("value", ["x", [], 1e300, -1e300, 10**400, float("nan"), {}], ids=lambda value: str(value)[:9])
def test_override_may_return_times_that_are_none(value: Any) -> None:
    cls = type(
        "Wrong", (Token,), {"decode_payload": classmethod(lambda cls, **kwargs: {"sub": "a", "iat": 1, "exp": value})}
    )
    refused = refusal_of(cls)
    assert (refused.reason, refused.subject) == (Reason.INVALID_CLAIM, "exp")


@dataclass(kw_only=True)
class Required(Token):
    tenant: str


@dataclass
class Typed(Token):
    literal: Literal["admin"] | None = None
    number: int = 0
    required: Required | None = None
    by_name: dict[str, int] = field(default_factory=dict)


@pytest.mark.parametrize(
    ("token_cls", "claims", "subject"),
    [
        pytest.param(Typed, {"literal": "canary"}, "Typed.literal", id="literal"),
        pytest.param(Typed, {"number": {"canary": 1}}, "Typed.number", id="object-as-number"),
        pytest.param(Typed, {"number": ["canary"]}, "Typed.number", id="list-as-number"),
        pytest.param(Typed, {"required": {"canary": 1}}, "Typed.required", id="nested"),
        pytest.param(Typed, {"by_name": {"canary": "canary"}}, "Typed.by_name", id="member"),
        pytest.param(Required, {"tenant": ["canary"]}, "Required.tenant", id="list-as-text"),
        pytest.param(Required, {}, "Required", id="missing"),
        pytest.param(Token, {"aud": 5}, "Token.aud", id="number-as-audience"),
    ],
)
def test_class_and_field_that_do_not_fit_are_named(token_cls: Any, claims: dict[str, Any], subject: str) -> None:
    refused = refusal_of(token_cls, **claims)
    assert (refused.reason, refused.subject) == (Reason.CLAIMS, subject)
    assert "canary" not in str(refused)


def test_subject_may_be_empty_for_a_class_with_rules_of_its_own() -> None:
    @dataclass
    class Anonymous(Token):
        def __post_init__(self) -> None:
            pass

    assert convert(Anonymous, sub="").sub == ""


def test_override_refuses_a_token_for_a_reason_of_its_own() -> None:
    class Own(Token):
        @classmethod
        def decode_payload(cls, *args: Any, **kwargs: Any) -> Any:
            raise TokenRefused(Reason.EXPIRED)

    assert refusal_of(Own).reason is Reason.EXPIRED
