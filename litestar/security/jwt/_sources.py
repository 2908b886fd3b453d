from __future__ import annotations

from collections.abc import Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from logging import getLogger
from typing import TYPE_CHECKING, Any, Final, cast
from weakref import WeakValueDictionary

import anyio
from anyio.lowlevel import current_token

from litestar import Litestar
from litestar.connection import ASGIConnection
from litestar.di import Provide
from litestar.exceptions import HTTPException, ImproperlyConfiguredException, ServiceUnavailableException
from litestar.security.jwt._injection import (
    Factory,
    is_declared_by,
    layered_dependencies,
    name_of,
    registered_handlers,
)
from litestar.security.jwt._providers import as_provider, natural_algorithms
from litestar.security.jwt.keys import ASYMMETRIC_ALGORITHMS, UnusableKeyError, provider_error
from litestar.security.jwt.middleware import SCOPE_KEY
from litestar.status_codes import HTTP_500_INTERNAL_SERVER_ERROR

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection
    from typing import Self

    from litestar.config.app import AppConfig
    from litestar.handlers.base import BaseRouteHandler
    from litestar.security.jwt.auth import BaseJWTAuth
    from litestar.security.jwt.keys import KeyProvider
    from litestar.types import Scope

__all__ = ("BoundProvider", "KeySource", "RouteKeys")

_logger: Final = getLogger("litestar.security.jwt")

_DEFAULT_ALGORITHMS: Final = ("RS256",)


class BoundProvider:
    """A key provider, together with what a backend accepts from it."""

    __slots__ = ("algorithms", "provider")

    def __init__(self, given: Any, algorithms: Collection[str] | None) -> None:
        """Decide which algorithms are accepted.

        Args:
            given: A key, a key provider, or a :class:`jwt.PyJWKClient`.
            algorithms: The algorithms that the user listed, if any.

        Raises:
            ImproperlyConfiguredException: If it is none of those.
        """
        self.provider: KeyProvider = as_provider(given)
        if algorithms is not None:
            self.algorithms = algorithms
        elif "alg" in getattr(self.provider, "enforces", ()):
            self.algorithms = ASYMMETRIC_ALGORITHMS
        else:
            try:
                self.algorithms = natural_algorithms(self.provider) or _DEFAULT_ALGORITHMS
            except UnusableKeyError as e:
                raise ImproperlyConfiguredException(f"A key cannot be used: {e}") from e


class KeySource:
    """Knows where a backend gets its key provider from, whatever the application and the route."""

    __slots__ = ("_bound", "_given", "algorithms", "backend", "checked")

    def __init__(
        self, backend: BaseJWTAuth[Any, Any], *, algorithms: Collection[str] | None, checked: Collection[str]
    ) -> None:
        """Take what the user gave as ``key_provider``.

        Args:
            backend: The backend.
            algorithms: The algorithms that the user listed, if any.
            checked: What the backend verifies from its own configuration: any of ``alg`` and ``iss``.
        """
        self._given: Any = None
        self._bound: BoundProvider | None = None
        self.algorithms = algorithms
        self.backend = backend
        self.checked = checked

    def __deepcopy__(self, memo: Any) -> Self:
        """Return itself: Litestar copies routers and controllers, and with them their middleware."""
        return self

    @property
    def name(self) -> str:
        """Name of the dependency."""
        return self.backend.key_provider_name

    def bind(self, given: Any) -> BoundProvider:
        """Decide what is accepted from a key provider that takes the place of the backend's own."""
        return BoundProvider(given, self.algorithms)

    def bound(self) -> BoundProvider | None:
        """Return the backend's own key provider, unless a function has yet to make it."""
        if (given := self.backend.key_provider) is not self._given:
            self._bound = None if isinstance(given, Provide) else self.bind(given)
            self._given = given
        return self._bound

    def for_route(self) -> RouteKeys:
        """Return what one instance of the middleware asks for key providers. There is one for each route handler."""
        return RouteKeys(self)

    def install(self, app_config: AppConfig) -> None:
        """Make the key provider a dependency of an application, and start and close it with the application.

        Args:
            app_config: Configuration of the application.

        Raises:
            ImproperlyConfiguredException: If the application has another dependency of that name.
        """
        installation = _Installation(self)
        existing = app_config.dependencies.get(self.name)
        if existing is None:
            app_config.dependencies[self.name] = installation.dependency = _KeyProvider(installation)
        elif not isinstance(existing, _KeyProvider):
            raise _name_taken(self.name)
        app_config.lifespan.append(installation.lifespan)
        app_config.on_startup.append(installation.start)


class RouteKeys:
    """The one place where an instance of the middleware asks for the key provider of a connection."""

    __slots__ = ("_app_keys", "_backend", "_bound", "_given", "_plans", "_source", "checked")

    def __init__(self, source: KeySource) -> None:
        """Keep the source. What it comes down to at a route is decided once, by :meth:`plan`."""
        self._source = source
        self._backend = source.backend
        self._app_keys: _AppKeys | None = None
        self._given: Any = None
        self._bound: dict[BaseRouteHandler, BoundProvider] = {}
        self._plans: dict[BaseRouteHandler, _PerApp | _PerConnection] = {}
        self.checked = source.checked

    def provider_for(self, connection: ASGIConnection[Any, Any, Any, Any]) -> BoundProvider | Awaitable[BoundProvider]:
        """Return the provider that verifies the tokens of a connection.

        Args:
            connection: The connection.

        Returns:
            The provider, or an awaitable of it if it has to be made first.

        Raises:
            ImproperlyConfiguredException: If it cannot be made at this route.
        """
        if self._given is self._backend.key_provider:  # tests replace it at any time
            bound = self._bound.get(connection.scope["route_handler"])
            if bound is not None:
                return bound
        scope = connection.scope
        plan = self.plan(Litestar.from_scope(scope), scope["route_handler"], scope["path_params"])
        return plan if isinstance(plan, BoundProvider) else plan.get(scope)

    def plan(
        self, app: Litestar, handler: BaseRouteHandler, path_parameters: Collection[str]
    ) -> BoundProvider | _PerApp | _PerConnection:
        """Decide where the key provider of a route comes from.

        Args:
            app: The application.
            handler: The route handler.
            path_parameters: Names of the parameters in its path.

        Returns:
            The provider, or what makes it.

        Raises:
            ImproperlyConfiguredException: If it asks for something that cannot be had.
        """
        if self._given is not self._backend.key_provider:
            self._given = self._backend.key_provider
            self._bound.clear()
            self._plans.clear()
        if (plan := self._plans.get(handler)) is None:
            override = self._override(app, handler)
            if override is None and (bound := self._source.bound()) is not None:
                self._bound[handler] = bound
                return bound
            plan = self._plans[handler] = self._factory_plan(override, app, handler, path_parameters)
        if isinstance(plan, _PerApp) and plan.is_final:
            self._bound[handler] = cast("BoundProvider", plan.bound)
        return plan

    def _override(self, app: Litestar, handler: BaseRouteHandler) -> Provide | None:
        """Return the dependency that a router, a controller or the route handler has put in place of the provider.

        The name belongs to the backend that registered it with the application. Without one, it may mean anything to the
        application itself, but not to a layer that has a key provider.
        """
        name = self._source.name
        provide = layered_dependencies(handler).get(name)
        if provide is None or isinstance(provide, _KeyProvider) or is_declared_by(app, name, provide):
            return None
        owner = app.dependencies.get(name)
        if isinstance(owner, _KeyProvider) and owner.source is not self._source:
            return None
        return provide

    def _factory_plan(
        self, override: Provide | None, app: Litestar, handler: BaseRouteHandler, path_parameters: Collection[str]
    ) -> _PerApp | _PerConnection:
        source = self._source
        if override is None:
            provide, layer = cast("Provide", self._given), f"'key_provider' of {type(self._backend).__name__}"
        else:
            provide, layer = override, f"Dependency {source.name!r} of route handler {handler}"
        try:
            factory = Factory(source.name, provide, handler, app, path_parameters)
        except Exception as e:
            detail = e.detail if isinstance(e, ImproperlyConfiguredException) else repr(e)
            raise ImproperlyConfiguredException(f"{layer}: {detail}") from e
        recipe = _Recipe(factory, source, f"{layer}: {name_of(provide)!r}")
        if factory.needs_connection:
            return _PerConnection(recipe)
        self._app_keys = _AppKeys.of(app)
        return self._app_keys.made_with(recipe)


class _Recipe:
    """A factory of key providers, for one backend."""

    __slots__ = ("_label", "factory", "source")

    def __init__(self, factory: Factory, source: KeySource, label: str) -> None:
        self._label = label
        self.factory = factory
        self.source = source

    async def make(self, scope: Scope | None = None) -> tuple[BoundProvider, Callable[[], Awaitable[None]]]:
        """Make a key provider, for a connection or for the application.

        Args:
            scope: Scope of the connection.

        Returns:
            The provider, and a function that cleans up after it.

        Raises:
            HTTPException: If this fails.
        """
        factory = self.factory
        try:
            value, cleanup = await (factory.resolve_for_app() if scope is None else factory.resolve_for(scope))
            try:
                return self.source.bind(value), cleanup.close
            except ImproperlyConfiguredException:
                await cleanup.close()
                raise
        except Exception as e:
            if (error := self._error(e)) is e:
                raise
            raise error from e

    def _error(self, cause: Exception) -> Exception:
        """Tell how to answer: as the factory says, ``503`` if what it needs cannot be had at the moment, else ``500``."""
        error = cause if isinstance(cause, HTTPException) else provider_error(cause)
        if isinstance(error, ServiceUnavailableException):
            _logger.error("%s failed: %r", self._label, cause)
            return error
        if isinstance(cause, ImproperlyConfiguredException):
            return ImproperlyConfiguredException(f"{self._label} failed: {cause.detail}")
        if isinstance(cause, HTTPException) and cause.status_code < HTTP_500_INTERNAL_SERVER_ERROR:
            return cause
        return ImproperlyConfiguredException(f"{self._label} failed: {cause!r}")


class _PerConnection:
    """A key provider that is made for each connection."""

    __slots__ = ("_recipe",)

    def __init__(self, recipe: _Recipe) -> None:
        self._recipe = recipe

    async def get(self, scope: Scope) -> BoundProvider:
        """Return what was made for a connection. The middleware cleans up after it."""
        made: _MadeForConnection = cast("dict[str, Any]", scope).setdefault(SCOPE_KEY, _MadeForConnection())
        identity = self._recipe.source, self._recipe.factory.identity
        if (bound := made.bound.get(identity)) is None:
            bound, close = await self._recipe.make(scope)
            made.bound[identity] = bound
            made.cleanup.push_async_callback(close)
        return bound


class _MadeForConnection:
    __slots__ = ("bound", "cleanup")

    def __init__(self) -> None:
        self.bound: dict[Any, BoundProvider] = {}
        self.cleanup = AsyncExitStack()

    async def close(self) -> None:
        """Clean up after the key providers that were made for a connection, whatever became of it."""
        with anyio.CancelScope(shield=True):
            await self.cleanup.aclose()


class _Attempt:
    """One call of a factory, and those who wait for what comes of it."""

    __slots__ = ("ended", "error", "loop")

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.ended = anyio.Event()
        self.loop = current_token()


class _PerApp:
    """A key provider that is made once for an application."""

    __slots__ = ("_attempt", "_close", "_keys", "_recipe", "bound")

    def __init__(self, recipe: _Recipe, keys: _AppKeys) -> None:
        self._attempt: _Attempt | None = None
        self._close: Callable[[], Awaitable[None]] | None = None
        self._keys = keys
        self._recipe = recipe
        self.bound: BoundProvider | None = None

    @property
    def is_final(self) -> bool:
        """Whether the provider is there to stay: what a generator made does not outlive the shutdown."""
        return self.bound is not None and not self._recipe.factory.has_cleanup

    async def get(self, scope: Scope | None = None) -> BoundProvider:
        """Return the provider. The first to ask makes it, and whoever asks in the meantime waits.

        If making it fails, all who wait are told, and the next one tries again. If it is cancelled, one of them takes over. An
        attempt in another event loop is not waited for: that loop may have ended.
        """
        while (bound := self.bound) is None:
            attempt = self._attempt
            if attempt is None or attempt.loop != current_token():
                attempt = self._attempt = _Attempt()
                await self._make(attempt)
            else:
                await attempt.ended.wait()
            if attempt.error is not None:
                raise attempt.error.with_traceback(None)
        return bound

    async def _make(self, attempt: _Attempt) -> None:
        try:
            self.bound, self._close = await self._recipe.make()
        except Exception as e:  # noqa: BLE001
            attempt.error = e
        finally:
            if self._attempt is attempt:
                self._attempt = None
            attempt.ended.set()

    async def close(self) -> None:
        """Resume the generators, and forget what they made."""
        if self._close is not None and self._recipe.factory.has_cleanup:
            close, self._close, self.bound = self._close, None, None
            await close()


class _AppKeys:
    """What the backends of an application have made and started for it."""

    __slots__ = ("__weakref__", "_app", "_made", "_started")

    def __init__(self, app: Litestar) -> None:
        self._app = app
        self._made: dict[tuple[KeySource, Any], _PerApp] = {}
        self._started: set[int] = set()

    @staticmethod
    def of(app: Litestar) -> _AppKeys:
        if (keys := _keys_by_app.get(id(app))) is None:
            keys = _keys_by_app[id(app)] = _AppKeys(app)
        return keys

    def made_with(self, recipe: _Recipe) -> _PerApp:
        """Return the provider that a factory makes for the application."""
        identity = recipe.source, recipe.factory.identity
        if (made := self._made.get(identity)) is None:
            made = self._made[identity] = _PerApp(recipe, self)
        return made

    async def start(self, provider: KeyProvider, stack: AsyncExitStack) -> None:
        """Start a provider, unless that was done for another backend or route."""
        lifespan = getattr(provider, "lifespan", None)
        if lifespan is not None and id(provider) not in self._started:
            self._started.add(id(provider))
            stack.callback(self._started.discard, id(provider))
            await stack.enter_async_context(lifespan(self._app))

    async def close(self, source: KeySource) -> None:
        """Clean up after the factories of a backend, those first that were called last."""
        for (made_for, _), made in reversed(self._made.items()):
            if made_for is source:
                await made.close()


# Neither applications nor route handlers can be referenced weakly. The values keep their applications alive, so that no
# other can have the same ID, and are themselves kept alive by the middleware and the lifespan of these.
_keys_by_app: Final[WeakValueDictionary[int, _AppKeys]] = WeakValueDictionary()


class _Installation:
    """What a backend that is attached to an application does there."""

    __slots__ = ("_keys", "_stack", "dependency", "source")

    def __init__(self, source: KeySource) -> None:
        self._keys: dict[Collection[str], RouteKeys] = {}
        self._stack = AsyncExitStack()
        self.dependency: Provide | None = None
        self.source = source

    async def inject(self, scope: Scope) -> Any:
        """Return the key provider of a connection, for the route handler that asks for it."""
        try:
            bound = self._keys_of(scope["path_params"]).provider_for(ASGIConnection(scope))
            if isinstance(bound, Awaitable):
                bound = await bound
        except ImproperlyConfiguredException as e:
            _logger.error("There is no key provider: %s", e.detail)
            raise
        return bound.provider

    @asynccontextmanager
    async def lifespan(self, app: Litestar) -> AsyncIterator[None]:
        """Close with the application what :meth:`start` has started, and clean up after factories."""
        async with AsyncExitStack() as self._stack:
            self._stack.push_async_callback(_AppKeys.of(app).close, self.source)
            yield

    async def start(self, app: Litestar) -> None:
        """Make the providers that can be made without a connection, and start them.

        This comes after the application's own start-up, so that factories find in its state what that has put there. A factory
        that fails now is called again by the first request. What it makes then has to do without having been started: that
        would have to be undone by another task than the one that did it.
        """
        source, keys = self.source, _AppKeys.of(app)
        if self.dependency is not None and app.dependencies.get(source.name) is not self.dependency:
            raise _name_taken(source.name)
        if (bound := source.bound()) is not None:
            await keys.start(bound.provider, self._stack)
        plans = [
            self._keys_of(path_parameters).plan(app, handler, path_parameters)
            for handler, path_parameters in registered_handlers(app)
            if _is_authenticated(handler, source.backend)
        ]
        for plan in dict.fromkeys(plans):
            if isinstance(plan, _PerApp) and (made := await self._make(plan)) is not None:
                await keys.start(made.provider, self._stack)

    async def _make(self, plan: _PerApp) -> BoundProvider | None:
        try:
            return await plan.get()
        except HTTPException as e:
            if not isinstance(e, ServiceUnavailableException):
                _logger.error("%s", e.detail)
            return None

    def _keys_of(self, path_parameters: Collection[str]) -> RouteKeys:
        """Return the decisions for paths with certain parameters. One route handler may have several."""
        return self._keys.setdefault(frozenset(path_parameters), RouteKeys(self.source))


class _KeyProvider(Provide):
    """The key provider of a backend, as a dependency."""

    __slots__ = ("source",)

    def __init__(self, installation: _Installation) -> None:
        super().__init__(installation.inject)
        self.source = installation.source


def _is_authenticated(handler: BaseRouteHandler, backend: BaseJWTAuth[Any, Any]) -> bool:
    """Tell whether a route handler needs authentication, as far as its path does not matter."""
    methods = getattr(handler, "http_methods", None)
    is_excluded = methods is not None and methods <= set(backend.exclude_http_methods or ())
    return not is_excluded and not handler.opt.get(backend.exclude_opt_key)


def _name_taken(name: str) -> ImproperlyConfiguredException:
    """Say that a name is wanted for something else."""
    return ImproperlyConfiguredException(
        f"The application has a dependency {name!r} of its own. Give the key provider another name: 'key_provider_name'"
    )
