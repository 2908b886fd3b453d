from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import jwt

from litestar.di import Provide
from litestar.exceptions import ImproperlyConfiguredException
from litestar.security.jwt.keys import (
    KeysUnavailableError,
    UnusableKeyError,
    algorithms_of,
    is_key,
    is_mixture,
    load_key,
)

if TYPE_CHECKING:
    from litestar.security.jwt.keys import Key, KeyProvider
    from litestar.security.jwt.unverified import UnverifiedToken

__all__ = ("StaticKey", "as_provider", "natural_algorithms")

# What a key is used with when nobody says: the algorithm of its kind that every implementation has (RFC 7518, section 3.1).
_PREFERRED = ("RS256", "ES256", "ES384", "ES512", "ES256K", "EdDSA")


class StaticKey:
    """A provider with the same answer for every token."""

    __slots__ = ("key",)

    def __init__(self, key: Key) -> None:
        """Keep a key, or several."""
        self.key = key

    def __call__(self, token: UnverifiedToken) -> Key:
        """Return the key."""
        return self.key


class ThreadedClient:
    """PyJWT's own client. It blocks while it fetches, so each call is made in a worker thread."""

    __slots__ = ("_client",)

    def __init__(self, client: jwt.PyJWKClient) -> None:
        """Keep a client."""
        self._client = client

    async def __call__(self, token: UnverifiedToken) -> Key:
        """Return the key that the client finds."""
        from anyio import to_thread

        try:
            return await to_thread.run_sync(self._client.get_signing_key_from_jwt, token.encoded)
        except (ValueError, RecursionError) as e:  # of the json module: the token has been parsed before
            raise KeysUnavailableError("Keys to verify tokens with are unavailable") from e


def as_provider(given: Any) -> KeyProvider:
    """Make a key provider of whatever an application gave as one.

    Args:
        given: A key, a key provider, or a :class:`jwt.PyJWKClient`.

    Returns:
        A key provider.

    Raises:
        ImproperlyConfiguredException: If it is none of those.
    """
    if isinstance(given, jwt.PyJWKClient):
        return ThreadedClient(given)
    if is_key(given):
        return StaticKey(given)
    if callable(given) and not isinstance(given, (type, Provide)):
        return cast("KeyProvider", given)
    raise ImproperlyConfiguredException(
        f"A 'key_provider' is a key, a function that takes an UnverifiedToken, or a PyJWKClient, not {type(given).__name__}"
    )


def natural_algorithms(key: Any) -> tuple[str, ...]:
    """Tell which algorithms a key is meant for when the application does not say.

    Args:
        key: A key, several, or a provider of them.

    Returns:
        One algorithm for each kind of key. None for a provider whose keys are not known beforehand.

    Raises:
        UnusableKeyError: If a key cannot be used with any algorithm, or not all with the same kind.
    """
    if isinstance(key, StaticKey):
        return natural_algorithms(key.key)
    if isinstance(key, (str, bytes)):
        try:
            key = load_key(key)
        except UnusableKeyError:
            return ("HS256",)
    if isinstance(key, jwt.PyJWK):
        return (key.algorithm_name,)
    if isinstance(key, (Sequence, jwt.PyJWKSet)):
        names = tuple(dict.fromkeys(name for k in _members(key) for name in natural_algorithms(k)))
        if is_mixture(names):
            raise UnusableKeyError("secrets and public keys cannot be used together")
        return names
    if callable(key):
        return ()
    possible = algorithms_of(key)
    return tuple(name for name in _PREFERRED if name in possible)


def _members(keys: Any) -> Sequence[Any]:
    return cast("Sequence[Any]", keys.keys if isinstance(keys, jwt.PyJWKSet) else keys)
