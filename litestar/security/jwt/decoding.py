"""Verifying with keys that are at hand, for ``Token.decode``."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import jwt

from litestar.exceptions import ImproperlyConfiguredException, NotAuthorizedException
from litestar.security.jwt.claims import ClaimRules, parse_leeway, verify_audience, verify_claims, verify_kind
from litestar.security.jwt.conversion import overrides, to_token
from litestar.security.jwt.keys import (
    CURVE_NAMES,
    SelectedKeys,
    UnusableKeyError,
    VerificationKey,
    get_algorithm,
    names_of,
)
from litestar.security.jwt.lookup import KeyLookup, as_lookup
from litestar.security.jwt.refusals import Reason, TokenRefused
from litestar.security.jwt.unverified import UnverifiedToken

if TYPE_CHECKING:
    from datetime import timedelta

    from litestar.security.jwt.keys import Key, KeyProvider

__all__ = (
    "DEFAULT_LEEWAY",
    "VerifySignature",
    "accepted_names",
    "decode_with_keys",
    "find_verifying_key",
    "is_released_key",
    "reject_mixed_algorithms",
    "rules_for",
    "verify_signature",
)

# Before 2.10, algorithms of PyJWT cannot be had by name, and some accept keys that are not for them.
if tuple(int(part) for part in jwt.__version__.split(".")[:2]) < (2, 10):  # pragma: no cover
    raise ImportError(f"Key providers need PyJWT 2.10 or newer, not {jwt.__version__}: pip install -U pyjwt")

TokenT = TypeVar("TokenT")
VerifySignature: TypeAlias = Callable[[UnverifiedToken, VerificationKey], bool]

# Seconds by which the clocks of issuer and application may differ, unless the application says otherwise.
DEFAULT_LEEWAY: Final = 30.0


def verify_signature(token: UnverifiedToken, key: VerificationKey) -> bool:
    """Tell whether a key verifies the signature of a token.

    Args:
        token: The token.
        key: A key for the algorithm of the token.
    """
    algorithm = get_algorithm(token.algorithm)
    return algorithm.verify(token.signing_input, key.prepared[token.algorithm], token.signature)


def find_verifying_key(
    token: UnverifiedToken, selected: SelectedKeys, algorithms: Collection[str], verify: VerifySignature
) -> VerificationKey | None:
    """Return the selected key that verifies the signature of a token, ``None`` if no key does.

    Args:
        token: The token.
        selected: The keys to try.
        algorithms: Names of the algorithms to accept.
        verify: Tells whether a key verifies the signature.

    Raises:
        TokenRefused: If there is no key to try.
    """
    keys = selected.keys
    if token.algorithm == "EdDSA" and "EdDSA" not in algorithms:  # only one of its curves is accepted (RFC 9864)
        keys = tuple(key for key in keys if not key.prepared.keys().isdisjoint(algorithms))
    if not keys:
        raise TokenRefused(Reason.UNKNOWN_KEY, received=token.kid)
    return next((key for key in keys if verify(token, key)), None)


def rules_for(token_cls: type[Any], rules: ClaimRules) -> ClaimRules:
    """Return the rules for a token class. An override of ``decode`` calls Litestar's own, which knows no leeway."""
    if not rules.leeway or not overrides(token_cls, "decode"):
        return rules
    return replace(rules, leeway=0)


def reject_mixed_algorithms(algorithms: Sequence[str]) -> None:
    """Refuse to accept HMAC together with asymmetric algorithms.

    Anyone can sign with a public key that passes for a secret (`RFC 8725, section 2.1
    <https://datatracker.ietf.org/doc/html/rfc8725#section-2.1>`_).

    Args:
        algorithms: Names of algorithms.

    Raises:
        UnusableKeyError: If both are among the algorithms.
    """
    kinds = {name.startswith("HS") for name in algorithms}
    if len(kinds) > 1:
        raise UnusableKeyError("HMAC and asymmetric algorithms cannot be mixed. Choose one kind")


def is_released_key(secret: object, algorithm: object, leeway: object) -> bool:
    """Tell whether Litestar's own lines of ``Token.decode`` verify with a key.

    Args:
        secret: The key.
        algorithm: The algorithm.
        leeway: The leeway.

    Returns:
        Whether it is one key that PyJWT takes: neither a provider, nor several keys, nor a set.

    Raises:
        ValueError: If it is, together with ``leeway`` or several algorithms.
    """
    several = (list, tuple, jwt.PyJWKSet, Mapping, SelectedKeys, VerificationKey, KeyLookup)
    if callable(secret) or isinstance(secret, several):
        return False
    if leeway is not None:
        raise ValueError("'leeway' needs a key provider or a sequence of keys. Pass [key] as 'secret'")
    if isinstance(algorithm, (list, tuple, set, frozenset)):
        raise ValueError("Several algorithms need a key provider or a sequence of keys. Pass [key] as 'secret'")
    return True


def decode_with_keys(
    token_cls: type[TokenT],
    encoded_token: str,
    secret: Key | KeyProvider,
    algorithm: str | Sequence[str],
    audience: str | Sequence[str] | None,
    issuer: str | Sequence[str] | None,
    require_claims: Sequence[str] | None,
    verify_exp: bool,
    verify_nbf: bool,
    strict_audience: bool,
    leeway: float | timedelta | None,
) -> TokenT:
    """Verify a token with several keys or a synchronous key provider, for :meth:`Token.decode`.

    Args:
        token_cls: The token class.
        encoded_token: The token.
        secret: The keys or the provider.
        algorithm: The names of the algorithms to accept.
        audience: The audiences to accept. Any if not set.
        issuer: The issuers to accept. Any if not set.
        require_claims: Names of claims that the token must have.
        verify_exp: Whether ``exp`` must be in the future.
        verify_nbf: Whether ``nbf`` must be in the past.
        strict_audience: Whether ``aud`` must be a single value.
        leeway: Seconds by which clocks may differ. 30 by default.

    Returns:
        The instance of the token class.

    Raises:
        NotAuthorizedException: If the token is not valid.
        ImproperlyConfiguredException: If a key cannot be used, or the provider is asynchronous.
        ValueError: If ``strict_audience`` is set without exactly one audience, or ``leeway`` cannot be.
    """
    audiences = names_of(audience or ())
    if strict_audience and len(audiences) != 1:
        raise ValueError("'strict_audience' needs exactly one 'audience'")
    rules = ClaimRules(
        issuers=names_of(issuer) if issuer else None,
        required=tuple(require_claims or ()),
        leeway=DEFAULT_LEEWAY if leeway is None else parse_leeway(leeway),
        verify_expiry=verify_exp,
        verify_not_before=verify_nbf,
    )
    try:
        algorithms = names_of(algorithm)
        reject_mixed_algorithms(algorithms)
        token, key = _verify_now(encoded_token, as_lookup(secret, algorithms), algorithms)
        verify_claims(token.claims, rules, time.time())
        if audiences:
            verify_audience(token.claims, audiences, strict=strict_audience)
        instance: TokenT = to_token(
            token_cls, token, key, rules, audiences, strict_audience=strict_audience, through_decode=False
        )
        return instance
    except (NotImplementedError, UnusableKeyError) as e:  # PyJWT raises the first for algorithms that it does not know
        raise ImproperlyConfiguredException(f"The key to verify tokens with cannot be used: {e}") from e
    except TokenRefused as e:
        raise NotAuthorizedException("Invalid token") from e


def _verify_now(
    encoded_token: str, lookup: KeyLookup, algorithms: Sequence[str]
) -> tuple[UnverifiedToken, VerificationKey]:
    token = UnverifiedToken(encoded_token)
    accepted = accepted_names(algorithms)
    if token.algorithm not in accepted:
        raise TokenRefused(Reason.ALGORITHM, " or ".join(algorithms), received=token.algorithm)
    verify_kind(token, None, accept_bound=False)
    key = find_verifying_key(token, lookup.find_now(token).selected, algorithms, verify_signature)
    if key is None:
        raise TokenRefused(Reason.SIGNATURE)
    return token, key


def accepted_names(algorithms: Collection[str]) -> frozenset[str]:
    """Return all names by which tokens may call some algorithms: RFC 9864 gives EdDSA a name for each curve."""
    names = set(algorithms)
    if "EdDSA" in names:
        names.update(CURVE_NAMES)
    elif not names.isdisjoint(CURVE_NAMES):
        names.add("EdDSA")
    return frozenset(names)
