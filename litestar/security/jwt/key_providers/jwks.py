"""A key provider that keeps the keys of a JWK Set, which an issuer publishes at a URL."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from contextlib import asynccontextmanager, suppress
from contextvars import Context
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import import_module
from logging import DEBUG, WARNING, getLogger
from math import inf, isfinite
from random import uniform
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import anyio
import sniffio

from litestar.exceptions import ImproperlyConfiguredException
from litestar.security.jwt.key_providers._fetch import MAX_LIFETIME, FetchError, check_options, fetch_json, label_of
from litestar.security.jwt.key_providers._store import Listing, SharedCopy
from litestar.security.jwt.keys import (
    KeyNotFoundException,
    KeySet,
    KeysUnavailableException,
    UnusableKeyError,
    VerificationKey,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Set
    from typing import Self

    from litestar import Litestar
    from litestar.security.jwt.key_providers._fetch import AsyncHTTPClient, FetchFunction
    from litestar.security.jwt.keys import SelectedKeys
    from litestar.security.jwt.unverified import UnverifiedToken
    from litestar.stores.base import Store

__all__ = ("KeySetStatus", "RemoteJWKSet")

_logger: Final = getLogger("litestar.security.jwt")

# The largest set in the wild has about 30 keys.
_MAX_KEYS: Final = 100
# Withdrawn keys count as well.
_MAX_KNOWN_KEYS: Final = 2 * _MAX_KEYS
# The parts of its lifetime after which an answer is due for renewal. They are random, so that a fleet does not ask at once.
_EARLIEST, _LATEST = 0.7, 0.9
# How many fetches unknown keys may cause at once, and the seconds after which they may cause another one. One made-up key ID
# must not keep a new key out, and a flood of them must neither do so for long nor reach the issuer.
_EXTRA_FETCHES: Final = 2
_REFILL: Final = 15.0
# Seconds from a failed fetch to the next: 1, 2, 4 and so on up to this. Up to a quarter less, so that a fleet does not ask at once.
_MAX_BACKOFF: Final = 30.0
_JITTER: Final = 0.75
# The members that make a key and its rules (RFC 7517, section 4). Certificates, and private members above all, are not kept.
_KEPT_MEMBERS: Final = ("alg", "crv", "e", "issuer", "key_ops", "kid", "kty", "n", "use", "x", "y")
# Sets list keys for encryption as a matter of course.
_EXPECTED_REASON: Final = "not for signatures ('use')"
# How much of a key ID a log line shows, and how many reasons an error message.
_SHOWN_CHARACTERS: Final = 64
_SHOWN_REASONS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySetStatus:
    """What a :class:`RemoteJWKSet` or an :class:`OpenIDProvider` knows at one moment. Times are in UTC."""

    url: str
    """Where it asks, without the query."""
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
    """When its freshness ends."""
    usable_until: datetime | None
    """When its keys are no longer accepted, if no newer answer comes."""
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


class _KnownKey(NamedTuple):
    """A key in memory."""

    key: VerificationKey
    listing: Listing


class _Fetch:
    """A fetch under way, in a task of its own."""

    __slots__ = ("answered", "ended", "loop", "scope", "succeeded", "task")

    def __init__(self, loop: object) -> None:
        self.answered = anyio.Event()
        self.ended = anyio.Event()
        self.loop = loop
        self.scope = anyio.CancelScope()
        self.succeeded = False
        self.task: object = None  # event loops have no strong reference to their tasks


class RemoteJWKSet:
    """A key provider that keeps the keys of a JWK Set, which an issuer publishes at a URL.

    The first request fetches the set, or the start of the application does. A background task renews it before it expires,
    so that requests do not wait. A request waits only if no usable keys are in memory, or if its token needs a key that is
    not among them. If the issuer cannot be reached, the keys in memory go on working until ``max_stale``.

    Keys are judged one by one, and those that cannot be used are skipped. An answer without any usable key counts as a failed
    fetch.

    Workers that share a ``store`` share the set. Anyone who can write to the store can supply keys, just like the issuer. An
    answer that depends on anything but the URL and ``headers``, such as a client certificate, needs a store of its own.
    """

    _issuer: str | None = None

    def __init__(
        self,
        url: str,
        *,
        lifetime: float | timedelta | None = None,
        max_stale: float | timedelta = 86_400,
        withdrawn_grace: float | timedelta = 3600,
        timeout: float | timedelta = 5,
        allow_http: bool = False,
        headers: Mapping[str, str] | None = None,
        client: AsyncHTTPClient | FetchFunction | None = None,
        store: Store | str | None = None,
        require_on_startup: bool = False,
    ) -> None:
        """Describe the JWK Set. Nothing is fetched yet.

        Durations are seconds or a :class:`timedelta <datetime.timedelta>`.

        Args:
            url: Where the JWK Set is. Redirects are not followed.
            lifetime: How long an answer is fresh, whatever it says itself. By default, it is what ``Cache-Control`` or
                ``Expires`` say (`RFC 9111, section 4.2 <https://datatracker.ietf.org/doc/html/rfc9111#section-4.2>`_),
                between 1 minute and 24 hours, and 10 minutes if they say nothing.
            max_stale: How long keys are used after the end of their freshness if the issuer cannot be reached. 86,400 (24
                hours) by default.
            withdrawn_grace: How long a key is still accepted that the issuer no longer lists, from the end of the freshness of
                the last answer that listed it. 3,600 (1 hour) by default.
            timeout: How long a fetch may take from its start to the last byte. 5 by default.
            allow_http: Whether to accept a URL without TLS. ``False`` by default, and the loopback interface is exempt.
            headers: Header fields to send with each request. None by default.
            client: An ``AsyncClient`` of ``httpx2`` or ``httpx``, which is never closed here. Or an async function that takes
                a URL and header fields, and returns a response with ``status_code``, ``headers`` and ``content``. By
                default, each fetch makes a client of its own, which honours proxies and CA files of the environment.
            store: A :class:`Store <litestar.stores.base.Store>` to share the set with other workers, and to find it again
                after a restart. Or the name of one in ``app.stores``, which is looked up when the application starts. None by
                default.
            require_on_startup: Whether the start of the application waits for keys, and fails without them. ``False`` by
                default.

        Raises:
            ImproperlyConfiguredException: If the URL is not safe to fetch keys from, or an option is not valid.
            MissingDependencyException: If there is no ``client``, and neither ``httpx2`` nor ``httpx`` is installed.
        """
        self._headers = check_options(url, allow_http=allow_http, headers=headers, client=client)
        self._url = url
        self._client = client
        self._lifetime = None if lifetime is None else _seconds("lifetime", lifetime, positive=True)
        self._max_stale = _seconds("max_stale", max_stale)
        self._withdrawn_grace = _seconds("withdrawn_grace", withdrawn_grace)
        self._timeout = _seconds("timeout", timeout, positive=True)
        self._is_required = require_on_startup
        identity = [self._url, self._issuer, sorted(self._headers.items())]
        longest = max(self._lifetime or 0, MAX_LIFETIME)
        self._copy = SharedCopy(store, identity, label=repr(self), max_lifetime=longest)

        # What answers have said: each usable key with the last answer that listed it, by its public members.
        self._known: dict[str, _KnownKey] = {}
        self._listed: Set[str] = frozenset()
        self._asked_at = self._fresh_until = self._due_at = 0.0
        self._skipped: tuple[str, ...] = ()
        # What is accepted now, and until when nothing changes.
        self._keys = KeySet(())
        self._keys_until = inf
        # What fetches are under way, and when the next one may be.
        self._fetches: list[_Fetch] = []
        self._failures_in_a_row = 0
        self._retry_at = 0.0
        self._extra_fetches_full_at = 0.0
        self._last_error: str | None = None
        self._lifespans = 0
        self._counts = Counter[str]()

    @property
    def issuers(self) -> tuple[str, ...]:
        """The names of the issuers whose keys these are, as far as they are known."""
        return ()

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
            self._keep_up(now)
        found = self._select(token)
        return found if found.keys else self._search(token, found)

    async def look_again(self, token: UnverifiedToken, /) -> SelectedKeys | None:
        """Look for other keys, as the signature of a token did not verify with those in memory.

        An issuer may have put a new key behind a known ID, or a token may have no ID at all.

        Args:
            token: The token.

        Returns:
            The keys that may verify the token now, or ``None`` if they are the same as before.

        Raises:
            KeysUnavailableException: If the issuer cannot be asked now.
        """
        try:
            return await self._search(token, self._select(token))
        except KeyNotFoundException:
            return None

    async def refresh(self) -> None:
        """Ask the issuer now, or wait for the answer if it has been asked.

        Raises:
            KeysUnavailableException: If there is no usable answer. Keys in memory stay as they are.
        """
        fetch = self._under_way() or self._start(lambda: False)
        await fetch.answered.wait()
        if not fetch.succeeded:
            raise self._unavailable()

    def status(self) -> KeySetStatus:
        """Return what is known at this moment, for health checks. This asks nobody."""
        now = time.time()
        accepted = {text: known.key.kid for text, known in self._known.items() if now < self._accepted_until(text)}
        has_answer = self._asked_at > 0
        return KeySetStatus(
            url=label_of(self._url),
            issuer=self._issuer,
            key_ids=tuple(kid for text, kid in accepted.items() if text in self._listed),
            withdrawn_key_ids=tuple(kid for text, kid in accepted.items() if text not in self._listed),
            skipped=self._skipped,
            fetched_at=_utc(self._asked_at) if has_answer else None,
            expires_at=_utc(self._fresh_until) if has_answer else None,
            usable_until=_utc(self._fresh_until + self._max_stale) if has_answer else None,
            usable=bool(accepted),
            last_error=self._last_error,
            fetches=self._counts["fetches"],
            failures=self._counts["failures"],
            misses=self._counts["misses"],
        )

    @asynccontextmanager
    async def lifespan(self, app: Litestar) -> AsyncIterator[None]:
        """Start the first fetch when an application starts, and end what is under way when the last one shuts down.

        Args:
            app: The application. Its ``stores`` are asked for the ``store`` if that is a name.

        Raises:
            KeysUnavailableException: If ``require_on_startup`` is set and there are no keys.
        """
        self._start_up(app)
        self._lifespans += 1
        try:
            if self._is_required:
                await self._require()
            yield
        finally:
            self._lifespans -= 1
            if not self._lifespans:
                await self._shut_down()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._issuer or label_of(self._url)!r})"

    def __deepcopy__(self, memo: Any) -> Self:
        """Return itself: Litestar copies the handlers of a controller, and all of them share what was fetched."""
        return self

    # From a token to its keys

    def _select(self, token: UnverifiedToken) -> SelectedKeys:
        return self._keys.select(token)

    async def _search(self, token: UnverifiedToken, tried: SelectedKeys) -> SelectedKeys:
        """Wait for a fetch that can find other keys than those that were tried."""

        def is_found() -> bool:
            found = self._select(token)
            return bool(found.keys) and found != tried

        self._counts["misses"] += 1
        fetch = self._under_way()
        if fetch is not None:
            # The issuer may have been asked before it published the key. If so, it has to be asked once more.
            await fetch.answered.wait()
        if not is_found() and (fetch := self._under_way() or self._start_for_miss(is_found)) is not None:
            await fetch.answered.wait()
        if is_found():
            self._keep_up(time.time())  # a copy from the store may be due for renewal
            return self._select(token)
        if self._failures_in_a_row or not self._keys.keys or (fetch is not None and not fetch.succeeded):
            raise self._unavailable()  # nobody can tell whether there is such a key
        raise KeyNotFoundException("Invalid token")

    def _unavailable(self) -> KeysUnavailableException:
        retry_after = self._retry_at - time.time() if self._cooling_down(time.time()) else 1
        return KeysUnavailableException("Keys to verify tokens with are unavailable", retry_after=retry_after)

    # When to fetch

    def _keep_up(self, now: float) -> None:
        """Do what has become due since the last request."""
        if now >= self._keys_until:
            self._accept(now)
        if not self._keys.keys or not self._due(now) or self._cooling_down(now):
            return
        if _running_loop() is not None and self._under_way() is None:
            self._start(self._not_due)

    def _due(self, now: float) -> bool:
        return not self._asked_at <= now < self._due_at  # the clock may have been set back

    def _not_due(self) -> bool:
        return not self._due(time.time())

    def _cooling_down(self, now: float) -> bool:
        """Tell whether a fetch has failed and the next one has to wait."""
        return 0 < self._retry_at - now <= _MAX_BACKOFF

    def _start_for_miss(self, is_found: Callable[[], bool]) -> _Fetch | None:
        now = time.time()
        if self._cooling_down(now):
            return None
        if self._failures_in_a_row or self._due(now) or self._take_extra_fetch(now):
            return self._start(is_found)
        return None

    def _take_extra_fetch(self, now: float) -> bool:
        """Take a fetch from the bucket of those that unknown keys may cause, if there is one in it."""
        missing = self._extra_fetches_full_at - now
        if not 0 < missing <= _EXTRA_FETCHES * _REFILL:  # it is full, or the clock was set back
            missing = 0
        if missing > (_EXTRA_FETCHES - 1) * _REFILL:
            return False
        self._extra_fetches_full_at = now + missing + _REFILL
        return True

    # One fetch

    def _under_way(self) -> _Fetch | None:
        loop = _running_loop()
        return next((f for f in tuple(self._fetches) if f.loop is loop and not f.answered.is_set()), None)

    def _start(self, is_enough: Callable[[], bool]) -> _Fetch:
        """Fetch in a task of its own, so that no cancelled request ends it.

        Args:
            is_enough: Tells whether a copy from the store takes the place of the issuer's answer.
        """
        fetch = _Fetch(_running_loop())
        self._fetches.append(fetch)
        fetch.task = _spawn(fetch.loop, self._run, fetch, is_enough)
        return fetch

    async def _run(self, fetch: _Fetch, is_enough: Callable[[], bool]) -> None:
        try:
            with fetch.scope:
                await self._exchange()
                try:
                    if not is_enough():
                        await self._renew()
                    fetch.succeeded = True
                    fetch.answered.set()  # a slow store keeps nobody waiting
                except Exception as e:  # noqa: BLE001  # on trio, an exception in a system task ends the whole run
                    self._failed(e)
                await self._exchange()
        finally:
            self._fetches.remove(fetch)
            fetch.answered.set()
            fetch.ended.set()

    async def _renew(self) -> None:
        asked_at = time.time()
        self._counts["fetches"] += 1
        try:
            with anyio.fail_after(self._timeout):
                document, lifetime = await self._ask()
        except TimeoutError as e:
            raise FetchError(f"no complete answer within {self._timeout:g} s") from e
        fresh_until = asked_at + (self._lifetime or lifetime)
        self._learn(self._judge(document, asked_at, fresh_until))
        if self._failures_in_a_row:
            _logger.info("%r: fetching keys works again", self)
        self._failures_in_a_row, self._last_error, self._retry_at = 0, None, 0.0

    async def _ask(self) -> tuple[Any, float]:
        return await fetch_json(self._url, self._headers, self._client)

    def _failed(self, error: Exception) -> None:
        delay = min(2.0 ** min(self._failures_in_a_row, 10), _MAX_BACKOFF) * uniform(_JITTER, 1)  # noqa: S311
        wanted = error.retry_after if isinstance(error, FetchError) else 0
        self._retry_at = time.time() + max(delay, min(wanted, _MAX_BACKOFF))
        self._last_error = str(error) if isinstance(error, FetchError) else repr(error)
        if not self._failures_in_a_row:
            _logger.warning("%r: fetching keys failed (%s)", self, self._last_error)
        self._failures_in_a_row += 1
        self._counts["failures"] += 1

    # What answers and copies say

    def _judge(self, document: Any, asked_at: float, fresh_until: float) -> dict[str, _KnownKey]:
        """Choose the usable keys of an answer (RFC 7517, section 5)."""
        jwks = document.get("keys") if isinstance(document, dict) else None
        if not isinstance(jwks, list):
            raise FetchError("the answer is not a JWK Set")
        if len(jwks) > _MAX_KEYS:
            raise FetchError(f"the answer has {len(jwks)} keys, and at most {_MAX_KEYS} are accepted")
        usable, skipped = {}, {}
        for jwk in jwks:
            try:
                usable.update(self._known_key(jwk, asked_at, fresh_until))
            except UnusableKeyError as e:
                kid = jwk.get("kid") if isinstance(jwk, dict) else None
                skipped[f"{_shown(kid)}: {e}"] = DEBUG if str(e) == _EXPECTED_REASON else WARNING
        if not usable:
            raise FetchError(f"no usable key in the answer: {'; '.join([*skipped][:_SHOWN_REASONS]) or 'it is empty'}")
        for reason in skipped.keys() - set(self._skipped):
            _logger.log(skipped[reason], "%r: a key is skipped, %s", self, reason)
        self._skipped = tuple(skipped)
        return usable

    def _known_key(self, jwk: Any, asked_at: float, fresh_until: float) -> dict[str, _KnownKey]:
        key = VerificationKey.from_jwk(jwk)
        kept = {name: jwk[name] for name in _KEPT_MEMBERS if jwk.get(name) is not None}
        text = json.dumps(kept)
        # The same key stays the same object, by which other layers remember what it has verified.
        key = self._known[text].key if text in self._known else key
        return {text: _KnownKey(key, Listing(kept, asked_at, fresh_until))}

    def _learn(self, answer: Mapping[str, _KnownKey]) -> None:
        """Add keys to those in memory. For each, the last answer that lists it counts."""
        newest = max((known.listing for known in answer.values()), key=lambda listing: listing.asked_at)
        if newest.asked_at < self._asked_at <= time.time():
            return  # another event loop has asked later
        before, self._listed = self._listed, {t for t, k in answer.items() if k.listing.asked_at == newest.asked_at}
        self._known = {**self._known, **answer}
        self._asked_at, self._fresh_until = newest.asked_at, newest.fresh_until
        lifetime = newest.fresh_until - newest.asked_at
        self._due_at = newest.asked_at + lifetime * uniform(_EARLIEST, _LATEST)  # noqa: S311
        if before and before != self._listed:
            added, withdrawn = self._shown_ids(self._listed - before), self._shown_ids(before - self._listed)
            _logger.info("%r: keys were rotated, new: %s, withdrawn: %s", self, added, withdrawn)
        self._accept(time.time())

    async def _exchange(self) -> None:
        """Adopt the copy in the store if it is newer than what is in memory, or replace it if it is older."""
        if self._copy.store is None:
            return
        theirs, now = {}, time.time()
        for listing in await self._copy.read():
            with suppress(UnusableKeyError):  # another release may have written it, which can use more
                # The clock of the worker that wrote it may be ahead.
                theirs.update(self._known_key(listing.jwk, min(listing.asked_at, now), listing.fresh_until))
        newest = max((known.listing.asked_at for known in theirs.values()), default=0.0)
        if newest > self._asked_at:
            self._learn(theirs)
        elif newest < self._asked_at and self._keys.keys:
            ours = [known.listing for known in self._known.values()]
            await self._copy.write(ours, expires_in=self._fresh_until + self._max_stale - now)

    # What is accepted

    def _accepted_until(self, text: str) -> float:
        usable_until = self._fresh_until + self._max_stale
        if text in self._listed:
            return usable_until
        return min(usable_until, self._known[text].listing.fresh_until + self._withdrawn_grace)

    def _accept(self, now: float) -> None:
        """Choose the keys to accept from now on, and forget those that never will be again."""
        newest_first = sorted(self._known, key=lambda text: -self._known[text].listing.asked_at)
        accepted = [text for text in newest_first if now < self._accepted_until(text)][:_MAX_KNOWN_KEYS]
        if len(accepted) < len(self._known):
            _logger.info("%r: keys are no longer accepted: %s", self, self._shown_ids(self._known.keys() - accepted))
        self._known = {text: self._known[text] for text in accepted}
        self._keys = KeySet(known.key for known in self._known.values())
        self._keys_until = min(map(self._accepted_until, accepted), default=inf)

    def _shown_ids(self, texts: Set[str]) -> str:
        return ", ".join(_shown(self._known[text].key.kid) for text in texts & self._known.keys()) or "none"

    # Life

    def _start_up(self, app: Litestar) -> None:
        """Start the first fetch, which nobody waits for yet."""
        if isinstance(self._copy.store, str):
            self._copy.store = app.stores.get(self._copy.store)
        if self._due(time.time()) and self._under_way() is None:
            self._start(self._not_due)

    async def _require(self) -> None:
        if (fetch := self._under_way()) is not None:
            await fetch.answered.wait()
        if not self._keys.keys:
            raise KeysUnavailableException(f"{self!r} has no keys, and 'require_on_startup' is set: {self._last_error}")

    async def _shut_down(self) -> None:
        """End what is under way in this event loop. Others end with their own."""
        loop = _running_loop()
        with anyio.CancelScope(shield=True):
            for fetch in [fetch for fetch in self._fetches if fetch.loop is loop]:
                if not fetch.succeeded:
                    fetch.scope.cancel()
                await fetch.ended.wait()


def _running_loop() -> Any:
    """Return what identifies the event loop that runs now, ``None`` if there is none."""
    try:
        library = sniffio.current_async_library()
    except sniffio.AsyncLibraryNotFoundError:
        return None
    return import_module("trio").lowlevel.current_trio_token() if library == "trio" else asyncio.get_running_loop()


def _spawn(loop: Any, function: Callable[..., Any], *args: Any) -> object:
    """Run a task that belongs to no request: neither its cancellation nor its context variables reach the task."""
    if isinstance(loop, asyncio.AbstractEventLoop):
        return loop.create_task(function(*args), context=Context())
    return import_module("trio").lowlevel.spawn_system_task(function, *args, context=Context())


def _seconds(option: str, value: float | timedelta, *, positive: bool = False) -> float:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    is_number = isinstance(seconds, (int, float)) and isfinite(seconds)
    if not is_number or seconds < 0 or (positive and seconds == 0):
        raise ImproperlyConfiguredException(f"{option!r} is {value!r}. Give positive seconds, or a timedelta")
    return float(seconds)


def _utc(timestamp: float) -> datetime:
    return datetime.fromtimestamp(timestamp, UTC)


def _shown(kid: object) -> str:
    """Return what logs show of a key ID, which may be any string."""
    return repr(kid[:_SHOWN_CHARACTERS]) if isinstance(kid, str) else "no key ID"
