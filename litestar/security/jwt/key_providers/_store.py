"""The copy of a key set that workers share."""

from __future__ import annotations

import time
from hashlib import sha256
from logging import getLogger
from math import ceil
from typing import TYPE_CHECKING, Any, Final

import anyio
import msgspec

from litestar.exceptions import ImproperlyConfiguredException
from litestar.stores.base import Store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

__all__ = ("Listing", "SharedCopy")

_logger: Final = getLogger("litestar.security.jwt")

# Part of the key in the store. It changes whenever the format does, so that old and new releases can share a store.
_FORMAT: Final = 2
# Seconds for one operation. A store in the same data centre answers within milliseconds.
_TIMEOUT: Final = 1.0
# A copy of 200 of the largest RSA keys has about half of this.
_MAX_SIZE: Final = 1024 * 1024
# Seconds that the clocks of two workers may be apart.
_MAX_SKEW: Final = 60.0


class Listing(msgspec.Struct, frozen=True):
    """A key, and the last answer that listed it."""

    jwk: dict[str, Any]
    """The public members of the key."""
    asked_at: float
    """When the answer was asked for, in seconds since the epoch."""
    fresh_until: float
    """When its freshness ends."""


class SharedCopy:
    """A place in a store. Whatever is wrong with the store costs one log line until it works again."""

    __slots__ = ("_is_broken", "_key", "_label", "_max_lifetime", "store")

    store: Store | str | None
    """The store, or its name as long as no application has started."""

    def __init__(self, store: Store | str | None, identity: Sequence[Any], *, label: str, max_lifetime: float) -> None:
        """Choose the place.

        Args:
            store: The store, or its name in ``app.stores``.
            identity: What tells this key set from others: all that the issuer's answer depends on.
            label: The name of the key set for log lines.
            max_lifetime: The longest freshness to accept, in seconds.

        Raises:
            ImproperlyConfiguredException: If ``store`` is something else.
        """
        if store is not None and not (isinstance(store, (str, Store)) and store):
            raise ImproperlyConfiguredException(f"'store' is {store!r}. Use a Store, or a name in 'app.stores'")
        self.store = store
        self._key = f"litestar.security.jwt:{sha256(msgspec.json.encode([_FORMAT, *identity])).hexdigest()}"
        self._label = label
        self._max_lifetime = max_lifetime
        self._is_broken = False

    async def read(self) -> list[Listing]:
        """Return what the store holds, which is nothing if the store is out of order or holds something else."""
        return await self._guarded(self._read) or []

    async def write(self, listings: Sequence[Listing], *, expires_in: float) -> None:
        """Replace what the store holds.

        Args:
            listings: The keys.
            expires_in: Seconds after which they are useless.
        """

        async def set_copy(store: Store) -> None:
            await store.set(self._key, msgspec.json.encode(listings), expires_in=ceil(expires_in))

        await self._guarded(set_copy)

    async def _read(self, store: Store) -> list[Listing]:
        data = await store.get(self._key)
        if data is None:
            return []
        if len(data) > _MAX_SIZE:
            raise ValueError("the copy is too large")
        listings = msgspec.json.decode(data, type=list[Listing])
        # A store may hold anything. Nothing in it is trusted for longer than an answer of the issuer.
        latest = time.time() + _MAX_SKEW
        for listing in listings:
            if listing.asked_at > latest or not 0 < listing.fresh_until - listing.asked_at <= self._max_lifetime:
                raise ValueError("the copy has times that cannot be")
        return listings

    async def _guarded(self, operation: Callable[[Store], Awaitable[Any]]) -> Any:
        result = None
        try:
            if not isinstance(self.store, Store):
                raise LookupError(f"no application has started, in which {self.store!r} could be looked up")
            with anyio.fail_after(_TIMEOUT):
                result = await operation(self.store)
        except Exception as e:  # noqa: BLE001  # stores have errors of their own
            if not self._is_broken:
                self._is_broken = True
                _logger.warning("%s: the store cannot be used (%s: %s)", self._label, type(e).__name__, e)
        else:
            self._is_broken = False
        return result
