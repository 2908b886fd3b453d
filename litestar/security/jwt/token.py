"""The claims of a token: how they are made, signed, verified and read."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Awaitable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from inspect import iscoroutine
from typing import TYPE_CHECKING, Any, Final, TypedDict, cast

import jwt
import msgspec

from litestar.exceptions import ImproperlyConfiguredException, NotAuthorizedException
from litestar.security.jwt._verifier import verify
from litestar.security.jwt.keys import (
    ASYMMETRIC_ALGORITHMS,
    KeyNotFoundException,
    SelectedKeys,
    UnusableKeyError,
    names_of,
    raise_meaning,
    refuse_mixture,
    select,
    signing_key,
    single_keys,
)
from litestar.security.jwt.unverified import UnverifiedToken

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from litestar.security.jwt.keys import Key

__all__ = ("JWTDecodeOptions", "Token")

# Claims of the wrong type or depth make PyJWT and the json module raise these.
_MALFORMED: Final = (TypeError, ValueError, OverflowError, RecursionError)
# PyJWT, msgspec and overrides of ``decode_payload`` raise these if the token is not valid.
_MISFITS: Final = (KeyError, jwt.InvalidTokenError, msgspec.ValidationError)

_ASYMMETRIC: Final = frozenset(ASYMMETRIC_ALGORITHMS)
# The time zone of times that PyJWT has judged. ``Token.__post_init__`` takes no arguments that could tell.
_JUDGED: Final = timezone(timedelta(0), "UTC")


class JWTDecodeOptions(TypedDict, total=False):
    """What :meth:`Token.decode` asks of :meth:`Token.decode_payload`: options of :func:`jwt.decode`, and ``leeway``."""

    verify_aud: bool
    verify_iss: bool
    verify_exp: bool
    verify_nbf: bool
    strict_aud: bool
    require: list[str]
    leeway: float | timedelta


def _to_seconds(value: datetime) -> datetime:
    """Drop what a NumericDate cannot hold: fractions of a second, and time zones other than UTC."""
    if value.tzinfo is not None:
        value = value.astimezone(UTC)
    return value.replace(microsecond=0) if value.microsecond else value


@dataclass
class Token:
    """The claims of a JSON Web Token."""

    exp: datetime
    """When the token expires."""
    sub: str
    """The subject of the token, usually the ID of a user."""
    iat: datetime = field(default_factory=lambda: _to_seconds(datetime.now(UTC)))
    """When the token was issued. By default, now."""
    iss: str | None = field(default=None)
    """The issuer of the token."""
    aud: str | Sequence[str] | None = field(default=None)
    """The audience of the token, or several."""
    jti: str | None = field(default=None)
    """The unique ID of the token."""
    extras: dict[str, Any] = field(default_factory=dict)
    """The claims that have no field in the token class."""

    def __post_init__(self) -> None:
        if not self.sub:
            raise ImproperlyConfiguredException("sub must be a string with a length greater than 0")
        now, exp, iat = int(time.time()), self.exp, self.iat
        if not isinstance(exp, datetime) or not (exp.tzinfo is _JUDGED or _to_seconds(exp).timestamp() >= now):
            raise ImproperlyConfiguredException("exp value must be a datetime in the future")
        if not isinstance(iat, datetime) or not (iat.tzinfo is _JUDGED or _to_seconds(iat).timestamp() <= now):
            raise ImproperlyConfiguredException("iat must be a current or past time")
        self.exp, self.iat = _to_seconds(exp), _to_seconds(iat)

    @classmethod
    def decode_payload(
        cls,
        encoded_token: str,
        secret: Any,
        algorithms: list[str],
        issuer: str | Sequence[str] | None = None,
        audience: str | Sequence[str] | None = None,
        options: JWTDecodeOptions | None = None,
    ) -> Any:
        """Verify an encoded token with one key, and return its claims.

        Override this to change the claims before they become an instance of this class.

        Args:
            encoded_token: The token, in compact serialization.
            secret: The key to verify the signature with.
            algorithms: The algorithms to accept.
            issuer: The names of the issuers to accept. Checked only if ``options`` say so.
            audience: The audiences to accept. Checked only if ``options`` say so.
            options: What else to check.

        Returns:
            The claims.

        Raises:
            jwt.exceptions.InvalidTokenError: If the token is not valid.
            jwt.exceptions.InvalidKeyError: If the key cannot be used.
        """
        # A shared secret is verified by PyJWT as it is, so that its tokens are judged as they always were.
        decode: Callable[..., Any] = verify if _ASYMMETRIC.issuperset(algorithms) else jwt.decode_complete
        leeway = options.get("leeway", 0) if options else 0
        try:
            verified = decode(
                encoded_token, secret, algorithms, options, audience=audience, issuer=issuer, leeway=leeway
            )
            return verified["payload"]
        except _MALFORMED as e:
            raise jwt.DecodeError("Malformed token") from e

    @classmethod
    def decode(
        cls,
        encoded_token: str,
        secret: Any,
        algorithm: Any,
        audience: str | Sequence[str] | None = None,
        issuer: str | Sequence[str] | None = None,
        require_claims: Sequence[str] | None = None,
        verify_exp: bool = True,
        verify_nbf: bool = True,
        strict_audience: bool = False,
        *,
        leeway: float | timedelta = 0,
    ) -> Self:
        """Verify an encoded token, and create an instance from its claims.

        Args:
            encoded_token: The token, in compact serialization.
            secret: The :data:`Key` to verify the signature with, or a synchronous :class:`KeyProvider` that finds it.
            algorithm: The name of the algorithm to accept, or a sequence of names.
            audience: Accept tokens for one of these audiences only. Any audience if not set.
            issuer: Accept tokens of these issuers only. Any issuer if not set.
            require_claims: Names of claims that the token must have.
            verify_exp: Whether ``exp`` must be in the future.
            verify_nbf: Whether ``nbf`` must be in the past.
            strict_audience: Whether ``aud`` must be a single value, equal to the one audience given.
            leeway: Seconds by which the clocks of issuer and verifier may differ when ``exp``, ``nbf`` and ``iat`` are
                compared with the time.

        Returns:
            The token.

        Raises:
            NotAuthorizedException: If the token is not valid. Its ``__cause__`` says why.
            KeysUnavailableException: If the provider has no keys at the moment.
            ImproperlyConfiguredException: If the key cannot be used, or the provider is asynchronous.
            ValueError: If ``strict_audience`` is set without exactly one audience.
        """
        algorithms = list(names_of(algorithm))
        # RFC 8725, sections 3.8 and 3.9. PyJWT compares, and looks at neither audience nor issuer of its own accord.
        options: JWTDecodeOptions = {
            "verify_aud": bool(audience),
            "verify_iss": bool(issuer),
            "verify_exp": verify_exp,
            "verify_nbf": verify_nbf,
            "strict_aud": strict_audience,
            "require": list(require_claims or ()),
        }
        if leeway:
            options["leeway"] = leeway
        if strict_audience:
            audience = _single_audience(audience)
        try:
            encoded_token, algorithms, keys = _keys_for(encoded_token, secret, algorithms)
            payload = cls._first_verified(keys, encoded_token, algorithms, issuer, audience, options)
            return cls._from_payload(payload, is_foreign=isinstance(secret, SelectedKeys))
        except (UnusableKeyError, jwt.InvalidKeyError) as e:
            raise ImproperlyConfiguredException(f"The key to verify tokens with cannot be used: {e}") from e
        except (*_MISFITS, KeyNotFoundException, ImproperlyConfiguredException) as e:
            raise NotAuthorizedException("Invalid token") from e

    @classmethod
    def _first_verified(
        cls, keys: Sequence[Any], token: str, names: list[str], issuer: Any, audience: Any, options: Any
    ) -> Any:
        """Return the claims of a token, if one of some keys verifies it."""
        try:
            return cls.decode_payload(
                encoded_token=token, secret=keys[0], algorithms=names, issuer=issuer, audience=audience, options=options
            )
        except jwt.InvalidSignatureError:
            if len(keys) == 1:
                raise
        return cls._first_verified(keys[1:], token, names, issuer, audience, options)

    @classmethod
    def _from_payload(cls, payload: dict[str, Any], *, is_foreign: bool) -> Self:
        for claim in ("exp", "iat", "sub"):
            if claim not in payload:
                raise jwt.MissingRequiredClaimError(claim)
        claims = {name: payload.pop(name) for name in _field_names(cast("Any", cls)) if name in payload}
        try:
            claims["exp"] = datetime.fromtimestamp(claims["exp"], _JUDGED)
            claims["iat"] = datetime.fromtimestamp(claims["iat"], _JUDGED)
        except (OSError, *_MALFORMED) as e:
            raise jwt.DecodeError("'exp' or 'iat' is not a time") from e
        extras = claims.get("extras", {})
        if not isinstance(extras, dict):
            raise jwt.DecodeError("'extras' is not an object")
        nested = extras.keys() - payload if is_foreign and extras else ()
        claims["extras"] = {**extras, **payload}
        token = msgspec.convert(claims, cls, strict=False)
        if nested:  # what other issuers put under "extras" grants nothing
            token.__dict__["_nested_claims"] = nested
        return token

    def encode(self, secret: Any, algorithm: Any, headers: dict[str, Any] | None = None) -> str:
        """Sign the token.

        Args:
            secret: The :data:`Key` to sign with: a shared secret or a private key. If there are several keys, the first one
                signs. The ID of a :class:`jwt.PyJWK` becomes the ``kid`` of the token.
            algorithm: The name of the algorithm to sign with, or several names. The first one that fits the key is used.
            headers: JOSE header parameters to add.

        Returns:
            The token in compact serialization.

        Raises:
            ImproperlyConfiguredException: If the key or the algorithm cannot be used for signing.
        """
        try:
            key, kid, name = signing_key(secret, algorithm)
            return jwt.encode(
                {name: value for name, value in asdict(self).items() if value is not None},
                key,
                name,
                headers if kid is None else {"kid": kid, **(headers or {})},
            )
        except (jwt.DecodeError, jwt.InvalidKeyError, NotImplementedError, UnusableKeyError) as e:
            raise ImproperlyConfiguredException("Failed to encode token") from e


def _keys_for(encoded: Any, secret: Any, algorithms: list[str]) -> tuple[str, list[str], Sequence[Any]]:
    """Choose the keys that may verify a token.

    Returns:
        The token, the algorithms to accept, and the keys, at least one.
    """
    if not (callable(secret) or isinstance(secret, SelectedKeys)) and _ASYMMETRIC.isdisjoint(algorithms):
        return encoded, algorithms, single_keys(secret)
    if len(algorithms) > 1:
        refuse_mixture(algorithms)
    token = UnverifiedToken(encoded)
    if token.algorithm not in algorithms:
        raise jwt.InvalidAlgorithmError("Algorithm not accepted")
    selected = select(_ask(secret, token) if callable(secret) else secret, token)
    if not selected.keys:
        raise KeyNotFoundException("Invalid token")
    return token.encoded, [token.algorithm], selected.keys


def _ask(provider: Callable[[UnverifiedToken], Any], token: UnverifiedToken) -> Key:
    """Ask a synchronous provider."""
    try:
        key: Any = provider(token)
    except Exception as e:
        raise_meaning(e)
        raise
    if isinstance(key, Awaitable):
        if iscoroutine(key):
            key.close()
        raise UnusableKeyError("its provider is asynchronous. Use it as the 'key_provider' of a backend")
    return cast("Key", key)


def _single_audience(audience: str | Sequence[str] | None) -> str:
    if isinstance(audience, str):
        return audience
    if audience is None or len(audience) != 1:
        raise ValueError("When using 'strict_audience=True', 'audience' must be a sequence of length 1")
    return audience[0]


@lru_cache(maxsize=64)
def _field_names(cls: type[Token]) -> tuple[str, ...]:
    return tuple(f.name for f in dataclasses.fields(cls))
