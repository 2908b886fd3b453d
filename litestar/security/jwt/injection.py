"""The key provider as a dependency: from an application and a route handler to the provider."""

from __future__ import annotations

import logging
import re
from contextlib import AsyncExitStack, asynccontextmanager
from graphlib import CycleError, TopologicalSorter
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, cast

from anyio import Lock
from anyio.lowlevel import current_token

from litestar import Litestar
from litestar.di import Provide
from litestar.exceptions import HTTPException, ImproperlyConfiguredException
from litestar.handlers import BaseRouteHandler
from litestar.params import KwargDefinition
from litestar.routes import HTTPRoute
from litestar.security.jwt.keys import UNAVAILABLE, KeysUnavailableException
from litestar.security.jwt.lookup import as_lookup
from litestar.utils.sync import AsyncCallable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
    from typing import Self

    from litestar.config.app import AppConfig
    from litestar.datastructures import State
    from litestar.security.jwt.lookup import KeyLookup
    from litestar.types import Scope

__all__ = ("KeyProviderBackend", "KeyProviderResolver", "requires_authentication", "routes_of")

# The factory of a key provider and the dependencies that it needs, by name, each after those that it needs itself.
_Plan: TypeAlias = "Mapping[str, Provide]"
# Whose dependencies count: those of a route handler, or where there is none, those of an application.
_Place: TypeAlias = "BaseRouteHandler | Litestar"

_STATE_KEY: Final = "litestar.security.jwt.key_providers"
_OF_CONNECTION: Final = ("body", "cookies", "data", "headers", "query", "request", "scope", "socket")
_VARIADIC: Final = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
_TAKE_CONNECTION: Final = "give the provider a second parameter, 'connection'"
# Litestar 3 merges the dependencies of all layers when it registers a route handler.
_HAS_LAYERS: Final = hasattr(BaseRouteHandler, "ownership_layers")

logger = logging.getLogger("litestar.security.jwt")


class KeyProviderBackend(Protocol):
    """The options of a backend that say which key provider verifies tokens, and which routes need none."""

    @property
    def key_provider(self) -> object: ...
    @property
    def key_provider_name(self) -> str: ...
    def get_accepted_algorithms(self) -> tuple[str, ...]: ...
    @property
    def exclude(self) -> str | Sequence[str] | None: ...
    @property
    def exclude_opt_key(self) -> str: ...
    @property
    def exclude_http_methods(self) -> Sequence[str] | None: ...


class KeyProviderResolver:
    """Finds the key provider of one backend for an application and a route handler.

    What a factory returns belongs to an application, and so do the lifespans that have been entered. Both are kept in the
    state of the application, under ``"litestar.security.jwt.key_providers"``.
    """

    __slots__ = ("_last", "backend")

    def __init__(self, backend: KeyProviderBackend) -> None:
        """Keep the backend.

        Args:
            backend: The backend. Its ``key_provider`` is read each time, so that tests can replace it.
        """
        self.backend = backend
        self._last: tuple[object, KeyLookup] | None = None

    def __deepcopy__(self, memo: object) -> Self:
        """Return itself: Litestar copies controllers, and with them the options of their middleware."""
        return self

    async def resolve(self, app: Litestar | None, handler: BaseRouteHandler | None) -> KeyLookup:
        """Return the key provider for a route handler.

        Args:
            app: The application.
            handler: The route handler. Without one, the dependencies of the application count.

        Returns:
            The provider that the layers of the route handler override the backend's with, or else the backend's.

        Raises:
            ImproperlyConfiguredException: If the provider cannot be created.
            KeysUnavailableException: If its factory cannot reach what it needs.
        """
        if app is None:
            if isinstance(self.backend.key_provider, Provide):
                raise ImproperlyConfiguredException(
                    "'key_provider' is a Provide. Pass 'connection' or 'app' to 'verify'."
                )
            return self._lookup(self.backend.key_provider)
        application, place = self._application_of(app), handler or app
        given = application.override(place, self.backend.key_provider_name) or self.backend.key_provider
        if not isinstance(given, Provide):
            return self._lookup(given)
        provide, lookup = application.resolved.get(place, (None, None))
        if lookup is None or provide is not given:
            lookup = await self._create(app, place, given)
            application.resolved[place] = given, lookup
        return lookup

    def install(self, app_config: AppConfig) -> None:
        """Make the provider a dependency of an application, and start and stop it with the application.

        Args:
            app_config: The configuration of the application.

        Raises:
            ImproperlyConfiguredException: If the name of the dependency is taken.
        """
        name = self.backend.key_provider_name
        if name in app_config.dependencies:
            raise ImproperlyConfiguredException(
                f"The application already has a dependency {name!r}. Set another 'key_provider_name' for this backend."
            )
        app_config.dependencies[name] = Provide(self.inject)
        app_config.lifespan.append(self._lifespan)
        # The last of the hooks: factories find in the state what the application's own hooks have put there.
        app_config.on_startup.append(self._start)

    async def inject(self, scope: Scope) -> object:
        """Return the key provider for the route handler that asks for it.

        Args:
            scope: The scope of the connection.

        Returns:
            What the application gave as the provider, or what its factory returned.
        """
        return (await self.resolve(Litestar.from_scope(scope), scope["route_handler"])).given

    def _lookup(self, given: object) -> KeyLookup:
        """Return the backend's provider if no factory creates it."""
        last = self._last
        if last is None or last[0] is not given:
            last = self._last = given, as_lookup(given, self.backend.get_accepted_algorithms())
        return last[1]

    async def _create(self, app: Litestar, place: _Place, given: Provide) -> KeyLookup:
        """Create the provider for a place, unless an equal plan has been carried out before."""
        application, algorithms = self._application_of(app), self.backend.get_accepted_algorithms()
        try:
            plan = _plan(app, place, self.backend.key_provider_name, given)
            async with application.lock():
                return application.find(plan) or await application.carry_out(plan, app.state, algorithms)
        except HTTPException:
            raise
        except Exception as e:
            failure = f"{_function_of(given)!r}, which creates the key provider, failed: {e!r}"
            if isinstance(e, OSError):
                logger.error("%s", failure)
                raise KeysUnavailableException(UNAVAILABLE) from e
            raise ImproperlyConfiguredException(failure) from e

    @asynccontextmanager
    async def _lifespan(self, app: Litestar) -> AsyncIterator[None]:
        """Count the lifespans of an application. The last one to end stops the providers."""
        application = self._application_of(app)
        application.lifespans += 1
        try:
            yield
        finally:
            application.lifespans -= 1
            if not application.lifespans:
                app.state.get(_STATE_KEY, {}).pop(self, None)
                await application.stack.aclose()

    async def _start(self, app: Litestar) -> None:
        """Create and start the providers of all routes that the backend protects."""
        application = self._application_of(app)
        given = self.backend.key_provider
        lookups = [] if isinstance(given, Provide) else [self._lookup(given)]
        lookups += [await self.resolve(app, handler) for handler in self._protected(app)]
        async with application.lock():
            for lookup in lookups:
                await application.start(lookup.given, app)

    def _protected(self, app: Litestar) -> Iterator[BaseRouteHandler]:
        """List the route handlers that this backend authenticates."""
        for path, handler, _ in routes_of(app):
            if requires_authentication(self.backend, path, handler):
                yield handler

    def _application_of(self, app: Litestar) -> _Application:
        by_resolver: dict[KeyProviderResolver, _Application] = app.state.setdefault(_STATE_KEY, {})
        if self not in by_resolver:
            by_resolver[self] = _Application()
        return by_resolver[self]


def requires_authentication(backend: KeyProviderBackend, path: str, handler: BaseRouteHandler) -> bool:
    """Tell whether a backend authenticates the connections of a route handler, by the options that exclude some."""
    patterns = [backend.exclude] if isinstance(backend.exclude, str) else backend.exclude or ()
    if handler.opt.get(backend.exclude_opt_key) or any(re.search(pattern, path) for pattern in patterns):
        return False
    methods: Collection[str] = getattr(handler, "http_methods", ("websocket",))
    return not {*methods} <= {*(backend.exclude_http_methods or ())}


class _Application:
    """The key providers of one application: which have been created, and which have been started."""

    __slots__ = ("_created", "_lock", "_loop", "_overrides", "_started", "lifespans", "resolved", "stack")

    def __init__(self) -> None:
        self.lifespans = 0
        self.resolved: dict[_Place, tuple[Provide, KeyLookup]] = {}
        self.stack = AsyncExitStack()
        self._created: list[tuple[object, KeyLookup]] = []
        self._lock: Lock | None = None
        self._loop: object = None
        self._overrides: dict[_Place, Provide | None] = {}
        self._started: list[object] = []

    def __deepcopy__(self, memo: object) -> Self:
        """Return itself: Litestar copies the state of an application for handlers that ask for an immutable one."""
        return self

    def override(self, place: _Place, name: str) -> Provide | None:
        """Return what overrides the provider of the backend. The provider of another backend does not."""
        if place not in self._overrides:  # Litestar 2 computes the dependencies each time
            dependency = _dependencies_of(place).get(name)
            provide = None if dependency is None else _as_provide(dependency)
            resolver = provide and getattr(provide.dependency, "__self__", None)
            self._overrides[place] = None if isinstance(resolver, KeyProviderResolver) else provide
        return self._overrides[place]

    def lock(self) -> Lock:
        """Return the lock for this event loop. One that has ended may have left its own locked."""
        if self._lock is None or self._loop != current_token():
            self._loop, self._lock = current_token(), Lock()
        return self._lock

    def find(self, plan: _Plan) -> KeyLookup | None:
        """Return what an equal plan has created."""
        functions = _functions_of(plan)
        return next((lookup for created, lookup in self._created if created == functions), None)

    async def carry_out(self, plan: _Plan, state: State, algorithms: tuple[str, ...]) -> KeyLookup:
        """Call the factories of a plan, and keep what the last one returns."""
        provider, values = None, {"state": state}
        for name, provide in plan.items():
            arguments = signature(_function_of(provide)).parameters.keys() & values.keys()
            provider = values[name] = await provide(**{argument: values[argument] for argument in arguments})
        lookup = as_lookup(provider, algorithms)
        self._created.append((_functions_of(plan), lookup))
        return lookup

    async def start(self, provider: object, app: Litestar) -> None:
        """Enter the lifespan of a provider, if it has one and has not been started."""
        lifespan = getattr(provider, "lifespan", None)
        if lifespan is not None and not any(started is provider for started in self._started):
            await self.stack.enter_async_context(lifespan(app))
            self._started.append(provider)


def _plan(app: Litestar, place: _Place, name: str, provide: Provide) -> _Plan:
    """Return the factory of a key provider and all dependencies that it needs, in the order in which they are called."""
    dependencies = {**_dependencies_of(place), name: provide}
    path_parameters = {parameter for _, handler, names in routes_of(app) if handler is place for parameter in names}
    provides: dict[str, Provide] = {}
    needs: dict[str, list[str]] = {}
    pending = [name]
    while pending:
        needed = pending.pop()
        if needed not in provides:
            provides[needed] = _as_provide(dependencies[needed])
            needs[needed] = _needs(provides[needed], dependencies, path_parameters, place)
            pending += needs[needed]
    try:
        return {needed: provides[needed] for needed in TopologicalSorter(needs).static_order()}
    except CycleError as e:
        raise ImproperlyConfiguredException(f"Dependencies need each other: {' -> '.join(e.args[1])}") from e


def _needs(
    provide: Provide, dependencies: Collection[str], path_parameters: Collection[str], place: _Place
) -> list[str]:
    """Return the names of the dependencies that a factory needs."""
    function = _function_of(provide)
    if provide.has_sync_generator_dependency or provide.has_async_generator_dependency:
        raise ImproperlyConfiguredException(
            f"{function!r} is a generator. It is called once for the application: a provider's 'lifespan' does that."
        )
    names = []
    for name, parameter in signature(function).parameters.items():
        if name in dependencies:
            names.append(name)
        elif name in path_parameters or name in _OF_CONNECTION:
            raise ImproperlyConfiguredException(
                f"{function!r} asks for {name!r}, but is called once for the application: {_TAKE_CONNECTION}."
            )
        elif name != "state" and not _has_default(parameter):
            raise ImproperlyConfiguredException(
                f"{function!r} asks for {name!r}, which is neither 'state' nor a dependency of {place}. Exclude routes that "
                f"need no authentication. For anything of a connection, {_TAKE_CONNECTION}."
            )
    return names


def _has_default(parameter: Parameter) -> bool:
    is_default = parameter.default is not Parameter.empty and not isinstance(parameter.default, KwargDefinition)
    return is_default or parameter.kind in _VARIADIC


def _functions_of(plan: _Plan) -> list[tuple[str, Callable[..., Any]]]:
    """Return what makes two plans equal. A ``Provide`` itself is unequal to its copy once it has cached a value."""
    return [(name, provide.dependency) for name, provide in plan.items()]


def _function_of(provide: Provide) -> Callable[..., Any]:
    """Return the function of a dependency, also of one that is called in a thread."""
    function: Any = provide.dependency
    return cast("Callable[..., Any]", function.func if isinstance(function, AsyncCallable) else function)


def _as_provide(dependency: Any) -> Provide:
    """Return a dependency as Litestar sees it. Those of an application can also be bare functions."""
    return dependency if isinstance(dependency, Provide) else Provide(dependency)


def _dependencies_of(place: _Place) -> Mapping[str, Any]:
    """Return the dependencies that route handlers or factories can ask for, by name."""
    if isinstance(place, BaseRouteHandler) and _HAS_LAYERS:
        return place.resolve_dependencies()
    return place.dependencies or {}


def routes_of(app: Litestar) -> Iterator[tuple[str, BaseRouteHandler, Collection[str]]]:
    """List the route handlers of an application, each with a path and the names of its parameters."""
    for route in app.routes:
        for handler in route.route_handlers if isinstance(route, HTTPRoute) else (route.route_handler,):
            yield route.path, cast("BaseRouteHandler", handler), route.path_parameters
