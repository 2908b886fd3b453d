"""The key provider of a backend as a dependency: from a connection to its provider."""

from __future__ import annotations

import re
from contextlib import AsyncExitStack, asynccontextmanager
from inspect import Parameter, isasyncgen, isgenerator, signature
from typing import TYPE_CHECKING, Any, Final, cast

import jwt
from anyio import CancelScope, Lock, to_thread
from anyio.lowlevel import current_token

from litestar import Litestar
from litestar.di import Provide
from litestar.enums import ScopeType
from litestar.exceptions import HTTPException, ImproperlyConfiguredException
from litestar.handlers.base import BaseRouteHandler
from litestar.routes import HTTPRoute
from litestar.security.jwt._refusals import logger
from litestar.security.jwt.keys import KeySet, KeysUnavailableException, is_key, names_of, own_keys
from litestar.utils.sync import AsyncCallable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterator, Mapping
    from typing import Self

    from litestar.config.app import AppConfig
    from litestar.security.jwt.keys import Key, KeyProvider
    from litestar.security.jwt.unverified import UnverifiedToken
    from litestar.types import Scope

__all__ = ("KeySource", "as_provider")

# What a factory may ask for besides dependencies and path parameters. The sender of a token chooses the rest of a request.
_OF_CONNECTION: Final = ("request", "socket", "scope", "headers", "cookies", "query")
_VARIADIC: Final = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


class KeySource:
    """Where one backend gets its key provider from, in every application and at every route that it protects."""

    __slots__ = ("_checked", "_key", "backend")

    def __init__(self, backend: Any) -> None:
        """Keep the backend.

        Args:
            backend: The backend. Its ``key_provider`` is looked up for each connection, so that tests can replace it.
        """
        self.backend = backend
        self._key = f"litestar.security.jwt {id(backend)}"
        self._checked: tuple[Any, KeyProvider] | None = None

    def __deepcopy__(self, memo: Any) -> Self:
        """Return itself: Litestar copies routers and controllers, and with them the options of their middleware."""
        return self

    async def provider_for(self, scope: Scope) -> Any:
        """Return the key provider that verifies the token of a connection.

        Args:
            scope: The scope of the connection.

        Returns:
            The :class:`KeyProvider`, the same each time for one connection.

        Raises:
            ImproperlyConfiguredException: If it cannot be made.
            KeysUnavailableException: If something that its factory needs is out of reach.
        """
        app = Litestar.from_scope(scope)
        made = self._made_for(app)
        graph = self._graph(made, scope["route_handler"], scope["path_params"])
        if graph is None:
            return self._own()
        if graph.needs_connection:
            by_app = cast("dict[str, Any]", scope).setdefault(self._key, {})
            made = by_app.setdefault(id(app), _Made())  # an application that is mounted has the same scope
        return await made.provider(graph, app, scope)

    async def close(self, app: Litestar, scope: Scope) -> None:
        """Clean up after what was made for a connection, if anything was.

        Args:
            app: The application that received the connection.
            scope: The scope of the connection. An application that is mounted may have put itself into it.
        """
        by_app: dict[int, _Made] = cast("dict[str, Any]", scope).get(self._key, {})
        if (made := by_app.pop(id(app), None)) is not None:
            with CancelScope(shield=True):
                await made.cleanup.aclose()

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
        app_config.dependencies[name] = _Injected(self.provider_for)
        app_config.lifespan.append(self._lifespan)
        # Factories find in the state of the application what its own hooks have put there.
        app_config.on_startup.append(self._start)

    @asynccontextmanager
    async def _lifespan(self, app: Litestar) -> AsyncIterator[None]:
        try:
            async with self._made_for(app).cleanup:
                yield
        finally:
            del app.state[self._key]

    async def _start(self, app: Litestar) -> None:
        made = self._made_for(app)
        providers: list[Any] = [] if isinstance(self.backend.key_provider, Provide) else [self._own()]
        for handler, path_parameters in self._protected(app):
            graph = self._graph(made, handler, path_parameters)
            if graph is not None and not graph.needs_connection:
                providers.append(await made.provider(graph, app))
        for provider in {id(provider): provider for provider in providers}.values():
            if (lifespan := getattr(provider, "lifespan", None)) is not None:
                await made.cleanup.enter_async_context(lifespan(app))

    def _protected(self, app: Litestar) -> Iterator[tuple[BaseRouteHandler, Collection[str]]]:
        """List the route handlers that this backend authenticates, each with the names of its path parameters."""
        backend = self.backend
        exclude = [backend.exclude] if isinstance(backend.exclude, str) else backend.exclude or ()
        for route in app.routes:
            if not any(re.search(pattern, route.path) for pattern in exclude):
                for handler in route.route_handlers if isinstance(route, HTTPRoute) else (route.route_handler,):
                    methods = getattr(handler, "http_methods", {None}) - {*(backend.exclude_http_methods or ())}
                    if methods and not handler.opt.get(backend.exclude_opt_key):
                        yield cast("BaseRouteHandler", handler), route.path_parameters

    def _own(self) -> KeyProvider:
        """Return the backend's own provider, if no factory has to make it."""
        given = self.backend.key_provider
        if self._checked is None or given is not self._checked[0]:
            self._checked = given, as_provider(given, names_of(self.backend.algorithm))
        return self._checked[1]

    def _graph(self, made: _Made, handler: BaseRouteHandler, path_parameters: Collection[str]) -> _Graph | None:
        """Return what makes the provider at a route, ``None`` if the backend's own needs no making."""
        given, name = self.backend.key_provider, self.backend.key_provider_name
        before, graph = made.graphs.get(handler, (None, None))
        if before is not given:
            dependencies = layered_dependencies(handler)
            provide, layer = dependencies.get(name), f"the dependency {name!r} of {handler}"
            if provide is None or isinstance(provide, _Injected):
                provide, layer = given, f"'key_provider' of {type(self.backend).__name__} at {handler}"
            graph = None
            if isinstance(provide, Provide):
                algorithms = names_of(self.backend.algorithm)
                known = {"state", *_OF_CONNECTION, *path_parameters}
                label = f"{_function_of(provide)!r}, which makes {layer},"
                graph = _Graph(label, _steps(name, layer, {**dependencies, name: provide}, known), algorithms)
            made.graphs[handler] = given, graph
        return graph

    def _made_for(self, app: Litestar) -> _Made:
        return cast("_Made", app.state.get(self._key) or app.state.setdefault(self._key, _Made()))


class _Injected(Provide):
    """The key provider of a backend, as a dependency of the application."""

    __slots__ = ()


class _Made:
    """The key providers that were made for an application, or for a connection, and what cleans up after them."""

    __slots__ = ("_lock", "_loop", "cleanup", "graphs", "providers")

    def __init__(self) -> None:
        self._loop: Any = None
        self.cleanup = AsyncExitStack()
        self.graphs: dict[BaseRouteHandler, tuple[Any, _Graph | None]] = {}
        # What made a provider stays with it: the identity of a graph is that of objects that must not be replaced in memory.
        self.providers: dict[Any, tuple[KeyProvider, _Graph]] = {}

    async def provider(self, graph: _Graph, app: Litestar, scope: Scope | None = None) -> KeyProvider:
        """Return what a factory makes. The first to ask calls it, and the others wait."""
        if graph.identity not in self.providers:
            if self._loop != current_token():  # a loop may have ended while it held the lock
                self._loop, self._lock = current_token(), Lock()
            async with self._lock:
                if graph.identity in self.providers:
                    return self.providers[graph.identity][0]
                values = _of_connection(app, scope) if scope else {}
                provider = await graph.resolve({"state": app.state, **values}, self.cleanup)
                self.providers[graph.identity] = provider, graph
        return self.providers[graph.identity][0]


class _Graph:
    """A factory of key providers at a route, with all dependencies that it asks for, directly or not."""

    __slots__ = ("_algorithms", "_label", "_steps", "identity", "needs_connection")

    def __init__(self, label: str, steps: dict[str, tuple[Provide, list[str]]], algorithms: tuple[str, ...]) -> None:
        self._algorithms = algorithms
        self._label = label
        self._steps = steps
        # The same for all routes at which the same factories depend on each other.
        self.identity = tuple((name, id(provide)) for name, (provide, _) in steps.items())
        asked = {parameter for _, parameters in steps.values() for parameter in parameters}
        self.needs_connection = not asked <= {"state", *steps}

    async def resolve(self, values: dict[str, Any], cleanup: AsyncExitStack) -> KeyProvider:
        """Call the factories, each after those that it depends on."""
        try:
            for name, (provide, parameters) in self._steps.items():
                asked = {parameter: values[parameter] for parameter in parameters}
                values[name] = await _entered(await provide(**asked), cleanup)
            return as_provider(values[[*self._steps][-1]], self._algorithms)
        except Exception as e:
            if isinstance(e, HTTPException) and not isinstance(e, ImproperlyConfiguredException):
                raise
            logger.error("%s failed: %r", self._label, e)
            if isinstance(e, OSError):
                raise KeysUnavailableException("Keys to verify tokens with are unavailable") from e
            raise ImproperlyConfiguredException(f"{self._label} failed: {getattr(e, 'detail', repr(e))}") from e


def _steps(
    name: str, layer: str, dependencies: Mapping[str, Provide], known: Collection[str], asking: tuple[str, ...] = ()
) -> dict[str, tuple[Provide, list[str]]]:
    """Return a dependency and all that it depends on, each after what it depends on itself, with what it asks for."""
    provide = dependencies[name]
    if name in asking:
        raise ImproperlyConfiguredException(
            f"The dependency {name!r} depends on itself: {' -> '.join((*asking, name))}"
        )
    steps: dict[str, tuple[Provide, list[str]]] = {}
    parameters = []
    for asked, parameter in signature(_function_of(provide)).parameters.items():
        if asked in dependencies:
            steps |= _steps(asked, layer, dependencies, known, (*asking, name))
        elif asked not in known:
            if asked not in ("data", "body") and (
                parameter.default is not Parameter.empty or parameter.kind in _VARIADIC
            ):
                continue
            raise ImproperlyConfiguredException(
                f"{_function_of(provide)!r} makes {layer}, and asks for {asked!r}. It can ask for other dependencies, for 'state', "
                f"{', '.join(map(repr, _OF_CONNECTION))}, and for path parameters of the route. "
                "If the route needs no authentication, exclude it."
            )
        parameters.append(asked)
    return {**steps, name: (provide, parameters)}


async def _entered(value: Any, cleanup: AsyncExitStack) -> Any:
    """Return what a generator yields, and have it resumed in the end."""
    if isgenerator(value):
        cleanup.callback(next, value, None)
        return next(value)
    if isasyncgen(value):
        cleanup.push_async_callback(anext, value, None)
        return await anext(value)
    return value


def _of_connection(app: Litestar, scope: Scope) -> dict[str, Any]:
    """Return what a factory may ask of a connection, by name."""
    connection_class: Any = app.request_class if scope["type"] == ScopeType.HTTP else app.websocket_class
    connection = connection_class(scope)
    parts = connection, connection, scope, connection.headers, connection.cookies, connection.query_params
    return {**dict(zip(_OF_CONNECTION, parts, strict=True)), **scope["path_params"]}


def _function_of(provide: Provide) -> Any:
    """Return the function of a dependency, also of one that Litestar calls in a thread."""
    function: Any = provide.dependency
    return function.func if isinstance(function, AsyncCallable) else function


def layered_dependencies(handler: Any) -> Mapping[str, Provide]:
    """Return the dependencies that a route handler may ask for. Litestar 3 has merged those of all layers."""
    is_merged = not hasattr(BaseRouteHandler, "ownership_layers")
    return cast("Mapping[str, Provide]", handler.dependencies if is_merged else handler.resolve_dependencies())


def as_provider(given: Any, algorithms: tuple[str, ...]) -> KeyProvider:
    """Make a key provider of what an application gave as one.

    Args:
        given: A key, a key provider, or a :class:`jwt.PyJWKClient`.
        algorithms: The algorithms that the backend accepts.

    Returns:
        A key provider.

    Raises:
        ImproperlyConfiguredException: If it is none of those.
        UnusableKeyError: If it is a key that cannot be used.
    """
    if isinstance(given, jwt.PyJWKClient):
        return _in_thread(given)
    if is_key(given):
        keys = KeySet(own_keys(given, algorithms))
        return keys.select if keys.keys else lambda _: given
    if not callable(given) or isinstance(given, (type, Provide)):
        raise ImproperlyConfiguredException(
            "'key_provider' takes a key, an object such as OpenIDProvider(...), a function that returns the key for an "
            f"UnverifiedToken, a PyJWKClient, or a Provide, not {type(given).__name__}. Pass a function without calling it, "
            "an instance instead of a class, the content of a file, and IssuerKeyProvider(...) for several issuers."
        )
    try:
        signature(given).bind(None)
    except TypeError as e:
        raise ImproperlyConfiguredException(
            f"A function for 'key_provider' must take exactly one argument, the UnverifiedToken ({e}). If it makes a key "
            "provider, wrap it in 'Provide'."
        ) from e
    except ValueError:  # functions that are not written in Python may have no signature
        pass
    return cast("KeyProvider", given)


def _in_thread(client: jwt.PyJWKClient) -> KeyProvider:
    """Call PyJWT's own client in a worker thread, since it blocks while it fetches."""

    async def key_provider(token: UnverifiedToken) -> Key:
        try:
            return await to_thread.run_sync(client.get_signing_key_from_jwt, token.encoded)
        except (ValueError, RecursionError) as e:  # what the issuer sent is not JSON
            raise KeysUnavailableException("Keys to verify tokens with are unavailable") from e

    return key_provider
