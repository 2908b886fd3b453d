"""The copy of a key set that workers share."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from hashlib import sha256
from logging import getLogger
from math import ceil
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import anyio
import msgspec

from litestar.exceptions import ImproperlyConfiguredException
from litestar.security.jwt.keys import UnusableKeyError, VerificationKey
from litestar.stores.base import Store

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ("Listing", "SharedCopy", "listing", "newest")

_logger: Final = getLogger("litestar.security.jwt")

# Part of the key in the store. It changes whenever the format does, so that old and new releases can share a store.
_FORMAT: Final = 3
# Seconds to read and to write. A store in the same data centre answers within milliseconds.
_TIMEOUT: Final = 1.0
# A copy of 200 of the largest RSA keys has about half of this.
_MAX_SIZE: Final = 1024 * 1024
# Seconds that the clocks of two workers may be apart.
_MAX_SKEW: Final = 60.0
# The members that make a key and its rules (RFC 7517, section 4). Certificates, and private members above all, are not kept.
_KEPT_MEMBERS: Final = ("alg", "crv", "e", "issuer", "key_ops", "kid", "kty", "n", "use", "x", "y")


class Listing(NamedTuple):
    """A usable key, and the last answer that listed it."""

    key: VerificationKey
    """The key."""
    asked_at: float
    """When the answer was asked for, in seconds since the epoch."""
    fresh_until: float
    """When its freshness ends."""


def listing(jwk: Any, asked_at: float, fresh_until: float) -> dict[str, Listing]:
    """Judge a key that an answer lists.

    Args:
        jwk: The JWK.
        asked_at: When the answer was asked for.
        fresh_until: When its freshness ends.

    Returns:
        The key, by the text of its public members.

    Raises:
        UnusableKeyError: If no signature can be verified with it.
    """
    key = VerificationKey.from_jwk(jwk)
    kept = {name: jwk[name] for name in _KEPT_MEMBERS if jwk.get(name) is not None}
    return {json.dumps(kept): Listing(key, asked_at, fresh_until)}


def newest(listings: Mapping[str, Listing]) -> float:
    """Tell when the newest answer was asked for, 0 if there is none."""
    return max((listing.asked_at for listing in listings.values()), default=0.0)


class SharedCopy:
    """A place in a store. Whatever is wrong with the store costs one log line until it works again."""

    def __init__(self, store: Store | str | None, identity: Sequence[Any], *, label: str, longest: float) -> None:
        """Choose the place.

        Args:
            store: The store, or its name in ``app.stores``.
            identity: What tells this key set from others: all that the issuer's answer depends on.
            label: The name of the key set for log lines.
            longest: The longest freshness to accept, in seconds.

        Raises:
            ImproperlyConfiguredException: If ``store`` is something else.
        """
        if store is not None and not (isinstance(store, (str, Store)) and store):
            raise ImproperlyConfiguredException(f"'store' is {store!r}. Pass a Store, or a name in 'app.stores'")
        self.store = store
        self._key = f"litestar.security.jwt:{sha256(msgspec.json.encode([_FORMAT, *identity])).hexdigest()}"
        self._label = label
        self._longest = longest
        self._is_broken = False

    async def exchange(self, ours: Mapping[str, Listing], *, until: float) -> dict[str, Listing]:
        """Read the copy, and replace it if it is older than what is in memory.

        Args:
            ours: What is in memory.
            until: When that is of no more use, in seconds since the epoch.

        Returns:
            The copy if it is newer, or else nothing.
        """
        theirs: dict[str, Listing] = {}
        store: Any = self.store
        if store is None:
            return theirs
        try:
            with anyio.fail_after(_TIMEOUT):
                try:
                    theirs = self._judged(await store.get(self._key) or b"{}")
                finally:  # what is no copy is replaced
                    if newest(theirs) < newest(ours):
                        copy = msgspec.json.encode({text: listing[1:] for text, listing in ours.items()})
                        await store.set(self._key, copy, expires_in=max(1, ceil(until - time.time())))
            self._is_broken = False
        except Exception as e:  # noqa: BLE001  # stores have errors of their own
            if not self._is_broken:
                _logger.warning("%s: the store cannot be used: %r (%r)", self._label, store, e)
            self._is_broken = True
        return theirs if newest(theirs) > newest(ours) else {}

    def _judged(self, data: bytes) -> dict[str, Listing]:
        """Read a copy. A store may hold anything, so nothing is trusted for longer than an answer of the issuer."""
        if len(data) > _MAX_SIZE:
            raise ValueError("the copy is too large")
        listings, now = {}, time.time()
        for jwk, (asked_at, fresh_until) in msgspec.json.decode(data, type=dict[str, tuple[float, float]]).items():
            if asked_at > now + _MAX_SKEW or not 0 < fresh_until - asked_at <= self._longest:
                raise ValueError("the copy has times that cannot be")
            with suppress(UnusableKeyError):  # another release may have written it, which can use more
                # The clock of the worker that wrote it may be ahead.
                listings.update(listing(json.loads(jwk), min(asked_at, now), fresh_until))
        return listings
