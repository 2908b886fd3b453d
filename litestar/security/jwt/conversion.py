"""From verified claims to an instance of a token class."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, get_type_hints

import jwt
import msgspec

from litestar.exceptions import HTTPException, ImproperlyConfiguredException, NotAuthorizedException
from litestar.security.jwt.keys import CURVE_NAMES
from litestar.security.jwt.refusals import Reason, TokenRefused
from litestar.security.jwt.token import Token

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from litestar.security.jwt.claims import ClaimRules
    from litestar.security.jwt.keys import VerificationKey
    from litestar.security.jwt.unverified import Claims, UnverifiedToken

__all__ = ("overrides", "to_token")

# What overrides and ``__post_init__`` of an application raise for claims that they cannot use.
_MISFITS: Final = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError, jwt.PyJWTError)
# What is checked before an override is called.
_CHECKED: Final = ("verify_exp", "verify_nbf", "verify_iat", "verify_aud", "verify_iss", "verify_sub")


def overrides(token_cls: type[Any], method: str) -> bool:
    """Tell whether a token class has a method of its own.

    Args:
        token_cls: The class.
        method: The name of a method of :class:`Token`.
    """
    return token_cls is not Token and next(cls for cls in token_cls.__mro__ if method in vars(cls)) is not Token


def to_token(
    token_cls: Any,
    token: UnverifiedToken,
    key: VerificationKey,
    rules: ClaimRules,
    audiences: Sequence[str],
    *,
    strict_audience: bool,
    through_decode: bool = True,
) -> Any:
    """Create an instance of a token class from a token whose signature and claims have been verified.

    An override of ``decode`` or ``decode_payload`` is called with what has been verified. What it returns only becomes the
    instance: it can add or rename claims, and it cannot make an invalid token valid.

    Args:
        token_cls: The class.
        token: The verified token.
        key: The key that verified its signature.
        rules: What its claims have been checked against.
        audiences: The audiences that are accepted for this token, empty for any.
        strict_audience: Whether ``aud`` has to be a single value.
        through_decode: Whether to call an override of ``decode``.

    Returns:
        The instance.

    Raises:
        TokenRefused: If the claims do not fit the class.
    """
    claims: object = token.claims
    try:
        if through_decode and overrides(token_cls, "decode"):
            return token_cls.decode(
                encoded_token=token.encoded,
                secret=_key_for_pyjwt(token, key),
                algorithm=token.algorithm,
                audience=list(audiences) or None,
                issuer=_list_or_none(rules.issuers),
                require_claims=list(rules.required) or None,
                verify_exp=False,
                verify_nbf=False,
                strict_audience=strict_audience,
            )
        if overrides(token_cls, "decode_payload"):
            claims = token_cls.decode_payload(
                encoded_token=token.encoded,
                secret=_key_for_pyjwt(token, key),
                algorithms=[token.algorithm],
                issuer=_list_or_none(rules.issuers),
                audience=list(audiences) or None,
                options=dict.fromkeys(_CHECKED, False),
            )
    except TokenRefused:  # an override can refuse a token for a reason of its own
        raise
    except (ImproperlyConfiguredException, NotAuthorizedException) as e:  # what Litestar's own ``decode`` raises
        raise TokenRefused(Reason.CLAIMS, subject=token_cls.__name__) from e
    except HTTPException:
        raise
    except _MISFITS as e:
        raise TokenRefused(Reason.CLAIMS, subject=token_cls.__name__) from e
    if not isinstance(claims, dict):
        raise TokenRefused(Reason.CLAIMS, "'decode_payload' to return a dict", subject=token_cls.__name__)
    return _from_claims(token_cls, claims)


def _key_for_pyjwt(token: UnverifiedToken, key: VerificationKey) -> Any:
    """Return the key for an override that calls PyJWT, which knows the names of RFC 9864 only if a JWK has them."""
    if token.algorithm not in CURVE_NAMES:
        return key.prepared[token.algorithm]
    jwk = jwt.PyJWK(dict(key.jwk), "EdDSA")
    jwk.algorithm_name = token.algorithm
    return jwk


def _list_or_none(names: Collection[str] | None) -> list[str] | None:
    return None if names is None else list(names)


def _from_claims(cls: Any, claims: Claims) -> Any:
    """Create an instance from claims. Those without a field become ``extras``."""
    for name in ("exp", "iat", "sub"):
        if claims.get(name) is None:
            raise TokenRefused(Reason.MISSING_CLAIM, f"a {name!r} claim, or a token class that adds one", subject=name)
    if not isinstance(claims["sub"], str) and not overrides(cls, "decode_payload"):
        raise TokenRefused(Reason.INVALID_CLAIM, "a string", subject="sub")
    if claims["sub"] == "" and not overrides(cls, "__post_init__"):
        raise TokenRefused(Reason.INVALID_CLAIM, "a string that is not empty", subject="sub")
    values = {name: claims[name] for name in _field_names(cls) if name in claims and name != "extras"}
    values["extras"] = {name: value for name, value in claims.items() if name not in values}
    expires_at, issued_at = _time_of(claims, "exp"), _time_of(claims, "iat")
    # ``Token.__post_init__`` knows neither the leeway nor ``verify_expiry=False``, so it sees times that it accepts.
    now = datetime.now(UTC)
    values["exp"], values["iat"] = max(expires_at, now + timedelta(seconds=1)), min(issued_at, now)
    try:
        # The claims that ``Token`` itself has fields for have the right types by now, except for an array of audiences.
        is_checked = cls is Token and isinstance(values.get("aud", ""), str)
        instance: Any = Token(**values) if is_checked else msgspec.convert(values, cls, strict=False)
    except (*_MISFITS, NotAuthorizedException) as e:
        raise _misfit(cls, values) from e
    if expires_at < values["exp"]:
        instance.exp = expires_at
    if issued_at > values["iat"]:
        instance.iat = issued_at
    return instance


def _time_of(claims: Claims, name: str) -> datetime:
    try:
        return datetime.fromtimestamp(int(claims[name]), UTC)
    except (*_MISFITS, OSError) as e:
        raise TokenRefused(Reason.INVALID_CLAIM, "a number of seconds", subject=name) from e


def _misfit(cls: Any, values: Claims) -> TokenRefused:
    """Name the field that a claim does not fit."""
    types = get_type_hints(cls)
    for name in _field_names(cls):
        try:
            if name in values:
                msgspec.convert(values[name], types[name], strict=False)
        except _MISFITS:
            return TokenRefused(
                Reason.CLAIMS,
                "a claim that fits the field, or another type of the field",
                subject=f"{cls.__name__}.{name}",
            )
    return TokenRefused(
        Reason.CLAIMS, "the claims that the class requires, or a class with fewer fields", subject=cls.__name__
    )


@lru_cache(maxsize=128)
def _field_names(cls: Any) -> tuple[str, ...]:
    return tuple(field.name for field in fields(cls))
