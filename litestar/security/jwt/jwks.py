from __future__ import annotations

import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from logging import getLogger
from math import inf, isfinite
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from litestar.exceptions import ImproperlyConfiguredException
from litestar.security.jwt._documents import CacheOptions, RemoteDocument, parse_json
from litestar.security.jwt.keys import KeyNotFoundError, KeySet, KeysUnavailableError, UnusableKeyError, VerificationKey

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from typing import Self

    import jwt

    from litestar import Litestar
    from litestar.security.jwt._documents import Snapshot
    from litestar.security.jwt._http import FetchFunction, HTTPClient
    from litestar.security.jwt.unverified import UnverifiedToken
    from litestar.stores.base import Store

__all__ = ("JWKSetStatus", "RemoteJWKSet")

_logger: Final = getLogger("litestar.security.jwt")

# How many key IDs that were looked for in vain are remembered.
_MAX_MISSED: Final = 1024
# How many reasons why keys are not usable an error names.
_MAX_REASONS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class JWKSetStatus:
    """What a :class:`RemoteJWKSet` knows at one moment."""

    url: str
    """Where the JWK Set is, without the query."""
    key_ids: tuple[str | None, ...]
    """The IDs of the usable keys that the newest answer lists."""
    withdrawn_key_ids: tuple[str | None, ...]
    """The IDs of the keys that it no longer lists, and that are still accepted."""
    skipped: tuple[str, ...]
    """Why other keys of the newest answer are not used."""
    fetched_at: datetime | None
    """When the newest answer was asked for."""
    expires_at: datetime | None
    """When it ceases to be fresh."""
    stale: bool
    """Whether it has."""
    last_error: str | None
    """Why the last fetch failed, ``None`` if it did not."""
    fetches: int
    """How many times the provider was asked, not counting retries."""
    failures: int
    """How many fetches failed."""


class _View(NamedTuple):
    """The keys that may be used without looking any further, and until when."""

    since: float
    until: float
    keys: KeySet
    """What the newest answer lists, then what it no longer does."""
    withdrawn: frozenset[str | None]
    """The IDs that only keys have which it no longer lists."""
    changes_at: float
    """When the first of the keys that it no longer lists ceases to be accepted."""
    due_at: float
    """When to ask for the next answer."""


_NOTHING: Final = _View(0, 0, KeySet(()), frozenset(), inf, 0)


class RemoteJWKSet:
    """A key provider that keeps the keys of a JWK Set which an identity provider publishes.

    The set is fetched when it is first needed, or when the application starts, and renewed in the background. A request waits
    only if there are no usable keys in memory, or if its token names a key that is not among them. A provider that cannot be
    reached does no harm as long as the keys in memory are not too old.

    Of members with the same name, the last one in a JSON object counts (`RFC 7517, section 4
    <https://datatracker.ietf.org/doc/html/rfc7517#section-4>`_). Keys are judged one by one, and those that cannot be used
    are skipped. An answer without any usable key is not an answer.

    Workers that share a ``store`` also share what they fetch: as a rule, one of them asks the provider. A store that is slow
    or broken is done without. Whoever can write to the store can supply keys, just like the provider.
    """

    __slots__ = (
        "_clock",
        "_document",
        "_grace",
        "_listed",
        "_listed_until",
        "_max_keys",
        "_missed",
        "_prefetch",
        "_required",
        "_view",
        "_withdrawn",
    )

    def __init__(
        self,
        url: str,
        *,
        lifetime: float = 600,
        min_lifetime: float = 60,
        max_lifetime: float = 86_400,
        refresh_ahead: float = 0.8,
        cooldown: float = 30,
        timeout: float = 5,
        withdrawn_grace: float = 3600,
        max_stale: float = 86_400,
        max_body_size: int = 512 * 1024,
        max_keys: int = 100,
        allow_http: bool = False,
        headers: Mapping[str, str] | None = None,
        client: HTTPClient | FetchFunction | None = None,
        store: Store | str | None = None,
        prefetch: bool = True,
        require_on_startup: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Describe the JWK Set. Nothing is fetched yet.

        Args:
            url: Where the JWK Set is. Redirects are not followed.
            lifetime: Seconds for which an answer is fresh that says nothing about that with ``Cache-Control`` or
                ``Expires``. 600 (10 minutes) by default.
            min_lifetime: Seconds for which an answer is fresh at least, whatever it says. 60 by default.
            max_lifetime: Seconds for which an answer is fresh at most, whatever it says. 86,400 (24 hours) by default.
            refresh_ahead: The part of its lifetime after which a fresh set is renewed in the background, from above 0 to 1.
                0.8 by default.
            cooldown: Seconds after a fetch for an unknown key ID before the next one, and after a failed fetch before any
                other. 30 by default.
            timeout: Seconds that a fetch may take from its start to the end of the body, with its retries. Connection errors
                and the status codes 429 and 5xx are retried twice. 5 by default.
            withdrawn_grace: Seconds for which a key is still accepted after an answer that does not list it any more, as
                the servers of one provider disagree at times. 3,600 (1 hour) by default. With 0, not at all.
            max_stale: Seconds for which keys are used beyond their lifetime if the provider cannot be reached. 86,400
                (24 hours) by default. With 0, not at all.
            max_body_size: Bytes of the largest answer to accept. 524,288 (512 KiB) by default.
            max_keys: The largest number of keys to accept in a set, and of withdrawn ones to keep. 100 by default.
            allow_http: Whether to accept a URL without TLS. ``False`` by default: only on the loopback interface.
            headers: Header fields to send with each request. None by default.
            client: An asynchronous client of ``httpx2`` or ``httpx``, or an ``async`` function that takes a URL and
                header fields and returns a response with ``status_code``, ``headers`` and ``content``. It is never closed
                here. By default a client is made for each fetch.
            store: A :class:`Store <litestar.stores.base.Store>`, or the name of one in ``app.stores``, to share the set
                with other workers, and to find it again after a restart. A name is looked up when the application
                starts. None by default.
            prefetch: Whether to fetch the set when the application starts. Failing to is logged. ``True`` by default.
            require_on_startup: Whether the application must not start without keys. ``False`` by default.
            clock: Returns the time, in seconds since the epoch. :func:`time.time` by default.

        Raises:
            ImproperlyConfiguredException: If an option is out of its range, or the URL is not safe to fetch keys from.
            MissingDependencyException: If there is no client, and neither ``httpx2`` nor ``httpx`` is installed.
        """
        if not isfinite(withdrawn_grace) or withdrawn_grace < 0 or max_keys < 1:
            raise ImproperlyConfiguredException("'withdrawn_grace' or 'max_keys' is out of range")
        options = CacheOptions(
            lifetime=lifetime,
            min_lifetime=min_lifetime,
            max_lifetime=max_lifetime,
            refresh_ahead=refresh_ahead,
            cooldown=cooldown,
            timeout=timeout,
            max_stale=max_stale,
            max_body_size=max_body_size,
        )
        self._document: RemoteDocument[KeySet] = RemoteDocument(
            url,
            self._parse,
            options,
            accept="application/jwk-set+json, application/json",
            installed=self._install,
            allow_http=allow_http,
            headers=headers,
            client=client,
            store=store,
            clock=clock,
        )
        self._clock = clock
        self._grace = withdrawn_grace
        self._max_keys = max_keys
        self._prefetch = prefetch
        self._required = require_on_startup
        self._listed = KeySet(())
        self._listed_until = 0.0
        self._withdrawn: dict[VerificationKey, float] = {}
        self._missed: set[int] = set()
        self._view = _NOTHING

    def __call__(self, token: UnverifiedToken, /) -> tuple[jwt.PyJWK, ...] | Awaitable[tuple[jwt.PyJWK, ...]]:
        """Find the keys that may verify a token.

        Args:
            token: The token. Its ``kid`` and ``alg`` are looked at, and nothing else.

        Returns:
            The keys, or an awaitable of them if they have to be fetched first.

        Raises:
            KeyNotFoundError: If there is no key for this token.
            KeysUnavailableError: If there are no keys to be had at the moment.
        """
        view = self._view
        if view.since <= self._clock() < view.until:
            keys = view.keys.select(token)
            if keys and token.kid not in view.withdrawn:
                return keys
        return self._look_closer(token)

    def status(self) -> JWKSetStatus:
        """Return what is known at this moment, for health checks. This asks nobody."""
        document, now = self._document, self._clock()
        snapshot = document.snapshot
        return JWKSetStatus(
            url=document.label,
            key_ids=tuple(key.kid for key in self._listed.keys),
            withdrawn_key_ids=tuple(key.kid for key in self._still_accepted(now)),
            skipped=self._listed.skipped,
            fetched_at=None if snapshot is None else datetime.fromtimestamp(snapshot.fetched_at, UTC),
            expires_at=None if snapshot is None else datetime.fromtimestamp(snapshot.expires_at, UTC),
            stale=snapshot is not None and not snapshot.fetched_at <= now < snapshot.expires_at,
            last_error=document.last_error,
            fetches=document.fetches,
            failures=document.failures,
        )

    async def refresh(self) -> None:
        """Ask the provider for the set now, or wait for the answer if that is under way.

        Raises:
            KeysUnavailableError: If there is no answer that can be used. Keys in memory stay as they are.
        """
        await self._document.refresh()

    @asynccontextmanager
    async def lifespan(self, app: Litestar) -> AsyncIterator[None]:
        """Fetch the set when an application starts, and end what runs in the background with it.

        Args:
            app: The application.

        Raises:
            KeysUnavailableError: If the application must not start without keys.
        """
        async with self._document.lifespan(app):
            if self._prefetch or self._required:
                try:
                    await self._document.load()
                except KeysUnavailableError:
                    if self._required:
                        raise
            yield

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._document.label!r})"

    def __deepcopy__(self, memo: Any) -> Self:
        """Return itself: Litestar copies the handlers of a controller, and all of them share what has been fetched."""
        return self

    def _look_closer(self, token: UnverifiedToken) -> tuple[jwt.PyJWK, ...] | Awaitable[tuple[jwt.PyJWK, ...]]:
        document, now = self._document, self._clock()
        started = document.started
        if document.usable(now) is None:
            return self._search(token, started)
        if keys := self._select(token, now):
            return keys
        if document.cooling(now) and (hash(token.kid) in self._missed or not document.is_fetching()):
            raise KeyNotFoundError("Invalid token")
        return self._search(token, started)

    async def _search(self, token: UnverifiedToken, started: int) -> tuple[jwt.PyJWK, ...]:
        """Wait for keys, and once more for the one that the token names. What was asked for since it came will do."""
        await self._document.load()
        if keys := self._select(token, self._clock()):
            return keys
        await self._document.look_again(partial(_lists, token.kid), since=started)
        if keys := self._select(token, self._clock()):
            return keys
        if len(self._missed) < _MAX_MISSED:
            self._missed.add(hash(token.kid))
        raise KeyNotFoundError("Invalid token")

    def _select(self, token: UnverifiedToken, now: float) -> tuple[jwt.PyJWK, ...]:
        """Return the keys for a token, if there are any with its key ID."""
        view = self._view
        if now >= view.changes_at:
            view = self._view = self._view_at(now, view.since, view.due_at)
        keys = view.keys.select(token)
        if not keys and token.kid in view.keys:
            raise KeyNotFoundError("Invalid token")
        if token.kid in view.withdrawn:
            self._document.look_again_soon(partial(_lists, token.kid))
        return keys

    def _parse(self, body: bytes) -> KeySet:
        """Make a key set of an answer. What keys are bound to stays the same as long as they do."""
        answer = KeySet.from_document(parse_json(body), max_keys=self._max_keys)
        if not answer.keys:
            raise UnusableKeyError("; ".join(("no usable key", *answer.skipped[:_MAX_REASONS])))
        known = {_identity(key): key for key in self._view.keys.keys}
        return KeySet(list(dict.fromkeys(known.setdefault(_identity(key), key) for key in answer.keys)), answer.skipped)

    def _install(self, snapshot: Snapshot[KeySet]) -> None:
        now, former, listed = self._clock(), self._listed, snapshot.value
        if listed is not former:
            self._withdraw(former, listed, now)
            if listed.skipped and listed.skipped != former.skipped:
                _logger.warning("%s: keys that are not used: %s", self._document.label, "; ".join(listed.skipped))
            self._listed = listed
        self._listed_until = snapshot.expires_at + self._document.options.max_stale
        self._missed.clear()
        self._view = self._view_at(now, snapshot.fetched_at, self._document.due_at(snapshot))

    def _withdraw(self, former: KeySet, listed: KeySet, now: float) -> None:
        kept = set(listed.keys)
        # Keys that were too old to be used before are not taken up again.
        gone = [key for key in former.keys if key not in kept and now < self._listed_until]
        withdrawn = {key: since for key, since in self._withdrawn.items() if key not in kept}
        withdrawn.update(dict.fromkeys(gone, now))
        self._withdrawn = dict(list(withdrawn.items())[-self._max_keys :])
        new = len(kept.difference(former.keys))
        _logger.info("%s: %d keys, %d of them new, %d withdrawn", self._document.label, len(kept), new, len(gone))

    def _view_at(self, now: float, since: float, due_at: float) -> _View:
        withdrawn = self._withdrawn = {key: min(self._withdrawn[key], now) for key in self._still_accepted(now)}
        changes_at = min((left + self._grace for left in withdrawn.values()), default=inf)
        keys = KeySet([*self._listed.keys, *withdrawn]) if withdrawn else self._listed
        listed = {key.kid for key in self._listed.keys}
        return _View(
            since=since,
            until=min(due_at, changes_at),
            keys=keys,
            withdrawn=frozenset(key.kid for key in withdrawn) - listed - {None},
            changes_at=changes_at,
            due_at=due_at,
        )

    def _still_accepted(self, now: float) -> list[VerificationKey]:
        return [key for key, since in list(self._withdrawn.items()) if now < since + self._grace]


def _lists(kid: str | None, keys: KeySet) -> bool:
    return kid in keys


def _identity(key: VerificationKey) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(key.jwk.items()))
