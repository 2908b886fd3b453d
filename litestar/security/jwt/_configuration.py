from __future__ import annotations

import warnings
from base64 import b64decode
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_der_public_key

from litestar.di import Provide
from litestar.exceptions import ImproperlyConfiguredException, LitestarWarning
from litestar.security.jwt._providers import StaticKey, as_provider, natural_algorithms
from litestar.security.jwt.keys import (
    ASYMMETRIC_ALGORITHMS,
    SYMMETRIC_ALGORITHMS,
    UnusableKeyError,
    algorithms_of,
    fitting,
    identified,
    is_key,
    is_mixture,
    single_keys,
)
from litestar.security.jwt.middleware import JWTAuthenticationMiddleware, JWTCookieAuthenticationMiddleware
from litestar.security.jwt.token import Token

if TYPE_CHECKING:
    from collections.abc import Sequence

    from litestar.security.jwt.auth import BaseJWTAuth
    from litestar.security.jwt.keys import SingleKey

__all__ = ("DEFAULT_ALGORITHM", "check_options", "default_algorithm", "given_algorithms", "signer")


class _DefaultAlgorithm(str):
    """An algorithm that nobody chose. It reads like any other."""

    __slots__ = ()


DEFAULT_ALGORITHM = _DefaultAlgorithm("HS256")


def given_algorithms(backend: BaseJWTAuth[Any, Any]) -> tuple[str, ...] | None:
    """Return the algorithms that a backend was given, ``None`` if it was left to us."""
    given = backend.algorithm
    if isinstance(given, _DefaultAlgorithm):
        return None
    return (given,) if isinstance(given, str) else tuple(given)


def default_algorithm(backend: BaseJWTAuth[Any, Any]) -> str | Sequence[str]:
    """Choose what ``algorithm`` is when a backend was not given any."""
    if backend.key_provider is not None:
        return _DefaultAlgorithm("RS256")
    names = natural_algorithms(backend.token_secret) if is_key(backend.token_secret) else ()
    return _DefaultAlgorithm(names[0] if names else DEFAULT_ALGORITHM) if len(names) < 2 else names


def check_options(backend: BaseJWTAuth[Any, Any]) -> None:
    """Find what can be known to be wrong with a backend before there is any token.

    Args:
        backend: The backend.

    Raises:
        ImproperlyConfiguredException: If something is.
    """
    if backend.token_secret is None and backend.key_provider is None:
        raise ImproperlyConfiguredException("Either 'token_secret' or 'key_provider' is needed to verify tokens with")
    algorithms = given_algorithms(backend)
    if algorithms is not None:
        _check_algorithms(algorithms)
    _check_numbers(backend)
    audiences = backend.accepted_audiences or ()
    if backend.strict_audience and not isinstance(audiences, str) and len(audiences) != 1:
        raise ImproperlyConfiguredException("'strict_audience' needs exactly one of 'accepted_audiences'")
    try:
        _check_keys(backend, algorithms)
    except UnusableKeyError as e:
        raise ImproperlyConfiguredException(f"A key cannot be used: {e}") from e
    if backend.key_provider is not None and backend.accepted_audiences is None:
        warnings.warn(
            "Without 'accepted_audiences', this backend accepts every token that its issuer ever made, for whatever "
            "application. Set it, or set it to an empty sequence if that is intended.",
            LitestarWarning,
            stacklevel=4,
        )


def _check_algorithms(algorithms: Sequence[str]) -> None:
    if not algorithms:
        raise ImproperlyConfiguredException("'algorithm' is empty")
    for name in algorithms:
        if not isinstance(name, str) or name.lower() == "none":
            raise ImproperlyConfiguredException(f"{name!r} is not an algorithm that tokens may be signed with")
        try:
            jwt.get_algorithm_by_name(name)
        except NotImplementedError as e:
            raise ImproperlyConfiguredException(f"Unknown algorithm {name!r}") from e
    if is_mixture(algorithms):
        raise ImproperlyConfiguredException("HMAC and asymmetric algorithms cannot be accepted by the same backend")


def _check_numbers(backend: BaseJWTAuth[Any, Any]) -> None:
    leeway = backend.leeway.total_seconds() if isinstance(backend.leeway, timedelta) else backend.leeway
    if leeway < 0:
        raise ImproperlyConfiguredException("'leeway' is negative")
    if backend.max_token_length < 1:
        raise ImproperlyConfiguredException("'max_token_length' is not positive")
    if backend.verified_token_cache_size < 0:
        raise ImproperlyConfiguredException("'verified_token_cache_size' is negative")


def _check_keys(backend: BaseJWTAuth[Any, Any], algorithms: tuple[str, ...] | None) -> None:
    if backend.key_provider is None:
        if _is_ours(backend):
            _check_verifying(backend.token_secret, algorithms)
        return
    if isinstance(backend.key_provider, Provide):
        from litestar.security.jwt._injection import refuse_body

        refuse_body(backend.key_provider)
    else:
        provider = as_provider(backend.key_provider)
        if isinstance(provider, StaticKey):
            _check_verifying(provider.key, algorithms)
    if backend.token_secret is not None:
        signer(backend)


def _is_ours(backend: BaseJWTAuth[Any, Any]) -> bool:
    """Tell whether ``token_secret`` means here what it says. To somebody's own classes it may be anything."""
    return (
        backend.authentication_middleware_class in {JWTAuthenticationMiddleware, JWTCookieAuthenticationMiddleware}
        and cast("Any", backend.token_cls.decode).__func__ is cast("Any", Token.decode).__func__
        and cast("Any", backend.token_cls.decode_payload).__func__ is cast("Any", Token.decode_payload).__func__
    )


def _check_verifying(key: Any, algorithms: tuple[str, ...] | None) -> None:
    if not is_key(key):
        raise ImproperlyConfiguredException(f"{type(key).__name__} is not a key")
    names = natural_algorithms(key) if algorithms is None else algorithms
    unfit = [single for single in single_keys(key) if not any(_verifies(single, name) for name in names)]
    # Of a key set as providers publish it, what is for other purposes is left alone.
    if unfit and not (isinstance(key, jwt.PyJWKSet) and len(unfit) < len(key.keys)):
        for single in unfit:
            if isinstance(single, jwt.PyJWK) and single.algorithm_name in ASYMMETRIC_ALGORITHMS:
                algorithms_of(single.key)  # may have more to say
        raise UnusableKeyError(f"it is not one for {' or '.join(names)}")


def _verifies(key: SingleKey, algorithm: str) -> bool:
    usable = fitting(key, algorithm)
    if usable and algorithm in SYMMETRIC_ALGORITHMS:
        secret = cast("str | bytes", getattr(key, "key", key))
        _refuse_bare_public_key(secret)
        try:
            jwt.get_algorithm_by_name(algorithm).prepare_key(secret)
        except jwt.InvalidKeyError as e:
            raise UnusableKeyError(str(e)) from e
    return bool(usable)


def _refuse_bare_public_key(secret: str | bytes) -> None:
    """Tell a PEM without its first and last line, as Keycloak for one shows it, from a secret. PyJWT knows those with."""
    try:
        load_der_public_key(b64decode(secret))
    except (ValueError, UnsupportedAlgorithm):
        return
    raise UnusableKeyError("a public key is no secret. With the first and last line of a PEM it can verify")


def signer(backend: BaseJWTAuth[Any, Any]) -> tuple[SingleKey, str]:
    """Choose what a backend signs tokens with.

    Args:
        backend: The backend.

    Returns:
        Key and algorithm: its first key, and the first of its algorithms that this key can be used with.

    Raises:
        ImproperlyConfiguredException: If it has no key.
        UnusableKeyError: If the key cannot sign.
    """
    if backend.token_secret is None:
        raise ImproperlyConfiguredException("'token_secret' is needed to issue tokens: a secret, or a private key")
    key = single_keys(backend.token_secret)[0]
    names = given_algorithms(backend) or natural_algorithms(key)
    if backend.token_cls.encode is not Token.encode:
        return key, names[0]
    algorithm = next((name for name in names if name not in ASYMMETRIC_ALGORITHMS or fitting(key, name)), names[0])
    return identified(key, algorithm), algorithm
