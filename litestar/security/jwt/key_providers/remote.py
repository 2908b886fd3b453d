"""A key provider that keeps the keys of a JWK Set, which an issuer publishes at a URL: when to fetch, and who waits."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, datetime, timedelta
from random import uniform
from typing import TYPE_CHECKING, Final

from litestar.exceptions import ImproperlyConfiguredException
from litestar.security.jwt.key_providers.background import running_loop
from litestar.security.jwt.key_providers.cache import KeyCache, shown_key_id
from litestar.security.jwt.key_providers.fetch import Fetcher, label_of
from litestar.security.jwt.key_providers.state import COPIES, KeySetState, KeySetStatus
from litestar.security.jwt.key_providers.store import SharedKeySetStore
from litestar.security.jwt.keys import (
    UNAVAILABLE,
    KeyNotFoundException,
    KeysUnavailableException,
    SelectedKeys,
    names_of,
)
from litestar.stores.base import Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
    from typing import Self

    from litestar import Litestar
    from litestar.security.jwt.key_providers.background import BackgroundTask
    from litestar.security.jwt.key_providers.fetch import AsyncHTTPClient, Document, FetchFunction
    from litestar.security.jwt.unverified import UnverifiedToken

__all__ = ("KeySetStatus", "RemoteJWKSet")

# The parts of its lifetime after which an answer is due for renewal. They are random, so that a fleet does not fetch at once.
_EARLIEST, _LATEST = 0.7, 0.9
# Seconds between two looks into the store for keys that may not be fetched.
_STORE_INTERVAL: Final = 1.0
_LONGEST_OPTION: Final = 366 * 86_400.0


@dataclass(frozen=True, eq=False, repr=False)
class RemoteJWKSet:
    """A key provider for the JWK Set that an issuer publishes at a URL.

    The application fetches the set when it starts. Without lifespan events, the first request does. A background task renews it before
    it expires, so that requests do not wait. A request waits if no usable keys are in memory, if its token needs a key that is not among them, or if the
    set has expired although no fetch has failed, as in a process that is frozen between requests. If the issuer cannot be
    reached, the keys in memory go on working until ``max_stale``.

    Keys that cannot be used are skipped, one by one. An answer without any usable key counts as a failed
    fetch.

    Durations are seconds or a :class:`timedelta <datetime.timedelta>`, up to a year. Options cannot be changed after
    construction.

    Workers that share a ``store`` share the set. Anyone who can write to the store can supply keys, just like the issuer. If the
    answer depends on something else than the URL and ``headers``, such as a client certificate, use a separate store.
    """

    url: str
    """Where the JWK Set is. Redirects are not followed."""
    _: KW_ONLY
    lifetime: float | timedelta | None = None
    """How long an answer is fresh. It overrides what the answer says. By default, it is what ``Cache-Control`` or ``Expires`` say (`RFC
    9111, section 4.2 <https://datatracker.ietf.org/doc/html/rfc9111#section-4.2>`_), between 1 minute and 24 hours, and 10
    minutes if they say nothing."""
    max_stale: float | timedelta = 86_400
    """How long keys are still used after they are no longer fresh, if the issuer cannot be reached. 86,400 is 24 hours."""
    withdrawn_grace: float | timedelta = 3600
    """How long a key is still accepted after the issuer has withdrawn it. The time starts when the last answer that listed the
    key is no longer fresh. With 0, a key is not accepted from the first answer that does not list it."""
    timeout: float | timedelta = 5
    """How long a fetch may take in all."""
    allow_http: bool = False
    """Whether to accept a URL without TLS. The loopback interface is always allowed."""
    headers: Mapping[str, str] | None = None
    """Header fields to send to the origin of the URL, and to no other."""
    client: AsyncHTTPClient | FetchFunction | None = None
    """An ``AsyncClient`` of ``httpx2`` or ``httpx``, which the provider never closes. Or an async function that takes a URL and
    header fields, and returns a response with ``status_code``, ``headers`` and ``content``. By default, each fetch creates a
    client, which uses the proxies and CA files that the environment names."""
    store: Store | str | None = None
    """A :class:`Store <litestar.stores.base.Store>` to share the set with other workers, and to find it again after a restart.
    Or the name of one in ``app.stores``, which is looked up when an application starts. Litestar creates a store in memory for
    a name that is not there, which shares nothing."""
    require_on_startup: bool = False
    """Whether the start of the application waits for keys, and fails without them."""
    distrusted_key_ids: Sequence[str] = ()
    """IDs or thumbprints (`RFC 7638 <https://datatracker.ietf.org/doc/html/rfc7638>`_) of keys that are never accepted, whatever
    the issuer lists. The material of such a key is not accepted under another ID either. This is the reaction to a leaked key that the issuer
    still lists, or that is still accepted after its withdrawal."""
    _fetcher: Fetcher = field(init=False)
    """Sends requests."""
    _state: KeySetState = field(init=False)
    """All that changes."""

    def __post_init__(self) -> None:
        """Check the options. Nothing is fetched yet.

        Raises:
            ImproperlyConfiguredException: If the URL is not safe to fetch keys from, or an option is not valid.
            MissingDependencyException: If there is no ``client``, and neither ``httpx2`` nor ``httpx`` is installed.
        """
        distrusted = names_of(self.distrusted_key_ids)
        if not all(isinstance(name, str) and name for name in distrusted):
            raise ImproperlyConfiguredException(
                f"'distrusted_key_ids' is {self.distrusted_key_ids!r}. Pass key IDs or thumbprints as strings"
            )
        if self.store is not None and not (isinstance(self.store, (str, Store)) and self.store):
            raise ImproperlyConfiguredException(f"'store' is {self.store!r}. Pass a Store, or a name in 'app.stores'")
        timeout = _seconds("timeout", self.timeout, positive=True)
        cache = KeyCache(
            _seconds("max_stale", self.max_stale),
            _seconds("withdrawn_grace", self.withdrawn_grace),
            None if self.lifetime is None else _seconds("lifetime", self.lifetime, positive=True),
            distrusted,
            uniform(_EARLIEST, _LATEST),  # noqa: S311
        )
        fetcher = Fetcher(self.url, self.headers, self.client, timeout, allow_http=self.allow_http)
        # A dataclass that is frozen for its users is not for its own constructor.
        object.__setattr__(self, "_fetcher", fetcher)
        object.__setattr__(self, "_state", KeySetState(repr(self), cache, self._request, timeout))
        if self.store is not None:
            self._state.stores.append(self._shared(self.store))

    def __call__(self, token: UnverifiedToken, /) -> SelectedKeys | Awaitable[SelectedKeys]:
        """Find the keys that may verify a token.

        Args:
            token: The token. Its ``kid`` and ``alg`` are looked at.

        Returns:
            The keys, or an awaitable of them if they have to be fetched first. The awaitable raises
            :class:`KeyNotFoundException` if the issuer has no key for this token, and :class:`KeysUnavailableException` if
            that cannot be found out now.
        """
        now = time.time()
        cache = self._state.cache
        if not cache.requested_at <= now < cache.due_at and self._renew(now):
            return self._find(token)
        selected = cache.accepted(now).select(token)
        return selected if selected.keys else self._find(token)

    async def refetch(self, token: UnverifiedToken, /) -> SelectedKeys | None:
        """Look for other keys, because the signature of a token did not verify with those in memory.

        An issuer may have put a new key behind a known ID, or a token may have no ID at all.

        Args:
            token: The token.

        Returns:
            The keys that may verify the token now, or ``None`` if they are the same as before.

        Raises:
            KeysUnavailableException: If the issuer cannot be reached now.
        """
        return await self._search(token, self._select(token))

    async def refresh(self) -> None:
        """Fetch the keys now, and write them to the ``store``. Caches in between do not answer.

        Raises:
            KeysUnavailableException: If there is no usable answer. Keys in memory stay as they are.
        """
        state = self._state
        if (earlier := state.pending()) is not None:
            await earlier.wait()
        # Others may have waited, too: the first one fetches for all.
        await (state.pending() or state.start_fetch(lambda: True, no_cache=True)).ended.wait()
        if state.backoff.failures or not state.cache.requested_at:
            raise self._unavailable()

    def status(self) -> KeySetStatus:
        """Return the state of the keys, for health checks. This makes no request."""
        now, state = time.time(), self._state
        cache = state.cache
        current, withdrawn = cache.key_ids(now)
        return KeySetStatus(
            url=label_of(self.url),
            issuer=self._issuer_name,
            key_ids=current,
            withdrawn_key_ids=withdrawn,
            skipped=(*state.skipped, *(f"{shown_key_id(kid)}: distrusted" for kid in cache.distrusted_key_ids)),
            fetched_at=_utc(cache.requested_at),
            expires_at=_utc(cache.fresh_until),
            usable_until=_utc(cache.usable_until),
            usable=bool(current or withdrawn),
            last_error=state.last_error,
            fetches=state.fetches,
            failures=state.failures,
            misses=state.misses,
        )

    @asynccontextmanager
    async def lifespan(self, app: Litestar) -> AsyncIterator[None]:
        """Start the first fetch when an application starts, and end what runs in the background when it shuts down.

        Args:
            app: The application. Its ``stores`` have the ``store`` if that is a name.

        Raises:
            KeysUnavailableException: If ``require_on_startup`` is set and there are no keys.
        """
        async with self.running(app):
            await self.wait_if_required()
            yield

    @asynccontextmanager
    async def running(self, app: Litestar) -> AsyncIterator[None]:
        """Do what :meth:`lifespan` does, but never wait for keys.

        Args:
            app: The application.
        """
        state = self._state
        named = self._shared(app.stores.get(self.store)) if isinstance(self.store, str) else None
        if named is not None:
            # The name alone, with which the state starts, is of no use.
            state.stores[:] = [*(known for known in state.stores if known.store != self.store), named]
        try:
            async with state.tasks.running():
                self._renew(time.time())
                yield
        finally:
            if named is not None:
                state.stores.remove(named)

    async def wait_if_required(self) -> None:
        """Wait for the first fetch if ``require_on_startup`` is set.

        Raises:
            KeysUnavailableException: If there are no keys then.
        """
        if not self.require_on_startup:
            return
        state = self._state
        if not state.cache.accepted(time.time()).keys:
            await (state.pending() or state.start_fetch(state.is_due)).wait()
        if not state.cache.accepted(time.time()).keys:
            raise KeysUnavailableException(f"{self!r} has no keys, but 'require_on_startup': {state.last_error}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._issuer_name or label_of(self.url)!r})"

    def __deepcopy__(self, memo: object) -> Self:
        """Return itself: Litestar copies the handlers of a controller, and all of them share what was fetched."""
        return self

    @property
    def _issuer_name(self) -> str | None:
        return None

    # From a token to its keys

    def _select(self, token: UnverifiedToken) -> SelectedKeys:
        return self._state.cache.accepted(time.time()).select(token)

    async def _find(self, token: UnverifiedToken) -> SelectedKeys:
        """Find keys for a token that none in memory fits, or when an answer has expired."""
        if (selected := await self._search(token, SelectedKeys(token.algorithm, ()))) is None:
            raise KeyNotFoundException("Invalid token")
        return selected

    async def _search(self, token: UnverifiedToken, tried: SelectedKeys) -> SelectedKeys | None:
        """Look for other keys than those that were tried, and fetch if that may help."""

        def find_others() -> SelectedKeys | None:
            selected = self._select(token)
            return selected if any(key not in tried.keys for key in selected.keys) else None

        state = self._state
        if (pending := state.pending() or state.tasks.pending(COPIES)) is not None:
            await pending.wait()
        if (found := find_others()) is not None:
            return found
        state.misses += 1
        # The issuer may have published the key after that request, so one more is necessary.
        task = state.pending() or self._start_for_miss(lambda: find_others() is None)
        if task is not None:
            await task.wait()
            if (found := find_others()) is not None:
                return found
        state.log_keys()
        if state.backoff.failures or not state.cache.requested_at:
            raise self._unavailable()  # nobody can tell whether there is such a key
        return None

    def _unavailable(self) -> KeysUnavailableException:
        retry_after = self._state.backoff.seconds_left(time.time())
        return KeysUnavailableException(UNAVAILABLE, retry_after=retry_after)

    # When to fetch

    def _renew(self, now: float) -> bool:
        """Renew an answer that is due in the background.

        Returns:
            Whether a request has to wait for it: the answer has expired, although no fetch has failed, or the last one was
            lost with its event loop. Where the loop only runs during requests, nothing that they do not wait for ever ends.
        """
        state = self._state
        if running_loop() is None:
            return False
        is_lost = state.is_unfinished and state.pending() is None
        if state.is_due() and not state.backoff.seconds_left(now) and state.pending() is None:
            state.start_fetch(state.is_due)
        return (
            (is_lost or not state.backoff.failures) and bool(state.cache.requested_at) and not state.cache.is_fresh(now)
        )

    def _start_for_miss(self, is_needed: Callable[[], bool]) -> BackgroundTask | None:
        """Start what may find a missing key, if anything may."""
        state, now = self._state, time.time()
        if not state.backoff.seconds_left(now) and (
            state.backoff.failures or state.is_due() or state.extra_fetches.take(now)
        ):
            return state.start_fetch(is_needed, no_cache=True)
        if state.stores and not 0 <= now - state.looked_at < _STORE_INTERVAL:
            return state.tasks.pending(COPIES) or state.start_look()
        return None

    async def _request(self, deadline: float, no_cache: bool) -> Document:
        """Request the keys. Subclasses may find out first where they are."""
        return await self._fetcher.fetch(self.url, deadline, no_cache=no_cache)

    def _shared(self, store: Store | str) -> SharedKeySetStore:
        identity = [self.url, self._issuer_name, sorted(self._fetcher.headers.items())]
        return SharedKeySetStore(store, identity, label=repr(self))


def _seconds(option: str, value: float | timedelta, *, positive: bool = False) -> float:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not is_number or not 0 <= seconds <= _LONGEST_OPTION or (positive and not seconds):
        least = "more than 0" if positive else "0"
        raise ImproperlyConfiguredException(
            f"{option!r} is {value!r}. Pass seconds or a timedelta, from {least} up to a year"
        )
    return float(seconds)


def _utc(timestamp: float) -> datetime | None:
    return datetime.fromtimestamp(timestamp, UTC) if timestamp else None
