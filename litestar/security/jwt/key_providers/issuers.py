"""A key provider for several issuers, known when the application starts or at run time."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar, cast

import anyio

from litestar.exceptions import ImproperlyConfiguredException
from litestar.security.jwt.key_providers.background import LoopTasks
from litestar.security.jwt.key_providers.limits import TokenBucket
from litestar.security.jwt.key_providers.remote import RemoteJWKSet
from litestar.security.jwt.keys import (
    KeyProvider,
    KeysUnavailableException,
    SelectedKeys,
    UnknownIssuerException,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Self

    from litestar import Litestar
    from litestar.security.jwt.key_providers.background import BackgroundTask
    from litestar.security.jwt.key_providers.remote import KeySetStatus
    from litestar.security.jwt.unverified import UnverifiedToken

__all__ = ("IssuerKeyProvider",)

T = TypeVar("T")

# How many providers to keep that a function has returned. The keys of one take some 20 KiB.
_MAX_KEPT: Final = 10_000
# For how many issuers to remember that the function does not know them, and for how many seconds.
_MAX_UNKNOWN: Final = 1_000
_UNKNOWN_LIFETIME: Final = 60.0
# Names of real issuers have some hundred characters. Anyone can send others, which would be kept.
_MAX_ISSUER_LENGTH: Final = 2_048
# How many issuers can be new at once, and the seconds after which there can be one more.
_NEW_ISSUERS: Final = 100
_REFILL: Final = 0.1
# Seconds that an async function may take. It looks a tenant up in a database.
_TIMEOUT: Final = 5.0
# How many names of issuers a log line shows.
_SHOWN_ISSUERS: Final = 10

IssuerFunction: TypeAlias = Callable[[str], KeyProvider | Awaitable[KeyProvider | None] | None]
Found: TypeAlias = SelectedKeys | KeyProvider


class IssuerKeyProvider:
    """A key provider for several issuers. It verifies a token with the keys of the issuer that the token names.

    The ``iss`` claim of the token has to be exactly the name of an issuer. Other tokens are refused without a request.

    .. code-block:: python

        IssuerKeyProvider(
            {
                "https://idp.example.com": OpenIDProvider("https://idp.example.com"),
                "https://partner.example": RemoteJWKSet("https://partner.example/keys"),
            }
        )

    If you know the issuers only at run time, give a function that returns the provider of an issuer:

    .. code-block:: python

        async def provider_of(issuer: str) -> OpenIDProvider | None:
            return OpenIDProvider(issuer) if await is_tenant(issuer) else None


        IssuerKeyProvider(provider_of)

    Nothing in the token has been verified when the function is called, and anyone can make up an issuer. Have the function
    look the name up among those you trust. The providers that it returns are kept, at most 10,000. The least recently used one is
    dropped first. Their ``lifespan`` is not entered, so pass them a store itself instead of its name. At most 100 issuers can be
    new at once, and 10 more each second. An issuer whose keys are there does not count. Requests beyond that are answered
    with ``503``.

    To stop accepting an issuer at once, use ``accepted_issuers`` of the backend. After settings of an issuer have changed, call
    :meth:`forget`.
    """

    def __init__(self, issuers: Mapping[str, KeyProvider] | IssuerFunction) -> None:
        """Set the issuers to trust.

        Args:
            issuers: A mapping from names of issuers to their key providers. Or a function, sync or async, from the name of an
                issuer to its key provider, or to ``None`` if you do not trust that issuer. An async function has 5 seconds,
                and a ``None`` is remembered for 60.

        Raises:
            ImproperlyConfiguredException: If ``issuers`` is neither, or one of the providers is none.
        """
        if not isinstance(issuers, Mapping) and not callable(issuers):
            raise ImproperlyConfiguredException(
                f"'issuers' is a {type(issuers).__name__}. Pass a mapping such as {{issuer: OpenIDProvider(issuer)}}, or a function"
            )
        mapping = issuers if isinstance(issuers, Mapping) else {}
        self._providers = {name: _checked_provider(provider, name) for name, provider in mapping.items()}
        """The providers of the mapping. Nobody changes it."""
        self._function = None if isinstance(issuers, Mapping) else issuers
        """The function, if there is one. Nobody changes it."""
        self._kept: OrderedDict[str, KeyProvider] = OrderedDict()
        """What the function has returned, the least recently used first. ``_keep``, ``_known`` and ``forget`` change it."""
        self._unknown: OrderedDict[str, float] = OrderedDict()
        """When the function returned ``None`` for an issuer, the first one first. ``_keep`` and ``forget`` change it."""
        self._new_issuers = TokenBucket(_NEW_ISSUERS, _REFILL)
        """How many issuers may be new. Calling takes one, ``_first_keys`` gives it back."""
        self._tasks = LoopTasks()
        """Calls of an async function, by issuer. ``_look_up`` adds one."""

    @property
    def issuers(self) -> tuple[str, ...]:
        """The names of the issuers, empty if a function finds them."""
        return tuple(self._providers)

    def __call__(self, token: UnverifiedToken, /) -> Found | Awaitable[Found]:
        """Find the keys that may verify a token.

        Args:
            token: The token. Its ``iss`` is looked at, and whatever the provider of that issuer looks at.

        Returns:
            The keys, an awaitable of them, or a provider to call instead.

        Raises:
            UnknownIssuerException: If the issuer is not one to trust.
            KeysUnavailableException: If too many issuers are new.
        """
        issuer = token.issuer
        if (provider := self._known(issuer)) is not None:
            return _call(provider, token)
        if self._function is None or not issuer or len(issuer) > _MAX_ISSUER_LENGTH or self._is_unknown(issuer):
            raise self._unknown_issuer()
        if (pending := self._tasks.pending(issuer)) is not None:
            return self._find_after(pending, token)
        if not self._new_issuers.take(time.time()):
            raise KeysUnavailableException("Too many new issuers", retry_after=1)
        returned = self._function(issuer)
        if isinstance(returned, Awaitable):
            return self._look_up(issuer, returned, token)
        return self._first_keys(self._keep(issuer, returned), token)

    async def refetch(self, token: UnverifiedToken, /) -> SelectedKeys | None:
        """Let the provider of the token's issuer look for other keys, as the signature did not verify.

        Args:
            token: The token.

        Returns:
            The keys that may verify the token now, or ``None`` if there are no others.

        Raises:
            KeysUnavailableException: If the issuer cannot be reached now.
        """
        provider = self._known(token.issuer)
        return await provider.refetch(token) if isinstance(provider, RemoteJWKSet) else None

    def forget(self, issuer: str) -> None:
        """Drop what the function has returned for an issuer, so that it is called again.

        Args:
            issuer: The name of the issuer.
        """
        self._kept.pop(issuer, None)
        self._unknown.pop(issuer, None)

    def status(self) -> dict[str, KeySetStatus]:
        """Return the state of each provider, by issuer. This makes no request."""
        providers = {**self._providers, **self._kept}
        return {issuer: p.status() for issuer, p in providers.items() if isinstance(p, RemoteJWKSet)}

    @asynccontextmanager
    async def lifespan(self, app: Litestar) -> AsyncIterator[None]:
        """Enter the lifespans of the providers in the mapping.

        Args:
            app: The application.

        Raises:
            KeysUnavailableException: If one of them does not let the application start without keys.
        """
        providers: list[KeyProvider] = []
        for provider in self._providers.values():
            if not any(provider is known for known in providers):
                providers.append(provider)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._tasks.running())
            # All start to fetch before anyone waits.
            for provider in providers:
                name = "running" if isinstance(provider, RemoteJWKSet) else "lifespan"
                if (lifespan := getattr(provider, name, None)) is not None:
                    await stack.enter_async_context(lifespan(app))
            for provider in providers:
                if isinstance(provider, RemoteJWKSet):
                    await provider.wait_if_required()
            yield

    def __deepcopy__(self, memo: object) -> Self:
        """Return itself: Litestar copies the handlers of a controller, and all of them share what was fetched."""
        return self

    def _known(self, issuer: str | None) -> KeyProvider | None:
        if issuer is None:
            return None
        if issuer in self._kept:
            self._kept.move_to_end(issuer)
            return self._kept[issuer]
        return self._providers.get(issuer)

    def _is_unknown(self, issuer: str) -> bool:
        """Tell whether the function did not know an issuer a moment ago. The clock may have been set back."""
        return 0 <= time.time() - self._unknown.get(issuer, 0) < _UNKNOWN_LIFETIME

    def _unknown_issuer(self) -> UnknownIssuerException:
        return UnknownIssuerException(*islice(self._providers, _SHOWN_ISSUERS))

    async def _look_up(self, issuer: str, returned: Awaitable[KeyProvider | None], token: UnverifiedToken) -> Found:
        """Wait for the function in a task that all requests of this issuer share."""

        async def work(task: BackgroundTask) -> None:
            with anyio.fail_after(_TIMEOUT):
                task.result = self._keep(issuer, await returned)

        task = self._tasks.start(issuer, work)
        await task.wait()
        return await _resolve(self._first_keys(cast("KeyProvider", task.result), token))

    async def _find_after(self, pending: BackgroundTask, token: UnverifiedToken) -> Found:
        """Wait for a call of the function that another request has started."""
        await pending.wait()
        return await _resolve(_call(cast("KeyProvider", pending.result), token))

    def _keep(self, issuer: str, returned: KeyProvider | None) -> KeyProvider:
        """Keep what the function has returned for an issuer."""
        if returned is None:
            self._unknown[issuer] = time.time()
            _drop_oldest(self._unknown, _MAX_UNKNOWN)
            raise self._unknown_issuer()
        # Of two that were returned at the same time, the first stays, as it may have its keys already.
        provider = self._kept.setdefault(issuer, _checked_provider(returned, issuer))
        _drop_oldest(self._kept, _MAX_KEPT)
        return provider

    def _first_keys(self, provider: KeyProvider, token: UnverifiedToken) -> Found | Awaitable[Found]:
        """Find keys with a new provider. Once its keys are there, another issuer may be new in its place."""
        if isinstance(provider, RemoteJWKSet) and not provider.status().usable:
            return self._first_fetch(provider, token)
        self._new_issuers.give_back()
        return _call(provider, token)

    async def _first_fetch(self, provider: RemoteJWKSet, token: UnverifiedToken) -> Found:
        try:
            return await _resolve(provider(token))
        finally:
            if provider.status().usable:
                self._new_issuers.give_back()


def _call(provider: KeyProvider, token: UnverifiedToken) -> Found | Awaitable[Found]:
    """Find keys, or leave it to the caller to call a provider of another kind."""
    return provider(token) if isinstance(provider, RemoteJWKSet) else provider


async def _resolve(found: Found | Awaitable[Found]) -> Found:
    return await found if isinstance(found, Awaitable) else found


def _drop_oldest(remembered: OrderedDict[str, T], limit: int) -> None:
    if len(remembered) > limit:
        remembered.popitem(last=False)


def _checked_provider(provider: object, issuer: object) -> KeyProvider:
    if not isinstance(provider, KeyProvider) or isinstance(provider, type) or not isinstance(issuer, str):
        # It may be a secret, so only its type is shown.
        raise ImproperlyConfiguredException(f"'issuers' has a {type(provider).__name__}, no provider, for {issuer!r}")
    return provider
