from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import asynccontextmanager, suppress
from contextvars import Context
from dataclasses import dataclass, replace
from logging import getLogger
from math import inf, isfinite
from random import uniform
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import anyio
import msgspec
import sniffio

from litestar.exceptions import ImproperlyConfiguredException
from litestar.security.jwt._http import (
    FetchError,
    Transport,
    check_headers,
    check_url,
    freshness,
    in_thread,
    label_of,
)
from litestar.security.jwt._stored import SharedStore, StoredCopy, StoreError
from litestar.security.jwt.keys import KeysUnavailableError
from litestar.stores.base import Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Mapping

    from litestar import Litestar
    from litestar.security.jwt._http import Fetched, FetchFunction, HTTPClient

__all__ = ("CacheOptions", "RemoteDocument", "Snapshot", "parse_json", "running_loop", "spawn")

A = TypeVar("A")
T = TypeVar("T")

_logger: Final = getLogger("litestar.security.jwt")

_NOT_MODIFIED: Final = 304
# Parts of the deadline that a store may take for one operation, and that another worker's fetch is waited for.
_STORE_SHARE: Final = 0.2
_OTHERS_SHARE: Final = 0.5
# Seconds between two looks whether another worker's fetch is over, about.
_POLL: Final = 0.1
# Seconds that the clocks of workers may be apart.
_MAX_SKEW: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheOptions:
    """For how long a document is good, and how often it may be asked for."""

    lifetime: float = 600
    """Seconds for which an answer is fresh that does not say so itself."""
    min_lifetime: float = 60
    """Seconds for which any answer is fresh at least."""
    max_lifetime: float = 86_400
    """Seconds for which any answer is fresh at most."""
    refresh_ahead: float = 0.8
    """The part of the lifetime after which a fresh document is renewed in the background."""
    cooldown: float = 30
    """Seconds between two fetches for something that the document lacks, and after a failed fetch."""
    timeout: float = 5
    """Seconds that a fetch may take, with its retries and the whole body."""
    max_stale: float = 86_400
    """Seconds for which a document is used beyond its lifetime while no other is to be had."""
    max_body_size: int = 512 * 1024
    """Bytes of the largest body to accept."""

    def __post_init__(self) -> None:
        positive = (self.min_lifetime, self.refresh_ahead, self.cooldown, self.timeout, self.max_body_size)
        if not all(map(isfinite, (*positive, self.lifetime, self.max_lifetime, self.max_stale))):
            raise ImproperlyConfiguredException("Times and sizes of a remote document have to be finite")
        if min(positive) <= 0 or self.max_stale < 0 or self.refresh_ahead > 1:
            raise ImproperlyConfiguredException("A time, size or share of a remote document is out of range")
        if not self.min_lifetime <= self.lifetime <= self.max_lifetime:
            raise ImproperlyConfiguredException("'lifetime' has to be between 'min_lifetime' and 'max_lifetime'")

    def clamp(self, lifetime: float | None) -> float:
        """Return the lifetime of an answer, given what it says about that."""
        return self.lifetime if lifetime is None else min(max(lifetime, self.min_lifetime), self.max_lifetime)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot(Generic[T]):
    """An answer, and what was made of it."""

    value: T
    body: bytes
    fetched_at: float
    """When it was asked for, in seconds since the epoch."""
    lifetime: float
    """Seconds for which it is fresh."""
    etag: str | None = None
    last_modified: str | None = None

    @property
    def expires_at(self) -> float:
        """When it ceases to be fresh."""
        return self.fetched_at + self.lifetime


class _Flight(Generic[T]):
    """A fetch under way. It runs in a task of its own, so that no one who waits for it can cancel it."""

    __slots__ = (
        "demanded",
        "ended",
        "error",
        "forced",
        "leads",
        "loop",
        "order",
        "scope",
        "settled",
        "task",
        "usable",
        "wanted",
    )

    def __init__(self, loop: object, order: int, wanted: Callable[[T], bool] | None, *, forced: bool) -> None:
        self.loop = loop
        self.order = order
        self.wanted = wanted
        self.demanded = wanted is not None
        """Somebody misses something in the document."""
        self.forced = forced
        """The origin itself has to be asked."""
        self.leads = False
        """The other workers wait for this fetch."""
        self.error: str | None = "cut off"
        self.task: object = None  # event loops keep no strong reference
        self.scope = anyio.CancelScope()
        self.usable = anyio.Event()
        """There is a document, though it may be an old one."""
        self.settled = anyio.Event()
        """The newest document to be had is there, or none is to be had."""
        self.ended = anyio.Event()
        """Everything is done, and other workers have been told."""


class RemoteDocument(Generic[T]):
    """A document that is fetched when it is needed, kept, and renewed in the background.

    Times are those of a wall clock, so that the document ages while a machine sleeps and workers can share it. A wall clock
    can be set: moments that turn out to lie in the future are taken for past ones.

    Nothing here belongs to an event loop, except for the fetches that run in it.
    """

    __slots__ = (
        "_clock",
        "_demanded_at",
        "_failed_at",
        "_flights",
        "_headers",
        "_installed",
        "_lifespans",
        "_parse",
        "_running",
        "_shared",
        "_store",
        "_transport",
        "answered",
        "failures",
        "fetches",
        "label",
        "last_error",
        "options",
        "snapshot",
        "started",
        "url",
    )

    snapshot: Snapshot[T] | None
    """The newest answer, however old it is."""
    last_error: str | None
    """Why the last fetch failed, ``None`` if it did not."""
    started: int
    """Number of the fetch that was started last."""
    answered: int
    """Number of the newest fetch that the origin itself has answered."""
    fetches: int
    """How many times the origin was asked, not counting retries."""
    failures: int
    """How many fetches failed."""

    def __init__(
        self,
        url: str,
        parse: Callable[[bytes], T],
        options: CacheOptions,
        *,
        accept: str,
        installed: Callable[[Snapshot[T]], None] | None = None,
        allow_http: bool = False,
        headers: Mapping[str, str] | None = None,
        client: HTTPClient | FetchFunction | None = None,
        store: Store | str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Describe the document. Nothing is fetched yet.

        Args:
            url: Where it is.
            parse: Makes a value of a body. It is called in a worker thread and raises :class:`ValueError` if the body is
                of no use.
            options: For how long an answer is good, and how often it may be asked for.
            accept: Value of the ``Accept`` header.
            installed: Called with each new answer, on the event loop, before anybody sees it.
            allow_http: Whether plain HTTP will do for hosts other than this one.
            headers: Header fields to send.
            client: What sends the requests, instead of a client of its own.
            store: Where to share answers with other workers: a store, or the name of one of the application's.
            clock: Returns the time, in seconds since the epoch.

        Raises:
            ImproperlyConfiguredException: If something of that is of no use.
        """
        try:
            check_url(url, allow_http=allow_http)
            check_headers(headers or {})
        except (ValueError, TypeError, AttributeError) as e:
            raise ImproperlyConfiguredException(f"A document cannot be fetched: {e}") from e
        if not isinstance(store, (Store, str, type(None))):
            raise ImproperlyConfiguredException("'store' is neither a store nor the name of one")
        self.url = url
        self.label = label_of(url)
        self.options = options
        self.snapshot = None
        self.last_error = None
        self.answered = self.fetches = self.failures = 0
        self._parse = parse
        self._installed = installed
        self._headers = {"Accept": accept, **(headers or {})}
        self._transport = Transport(client, max_body_size=options.max_body_size)
        self._clock = clock
        self._store = store
        self._shared = self._share_in(store) if isinstance(store, Store) else None
        self.started = 0
        self._demanded_at = self._failed_at = -inf
        self._flights: dict[object, _Flight[T]] = {}
        self._running: set[_Flight[T]] = set()
        self._lifespans: Counter[object] = Counter()

    def usable(self, now: float) -> Snapshot[T] | None:
        """Return the answer that is in memory, unless it is too old, and see to its renewal in the background.

        Args:
            now: The time.
        """
        snapshot = self._rebased(now)
        if snapshot is None or now >= snapshot.expires_at + self.options.max_stale:
            return None
        if now >= self.due_at(snapshot) and not self.pause(now) and (loop := running_loop()) is not None:
            self._flight_of(loop)
        return snapshot

    def due_at(self, snapshot: Snapshot[T]) -> float:
        """Return when to ask for the answer after a given one."""
        return snapshot.fetched_at + snapshot.lifetime * self.options.refresh_ahead

    def pause(self, now: float) -> float:
        """Return how many seconds to go before the next fetch, as the last one failed."""
        return self._rest(self._failed_at, now)

    def cooling(self, now: float) -> float:
        """Return how many seconds to go before the next fetch for something that the document lacks."""
        return self.pause(now) or self._rest(self._demanded_at, now)

    async def load(self) -> Snapshot[T]:
        """Return an answer that can be used, waiting for one only if there is none in memory.

        Raises:
            KeysUnavailableError: If there is none to be had.
        """
        now = self._clock()
        if (snapshot := self.usable(now)) is not None:
            return snapshot
        loop = running_loop()
        if loop not in self._flights and (pause := self.pause(now)):
            raise self._unavailable(pause)
        flight = self._flight_of(loop)
        await flight.usable.wait()
        if (snapshot := self.usable(self._clock())) is None:
            raise self._unavailable(self.options.cooldown)
        return snapshot

    async def look_again(self, wanted: Callable[[T], bool], *, since: int) -> None:
        """Wait until the document has something that it lacked, or it is clear that it does not have it.

        Args:
            wanted: Tells whether the document has it.
            since: The value of :attr:`started` when it was missed. Answers to later questions settle it.
        """
        loop = running_loop()
        while self.answered <= since and not self._has(wanted):
            flight = self._flights.get(loop)
            if flight is None:
                if self.cooling(self._clock()):
                    return
                flight = self._flight_of(loop, wanted)
            await flight.settled.wait()

    def look_again_soon(self, wanted: Callable[[T], bool]) -> None:
        """Ask for the document once more in the background, unless that was done a short while ago.

        Args:
            wanted: Tells whether the document has what it lacked.
        """
        loop = running_loop()
        if loop is not None and loop not in self._flights and not self.cooling(self._clock()):
            self._flight_of(loop, wanted)

    def is_fetching(self) -> bool:
        """Tell whether a fetch is under way in this event loop."""
        return bool(self._flights) and running_loop() in self._flights

    async def refresh(self) -> Snapshot[T]:
        """Ask the origin for the document now.

        Raises:
            KeysUnavailableError: If there is no answer that can be used.
        """
        flight = self._flight_of(running_loop(), forced=True)
        await flight.ended.wait()
        if flight.error is not None or self.snapshot is None:
            raise self._unavailable(self.options.cooldown)
        return self.snapshot

    def move(self, url: str) -> None:
        """Ask for the document elsewhere from now on. The answer in memory will do until there is one from there.

        Args:
            url: Where it is. It has been checked.
        """
        self.url = url
        self.label = label_of(url)
        self._demanded_at = self._failed_at = -inf
        if self._shared is not None:
            self._shared = self._share_in(self._shared.store)
        if (snapshot := self.snapshot) is not None:
            expired = min(snapshot.fetched_at, self._clock() - snapshot.lifetime)
            self._replace(replace(snapshot, fetched_at=expired, etag=None, last_modified=None))

    @asynccontextmanager
    async def lifespan(self, app: Litestar) -> AsyncIterator[None]:
        """Use a store of an application, and end fetches with the last application of this event loop.

        Args:
            app: The application.
        """
        if isinstance(self._store, str):
            self._shared = self._share_in(app.stores.get(self._store))
        loop = running_loop()
        self._lifespans[loop] += 1
        try:
            yield
        finally:
            self._lifespans[loop] -= 1
            if not self._lifespans[loop]:
                del self._lifespans[loop]
                await self._end_fetches(loop)

    async def _end_fetches(self, loop: object) -> None:
        for flight in [flight for flight in self._running if flight.loop is loop]:
            flight.scope.cancel()
            with anyio.CancelScope(shield=True):
                await flight.ended.wait()

    def _flight_of(self, loop: Any, wanted: Callable[[T], bool] | None = None, *, forced: bool = False) -> _Flight[T]:
        """Return the fetch that is under way in an event loop. Without one, start one."""
        if (flight := self._flights.get(loop)) is None:
            self._rebased(self._clock())
            self.started += 1
            flight = self._flights[loop] = _Flight(loop, self.started, wanted, forced=forced)
            self._running.add(flight)
            flight.task = spawn(loop, self._fly, flight)
        return flight

    async def _fly(self, flight: _Flight[T]) -> None:
        try:
            with flight.scope:
                await self._settle(flight)
                self._land(flight)
                await self._publish(flight)
        finally:
            self._land(flight)
            self._running.discard(flight)
            flight.ended.set()

    def _land(self, flight: _Flight[T]) -> None:
        if self._flights.get(flight.loop) is flight:
            del self._flights[flight.loop]
        flight.usable.set()
        flight.settled.set()

    async def _settle(self, flight: _Flight[T]) -> None:
        try:
            with anyio.move_on_after(self.options.timeout) as deadline:
                if not await self._take_from_others(flight):
                    await self._fetch(flight)
            if deadline.cancelled_caught:
                raise FetchError(f"no answer within {self.options.timeout:g} seconds")
        except FetchError as e:
            self._fail(flight, str(e))
            _logger.warning("%s: cannot be fetched: %s", self.label, e)
        except Exception as e:  # a caller's function may answer anything, and whoever waits is to be told
            self._fail(flight, type(e).__name__)
            _logger.exception("%s: cannot be fetched", self.label)
        else:
            flight.error = self.last_error = None
            self._failed_at = -inf

    def _fail(self, flight: _Flight[T], error: str) -> None:
        flight.error = self.last_error = error
        self.failures += 1
        self._failed_at = self._clock()

    async def _fetch(self, flight: _Flight[T]) -> None:
        try:
            snapshot = await self._ask_origin()
        finally:
            if flight.demanded:
                self._demanded_at = self._clock()
        self._install(snapshot)
        self.answered = max(self.answered, flight.order)

    async def _ask_origin(self) -> Snapshot[T]:
        """Ask for the document where it is, even if it moves in the meantime."""
        while True:
            self.fetches += 1
            asked_at = self._clock()
            known, url = self.snapshot, self.url
            try:
                answer = await self._transport.get(url, {**_validators(known), **self._headers})
                snapshot = await self._snapshot_of(answer, known, asked_at)
            except FetchError:
                if url == self.url:
                    raise
            else:
                if url == self.url:
                    return snapshot

    async def _snapshot_of(self, answer: Fetched, known: Snapshot[T] | None, asked_at: float) -> Snapshot[T]:
        said = freshness(answer.headers, now=asked_at)
        etag, last_modified = answer.headers.get("etag"), answer.headers.get("last-modified")
        if answer.status_code == _NOT_MODIFIED:
            if known is None:
                raise FetchError("status 304 without a condition")
            lifetime = known.lifetime if said is None else self.options.clamp(said)
            return replace(known, fetched_at=asked_at, lifetime=lifetime, etag=etag or known.etag)
        return Snapshot(
            value=await self._value_of(answer.body, known),
            body=answer.body,
            fetched_at=asked_at,
            lifetime=self.options.clamp(said),
            etag=etag,
            last_modified=last_modified,
        )

    async def _value_of(self, body: bytes, known: Snapshot[T] | None) -> T:
        if known is not None and known.body == body:
            return known.value
        try:
            return await in_thread(self._parse, body)
        except (ValueError, RecursionError) as e:
            raise FetchError(f"the answer is of no use: {e}") from e

    def _install(self, snapshot: Snapshot[T]) -> None:
        """Put an answer in the place of an older one. Fetches in several event loops may overtake each other."""
        if self.snapshot is None or snapshot.fetched_at >= self.snapshot.fetched_at:
            self._replace(snapshot)

    def _replace(self, snapshot: Snapshot[T]) -> None:
        self.snapshot = snapshot
        if self._installed is not None:
            self._installed(snapshot)

    def _rebased(self, now: float) -> Snapshot[T] | None:
        """Return the answer in memory. If the clock was set back, nobody knows how old it is: it is not fresh any more."""
        snapshot = self.snapshot
        if snapshot is not None and now < snapshot.fetched_at:
            snapshot = replace(snapshot, fetched_at=now - snapshot.lifetime)
            self._replace(snapshot)
        return snapshot

    async def _take_from_others(self, flight: _Flight[T]) -> bool:
        """Take what another worker has fetched or is fetching.

        Returns:
            Whether that will do. If not, this worker has to fetch.
        """
        if self._shared is None or flight.forced:
            return False
        give_up_at = anyio.current_time() + self.options.timeout * _OTHERS_SHARE
        with suppress(StoreError):
            while not await self._adopt(flight, self._shared):
                if flight.leads or anyio.current_time() > give_up_at:
                    return False
                claim = await self._shared.claim(lease=self.options.timeout)
                if claim.failed and self.snapshot is None:
                    return False
                if claim.failed:
                    raise FetchError("another worker has failed to fetch it a short while ago")
                flight.leads = claim.mine
                if not claim.mine:
                    await anyio.sleep(_POLL * uniform(0.5, 1.5))  # noqa: S311
            return True
        return False

    async def _adopt(self, flight: _Flight[T], shared: SharedStore) -> bool:
        """Take the copy that other workers have left, if it is newer.

        Returns:
            Whether there is no need to fetch any more.
        """
        copy = await shared.read()
        if copy is not None:
            await self._adopt_copy(copy, flight, shared)
        now = self._clock()
        snapshot = self.snapshot
        if snapshot is None or now >= self.due_at(snapshot):
            return False
        if flight.wanted is None or flight.wanted(snapshot.value):
            return True
        if copy is not None and self._rest(copy.demanded_at, now):
            self._demanded_at = copy.demanded_at
            return True
        return False

    async def _adopt_copy(self, copy: StoredCopy, flight: _Flight[T], shared: SharedStore) -> None:
        now = self._clock()
        if copy.fetched_at > now + _MAX_SKEW:
            shared.ignore(copy)
            return
        if copy.url != self.url:
            return
        fetched_at = min(copy.fetched_at, now)
        lifetime = self.options.clamp(copy.lifetime)
        known = self.snapshot
        if now >= fetched_at + lifetime + self.options.max_stale or (known and fetched_at <= known.fetched_at):
            return
        try:
            value = await self._value_of(copy.body, known)
        except FetchError:
            shared.ignore(copy)
            return
        snapshot = Snapshot(
            value=value,
            body=copy.body,
            fetched_at=fetched_at,
            lifetime=lifetime,
            etag=copy.etag,
            last_modified=copy.last_modified,
        )
        self._install(snapshot)
        flight.usable.set()

    async def _publish(self, flight: _Flight[T]) -> None:
        """Tell the other workers."""
        if self._shared is None:
            return
        with suppress(StoreError):
            if self.snapshot is not None and self.answered == flight.order:
                await self._shared.write(self._copy(self.snapshot), expires_in=self._keep_for(self.snapshot))
            if flight.leads:
                await self._shared.release(failed_for=self.options.cooldown if flight.error else 0)

    def _keep_for(self, snapshot: Snapshot[T]) -> float:
        return snapshot.lifetime + self.options.max_stale

    def _copy(self, snapshot: Snapshot[T]) -> StoredCopy:
        return StoredCopy(
            url=self.url,
            fetched_at=snapshot.fetched_at,
            lifetime=snapshot.lifetime,
            demanded_at=max(self._demanded_at, 0.0),
            etag=snapshot.etag,
            last_modified=snapshot.last_modified,
            body=snapshot.body,
        )

    def _share_in(self, store: Store) -> SharedStore:
        return SharedStore(
            store,
            self.url,
            max_body_size=self.options.max_body_size,
            time_limit=self.options.timeout * _STORE_SHARE,
        )

    def _has(self, wanted: Callable[[T], bool]) -> bool:
        return self.snapshot is not None and wanted(self.snapshot.value)

    def _rest(self, since: float, now: float) -> float:
        rest = since + self.options.cooldown - now
        return rest if 0 < rest <= self.options.cooldown else 0

    def _unavailable(self, retry_after: float) -> KeysUnavailableError:
        return KeysUnavailableError("Keys to verify tokens with are unavailable", retry_after=retry_after)


def parse_json(body: bytes) -> Any:
    """Parse a JSON document. Of members with the same name the last one counts (RFC 7517, section 4).

    Args:
        body: The document.

    Raises:
        ValueError: If it is not JSON in UTF-8, or nested too deeply.
    """
    try:
        return msgspec.json.decode(body)
    except (ValueError, RecursionError) as e:
        raise ValueError("not JSON") from e


def _validators(snapshot: Snapshot[Any] | None) -> dict[str, str]:
    """Return the header fields that make a request conditional (RFC 9110, section 13.1)."""
    if snapshot is None:
        return {}
    validators = {"If-None-Match": snapshot.etag, "If-Modified-Since": snapshot.last_modified}
    return {name: value for name, value in validators.items() if value is not None}


def running_loop() -> object | None:
    """Return what identifies the event loop that this is called from, if it is called from one."""
    try:
        library = sniffio.current_async_library()
    except sniffio.AsyncLibraryNotFoundError:
        return None
    if library == "asyncio":
        return asyncio.get_running_loop()
    from trio.lowlevel import current_trio_token

    return current_trio_token()


def spawn(loop: object, function: Callable[[A], Coroutine[Any, Any, None]], argument: A) -> object:
    """Start a task that belongs to no request: neither its cancellation nor its context variables reach it."""
    if isinstance(loop, asyncio.AbstractEventLoop):
        return loop.create_task(function(argument), context=Context())
    from trio.lowlevel import spawn_system_task

    return spawn_system_task(function, argument)
