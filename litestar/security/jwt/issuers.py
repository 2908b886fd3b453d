from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from copy import copy
from logging import getLogger
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeAlias, cast

import anyio
import jwt

from litestar.exceptions import ImproperlyConfiguredException
from litestar.security.jwt._documents import running_loop, spawn
from litestar.security.jwt._sources import BoundProvider
from litestar.security.jwt.discovery import OpenIDProvider, of_issuer
from litestar.security.jwt.keys import Key, KeyNotFoundError, KeyProvider, KeysUnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Self

    from litestar import Litestar
    from litestar.security.jwt.unverified import UnverifiedToken

__all__ = ("IssuerKeyProvider",)

_logger: Final = getLogger("litestar.security.jwt")

IssuerKeys: TypeAlias = Key | KeyProvider | jwt.PyJWKClient
IssuerFunction: TypeAlias = Callable[[str], IssuerKeys | Awaitable[IssuerKeys | None] | None]


class IssuerKeyProvider:
    """A key provider for several issuers, that verifies each token with the keys of the issuer it claims to be of.

    The issuer is chosen by the ``iss`` claim, which has to be exactly the same. Whatever the key provider of that issuer
    verifies by itself, as :class:`OpenIDProvider` does, it verifies here as well, so that it cannot take the tokens of one
    issuer for those of another. Tokens of other issuers are refused without asking anybody.

    .. code-block:: python

        IssuerKeyProvider(
            {
                "https://idp.example.com": OpenIDProvider("https://idp.example.com"),
                "https://partner.example": RemoteJWKSet("https://partner.example/keys"),
            }
        )

    Where issuers are known at run time only, a function finds the key provider of each.

    .. code-block:: python

        def provider_of(issuer: str) -> OpenIDProvider | None:
            return OpenIDProvider(issuer) if issuer in tenants else None


        IssuerKeyProvider(provider_of)

    Its answer is kept. To turn an issuer away at once, use ``accepted_issuers`` of the backend, which is asked for each token.

    Of a backend without ``algorithm``, this accepts from each issuer what the backend would accept if it had that issuer's
    key provider for its own. Key providers with a ``lifespan`` are started and closed with the application, and those that
    a function made when they are first needed and when they are dropped.
    """

    __slots__ = ("_apps", "_function", "_known", "_max_issuers", "_started", "_unstarted")

    enforces: ClassVar = frozenset({"alg", "iss"})
    """What this checks, unless the caller of :class:`UnverifiedToken` does."""

    def __init__(self, issuers: Mapping[str, IssuerKeys] | IssuerFunction, *, max_issuers: int = 100) -> None:
        """Take the issuers to trust.

        Args:
            issuers: A mapping from the names of issuers to keys, key providers, or a :class:`jwt.PyJWKClient`. Or a function,
                synchronous or asynchronous, that is given the name of an issuer and returns one of those, or ``None`` for an
                issuer that is not to be trusted. What it returns is kept, so that it is called once for an issuer whose
                keys are in use; ``None`` is not. Anybody can make up an issuer, and nothing of a token has been verified by
                then: have the function look the name up among those you trust.
            max_issuers: How many key providers to keep that the function has returned. The one that was not used for longest
                is dropped, and closed as soon as no request waits for it any more. 100 by default.

        Raises:
            ImproperlyConfiguredException: If that is neither, or the key provider of an issuer could never accept its tokens.
        """
        if max_issuers < 1:
            raise ImproperlyConfiguredException("'max_issuers' is not positive")
        self._known: dict[str, BoundProvider] = {}
        self._function: IssuerFunction | None = None
        if isinstance(issuers, Mapping):
            self._known = {name: _bound(name, given) for name, given in issuers.items()}
        elif callable(issuers):
            self._function = issuers
        else:
            raise ImproperlyConfiguredException("'issuers' is neither a mapping nor a function")
        self._max_issuers = max_issuers
        self._apps: Counter[object] = Counter()
        self._started: dict[object, _Tenants] = {}
        self._unstarted = _Tenants(self._function, max_issuers)

    def __call__(self, token: UnverifiedToken, /) -> Key | Awaitable[Key]:
        """Find the keys that may verify a token.

        Args:
            token: The token. Its ``iss`` is looked at, and whatever the key provider of that issuer looks at.

        Returns:
            What that returns.

        Raises:
            KeyNotFoundError: If there is no key for this token.
            KeysUnavailableError: If there are no keys to be had at the moment.
        """
        issuer = token.issuer
        if issuer is None:
            raise KeyNotFoundError("Invalid token")
        if "iss" in token.checked:
            # What else the backend accepts must not make an issuer's key provider accept the tokens of others.
            token = copy(token)
            token.checked = [name for name in token.checked if name != "iss"]
        if (bound := self._known.get(issuer)) is not None:
            keys = _ask(bound, token)
            return _of_issuer(keys, token) if isinstance(keys, Awaitable) else of_issuer(keys, token)
        if self._function is None:
            raise KeyNotFoundError("Invalid token")
        return self._tenants().ask(issuer, token)

    @asynccontextmanager
    async def lifespan(self, app: Litestar) -> AsyncIterator[None]:
        """Start the key providers when an application starts, and close them with it.

        Those that a function makes belong to the event loop. They are closed with the last application that runs in it.

        Args:
            app: The application.

        Raises:
            KeysUnavailableError: If one of them does not let the application start without keys.
        """
        async with AsyncExitStack() as stack:
            providers = {id(bound.provider): bound.provider for bound in self._known.values()}
            for provider in providers.values():
                if (lifespan := getattr(provider, "lifespan", None)) is not None:
                    await stack.enter_async_context(lifespan(app))
            if self._function is not None:
                await stack.enter_async_context(self._run_tenants(app))
            yield

    def __repr__(self) -> str:
        issuers = list(self._known) if self._function is None else self._function
        return f"{type(self).__name__}({issuers!r})"

    def __deepcopy__(self, memo: Any) -> Self:
        """Return itself: Litestar copies the handlers of a controller, and all of them share what has been fetched."""
        return self

    def _tenants(self) -> _Tenants:
        return self._started.get(running_loop(), self._unstarted) if self._started else self._unstarted

    @asynccontextmanager
    async def _run_tenants(self, app: Litestar) -> AsyncIterator[None]:
        loop = running_loop()
        if not self._apps[loop]:
            self._started[loop] = _Tenants(self._function, self._max_issuers, app)
        self._apps[loop] += 1
        try:
            yield
        finally:
            self._apps[loop] -= 1
            if not self._apps[loop]:
                del self._apps[loop]
                await self._started.pop(loop).close()


class _Life:
    """A task that starts a key provider, and closes it when it is told to."""

    __slots__ = ("closing", "ended", "error", "ready", "scope", "task")

    def __init__(self) -> None:
        self.closing = anyio.Event()
        self.ended = anyio.Event()
        self.error: Exception | None = KeysUnavailableError("Keys to verify tokens with are unavailable")
        self.ready = anyio.Event()
        self.scope = anyio.CancelScope()
        self.task: object = None  # event loops keep no strong reference

    def end(self) -> None:
        self.closing.set()
        if not self.ready.is_set():
            self.scope.cancel()


class _Tenant:
    """An issuer that a function has made the key provider of, or is about to."""

    __slots__ = ("_is_dropped", "_users", "bound", "issuer", "life", "made")

    def __init__(self, issuer: str, made: Any) -> None:
        self._is_dropped = False
        self._users = 0
        self.bound: BoundProvider | None = None
        self.issuer = issuer
        self.life: _Life | None = None
        self.made = made

    def ask(self, token: UnverifiedToken) -> Key | Awaitable[Key]:
        keys = _ask(cast("BoundProvider", self.bound), token)
        return self._hold(keys, token) if isinstance(keys, Awaitable) else of_issuer(keys, token)

    async def start_and_ask(self, token: UnverifiedToken) -> Key:
        self._users += 1
        try:
            life = cast("_Life", self.life)
            await life.ready.wait()
            if life.error is not None:
                raise life.error.with_traceback(None)
            keys = self.ask(token)
            return await keys if isinstance(keys, Awaitable) else keys
        finally:
            self._release()

    def drop(self) -> None:
        """Close the key provider, but not before those who wait for its keys have got them."""
        self._is_dropped = True
        self._close_if_idle()

    async def _hold(self, keys: Awaitable[Key], token: UnverifiedToken) -> Key:
        self._users += 1
        try:
            return of_issuer(await keys, token)
        finally:
            self._release()

    def _release(self) -> None:
        self._users -= 1
        self._close_if_idle()

    def _close_if_idle(self) -> None:
        if self._is_dropped and not self._users and self.life is not None:
            self.life.closing.set()


class _Tenants:
    """The issuers that a function has made key providers of, for the applications of one event loop or without any."""

    __slots__ = ("_app", "_function", "_kept", "_lives", "_max_kept", "_pending")

    def __init__(self, function: IssuerFunction | None, max_kept: int, app: Litestar | None = None) -> None:
        self._app = app
        self._function = function
        self._kept: OrderedDict[str, _Tenant] = OrderedDict()
        self._lives: set[_Life] = set()
        self._max_kept = max_kept
        self._pending: dict[tuple[object, str], _Tenant] = {}

    def ask(self, issuer: str, token: UnverifiedToken) -> Key | Awaitable[Key]:
        if (tenant := self._kept.get(issuer)) is not None:
            self._kept.move_to_end(issuer)
            return tenant.ask(token)
        loop = running_loop()
        if (tenant := self._pending.get((loop, issuer))) is not None:
            return tenant.start_and_ask(token)
        made = cast("IssuerFunction", self._function)(issuer)
        if made is None:
            raise KeyNotFoundError("Invalid token")
        tenant = _Tenant(issuer, made)
        if not isinstance(made, Awaitable):
            tenant.bound = _bound(issuer, made)
            if self._app is None or not hasattr(tenant.bound.provider, "lifespan"):
                self._keep(tenant)
                return tenant.ask(token)
        elif loop is None:
            return cast("Awaitable[Key]", made)  # nobody can wait for it: the caller says so
        self._start(loop, tenant)
        return tenant.start_and_ask(token)

    async def close(self) -> None:
        """Close the key providers, whoever waits for them."""
        self._kept.clear()
        for life in list(self._lives):
            life.end()
        with anyio.CancelScope(shield=True):
            for life in list(self._lives):
                await life.ended.wait()

    def _start(self, loop: Any, tenant: _Tenant) -> None:
        """Do in a task of its own what a request could be cancelled in, or could not undo."""
        self._pending[loop, tenant.issuer] = tenant
        life = tenant.life = _Life()
        self._lives.add(life)
        life.task = spawn(loop, self._live, (loop, tenant, life))

    async def _live(self, started: tuple[object, _Tenant, _Life]) -> None:
        loop, tenant, life = started
        try:
            with life.scope:
                await self._live_on(tenant, life)
        except Exception as e:
            if life.ready.is_set():
                _logger.exception("The key provider of %r could not be closed", tenant.issuer)
            life.error = e
        finally:
            self._pending.pop((loop, tenant.issuer), None)
            self._lives.discard(life)
            life.ready.set()
            life.ended.set()

    async def _live_on(self, tenant: _Tenant, life: _Life) -> None:
        made = await tenant.made if isinstance(tenant.made, Awaitable) else tenant.made
        if made is None:
            raise KeyNotFoundError("Invalid token")
        tenant.bound = _bound(tenant.issuer, made)
        lifespan = getattr(tenant.bound.provider, "lifespan", None)
        async with AsyncExitStack() as stack:
            if self._app is not None and lifespan is not None:
                with suppress(KeysUnavailableError):  # it says so itself, and when to try again
                    await stack.enter_async_context(lifespan(self._app))
            self._keep(tenant)
            life.error = None
            life.ready.set()
            if self._app is not None:
                await life.closing.wait()

    def _keep(self, tenant: _Tenant) -> None:
        self._kept[tenant.issuer] = tenant
        if len(self._kept) > self._max_kept:
            self._kept.popitem(last=False)[1].drop()


def _bound(issuer: str, given: Any) -> BoundProvider:
    bound = BoundProvider(given, None)
    if isinstance(bound.provider, OpenIDProvider) and not bound.provider._can_name(issuer):
        raise ImproperlyConfiguredException(f"{bound.provider!r} does not accept tokens of {issuer!r}")
    return bound


def _ask(bound: BoundProvider, token: UnverifiedToken) -> Key | Awaitable[Key]:
    if token.algorithm not in bound.algorithms and "alg" not in token.checked:
        raise KeyNotFoundError("Invalid token")
    return bound.provider(token)


async def _of_issuer(keys: Awaitable[Key], token: UnverifiedToken) -> Key:
    return of_issuer(await keys, token)
