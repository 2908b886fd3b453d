"""The registered claims (RFC 7519, section 4.1; RFC 8725)."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeAlias

from litestar.security.jwt.key_set import is_issuer
from litestar.security.jwt.refusals import Reason, TokenRefused

if TYPE_CHECKING:
    from litestar.security.jwt.unverified import Claims, UnverifiedToken

__all__ = (
    "ANY_AUDIENCE",
    "Audiences",
    "ClaimRules",
    "IssuerCheck",
    "parse_leeway",
    "verify_audience",
    "verify_claims",
    "verify_kind",
)

ANY_AUDIENCE: Final = "*"
"""Stands for every audience."""
Audiences: TypeAlias = (
    str | Sequence[str] | Mapping[str, str | Sequence[str]] | Callable[[str], Sequence[str] | Awaitable[Sequence[str]]]
)
"""The audiences to accept: names, names by issuer, or a function of the issuer."""
IssuerCheck: TypeAlias = Callable[[str], bool | Awaitable[bool]]
"""A function that returns ``True`` for an issuer to accept."""

# Kinds of tokens that are no access tokens, and that a token without a purpose of its own must not pass for (RFC 8725,
# section 3.12): logout tokens (OpenID Connect Back-Channel Logout 1.0), security events (RFC 8417), proofs (RFC 9449).
_OTHER_KINDS: Final = frozenset({"logout+jwt", "secevent+jwt", "dpop+jwt"})
# More than this is no difference between clocks.
_MAX_LEEWAY: Final = 600
# Later than any date that Python knows.
_MAX_NUMERIC_DATE: Final = 253_402_300_799


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRules:
    """What the claims of a token must be."""

    issuers: Collection[str] | None = None
    """Names of the issuers to accept. ``None`` accepts any."""
    required: Sequence[str] = ()
    """Names of claims that a token must have."""
    leeway: float = 0
    """Seconds by which the clocks of issuer and application may differ."""
    verify_expiry: bool = True
    """Whether ``exp`` must be in the future."""
    verify_not_before: bool = True
    """Whether ``nbf`` must be in the past."""


def parse_leeway(value: float | timedelta) -> float:
    """Return a leeway in seconds.

    Args:
        value: Seconds, or a ``timedelta``.

    Raises:
        ValueError: If it is not between 0 and 600 seconds.
    """
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds <= _MAX_LEEWAY:
        raise ValueError(f"'leeway' is {value!r}. Pass 0 to {_MAX_LEEWAY} seconds, or a timedelta")
    return float(seconds)


def verify_kind(token: UnverifiedToken, types: Collection[str] | None, *, accept_bound: bool) -> None:
    """Check that a token is of a kind to accept, before its signature is verified.

    Args:
        token: The token.
        types: Values of ``typ`` to accept (RFC 8725, section 3.11), in lower case and without ``application/``.
        accept_bound: Whether to accept a token that is bound to its sender.

    Raises:
        TokenRefused: If it is not.
    """
    if types is not None and token.typ not in types:
        raise TokenRefused(Reason.TYPE, " or ".join(sorted(types)), received=token.typ)
    if types is None and token.typ in _OTHER_KINDS:
        raise TokenRefused(Reason.TYPE, "an access token", received=token.typ)
    # RFC 7800, section 3.1. The proof of possession is in another header field, and nobody checks it here.
    if not accept_bound and token.claims.get("cnf") is not None:
        raise TokenRefused(Reason.BOUND, "a token without 'cnf'")


def verify_claims(claims: Claims, rules: ClaimRules, now: float) -> None:
    """Check the claims of a token whose signature has been verified. A claim that is absent passes unless it is required.

    Args:
        claims: The claims.
        rules: What they must be.
        now: The time, in seconds since the epoch.

    Raises:
        TokenRefused: If they are not.
    """
    for name in rules.required:
        if claims.get(name) is None:
            raise TokenRefused(Reason.MISSING_CLAIM, subject=name)
    _verify_times(claims, rules, now)
    for name in ("iss", "jti"):  # sections 4.1.1 and 4.1.7
        if name in claims and not isinstance(claims[name], str):
            raise TokenRefused(Reason.INVALID_CLAIM, "a string", subject=name)
    if rules.issuers is not None and claims.get("iss") not in rules.issuers:
        if "iss" not in claims:
            raise TokenRefused(Reason.MISSING_CLAIM, subject="iss")
        raise TokenRefused(Reason.ISSUER, " or ".join(rules.issuers), received=claims["iss"])


def _verify_times(claims: Claims, rules: ClaimRules, now: float) -> None:
    """Check ``exp``, ``nbf`` and ``iat`` (sections 4.1.4 to 4.1.6)."""
    expires_at, not_before, issued_at = (_numeric_date(claims, name) for name in ("exp", "nbf", "iat"))
    # A fraction of a second does not prolong the life of a token.
    if rules.verify_expiry and expires_at is not None and math.floor(expires_at) + rules.leeway <= now:
        raise TokenRefused(Reason.EXPIRED)
    if rules.verify_not_before and not_before is not None and not_before - rules.leeway > now:
        raise TokenRefused(Reason.NOT_YET_VALID)
    if issued_at is not None and issued_at - rules.leeway > now:
        raise TokenRefused(Reason.ISSUED_IN_FUTURE)


def _numeric_date(claims: Claims, name: str) -> float | None:
    """Return a time in seconds since the epoch (RFC 7519, section 2: NumericDate)."""
    if name not in claims:
        return None
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TokenRefused(Reason.INVALID_CLAIM, "a number of seconds", subject=name)
    if not 0 <= value <= _MAX_NUMERIC_DATE:
        raise TokenRefused(Reason.INVALID_CLAIM, "seconds, not milliseconds, since 1970", subject=name)
    return float(value)


def verify_audience(claims: Claims, audiences: Sequence[str], *, strict: bool) -> None:
    """Check ``aud`` (section 4.1.3; RFC 8725, section 3.9).

    Args:
        claims: The claims.
        audiences: The audiences to accept.
        strict: Whether ``aud`` must be a single value.

    Raises:
        TokenRefused: If the token is for another application.
    """
    given = claims.get("aud")
    if given is None:
        raise TokenRefused(Reason.MISSING_CLAIM, " or ".join(audiences), subject="aud")
    values = [given] if isinstance(given, str) else given
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TokenRefused(Reason.INVALID_CLAIM, "a string or a list of strings", subject="aud")
    if (strict and not isinstance(given, str)) or not any(value in audiences for value in values):
        raise TokenRefused(Reason.AUDIENCE, " or ".join(audiences), received=given)


def verify_issuer_of_mapping(token: UnverifiedToken, issuers: Collection[str]) -> str:
    """Return the issuer of a token if a mapping has it.

    Args:
        token: The token.
        issuers: The keys of the mapping. ``{tenantid}`` in one stands for the ``tid`` claim of the token.

    Returns:
        The key of the mapping.

    Raises:
        TokenRefused: If the mapping does not have it.
    """
    for name in issuers:
        if is_issuer(name, token):
            return name
    raise TokenRefused(Reason.ISSUER, " or ".join(issuers), received=token.issuer)
