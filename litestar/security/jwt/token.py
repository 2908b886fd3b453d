from __future__ import annotations

import dataclasses
import time
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from inspect import iscoroutine
from typing import TYPE_CHECKING, Any, Final, TypedDict, cast

import jwt
import msgspec

from litestar.exceptions import ImproperlyConfiguredException, NotAuthorizedException
from litestar.security.jwt._verified import recollected
from litestar.security.jwt._verifier import verifier
from litestar.security.jwt.keys import (
    ALGORITHMS,
    KeyNotFoundError,
    UnusableKeyError,
    candidates,
    provider_error,
    signing_key,
)
from litestar.security.jwt.unverified import UnverifiedToken, parsed

if TYPE_CHECKING:
    from typing import Self

    from litestar.security.jwt.keys import Key, KeyProvider

__all__ = (
    "JWTDecodeOptions",
    "Token",
)

# Claims of the wrong type or depth make PyJWT and the json module raise these; all are the token's fault.
_MALFORMED: Final = (TypeError, ValueError, OverflowError, RecursionError)

# PyJWT leaves the claims alone as well if it is told nothing but that it need not verify the signature.
_ALL_BUT_THE_SIGNATURE: Final = {
    "verify_signature": False,
    **dict.fromkeys(
        ("verify_exp", "verify_nbf", "verify_iat", "verify_sub", "verify_jti", "verify_aud", "verify_iss"), True
    ),
}

# ``Token.__post_init__`` takes no arguments, and it is where times are compared with the clock.
_leeway: ContextVar[float] = ContextVar("leeway", default=0)


class JWTDecodeOptions(TypedDict, total=False):
    """The part of PyJWT's ``options`` that :meth:`Token.decode` sets."""

    verify_aud: bool
    verify_iss: bool
    verify_exp: bool
    verify_nbf: bool
    strict_aud: bool
    require: list[str]


def _to_seconds(value: datetime) -> datetime:
    """Drop what a NumericDate of a token does not hold: fractions of a second, and time zones other than UTC."""
    if value.tzinfo is UTC and not value.microsecond:
        return value
    return (value if value.tzinfo is None else value.astimezone(UTC)).replace(microsecond=0)


@dataclass
class Token:
    """The claims of a JSON Web Token."""

    exp: datetime
    """Expiration, when the token ceases to be valid."""
    sub: str
    """Subject, whom the token is about. As a rule the ID of a user."""
    iat: datetime = field(default_factory=lambda: _to_seconds(datetime.now(UTC)))
    """Issued at, when the token was made. Now, if not set."""
    iss: str | None = field(default=None)
    """Issuer, who made the token."""
    aud: str | Sequence[str] | None = field(default=None)
    """Audience, whom the token was made for."""
    jti: str | Sequence[str] | None = field(default=None)
    """JWT ID, what tells this token from all others of its issuer."""
    extras: dict[str, Any] = field(default_factory=dict)
    """Claims that the token class has no field for."""

    def __post_init__(self) -> None:
        now, leeway = int(time.time()), _leeway.get()
        if not self.sub:
            raise ImproperlyConfiguredException("sub must be a string with a length greater than 0")
        if not isinstance(self.exp, datetime) or (exp := _to_seconds(self.exp)).timestamp() < now - leeway:
            raise ImproperlyConfiguredException("exp value must be a datetime in the future")
        if not isinstance(self.iat, datetime) or (iat := _to_seconds(self.iat)).timestamp() > now + leeway:
            raise ImproperlyConfiguredException("iat must be a current or past time")
        self.exp, self.iat = exp, iat

    @classmethod
    def decode_payload(
        cls,
        encoded_token: str,
        secret: Key,
        algorithms: list[str],
        issuer: str | Sequence[str] | None = None,
        audience: str | Sequence[str] | None = None,
        options: JWTDecodeOptions | None = None,
        leeway: float | timedelta = 0,
    ) -> Any:
        """Verify an encoded token and return its claims.

        Override this to change the claims before a token is made of them. An override need not take ``leeway`` unless
        that option is in use.

        Args:
            encoded_token: The token.
            secret: The key to verify it with, or several of which one has to do it.
            algorithms: Algorithms to accept.
            issuer: Issuers to accept.
            audience: Audiences to accept.
            options: Which claims to verify.
            leeway: Seconds that clocks may be apart.

        Returns:
            The claims.

        Raises:
            jwt.exceptions.InvalidTokenError: If the token is not valid.
            UnusableKeyError: If the key cannot be used.
        """
        token = parsed(encoded_token)
        # RFC 8725, sections 3.1 and 3.2. What nobody signed is no token, even if somebody accepts it.
        if token.algorithm not in algorithms or token.algorithm.lower() == "none":
            raise jwt.InvalidAlgorithmError("Algorithm not accepted")
        failure: jwt.InvalidTokenError = jwt.InvalidSignatureError("No key fits")
        decode: Any = verifier.decode_complete if token.algorithm in ALGORITHMS else jwt.decode_complete
        keys = candidates(secret, token)
        recollection = recollected.get()
        if recollection is not None and (known := recollection.verified_by(encoded_token, keys)) is not None:
            keys, options = (known,), cast("JWTDecodeOptions", {**_ALL_BUT_THE_SIGNATURE, **(options or {})})
        for key in keys:
            try:
                decoded = decode(
                    encoded_token,
                    key,
                    [token.algorithm],
                    options,
                    audience=audience,
                    issuer=issuer,
                    leeway=leeway,
                )
            except jwt.InvalidSignatureError as e:
                failure = e
            except jwt.InvalidKeyError as e:
                raise UnusableKeyError(str(e)) from e
            except _MALFORMED as e:
                raise jwt.DecodeError("Malformed claims") from e
            else:
                if recollection is not None:
                    recollection.verified(encoded_token, key)
                return decoded["payload"]
        raise failure

    @classmethod
    def decode(
        cls,
        encoded_token: str,
        secret: Key | KeyProvider,
        algorithm: str | Sequence[str],
        audience: str | Sequence[str] | None = None,
        issuer: str | Sequence[str] | Callable[[str], bool] | None = None,
        require_claims: Sequence[str] | None = None,
        verify_exp: bool = True,
        verify_nbf: bool = True,
        strict_audience: bool = False,
        leeway: float | timedelta = 0,
    ) -> Self:
        """Verify an encoded token and make an instance of its claims.

        Args:
            encoded_token: The token, in compact serialization.
            secret: The key to verify the signature with, or several of which one has to do it, or a synchronous key
                provider.
            algorithm: The algorithm, or all algorithms, to accept.
            audience: Accept tokens for one of these audiences only. Any audience if not set.
            issuer: Accept tokens of these issuers only: their names, or a function that tells. Any issuer if not set.
            require_claims: Names of claims that have to be there.
            verify_exp: Whether ``exp`` has to be in the future.
            verify_nbf: Whether ``nbf`` has to be in the past.
            strict_audience: Whether ``aud`` has to be a single value, equal to the one audience given.
            leeway: Seconds that the clocks of issuer and verifier may be apart when ``exp``, ``nbf`` and ``iat`` are
                compared with the time.

        Returns:
            The token.

        Raises:
            NotAuthorizedException: If the token is not valid.
            KeysUnavailableError: If the provider has no keys at the moment.
            ImproperlyConfiguredException: If the key cannot be used, or the provider is asynchronous.
            ValueError: If ``strict_audience`` is set without exactly one audience.
        """
        # RFC 8725, sections 3.8 and 3.9. PyJWT compares, and looks at no audience or issuer of its own accord.
        options: JWTDecodeOptions = {"verify_aud": bool(audience), "verify_iss": bool(issuer)}
        if require_claims:
            options["require"] = list(require_claims)
        if not verify_exp:
            options["verify_exp"] = False
        if not verify_nbf:
            options["verify_nbf"] = False
        if strict_audience:
            options["strict_aud"] = True
            audience = _single_audience(audience)
        algorithms = [algorithm] if isinstance(algorithm, str) else list(algorithm)
        # Overrides of ``decode_payload`` that were written before these arguments existed do not know them.
        further: dict[str, Any] = {"leeway": leeway} if leeway else {}
        try:
            checked = ("alg", "iss") if issuer else ("alg",)
            key: Any = secret
            if callable(secret):
                token = UnverifiedToken(encoded_token, checked=checked)
                key = _ask(key, token, algorithms)
            payload = cls.decode_payload(
                encoded_token=encoded_token,
                secret=key,
                algorithms=algorithms,
                audience=audience,
                issuer=cast("Sequence[str]", _Accepted(issuer)) if callable(issuer) else issuer,
                options=options,
                **further,
            )
            return cls._from_payload(payload, leeway)
        except UnusableKeyError as e:
            raise ImproperlyConfiguredException(f"The key to verify tokens with cannot be used: {e}") from e
        except (KeyError, jwt.InvalidTokenError, msgspec.ValidationError, KeyNotFoundError) as e:
            raise NotAuthorizedException("Invalid token") from e

    @classmethod
    def _from_payload(cls, payload: dict[str, Any], leeway: float | timedelta) -> Self:
        try:
            for claim in ("exp", "iat"):
                payload[claim] = datetime.fromtimestamp(payload[claim], UTC)
        except (OSError, *_MALFORMED) as e:
            raise jwt.InvalidTokenError("Not a time") from e
        fields = _field_names(cast("Any", cls))
        if further := payload.keys() - fields:
            extras = payload.setdefault("extras", {})
            if not isinstance(extras, dict):
                raise jwt.InvalidTokenError("'extras' is not an object")
            extras.update({claim: payload.pop(claim) for claim in further})
        if not leeway:
            return msgspec.convert(payload, cls, strict=False)
        reset = _leeway.set(leeway.total_seconds() if isinstance(leeway, timedelta) else leeway)
        try:
            return msgspec.convert(payload, cls, strict=False)
        finally:
            _leeway.reset(reset)

    def encode(self, secret: Key, algorithm: str, headers: dict[str, Any] | None = None) -> str:
        """Sign the token.

        Args:
            secret: The key to sign with: a shared secret, or a private key. Of several, the first. The ID of a
                :class:`jwt.PyJWK` becomes the ``kid`` of the token.
            algorithm: The algorithm to sign with.
            headers: JOSE header parameters to add.

        Returns:
            The token in compact serialization.

        Raises:
            ImproperlyConfiguredException: If the key or the algorithm cannot be used for signing.
        """
        try:
            key, kid = signing_key(secret, algorithm)
            return jwt.encode(
                {name: value for name, value in asdict(self).items() if value is not None},
                cast("Any", key),
                algorithm,
                {"kid": kid, **(headers or {})} if kid is not None else headers,
            )
        except (jwt.DecodeError, jwt.InvalidKeyError, NotImplementedError, UnusableKeyError) as e:
            raise ImproperlyConfiguredException("Failed to encode token") from e


class _Accepted:
    """A predicate, as the container that PyJWT looks issuers up in."""

    __slots__ = ("_accepts",)

    def __init__(self, accepts: Callable[[str], bool]) -> None:
        self._accepts = accepts

    def __contains__(self, issuer: str) -> bool:
        return self._accepts(issuer)


def _ask(provider: KeyProvider, token: UnverifiedToken, algorithms: list[str]) -> Key:
    if token.algorithm not in algorithms:  # before anything that may cost more
        raise jwt.InvalidAlgorithmError("Algorithm not accepted")
    try:
        key = provider(token)
    except Exception as e:
        raise provider_error(e) from e
    if isinstance(key, Awaitable):
        if iscoroutine(key):
            key.close()
        raise ImproperlyConfiguredException(
            "This key provider is asynchronous. Give it to a backend as 'key_provider', or pass Token.decode the key "
            "that 'await provider(UnverifiedToken(encoded_token))' returns."
        )
    return key


def _single_audience(audience: str | Sequence[str] | None) -> str:
    if isinstance(audience, str):
        return audience
    if audience is None or len(audience) != 1:
        raise ValueError("When using 'strict_audience=True', 'audience' must be a sequence of length 1")
    return audience[0]


@lru_cache(maxsize=64)
def _field_names(cls: type[Token]) -> frozenset[str]:
    return frozenset(f.name for f in dataclasses.fields(cls))
