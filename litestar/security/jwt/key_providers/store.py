"""The copy of a key set that workers share."""

from __future__ import annotations

import time
from hashlib import sha256
from logging import getLogger
from math import ceil
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

import anyio
import msgspec

from litestar.security.jwt.key_providers.cache import KeySetAnswer, WithdrawnKey
from litestar.security.jwt.key_providers.fetch import MAX_LIFETIME
from litestar.security.jwt.key_set import parse_jwk
from litestar.security.jwt.keys import UnusableKeyError
from litestar.stores.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from litestar.security.jwt.keys import VerificationKey
    from litestar.stores.base import Store

__all__ = ("SharedKeySetStore",)

T = TypeVar("T")

_logger: Final = getLogger("litestar.security.jwt")

# Part of the key in the store. It changes whenever the format does, so that old and new releases can share a store.
_FORMAT: Final = 4
# Seconds to read and to write. A store in the same data centre answers within milliseconds.
_TIMEOUT: Final = 1.0
# A copy of 400 of the largest RSA keys has about a third of this.
_MAX_SIZE: Final = 2 * 1024 * 1024
# Seconds that the clocks of two workers may be apart.
_MAX_SKEW: Final = 60.0
# The longest lifetime that a worker can be configured with.
_LONGEST_LIFETIME: Final = 366 * 86_400.0


class _Copy(NamedTuple):
    """A key set, as it is stored."""

    requested_at: float
    """When the newest answer was requested."""
    fresh_until: float
    """When its freshness ends."""
    keys: list[dict[str, str]]
    """The keys that it lists: the public members, with ``kid``, ``alg`` and ``issuer`` if a key has them."""
    withdrawn: list[tuple[dict[str, str], float, float]]
    """The keys that only earlier answers listed, each with the times of the last one that did."""


class SharedKeySetStore:
    """The place of a key set in a store. Whatever is wrong with the store costs one log line until it works again."""

    def __init__(self, store: Store | str, identity: Sequence[object], *, label: str) -> None:
        """Choose the place.

        Args:
            store: The store, or the name of one that no application has looked up.
            identity: What tells this key set from others: all that the issuer's answer depends on.
            label: How log lines name the key set.
        """
        self.store = store
        """The store. Nobody changes it."""
        self._place = f"litestar.security.jwt:{sha256(msgspec.json.encode([_FORMAT, *identity])).hexdigest()}"
        """The key in the store. Nobody changes it."""
        self._label = f"{label}: the store {repr(store) if isinstance(store, str) else type(store).__name__}"
        """How log lines name the key set and the store. Nobody changes it."""
        self._is_broken = False
        """Whether the last operation failed. ``_within_a_second`` changes it."""
        self._is_warned_of = not isinstance(store, MemoryStore)
        """Whether it has been logged that the store shares nothing. :meth:`read` changes it."""

    async def read(self) -> KeySetAnswer | None:
        """Read the copy.

        Returns:
            The copy, ``None`` if there is none, or none that can be used.
        """
        if not self._is_warned_of:
            self._is_warned_of = True
            _logger.warning("%s shares no keys with other workers", self._label)

        async def get(store: Store) -> KeySetAnswer | None:
            data = await store.get(self._place)
            return None if data is None else _parse(data)

        return await self._within_a_second(get)

    async def write(self, answer: KeySetAnswer, usable_until: float) -> None:
        """Write a copy.

        Args:
            answer: What to write.
            usable_until: When that is of no more use, in seconds since the epoch.
        """
        withdrawn = [(_jwk_of(old.key), old.requested_at, old.fresh_until) for old in answer.withdrawn]
        copy = _Copy(answer.requested_at, answer.fresh_until, [_jwk_of(key) for key in answer.keys], withdrawn)
        expires_in = max(1, ceil(usable_until - time.time()))
        await self._within_a_second(lambda store: store.set(self._place, msgspec.json.encode(copy), expires_in))

    async def _within_a_second(self, operation: Callable[[Store], Awaitable[T]]) -> T | None:
        """Use the store, and log if it breaks or works again."""
        try:
            if isinstance(self.store, str):
                raise LookupError("no application has started that could look it up. Pass the store itself")
            with anyio.fail_after(_TIMEOUT):
                result = await operation(self.store)
        except Exception as e:  # noqa: BLE001  # stores have errors of their own
            if not self._is_broken:
                _logger.warning("%s cannot be used, so each worker keeps keys of its own (%r)", self._label, e)
            self._is_broken = True
            return None
        if self._is_broken:
            _logger.info("%s works again", self._label)
        self._is_broken = False
        return result


def _parse(data: bytes) -> KeySetAnswer:
    """Parse a copy. A store may hold anything, so nothing is trusted for longer than an answer of the issuer."""
    if len(data) > _MAX_SIZE:
        raise ValueError("the copy is too large")
    copy = msgspec.json.decode(data, type=_Copy)
    now = time.time()
    if copy.requested_at > now + _MAX_SKEW:
        raise ValueError("the copy is from the future")
    # The clock of the worker that wrote it may be ahead.
    requested_at = min(copy.requested_at, now)
    withdrawn = []
    for jwk, old_requested_at, old_fresh_until in copy.withdrawn:
        if old_requested_at > copy.requested_at:
            raise ValueError("the copy has a withdrawn key from the future")
        fresh_until = _end_of_freshness(old_requested_at, old_fresh_until)
        withdrawn += [WithdrawnKey(key, min(old_requested_at, now), fresh_until) for key in _keys_of([jwk])]
    keys = tuple(_keys_of(copy.keys))
    if not keys:
        raise ValueError("the copy has no usable key")
    return KeySetAnswer(keys, requested_at, _end_of_freshness(copy.requested_at, copy.fresh_until), tuple(withdrawn))


def _end_of_freshness(requested_at: float, fresh_until: float) -> float:
    if not 0 < fresh_until - requested_at <= _LONGEST_LIFETIME:
        raise ValueError("the copy has times that cannot be")
    return min(fresh_until, requested_at + MAX_LIFETIME)


def _keys_of(jwks: Iterable[dict[str, str]]) -> list[VerificationKey]:
    keys = []
    for jwk in jwks:
        try:
            keys.append(parse_jwk(jwk))
        except UnusableKeyError:  # another release may have written it, which can use more
            continue
    return keys


def _jwk_of(key: VerificationKey) -> dict[str, str]:
    """Return what makes a key and its rules. Certificates, and private members above all, are not kept."""
    members = {"kid": key.kid, "issuer": key.issuer, "alg": key.algorithms[0] if len(key.algorithms) == 1 else None}
    return {**key.jwk, **{name: value for name, value in members.items() if value is not None}}
