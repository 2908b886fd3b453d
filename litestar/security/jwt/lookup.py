"""How a key provider is called, and what its exceptions mean."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from inspect import Parameter, iscoroutine, signature
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn, TypeAlias, cast

import jwt
from anyio import to_thread

from litestar.exceptions import HTTPException, ImproperlyConfiguredException
from litestar.security.jwt.key_set import KeySet, load_keys, select
from litestar.security.jwt.keys import (
    UNAVAILABLE,
    KeyNotFoundException,
    KeysUnavailableException,
    SelectedKeys,
    UnknownIssuerException,
    UnusableKeyError,
    is_key,
)
from litestar.security.jwt.refusals import Reason, TokenRefused

if TYPE_CHECKING:
    from litestar.connection import ASGIConnection
    from litestar.security.jwt.keys import Key
    from litestar.security.jwt.unverified import UnverifiedToken

__all__ = ("FoundKeys", "KeyLookup", "as_lookup", "name_of")

Connection: TypeAlias = "ASGIConnection[Any, Any, Any, Any]"

_POSITIONAL: Final = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
# The name of a second parameter that receives the connection even if it has a default.
_CONNECTION: Final = "connection"


class FoundKeys(NamedTuple):
    """The keys for a token, and where they are from."""

    selected: SelectedKeys
    """The keys that may verify the token."""
    lookup: KeyLookup
    """The provider that returned them, whose ``refetch`` may find others."""


@dataclass(frozen=True, slots=True, repr=False)
class KeyLookup:
    """A key provider, and how to call it."""

    given: object
    """What the application gave as the provider. Handlers that ask for the dependency receive it."""
    provider: Callable[..., object]
    """The function or object to call."""
    takes_connection: bool = False
    """Whether ``provider`` takes the connection as a second argument."""
    refetch: Callable[..., Awaitable[object]] | None = None
    """Looks for other keys if a signature did not verify."""
    refetch_takes_connection: bool = False
    """Whether ``refetch`` takes the connection as a second argument."""

    async def find(self, token: UnverifiedToken, connection: Connection | None) -> FoundKeys:
        """Find the keys for a token.

        Args:
            token: The token.
            connection: The connection that it came with, if there is one.

        Returns:
            The keys, possibly none, and the provider that returned them.

        Raises:
            TokenRefused: If the provider has no key for the token.
            HTTPException: If the provider raises it, or no keys are available at the moment.
            ImproperlyConfiguredException: If the provider needs a connection and there is none, or a key cannot be used.
        """
        try:
            answer = self._call(self.provider, token, connection, takes_connection=self.takes_connection)
            if not isinstance(answer, SelectedKeys):
                answer = await answer if isinstance(answer, Awaitable) else answer
                if _is_provider(answer):
                    return await as_lookup(answer, ()).find_keys(token, connection)
            return FoundKeys(select(cast("Key | None", answer), token), self)
        except Exception as e:  # noqa: BLE001
            _translate(e)

    async def find_keys(self, token: UnverifiedToken, connection: Connection | None) -> FoundKeys:
        """Find the keys for a token with a provider that another provider returned. A third one is not called.

        Args:
            token: The token.
            connection: The connection that it came with, if there is one.
        """
        answer = self._call(self.provider, token, connection, takes_connection=self.takes_connection)
        if not isinstance(answer, SelectedKeys) and isinstance(answer, Awaitable):
            answer = await answer
        return FoundKeys(select(_as_key(answer), token), self)

    def find_now(self, token: UnverifiedToken) -> FoundKeys:
        """Find the keys for a token without waiting.

        Args:
            token: The token.

        Returns:
            The keys, possibly none.

        Raises:
            TokenRefused: If the provider has no key for the token.
            ImproperlyConfiguredException: If the provider is asynchronous or needs a connection, or a key cannot be used.
        """
        try:
            answer: object = self._call(self.provider, token, None, takes_connection=self.takes_connection)
            if not isinstance(answer, SelectedKeys) and _is_provider(answer):
                nested = as_lookup(answer, ())
                answer = nested._call(nested.provider, token, None, takes_connection=nested.takes_connection)
            return FoundKeys(select(_as_key(answer), token), self)
        except Exception as e:  # noqa: BLE001
            _translate(e)

    async def find_again(
        self, token: UnverifiedToken, connection: Connection | None, tried: SelectedKeys
    ) -> SelectedKeys | None:
        """Let the provider refetch, because the signature of a token did not verify.

        Args:
            token: The token.
            connection: The connection that it came with, if there is one.
            tried: The keys that did not verify it.

        Returns:
            Other keys, or ``None`` if there are no others.
        """
        if self.refetch is None:
            return None
        try:
            answer = await cast(
                "Awaitable[object]",
                self._call(self.refetch, token, connection, takes_connection=self.refetch_takes_connection),
            )
            selected = select(_as_key(answer), token)
        except Exception as e:  # noqa: BLE001
            with suppress(TokenRefused):
                _translate(e)
            return None
        return selected if selected.keys and selected.keys != tried.keys else None

    def _call(
        self,
        function: Callable[..., object],
        token: UnverifiedToken,
        connection: Connection | None,
        *,
        takes_connection: bool,
    ) -> object:
        if not takes_connection:
            return function(token)
        if connection is None:
            raise ImproperlyConfiguredException(
                f"{name_of(self.given)} takes the connection as its second argument. Pass 'connection' to 'verify'."
            )
        return function(token, connection)


def as_lookup(given: object, algorithms: Sequence[str]) -> KeyLookup:
    """Decide how to call what an application gave as a key provider.

    Args:
        given: A key, a key provider, or a :class:`jwt.PyJWKClient`.
        algorithms: The algorithms that the application accepts. They matter if ``given`` is a key.

    Returns:
        The provider, and how to call it.

    Raises:
        ImproperlyConfiguredException: If it is none of those.
        UnusableKeyError: If it is a key that cannot be used.
    """
    if isinstance(given, KeyLookup):
        return given
    if isinstance(given, jwt.PyJWKClient):
        return KeyLookup(given, _in_thread(given))
    if is_key(given):
        return KeyLookup(given, KeySet(load_keys(cast("Key", given), algorithms)).select)
    if not callable(given) or isinstance(given, type):
        raise ImproperlyConfiguredException(
            "'key_provider' takes a key, an object such as OpenIDProvider(...), a function that returns the key for an "
            f"UnverifiedToken, a PyJWKClient, or a Provide, not {name_of(given)}. Pass a function without calling it, an "
            "instance instead of a class, the content of a file, and IssuerKeyProvider(...) for several issuers."
        )
    refetch = getattr(given, "refetch", None)
    return KeyLookup(
        given,
        given,
        _takes_connection(given),
        refetch,
        refetch is not None and _takes_connection(refetch),
    )


def _takes_connection(function: Callable[..., object]) -> bool:
    """Tell whether a function takes the connection: as a second required parameter, or as one named ``connection``."""
    try:
        parameters = _parameters_of(function)
    except TypeError:  # an object without a hash
        parameters = _parameters_of.__wrapped__(function)
    positional = [p for p in parameters if p.kind in _POSITIONAL]
    has_varargs = any(p.kind is Parameter.VAR_POSITIONAL for p in parameters)
    required = [p for p in positional if p.default is Parameter.empty]
    missing = [p for p in parameters if p.kind is Parameter.KEYWORD_ONLY and p.default is Parameter.empty]
    if missing or len(required) > 2 or not (positional or has_varargs):
        raise ImproperlyConfiguredException(
            f"{name_of(function)} cannot be a key provider: it must take the UnverifiedToken, and can take the connection, as "
            "positional arguments. If it creates a key provider, wrap it in 'Provide'."
        )
    return len(required) == 2 or (len(positional) > 1 and positional[1].name == _CONNECTION)


# Signatures are slow to read, and a provider may return another one for each request.
@lru_cache(maxsize=64)
def _parameters_of(function: Callable[..., object]) -> tuple[Parameter, ...]:
    try:
        return tuple(signature(function).parameters.values())
    except ValueError:  # functions that are not written in Python may have no signature
        return (Parameter("token", Parameter.POSITIONAL_ONLY),)


def _is_provider(answer: object) -> bool:
    """Tell whether a provider returned another provider instead of a key."""
    return isinstance(answer, jwt.PyJWKClient) or (callable(answer) and not is_key(answer))


def _as_key(answer: object) -> Key | None:
    """Return what a provider returned if it is a key."""
    if answer is None or is_key(answer) or (isinstance(answer, Sequence) and not answer):
        return cast("Key | None", answer)
    if iscoroutine(answer):
        answer.close()
    if isinstance(answer, Awaitable):
        raise UnusableKeyError("its provider is asynchronous. Use it as the 'key_provider' of a backend")
    raise UnusableKeyError(f"its provider returned {name_of(answer)}, which is no key")


def _translate(error: Exception) -> NoReturn:
    """Translate an exception of a key provider: a refusal, ``503``, the provider's own answer, or ``500``."""
    match error:
        case TokenRefused():
            raise error
        case UnknownIssuerException():
            raise TokenRefused(Reason.ISSUER, " or ".join(error.expected) or None) from error
        case KeyNotFoundException():
            raise TokenRefused(Reason.UNKNOWN_KEY) from error
        case HTTPException():
            raise error
        case jwt.PyJWKClientConnectionError() | jwt.PyJWKSetError() | OSError():
            raise KeysUnavailableException(UNAVAILABLE) from error
        case jwt.PyJWTError() | LookupError():
            raise TokenRefused(Reason.UNKNOWN_KEY) from error
        case UnusableKeyError():
            raise ImproperlyConfiguredException(f"The key to verify tokens with cannot be used: {error}") from error
    raise error


def _in_thread(client: jwt.PyJWKClient) -> Callable[[UnverifiedToken], Awaitable[object]]:
    """Call PyJWT's own client in a worker thread, since it blocks while it fetches."""

    async def key_provider(token: UnverifiedToken) -> object:
        try:
            return await to_thread.run_sync(client.get_signing_key, token.kid or "")
        except (ValueError, RecursionError) as e:  # what the issuer sent is not JSON
            raise KeysUnavailableException(UNAVAILABLE) from e

    return key_provider


def name_of(value: object) -> str:
    """Return what a message shows of a provider: never its content, which may be a key."""
    return str(getattr(value, "__qualname__", type(value).__name__))
