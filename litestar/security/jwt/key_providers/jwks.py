"""A key provider that keeps the keys of a JWK Set, which an issuer publishes at a URL."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import asynccontextmanager, suppress
from contextvars import Context
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, datetime, timedelta
from importlib import import_module
from logging import DEBUG, WARNING, getLogger
from math import inf
from random import uniform
from typing import TYPE_CHECKING, Any, Final

import anyio
import sniffio
from anyio.lowlevel import current_token

from litestar.exceptions import ImproperlyConfiguredException
from litestar.security.jwt.key_providers._fetch import MAX_LIFETIME, FetchError, check_options, fetch_json, label_of
from litestar.security.jwt.key_providers._store import SharedCopy, listing
from litestar.security.jwt.keys import KeyNotFoundException, KeySet, KeysUnavailableException, UnusableKeyError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from litestar import Litestar
    from litestar.security.jwt.key_providers._fetch import AsyncHTTPClient, FetchFunction
    from litestar.security.jwt.key_providers._store import Listing
    from litestar.security.jwt.keys import SelectedKeys
    from litestar.security.jwt.unverified import UnverifiedToken
    from litestar.stores.base import Store

__all__ = ("KeySetStatus", "RemoteJWKSet")

_logger: Final = getLogger("litestar.security.jwt")

# The largest set in the wild has about 30 keys.
_MAX_KEYS: Final = 100
# The parts of its lifetime after which an answer is due for renewal. They are random, so that a fleet does not ask at once.
_EARLIEST, _LATEST = 0.7, 0.9
# How many fetches unknown keys may cause at once, and the seconds after which they may cause another one. One made-up key ID
# must not keep a new key out, and a flood of them must neither do so for long nor reach the issuer.
_EXTRA_FETCHES: Final = 2
_REFILL: Final = 15.0
# Seconds from a failed fetch to the next: 1, 2, 4 and so on up to this. Up to a quarter less, so that a fleet does not ask at once.
_MAX_BACKOFF: Final = 30.0
_JITTER: Final = 0.75
# Sets list keys for encryption as a matter of course.
_EXPECTED_REASON: Final = "not for signatures ('use')"
# How much of a key ID a log line shows.
_SHOWN_CHARACTERS: Final = 64


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
    """When the newest answer was asked for, ``None`` if there is none."""
    expires_at: datetime | None
    """Until when the newest answer is fresh."""
    usable_until: datetime | None
    """Until when its keys are accepted, if no newer answer comes."""
    usable: bool
    """Whether there are keys that verify tokens now."""
    last_error: str | None
    """Why the last fetch failed, ``None`` if it did not."""
    fetches: int
    """How many times the issuer was asked."""
    failures: int
    """How many fetches failed."""
    misses: int
    """How many times the key of a token was not in memory."""


@dataclass(eq=False, repr=False)
class RemoteJWKSet:
    """A key provider for the JWK Set that an issuer publishes at a URL.

    The application fetches the set when it starts. Without lifespan events, the first request does. A background task renews it before it expires,
    so that requests do not wait. A request waits only if no usable keys are in memory, or if its token needs a key that is
    not among them. If the issuer cannot be reached, the keys in memory go on working until ``max_stale``.

    Keys that cannot be used are skipped, one by one. An answer without any usable key counts as a failed
    fetch.

    Durations are seconds or a :class:`timedelta <datetime.timedelta>`. Options are read once, at construction.

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
    key is no longer fresh."""
    timeout: float | timedelta = 5
    """How long a fetch may take in all."""
    allow_http: bool = False
    """Whether to accept a URL without TLS. The loopback interface is always allowed."""
    headers: Mapping[str, str] | None = None
    """Header fields to send with each request."""
    client: AsyncHTTPClient | FetchFunction | None = None
    """An ``AsyncClient`` of ``httpx2`` or ``httpx``, which the provider never closes. Or an async function that takes a URL and
    header fields, and returns a response with ``status_code``, ``headers`` and ``content``. By default, each fetch makes a
    client of its own, which uses the proxies and CA files that the environment names."""
    store: Store | str | None = None
    """A :class:`Store <litestar.stores.base.Store>` to share the set with other workers, and to find it again after a restart.
    Or the name of one in ``app.stores``, which is looked up when the application starts. Litestar makes a store in memory for
    a name that is not there."""
    require_on_startup: bool = False
    """Whether the start of the application waits for keys, and fails without them."""
    _issuer: str | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        """Check the options. Nothing is fetched yet.

        Raises:
            ImproperlyConfiguredException: If the URL is not safe to fetch keys from, or an option is not valid.
            MissingDependencyException: If there is no ``client``, and neither ``httpx2`` nor ``httpx`` is installed.
        """
        self._headers = check_options(self.url, self.headers, self.client, allow_http=self.allow_http)
        self._lifetime = None if self.lifetime is None else _seconds("lifetime", self.lifetime, positive=True)
        self._max_stale = _seconds("max_stale", self.max_stale)
        self._withdrawn_grace = _seconds("withdrawn_grace", self.withdrawn_grace)
        self._timeout = _seconds("timeout", self.timeout, positive=True)
        identity = [self.url, self._issuer, sorted(self._headers.items())]
        self._copy = SharedCopy(self.store, identity, label=repr(self), longest=max(self._lifetime or 0, MAX_LIFETIME))

        # What answers have said: each usable key with the last answer that listed it, by its public members.
        self._known: dict[str, Listing] = {}
        self._asked_at = self._fresh_until = self._due_at = 0.0
        self._skipped: tuple[str, ...] = ()
        # What is accepted now, and until when nothing changes.
        self._keys = KeySet(())
        self._keys_until = inf
        self._shown: list[list[str]] = []
        # The end of the fetch under way, by event loop.
        self._fetches: dict[object, anyio.Event] = {}
        # When the next fetch may be.
        self._failures_in_a_row = 0
        self._retry_at = self._extra_fetches_full_at = 0.0
        self._last_error: str | None = None
        self._counts = Counter[str]()

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
        if not (self._asked_at <= now < self._due_at and now < self._keys_until):
            self._keep_up()
        found = self._select(token)
        return found if found.keys else self._search(token, found)

    async def look_again(self, token: UnverifiedToken, /) -> SelectedKeys | None:
        """Look for other keys, because the signature of a token did not verify with those in memory.

        An issuer may have put a new key behind a known ID, or a token may have no ID at all.

        Args:
            token: The token.

        Returns:
            The keys that may verify the token now, or ``None`` if they are the same as before.

        Raises:
            KeysUnavailableException: If the issuer cannot be asked now.
        """
        return await self._other_keys(token, self._select(token))

    async def refresh(self) -> None:
        """Fetch the keys now, or wait for the fetch that is under way.

        Raises:
            KeysUnavailableException: If there is no usable answer. Keys in memory stay as they are.
        """
        await (self._under_way() or self._start(lambda: True)).wait()
        if self._failures_in_a_row:
            raise self._unavailable()

    def status(self) -> KeySetStatus:
        """Return the state of the keys, for health checks. This makes no request."""
        now = time.time()
        return KeySetStatus(
            url=label_of(self.url),
            issuer=self._issuer,
            key_ids=self._ids(now, listed=True),
            withdrawn_key_ids=self._ids(now, listed=False),
            skipped=self._skipped,
            fetched_at=_utc(self._asked_at),
            expires_at=_utc(self._fresh_until),
            usable_until=_utc(self._fresh_until and self._fresh_until + self._max_stale),
            usable=any(now < self._accepted_until(known) for known in self._known.values()),
            last_error=self._last_error,
            fetches=self._counts["fetches"],
            failures=self._counts["failures"],
            misses=self._counts["misses"],
        )

    @asynccontextmanager
    async def lifespan(self, app: Litestar) -> AsyncIterator[None]:
        """Start the first fetch when an application starts.

        Args:
            app: The application. Its ``stores`` are asked for the ``store`` if that is a name.

        Raises:
            KeysUnavailableException: If ``require_on_startup`` is set and there are no keys.
        """
        self._start_up(app)
        if self.require_on_startup:
            await (self._under_way() or self._start(self._is_due)).wait()
            if not self._keys.keys:
                raise KeysUnavailableException(f"{self!r} has no keys, but 'require_on_startup': {self._last_error}")
        yield

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._issuer or label_of(self.url)!r})"

    def __deepcopy__(self, memo: Any) -> RemoteJWKSet:
        """Return itself: Litestar copies the handlers of a controller, and all of them share what was fetched."""
        return self

    # From a token to its keys

    def _select(self, token: UnverifiedToken) -> SelectedKeys:
        return self._keys.select(token)

    async def _search(self, token: UnverifiedToken, found: SelectedKeys) -> SelectedKeys:
        if (keys := await self._other_keys(token, found)) is None:
            raise KeyNotFoundException("Invalid token")
        return keys

    async def _other_keys(self, token: UnverifiedToken, tried: SelectedKeys) -> SelectedKeys | None:
        """Wait for a fetch that can find other keys than those that were tried."""

        def is_missing() -> bool:
            return self._select(token).keys in ((), tried.keys)

        self._counts["misses"] += 1
        if (fetch := self._under_way()) is not None:
            await fetch.wait()
        # The issuer may have been asked before it published the key. If so, it has to be asked once more.
        if fetch is None or is_missing():
            fetch = self._under_way() or self._start_for_miss(is_missing)
            if fetch is not None:
                await fetch.wait()
        if fetch is not None and not is_missing():
            return self._select(token)
        if self._failures_in_a_row or not self._keys.keys:
            raise self._unavailable()  # nobody can tell whether there is such a key
        return None

    def _unavailable(self) -> KeysUnavailableException:
        retry_after = self._retry_at - time.time()
        return KeysUnavailableException("Keys to verify tokens with are unavailable", retry_after=retry_after)

    # When to fetch

    def _keep_up(self) -> None:
        """Do what has become due since the last request."""
        if time.time() >= self._keys_until:
            self._accept()
        if self._is_due() and not self._is_cooling_down() and _running_loop() is not None and not self._under_way():
            self._start(self._is_due)

    def _is_due(self) -> bool:
        return not self._asked_at <= time.time() < self._due_at  # the clock may have been set back

    def _is_cooling_down(self) -> bool:
        """Tell whether a fetch has failed and the next one has to wait."""
        return 0 < self._retry_at - time.time() <= _MAX_BACKOFF

    def _start_for_miss(self, is_missing: Callable[[], bool]) -> anyio.Event | None:
        if self._is_cooling_down() or not (self._failures_in_a_row or self._is_due() or self._take_extra_fetch()):
            return None
        return self._start(is_missing)

    def _take_extra_fetch(self) -> bool:
        """Take a fetch from the bucket of those that unknown keys may cause, if there is one in it."""
        now = time.time()
        # The clock may have been set back.
        self._extra_fetches_full_at = min(max(self._extra_fetches_full_at, now), now + _EXTRA_FETCHES * _REFILL)
        if self._extra_fetches_full_at > now + (_EXTRA_FETCHES - 1) * _REFILL:
            return False
        self._extra_fetches_full_at += _REFILL
        return True

    # One fetch

    def _under_way(self) -> anyio.Event | None:
        return self._fetches.get(_running_loop()) if self._fetches else None

    def _start(self, is_needed: Callable[[], bool]) -> anyio.Event:
        """Fetch in a task of its own, so that no cancelled request ends it.

        Args:
            is_needed: Tells whether to ask the issuer, once a newer copy from the store has been adopted.
        """
        loop, ended = _running_loop(), anyio.Event()
        self._fetches[loop] = ended
        _spawn(self._run, loop, is_needed)
        return ended

    async def _run(self, loop: object, is_needed: Callable[[], bool]) -> None:
        try:
            await self._exchange()
            try:
                if is_needed():
                    await self._renew()
            except Exception as e:  # noqa: BLE001  # clients have errors of their own
                self._failed(e)
            await self._exchange()
        finally:
            self._fetches.pop(loop).set()

    async def _renew(self) -> None:
        now = time.time()
        self._counts["fetches"] += 1
        answer = None
        with anyio.move_on_after(self._timeout):
            answer = await self._ask()
        if answer is None:
            raise FetchError(f"no complete answer within {self._timeout:g} s")
        self._learn(self._judge(answer[0], now, now + (self._lifetime or answer[1])))
        if self._failures_in_a_row:
            _logger.info("%r: fetching keys works again", self)
        self._failures_in_a_row, self._last_error, self._retry_at = 0, None, 0.0

    async def _ask(self) -> tuple[Any, float]:
        return await fetch_json(self.url, self._headers, self.client)

    def _failed(self, error: Exception) -> None:
        delay = min(2.0 ** min(self._failures_in_a_row, 10), _MAX_BACKOFF) * uniform(_JITTER, 1)  # noqa: S311
        self._retry_at = time.time() + max(delay, min(getattr(error, "retry_after", 0), _MAX_BACKOFF))
        reason = str(error) if isinstance(error, FetchError) else repr(error)
        self._last_error = reason.replace(self.url, label_of(self.url))
        if not self._failures_in_a_row:
            _logger.warning("%r: fetching keys failed (%s)", self, self._last_error)
        self._failures_in_a_row += 1
        self._counts["failures"] += 1

    # What answers and copies say

    def _judge(self, document: Any, asked_at: float, fresh_until: float) -> dict[str, Listing]:
        """Choose the usable keys of an answer (RFC 7517, section 5)."""
        jwks = document.get("keys") if isinstance(document, dict) else None
        if not isinstance(jwks, list) or len(jwks) > _MAX_KEYS:
            raise FetchError(f"the answer is not a JWK Set of at most {_MAX_KEYS} keys. OpenIDProvider takes an issuer")
        usable, skipped = {}, []
        for jwk in jwks:
            try:
                usable.update(listing(jwk, asked_at, fresh_until))
            except UnusableKeyError as e:
                skipped.append(f"{_shown(jwk.get('kid') if isinstance(jwk, dict) else None)}: {e}")
        if not usable:
            raise FetchError(f"no usable key in the answer: {'; '.join(skipped[:3]) or 'it is empty'}")
        for reason in set(skipped).difference(self._skipped):
            level = DEBUG if reason.endswith(_EXPECTED_REASON) else WARNING
            _logger.log(level, "%r: a key is skipped, %s", self, reason)
        self._skipped = tuple(skipped)
        return usable

    def _learn(self, answer: Mapping[str, Listing]) -> None:
        """Add keys to those in memory. For each, the last answer that lists it counts."""
        newest = max(answer.values(), key=lambda known: known.asked_at)
        if newest.asked_at < self._asked_at <= time.time():
            return  # another event loop has asked later
        earlier = newest.asked_at - 0.001
        before = {text: old._replace(asked_at=min(old.asked_at, earlier)) for text, old in self._known.items()}
        self._known = {**before, **answer}
        _, self._asked_at, self._fresh_until = newest
        self._due_at = self._asked_at + (self._fresh_until - self._asked_at) * uniform(_EARLIEST, _LATEST)  # noqa: S311
        self._accept()

    async def _exchange(self) -> None:
        """Adopt the copy in the store if it is newer than what is in memory."""
        if newer := await self._copy.exchange(self._known, until=self._fresh_until + self._max_stale):
            self._learn(newer)

    # What is accepted

    def _accepted_until(self, known: Listing) -> float:
        usable_until = self._fresh_until + self._max_stale
        grace = inf if known.asked_at == self._asked_at else self._withdrawn_grace
        return min(usable_until, known.fresh_until + grace)

    def _accept(self) -> None:
        """Choose the keys to accept from now on, and forget those that never will be again."""
        now = time.time()
        by_age = sorted(self._known.items(), key=lambda item: -item[1].asked_at)
        self._known = dict([item for item in by_age if now < self._accepted_until(item[1])][: 2 * _MAX_KEYS])
        self._keys = KeySet(known.key for known in self._known.values())
        self._keys_until = min(map(self._accepted_until, self._known.values()), default=inf)
        shown = [sorted(map(_shown, self._ids(now, listed=listed))) for listed in (True, False)]
        if shown != self._shown and self._shown:
            _logger.info("%r: keys: %s, withdrawn: %s", self, *(", ".join(ids) or "none" for ids in shown))
        self._shown = shown

    def _ids(self, now: float, *, listed: bool) -> tuple[str | None, ...]:
        accepted = (known for known in self._known.values() if now < self._accepted_until(known))
        return tuple(known.key.kid for known in accepted if (known.asked_at == self._asked_at) is listed)

    # Life

    def _start_up(self, app: Litestar) -> None:
        """Start the first fetch, which nobody waits for yet."""
        if isinstance(self._copy.store, str):
            self._copy.store = app.stores.get(self._copy.store)
        self._keep_up()


def _running_loop() -> object:
    """Return what identifies the event loop that runs now, ``None`` if there is none."""
    with suppress(RuntimeError):
        return current_token()
    return None


def _spawn(function: Callable[..., Any], *args: Any) -> object:
    """Run a task that belongs to no request: neither its cancellation nor its context variables reach the task.

    All that the task awaits has a deadline. Through it, an event loop has the strong reference that it lacks to tasks.
    """
    if sniffio.current_async_library() == "asyncio":
        return asyncio.get_running_loop().create_task(function(*args), context=Context())
    return import_module("trio").lowlevel.spawn_system_task(function, *args, context=Context())


def _seconds(option: str, value: float | timedelta, *, positive: bool = False) -> float:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if not isinstance(seconds, (int, float)) or not 0 <= seconds < inf or (positive and not seconds):
        raise ImproperlyConfiguredException(f"{option!r} is {value!r}. Pass positive seconds, or a timedelta")
    return float(seconds)


def _utc(timestamp: float) -> datetime | None:
    return datetime.fromtimestamp(timestamp, UTC) if timestamp else None


def _shown(kid: object) -> str:
    """Return what logs show of a key ID, which may be any string."""
    return repr(kid[:_SHOWN_CHARACTERS]) if isinstance(kid, str) else "no key ID"
