from __future__ import annotations

import re
from contextlib import asynccontextmanager
from hashlib import sha256
from logging import getLogger
from math import ceil, isfinite
from secrets import token_hex
from typing import TYPE_CHECKING, Final

import anyio
import msgspec

from litestar.security.jwt._http import label_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from litestar.stores.base import Store

__all__ = ("Claim", "SharedStore", "StoreError", "StoredCopy")

_logger: Final = getLogger("litestar.security.jwt")

_PREFIX: Final = "litestar.security.jwt"
_FAILED: Final = b"failed"
# Seconds in which whoever else is about to claim a document at the same moment has written its claim as well.
_SETTLING: Final = 0.1
_ENTITY_TAG: Final = re.compile(r"(?:W/)?\"[!#-~]{0,256}\"", re.ASCII)
_HTTP_DATE: Final = re.compile(r"[ -~]{1,64}", re.ASCII)


class StoreError(Exception):
    """The store did not do what it was asked for, or not in time."""


class StoredCopy(msgspec.Struct, frozen=True, kw_only=True):
    """A document as it lies in a store."""

    url: str
    fetched_at: float
    """When it was asked for, in seconds since the epoch."""
    lifetime: float
    """Seconds for which it is fresh."""
    demanded_at: float
    """When it was last fetched because somebody missed something in it, in seconds since the epoch."""
    etag: str | None
    last_modified: str | None
    body: bytes


class Claim(msgspec.Struct, frozen=True):
    """Who fetches a document."""

    mine: bool = False
    """This worker does."""
    failed: bool = False
    """Another worker has tried, in vain, a short while ago."""


class SharedStore:
    """A document's place in a store that other workers use as well.

    Stores have no atomic "set if absent", so that claims are settled by writing one and looking a moment later whose it is:
    the last writer's. As a rule one worker fetches. Where a store takes longer than that moment, two may. What a document
    says does not depend on it.
    """

    __slots__ = ("_ignored", "_key", "_label", "_max_body_size", "_me", "_time_limit", "_troubled", "_url", "store")

    def __init__(self, store: Store, url: str, *, max_body_size: int, time_limit: float) -> None:
        """Choose the place.

        Args:
            store: The store.
            url: The document's URL.
            max_body_size: Bytes of the largest body to accept.
            time_limit: Seconds that the store may take for one operation.
        """
        self.store = store
        self._url = url
        self._label = label_of(url)
        self._key = f"{_PREFIX}:{sha256(url.encode()).hexdigest()}"
        self._max_body_size = max_body_size
        self._time_limit = time_limit
        self._me = token_hex(16).encode()
        self._ignored: int | None = None
        self._troubled = False

    async def read(self) -> StoredCopy | None:
        """Return the copy, if there is one that makes sense.

        Raises:
            StoreError: If the store is out of order.
        """
        async with self._guarded():
            data = await self.store.get(self._key)
        if data is None:
            return None
        try:
            return self._decode(data)
        except (ValueError, TypeError, RecursionError):
            self.ignore(data)
            return None

    async def write(self, copy: StoredCopy, *, expires_in: float) -> None:
        """Replace the copy.

        Args:
            copy: The new one.
            expires_in: Seconds for which to keep it.

        Raises:
            StoreError: If the store is out of order.
        """
        async with self._guarded():
            await self.store.set(self._key, msgspec.msgpack.encode(copy), expires_in=ceil(expires_in))

    async def claim(self, *, lease: float) -> Claim:
        """Announce to the other workers that this one is going to fetch, unless one of them does.

        Args:
            lease: Seconds after which others need not wait any longer.

        Returns:
            Whose it is.

        Raises:
            StoreError: If the store is out of order.
        """
        async with self._guarded():
            holder = await self.store.get(f"{self._key}:claim")
            if holder is None:
                await self.store.set(f"{self._key}:claim", self._me, expires_in=ceil(lease))
        if holder is not None:
            return Claim(failed=holder == _FAILED)
        await anyio.sleep(_SETTLING)
        async with self._guarded():
            return Claim(mine=await self.store.get(f"{self._key}:claim") == self._me)

    async def release(self, *, failed_for: float = 0) -> None:
        """Give a claim up.

        Args:
            failed_for: Seconds for which others should not try either, as it went wrong.

        Raises:
            StoreError: If the store is out of order.
        """
        async with self._guarded():
            if failed_for:
                await self.store.set(f"{self._key}:claim", _FAILED, expires_in=ceil(failed_for))
            else:
                await self.store.delete(f"{self._key}:claim")

    def ignore(self, content: object) -> None:
        """Say, once, that what the store holds is of no use.

        Args:
            content: What it holds.
        """
        if self._ignored != hash(content):
            self._ignored = hash(content)
            _logger.warning("%s: what the store holds for it is not a usable copy, it is ignored", self._label)

    def _decode(self, data: bytes) -> StoredCopy:
        """Check a copy like an answer: a store may hold anything."""
        copy = msgspec.msgpack.decode(data, type=StoredCopy)
        if copy.url != self._url or len(copy.body) > self._max_body_size:
            raise ValueError("not a copy of this document")
        if not (isfinite(copy.fetched_at) and isfinite(copy.lifetime) and isfinite(copy.demanded_at)):
            raise ValueError("not a time")
        if copy.etag is not None and not _ENTITY_TAG.fullmatch(copy.etag):
            raise ValueError("not an entity tag")
        if copy.last_modified is not None and not _HTTP_DATE.fullmatch(copy.last_modified):
            raise ValueError("not a date")
        return copy

    @asynccontextmanager
    async def _guarded(self) -> AsyncIterator[None]:
        try:
            with anyio.fail_after(self._time_limit):
                yield
        except Exception as e:  # stores have errors of their own
            if not self._troubled:
                self._troubled = True
                _logger.warning("%s: the store failed, going on without (%s)", self._label, type(e).__name__)
            raise StoreError from e
        if self._troubled:
            self._troubled = False
            _logger.info("%s: the store works again", self._label)
