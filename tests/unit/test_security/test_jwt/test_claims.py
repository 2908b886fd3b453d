"""The registered claims: each rule, and that no rule is looser than PyJWT's."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import jwt
import pytest
import time_machine

from litestar.security.jwt.claims import (
    ClaimRules,
    parse_leeway,
    verify_audience,
    verify_claims,
    verify_issuer_of_mapping,
    verify_kind,
)
from litestar.security.jwt.refusals import Reason, TokenRefused
from litestar.security.jwt.unverified import UnverifiedToken

from .backends import compact

NOW = 1_900_000_000
FAR = 253_402_300_799  # the last second of the year 9999
MICROSOFT = "https://login.microsoftonline.com/{tenantid}/v2.0"


def refusal(check: Callable[..., Any], *args: Any, **options: Any) -> tuple[Reason, str | None] | None:
    """Return why a check refuses a token: the reason, and what it is about."""
    try:
        check(*args, **options)
    except TokenRefused as e:
        return e.reason, e.subject
    return None


def invalid(name: str) -> tuple[Reason, str]:
    return Reason.INVALID_CLAIM, name


def missing(name: str) -> tuple[Reason, str]:
    return Reason.MISSING_CLAIM, name


TIMES = ("exp", "nbf", "iat")
NO_TIMES: list[Any] = [None, "1796082706", "x", True, False, [], {}, float("nan"), -1, FAR + 1, 1e300, 10**400]
BOUND: list[Any] = [{"jkt": "x"}, {"x5t#S256": "x"}, {}, "", 0, False, []]
EXPIRED, EARLY, FUTURE = (Reason.EXPIRED, None), (Reason.NOT_YET_VALID, None), (Reason.ISSUED_IN_FUTURE, None)


@pytest.mark.parametrize(
    ("claims", "leeway", "expected"),
    [
        pytest.param({}, 0, None, id="nothing"),
        pytest.param({"exp": NOW + 1, "nbf": NOW, "iat": NOW}, 0, None, id="valid-now"),
        pytest.param({"exp": NOW}, 0, EXPIRED, id="expires-now"),
        pytest.param({"exp": NOW + 0.9}, 0, EXPIRED, id="expires-in-a-fraction"),
        pytest.param({"exp": NOW - 29}, 30, None, id="expired-within-leeway"),
        pytest.param({"exp": NOW - 30}, 30, EXPIRED, id="expired-beyond-leeway"),
        pytest.param({"nbf": NOW + 1}, 0, EARLY, id="not-yet-valid"),
        pytest.param({"nbf": NOW + 30}, 30, None, id="not-yet-valid-within-leeway"),
        pytest.param({"nbf": NOW + 31}, 30, EARLY, id="not-yet-valid-beyond-leeway"),
        pytest.param({"iat": NOW + 1}, 0, FUTURE, id="issued-in-future"),
        pytest.param({"iat": NOW + 30}, 30, None, id="issued-in-future-within-leeway"),
        pytest.param({"iat": NOW + 31}, 30, FUTURE, id="issued-in-future-beyond-leeway"),
        pytest.param({"exp": FAR, "iat": 0, "nbf": 0}, 0, None, id="widest"),
        *(
            pytest.param({name: value}, 600, invalid(name), id=f"{name}-{str(value)[:9]}")
            for name in TIMES
            for value in NO_TIMES
        ),
    ],
)
def test_times(claims: dict[str, Any], leeway: float, expected: Any) -> None:
    assert refusal(verify_claims, claims, ClaimRules(leeway=leeway), NOW) == expected


def test_milliseconds_are_explained() -> None:
    with pytest.raises(TokenRefused, match=r"^invalid claim exp \(expected: seconds, not milliseconds, since 1970\)$"):
        verify_claims({"exp": NOW * 1000}, ClaimRules(), NOW)


def test_expiry_and_start_may_be_left_unchecked() -> None:
    rules = ClaimRules(verify_expiry=False, verify_not_before=False)
    assert refusal(verify_claims, {"exp": 5, "nbf": NOW + 5}, rules, NOW) is None
    assert refusal(verify_claims, {"exp": "5"}, rules, NOW) == invalid("exp")
    assert refusal(verify_claims, {"iat": NOW + 5}, rules, NOW) == FUTURE


@pytest.mark.parametrize(
    ("claims", "rules", "expected"),
    [
        pytest.param({"azp": "x"}, {"required": ("azp",)}, None, id="required"),
        pytest.param({"azp": 0}, {"required": ("azp",)}, None, id="required-and-falsy"),
        pytest.param({}, {"required": ("azp",)}, missing("azp"), id="missing"),
        pytest.param({"azp": None}, {"required": ("azp",)}, missing("azp"), id="null"),
        pytest.param({"exp": "x"}, {"required": ("azp",)}, missing("azp"), id="missing-before-invalid"),
        pytest.param({"iss": 5}, {}, invalid("iss"), id="iss-is-a-number"),
        pytest.param({"jti": 5}, {}, invalid("jti"), id="jti-is-a-number"),
        pytest.param({"iss": None}, {}, invalid("iss"), id="iss-is-null"),
        pytest.param({"jti": None}, {}, invalid("jti"), id="jti-is-null"),
        pytest.param({"iss": "a"}, {"issuers": ("a", "b")}, None, id="issuer"),
        pytest.param({"iss": "c"}, {"issuers": ("a", "b")}, (Reason.ISSUER, None), id="other-issuer"),
        pytest.param({"iss": "a/"}, {"issuers": ("a",)}, (Reason.ISSUER, None), id="issuer-with-a-slash"),
        pytest.param({"iss": ["a"]}, {"issuers": ("a",)}, invalid("iss"), id="list-of-issuers"),
        pytest.param({}, {"issuers": ("a",)}, missing("iss"), id="no-issuer"),
        pytest.param({"iss": "a"}, {"issuers": ()}, (Reason.ISSUER, None), id="none-to-accept"),
    ],
)
def test_required_claims_and_issuers(claims: dict[str, Any], rules: dict[str, Any], expected: Any) -> None:
    assert refusal(verify_claims, claims, ClaimRules(**rules), NOW) == expected


@pytest.mark.parametrize(
    ("aud", "strict", "expected"),
    [
        pytest.param("api", False, None, id="text"),
        pytest.param(["x", "api"], False, None, id="list"),
        pytest.param("ap", False, (Reason.AUDIENCE, None), id="part"),
        pytest.param(["x"], False, (Reason.AUDIENCE, None), id="other"),
        pytest.param([], False, (Reason.AUDIENCE, None), id="empty-list"),
        pytest.param("", False, (Reason.AUDIENCE, None), id="empty"),
        pytest.param(None, False, missing("aud"), id="null"),
        pytest.param(5, False, invalid("aud"), id="number"),
        pytest.param(["api", 5], False, invalid("aud"), id="list-with-a-number"),
        pytest.param({"api": 1}, False, invalid("aud"), id="object"),
        pytest.param("api", True, None, id="strict"),
        pytest.param(["api"], True, (Reason.AUDIENCE, None), id="strict-and-a-list"),
    ],
)
def test_audience(aud: Any, strict: bool, expected: Any) -> None:
    assert refusal(verify_audience, {"aud": aud}, ("api", "other"), strict=strict) == expected
    if aud is None:
        assert refusal(verify_audience, {}, ("api",), strict=strict) == missing("aud")


def test_refusal_says_what_is_accepted_and_what_came() -> None:
    with pytest.raises(TokenRefused) as raised:
        verify_audience({"aud": ["x"]}, ("a", "b"), strict=False)
    assert (raised.value.expected, raised.value.received) == ("a or b", "['x']")
    with pytest.raises(TokenRefused) as raised:
        verify_claims({"iss": "x"}, ClaimRules(issuers=("a", "b")), NOW)
    assert (raised.value.expected, raised.value.received) == ("a or b", "'x'")


@pytest.mark.parametrize(
    ("header", "claims", "types", "accept_bound", "expected"),
    [
        pytest.param({}, {}, None, False, None, id="plain"),
        pytest.param({"typ": "JWT"}, {}, None, False, None, id="jwt"),
        pytest.param({"typ": 5}, {}, None, False, None, id="number"),
        *(
            pytest.param({"typ": typ}, {}, None, False, Reason.TYPE, id=typ)
            for typ in ("logout+jwt", "secevent+jwt", "dpop+jwt", "DPoP+JWT", "application/logout+jwt")
        ),
        pytest.param({"typ": "at+jwt"}, {}, {"at+jwt"}, False, None, id="accepted-type"),
        pytest.param({"typ": "Application/AT+JWT"}, {}, {"at+jwt"}, False, None, id="accepted-in-other-words"),
        pytest.param({"typ": "JWT"}, {}, {"at+jwt"}, False, Reason.TYPE, id="other-type"),
        pytest.param({}, {}, {"at+jwt"}, False, Reason.TYPE, id="no-type"),
        pytest.param({"typ": "logout+jwt"}, {}, {"logout+jwt"}, False, None, id="logout-token-where-accepted"),
        *(pytest.param({}, {"cnf": cnf}, None, False, Reason.BOUND, id=f"bound-{cnf}") for cnf in BOUND),
        pytest.param({}, {"cnf": None}, None, False, None, id="null-binds-nothing"),
        pytest.param({}, {"cnf": {"jkt": "x"}}, None, True, None, id="bound-and-accepted"),
    ],
)
def test_kind_of_token(header: Any, claims: Any, types: Any, accept_bound: bool, expected: Any) -> None:
    token = UnverifiedToken(compact({"alg": "RS256", **header}, claims))
    refused = refusal(verify_kind, token, types, accept_bound=accept_bound)
    assert refused == (None if expected is None else (expected, None))


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        pytest.param({"iss": "https://a.test"}, "https://a.test", id="name"),
        pytest.param({"iss": MICROSOFT.replace("{tenantid}", "t"), "tid": "t"}, MICROSOFT, id="tenant"),
        pytest.param({"iss": MICROSOFT.replace("{tenantid}", "t"), "tid": "u"}, None, id="other-tenant"),
        pytest.param({"iss": "https://c.test"}, None, id="unknown"),
        pytest.param({}, None, id="none"),
    ],
)
def test_issuer_is_found_in_a_mapping(claims: dict[str, Any], name: str | None) -> None:
    token = UnverifiedToken(compact({"alg": "RS256"}, claims))
    issuers = ["https://a.test", MICROSOFT]
    if name is not None:
        assert verify_issuer_of_mapping(token, issuers) == name
    else:
        assert refusal(verify_issuer_of_mapping, token, issuers) == (Reason.ISSUER, None)


@pytest.mark.parametrize(("value", "seconds"), [(0, 0), (600, 600), (1.5, 1.5), (timedelta(minutes=10), 600)])
def test_leeway_is_a_number_of_seconds(value: Any, seconds: float) -> None:
    assert parse_leeway(value) == seconds


@pytest.mark.parametrize(
    "value",
    [-1, 601, 1e300, float("nan"), float("inf"), "5", True, False, None, timedelta.max, timedelta(seconds=-1)],
    ids=repr,
)
def test_other_leeway_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^'leeway' is .*\. Pass 0 to 600 seconds, or a timedelta$"):
        parse_leeway(value)


# Where the rules are stricter than PyJWT's: the name of the rule, and the values of a claim that it refuses.
def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


STRICTER: dict[str, Callable[[dict[str, Any]], bool]] = {
    "times are numbers, and no texts or booleans": lambda c: any(not is_number(c[n]) for n in TIMES if n in c),
    "times are between 1970 and 9999": lambda c: any(is_number(c.get(n)) and not 0 <= c[n] <= FAR for n in TIMES),
    "fractions of a second count for 'nbf' and 'iat'": lambda c: any(
        isinstance(c.get(n), float) for n in ("nbf", "iat")
    ),
    "'iss' is a text even if any issuer is accepted": lambda c: not isinstance(c.get("iss", ""), str),
}
AROUND_NOW = [NOW + seconds for seconds in (-3600, -31, -30, -29, -1, 0, 1, 29, 30, 31, 3600)]
TIME_VALUES: list[Any] = [
    *AROUND_NOW,
    *(value + 0.75 for value in AROUND_NOW),
    *(None, True, False, 0, -1, -0.5, FAR, FAR + 1, 1e300, 10**400, "x", "", str(NOW), f" {NOW + 40} ", [], [NOW], {}),
]
NAMES: list[Any] = [None, "", "a", "b", "ab", 5, True, ["a"], ["b", "a"], [], ["a", 5], {"a": 1}, [None]]
VALUES: dict[str, list[Any]] = {
    **dict.fromkeys(TIMES, TIME_VALUES),
    "iss": NAMES,
    "aud": NAMES,
    "azp": NAMES,
    "jti": [None, "x", 5],
}


def random_case(generator: random.Random) -> tuple[dict[str, Any], dict[str, Any]]:
    """Make claims, most of them valid, and options."""
    claims: dict[str, Any] = {"sub": "ann", "exp": NOW + 3600, "iat": NOW - 60, "iss": "a", "aud": "a"}
    for name in generator.sample(sorted(VALUES), generator.choice([0, 1, 1, 2, 3])):
        claims[name] = generator.choice(VALUES[name])
    for name in generator.sample(sorted(claims), generator.choice([0, 0, 0, 1])):
        del claims[name]
    options = {
        "leeway": generator.choice([0, 0.5, 30]),
        "audiences": generator.choice([(), ("a",), ("a", "x"), ("x",)]),
        "issuers": generator.choice([None, ("a",), ("a", "b"), ("x",)]),
        "required": generator.choice([(), (), ("azp",), ("exp", "iat")]),
        "verify_expiry": generator.random() < 0.8,
        "verify_not_before": generator.random() < 0.8,
        "strict": generator.random() < 0.2,
    }
    return claims, options


def accepts(token: UnverifiedToken, audiences: Any, strict: bool, **rules: Any) -> bool:
    try:
        verify_claims(token.claims, ClaimRules(**rules), NOW + 0.5)
        if audiences:
            verify_audience(token.claims, audiences, strict=strict and len(audiences) == 1)
    except TokenRefused:
        return False
    return True


def pyjwt_accepts(token: UnverifiedToken, audiences: Any, strict: bool, **rules: Any) -> bool:
    options: Any = {
        **dict.fromkeys(("verify_signature", "verify_sub"), False),
        **dict.fromkeys(("verify_iat", "verify_jti"), True),
        "verify_aud": bool(audiences),
        "verify_iss": rules["issuers"] is not None,
        "verify_exp": rules["verify_expiry"],
        "verify_nbf": rules["verify_not_before"],
        "strict_aud": strict and len(audiences) == 1,
        "require": list(rules["required"]),
    }
    audience = audiences[0] if options["strict_aud"] else audiences or None
    try:
        jwt.decode(token.encoded, audience=audience, issuer=rules["issuers"], leeway=rules["leeway"], options=options)
    except (jwt.InvalidTokenError, TypeError, ValueError, OverflowError):  # its ways to refuse claims
        return False
    return True


@pytest.fixture
def clock() -> Iterator[None]:
    with time_machine.travel(NOW + 0.5, tick=False):
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("clock")
def test_no_rule_is_looser_than_those_of_pyjwt() -> None:
    generator = random.Random(26)
    verdicts: dict[Any, int] = {}
    for _ in range(100_000):
        claims, options = random_case(generator)
        token = UnverifiedToken(compact({"alg": "RS256"}, claims))
        verdict = accepts(token, **options), pyjwt_accepts(token, **options)
        assert verdict != (True, False), (claims, options)
        if verdict == (False, True):
            rules = [name for name, applies in STRICTER.items() if applies(claims)]
            assert rules, (claims, options)
            verdict = rules[0] if len(rules) == 1 else verdict  # type: ignore[assignment]
        verdicts[verdict] = verdicts.get(verdict, 0) + 1
    assert min(verdicts[True, True], verdicts[False, False]) > 10_000
    assert not [name for name in STRICTER if name not in verdicts]
