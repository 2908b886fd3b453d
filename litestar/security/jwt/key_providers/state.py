"""What changes in a remote key set, and the work that changes it: one fetch, and the copies in stores."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from logging import DEBUG, WARNING, getLogger
from typing import TYPE_CHECKING, Final

import anyio

from litestar.security.jwt.key_providers.background import LoopTasks
from litestar.security.jwt.key_providers.cache import KeySetAnswer, parse_key_set, shown_key_id
from litestar.security.jwt.key_providers.fetch import FetchError
from litestar.security.jwt.key_providers.limits import Backoff, TokenBucket
from litestar.security.jwt.keys import UnusableKeyError

if TYPE_CHECKING:
    from datetime import datetime

    from litestar.security.jwt.key_providers.background import BackgroundTask
    from litestar.security.jwt.key_providers.cache import KeyCache
    from litestar.security.jwt.key_providers.fetch import Document
    from litestar.security.jwt.key_providers.store import SharedKeySetStore

__all__ = ("COPIES", "FETCH", "KeySetState", "KeySetStatus", "RequestFunction")

_logger: Final = getLogger("litestar.security.jwt")

RequestFunction = Callable[[float, bool], Awaitable["Document"]]
"""Requests the keys: from a deadline by the clock of the event loop, and whether caches in between must not answer."""

# What background tasks are for.
FETCH, COPIES = "fetch", "copies"
# How many fetches unknown keys may cause at once, and the seconds after which they may cause another one. One made-up key ID
# must not keep a new key out, and a flood of them must neither do so for long nor reach the issuer.
_EXTRA_FETCHES: Final = 2
_REFILL: Final = 15.0
# A deadline that fires this many seconds late was set before the process was frozen, as AWS Lambda does between requests.
_FROZEN: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySetStatus:
    """The state of a :class:`RemoteJWKSet` or an :class:`OpenIDProvider` at one moment. Times are in UTC."""

    url: str
    """The URL, without its query."""
    issuer: str | None
    """The name of the issuer, ``None`` for a :class:`RemoteJWKSet`."""
    key_ids: tuple[str | None, ...]
    """The IDs of the usable keys that the newest answer lists."""
    withdrawn_key_ids: tuple[str | None, ...]
    """The IDs of the keys that it no longer lists, and that are still accepted."""
    skipped: tuple[str, ...]
    """The keys of the newest answer that are not used, each by its ID, with the reason."""
    fetched_at: datetime | None
    """When the newest answer was requested, ``None`` if there is none."""
    expires_at: datetime | None
    """Until when the newest answer is fresh."""
    usable_until: datetime | None
    """Until when its keys are accepted, if no newer answer comes."""
    usable: bool
    """Whether there are keys that verify tokens now."""
    last_error: str | None
    """Why the last fetch failed, and of which URL, ``None`` if it did not."""
    fetches: int
    """How many times keys were requested from the issuer."""
    failures: int
    """How many fetches failed."""
    misses: int
    """How many times the key of a token was neither in memory nor in the answer that was under way."""


class KeySetState:
    """What changes in a :class:`RemoteJWKSet` while it is used."""

    def __init__(self, label: str, cache: KeyCache, request: RequestFunction, timeout: float) -> None:
        """Start without keys.

        Args:
            label: How log lines name the key set.
            cache: A cache without keys.
            request: Requests the keys.
            timeout: Seconds that it may take.
        """
        self._label, self._request, self._timeout = label, request, timeout
        """Arguments. Nobody changes them."""
        self.cache = cache
        """The keys that are known and accepted. ``_merge`` changes it."""
        self.stores: list[SharedKeySetStore] = []
        """The copies that other workers see, one for each application if the store is named. ``RemoteJWKSet`` adds and removes them."""
        self.looked_at = 0.0
        """When the copies were last read. ``_read_copies`` changes it."""
        self.tasks = LoopTasks()
        """The fetch under way, and those that still write a copy. :meth:`start_fetch` and :meth:`start_look` add to them."""
        self.backoff = Backoff()
        """When a fetch may be tried again after failures. ``_fetch`` changes it."""
        self.extra_fetches = TokenBucket(_EXTRA_FETCHES, _REFILL)
        """The fetches that unknown keys may cause. ``RemoteJWKSet`` takes them."""
        self.is_unfinished = False
        """Whether the last fetch has neither worked nor failed: it runs, or its event loop has ended. ``_fetch`` changes it."""
        self.last_error: str | None = None
        """Why the last fetch failed. ``_fetch`` changes it."""
        self.skipped: tuple[str, ...] = ()
        """The unusable keys of the newest answer. ``_answer`` changes it."""
        self._logged_keys: tuple[str, str] | None = None
        """The current and the withdrawn keys as last logged. :meth:`log_keys` changes it."""
        self.fetches = self.failures = self.misses = 0
        """How many fetches were started, how many failed, and how many tokens lacked a key. Those who do it count."""

    def is_due(self) -> bool:
        """Tell whether the newest answer is due for renewal."""
        return self.cache.is_due(time.time())

    def pending(self) -> BackgroundTask | None:
        """Return the fetch under way."""
        return self.tasks.pending(FETCH)

    def start_fetch(self, is_needed: Callable[[], bool], *, no_cache: bool = False) -> BackgroundTask:
        """Start a task that reads the copies, fetches if that is still needed, and writes the copies.

        Args:
            is_needed: Tells whether to fetch, once newer copies have been read.
            no_cache: Whether caches in between must not answer.
        """

        async def work(task: BackgroundTask) -> None:
            await self._read_copies()
            if is_needed() and not await self._fetch(no_cache):
                await self._read_copies()
            task.ready.set()
            await self._write_copies()

        return self.tasks.start(FETCH, work)

    def start_look(self) -> BackgroundTask:
        """Start a task that only reads the copies."""
        return self.tasks.start(COPIES, lambda _: self._read_copies())

    async def _fetch(self, no_cache: bool) -> bool:
        """Fetch the keys and merge them, or count a failure. Tell whether that worked."""
        self.fetches += 1
        self.is_unfinished = True
        try:
            deadline = anyio.current_time() + self._timeout
            try:
                answer = await self._answer(deadline, no_cache)
            except FetchError:
                if anyio.current_time() < deadline + _FROZEN:
                    raise
                answer = await self._answer(anyio.current_time() + self._timeout, no_cache)
            self._merge(answer)
        except Exception as e:  # noqa: BLE001  # nothing that an issuer sends may end the task
            self.last_error = str(e) if isinstance(e, FetchError) else repr(e)
            if not self.backoff.failures:
                _logger.warning("%s: fetching keys failed (%s)", self._label, self.last_error)
            self.failures += 1
            self.is_unfinished = False
            self.backoff.fail(time.time(), e.retry_after if isinstance(e, FetchError) else 0)
            return False
        if self.backoff.failures:
            _logger.info("%s: fetching keys works again", self._label)
        self.backoff.succeed()
        self.is_unfinished = False
        self.last_error = None
        return True

    async def _answer(self, deadline: float, no_cache: bool) -> KeySetAnswer:
        requested_at = time.time()
        document = await self._request(deadline, no_cache)
        self.cache.distrust_listed(document.content)
        try:
            keys, skipped = parse_key_set(document.content)
        except UnusableKeyError as e:
            raise FetchError(f"{document.url}: {e}") from e
        for each in skipped:
            if each.label not in self.skipped:
                _logger.log(DEBUG if each.is_expected else WARNING, "%s: a key is skipped, %s", self._label, each.label)
        self.skipped = tuple(each.label for each in skipped)
        return KeySetAnswer(tuple(keys), requested_at, requested_at + document.lifetime)

    def _merge(self, answer: KeySetAnswer) -> None:
        self.cache.merge(answer, time.time())
        self.log_keys()

    def log_keys(self) -> None:
        """Log which keys have come and gone since this was last done."""
        now = time.time()
        current, withdrawn = (", ".join(sorted(map(shown_key_id, ids))) or "none" for ids in self.cache.key_ids(now))
        if self._logged_keys not in (None, (current, withdrawn)):
            _logger.info("%s: keys: %s, withdrawn: %s", self._label, current, withdrawn)
        self._logged_keys = (current, withdrawn) if self.cache.requested_at else None

    async def _read_copies(self) -> None:
        """Merge the copies that are newer than what is in memory."""
        self.looked_at = time.time()
        for store in list(self.stores):
            copy = await store.read()
            if copy is not None and self.cache.is_newer(copy, time.time()):
                self._merge(copy)

    async def _write_copies(self) -> None:
        """Write what is in memory where no newer copy is."""
        for store in list(self.stores):
            copy = await store.read()
            if copy is not None and self.cache.is_newer(copy, time.time()):
                self._merge(copy)
            elif self.cache.requested_at and (copy is None or copy.requested_at < self.cache.requested_at):
                await store.write(self.cache.snapshot(), self.cache.usable_until)
