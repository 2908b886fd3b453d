"""What is used of Litestar's internals to resolve dependencies.

A key provider is needed before the route handler is called, and once per application before there is any connection. Litestar
resolves dependencies for route handlers only, and has no public way to do it at other times. The internals that are used
here are the same in Litestar 2.25 and 3, save for those that only the functions at the end know.
"""

from __future__ import annotations

from functools import partial
from inspect import signature
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, cast

from litestar._kwargs.cleanup import DependencyCleanupGroup
from litestar._kwargs.dependencies import DependencyContainer, resolve_dependency
from litestar._kwargs.kwargs_model import KwargsModel
from litestar._signature import SignatureModel
from litestar.connection import Request
from litestar.constants import RESERVED_KWARGS
from litestar.enums import ScopeType
from litestar.exceptions import ImproperlyConfiguredException
from litestar.handlers.base import BaseRouteHandler
from litestar.params import ParameterKwarg
from litestar.routes import HTTPRoute
from litestar.utils import get_name
from litestar.utils.helpers import unwrap_partial
from litestar.utils.signature import ParsedSignature

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from litestar import Litestar
    from litestar.connection import ASGIConnection
    from litestar.di import Provide
    from litestar.handlers import HTTPRouteHandler
    from litestar.openapi.spec import SecurityRequirement
    from litestar.types import Guard, Scope
    from litestar.typing import FieldDefinition

__all__ = (
    "Factory",
    "guards_of",
    "is_declared_by",
    "layered_dependencies",
    "name_of",
    "refuse_body",
    "registered_handlers",
    "security_of",
    "set_security",
)

_BODY: Final = frozenset({"body", "data"})


class Factory:
    """The function of a dependency, with all that it depends on at a route handler."""

    __slots__ = ("_app", "_asked", "_handler", "_name", "_provides", "has_cleanup", "identity")

    has_cleanup: bool
    """Whether any of the functions is a generator, that wants to be resumed in the end."""
    identity: tuple[tuple[str, int], ...]
    """The same for all route handlers at which the same functions depend on each other."""

    def __init__(
        self, name: str, provide: Provide, handler: BaseRouteHandler, app: Litestar, path_parameters: Collection[str]
    ) -> None:
        """Find out what there is to resolve.

        Args:
            name: Name of the dependency.
            provide: The dependency. It need not be one that the route handler has.
            handler: The route handler.
            app: Its application.
            path_parameters: Names of the parameters in its path.

        Raises:
            ImproperlyConfiguredException: If something asks for the body of the request, or for itself.
        """
        self._app = app
        self._handler = handler
        self._name = name
        dependencies = {**layered_dependencies(handler), name: provide}
        _finalize(provide, handler, app, set(dependencies))
        self._provides = _in_order(name, dependencies)
        self.has_cleanup = any(
            p.has_sync_generator_dependency or p.has_async_generator_dependency for p in self._provides.values()
        )
        self.identity = tuple((key, id(p.dependency)) for key, p in self._provides.items())
        layered = _layered_parameters(handler)
        parameters = self._parameters({*path_parameters, *layered, *RESERVED_KWARGS})
        # A signature of what all the functions together want of the connection, in the form that Litestar reads.
        self._asked = KwargsModel.create_for_signature_model(
            cast("Any", SimpleNamespace(_fields=parameters, _data_dto=None)),
            parsed_signature=provide.parsed_fn_signature,
            dependencies={},
            path_parameters=set(path_parameters),
            layered_parameters={key: layered[key] for key in parameters if key in layered},
        )

    @property
    def needs_connection(self) -> bool:
        """Whether anything is wanted of the connection, other than the state of the application."""
        model = self._asked
        return bool(
            model.expected_reserved_kwargs - {"state"}
            or model.expected_path_params
            or model.expected_query_params
            or model.expected_header_params
            or model.expected_cookie_params
        )

    async def resolve(self, connection: ASGIConnection[Any, Any, Any, Any]) -> tuple[Any, DependencyCleanupGroup]:
        """Call the functions.

        Args:
            connection: The connection.

        Returns:
            What the dependency is, and what cleans up after it.
        """
        cleanup = DependencyCleanupGroup()
        values = await self._asked.to_kwargs(connection)
        try:
            for name, provide in self._provides.items():
                await resolve_dependency(DependencyContainer(name, provide, []), connection, values, cleanup)
        except BaseException as e:
            await cleanup.close(e)
            raise
        return values[self._name], cleanup

    async def resolve_for_app(self) -> tuple[Any, DependencyCleanupGroup]:
        """Call the functions when there is no connection, or none that matters.

        Returns:
            What the dependency is, and what cleans up after it.
        """
        scope = {
            "type": "http",
            "app": self._app,
            "litestar_app": self._app,
            "route_handler": self._handler,
            "method": "GET",
            "path": "/",
            "path_params": {},
            "query_string": b"",
            "headers": [],
            "state": {},
        }
        return await self.resolve(Request(cast("Any", scope)))

    async def resolve_for(self, scope: Scope) -> tuple[Any, DependencyCleanupGroup]:
        """Call the functions for a connection.

        Args:
            scope: Scope of the connection.

        Returns:
            What the dependency is, and what cleans up after it.
        """
        connection_class = self._app.request_class if scope["type"] == ScopeType.HTTP else self._app.websocket_class
        return await self.resolve(connection_class(cast("Any", scope)))

    def _parameters(self, known: Collection[str]) -> dict[str, FieldDefinition]:
        """Collect the parameters that are not dependencies.

        To Litestar, a parameter that is not declared as anything and is not in the path belongs to the query. If it has a default
        value, that would let whoever sends a token choose where keys come from without anybody knowing, so here it does not.
        """
        parameters: dict[str, FieldDefinition] = {}
        for provide in self._provides.values():
            fields = provide.signature_model._fields
            refuse_body(provide, fields)
            for name, field in fields.items():
                declared = name in known or isinstance(field.kwarg_definition, ParameterKwarg)
                if name not in self._provides and (declared or not field.has_default):
                    parameters[name] = field
        return parameters


def refuse_body(provide: Provide, parameters: Collection[str] | None = None) -> None:
    """Refuse a dependency that needs the body of the request: whether to read that is decided by the token.

    Args:
        provide: The dependency.
        parameters: Names of the parameters of its function, if known.

    Raises:
        ImproperlyConfiguredException: If one of them is the body.
    """
    if parameters is None:
        parameters = signature(unwrap_partial(provide.dependency)).parameters
    if asked := _BODY.intersection(parameters):
        raise ImproperlyConfiguredException(
            f"{name_of(provide)!r} asks for {min(asked)!r}, but keys are needed before the body of the request is read"
        )


def name_of(provide: Provide) -> str:
    """Return the name of the function of a dependency."""
    return get_name(unwrap_partial(provide.dependency))


def registered_handlers(app: Litestar) -> Iterator[tuple[BaseRouteHandler, Collection[str]]]:
    """List the route handlers of an application, each with the names of the parameters in its path."""
    for route in app.routes:
        handlers = route.route_handlers if isinstance(route, HTTPRoute) else (route.route_handler,)
        for handler in handlers:
            yield cast("BaseRouteHandler", handler), route.path_parameters


def is_declared_by(app: Litestar, name: str, provide: Provide) -> bool:
    """Tell whether a dependency of a route handler is that of the application, rather than of a layer in between."""
    declared = app.dependencies.get(name)
    return declared is provide or declared is provide.dependency


def _in_order(name: str, dependencies: Mapping[str, Provide], asking: tuple[str, ...] = ()) -> dict[str, Provide]:
    """Return a dependency and all that it depends on, each after what it depends on itself."""
    path = (*asking, name)
    if name in asking:
        raise ImproperlyConfiguredException(f"The dependency {name!r} depends on itself: {' -> '.join(path)}")
    ordered: dict[str, Provide] = {}
    for field in dependencies[name].signature_model._fields:
        if field in dependencies:
            ordered |= _in_order(field, dependencies, path)
    return {**ordered, name: dependencies[name]}


# In Litestar 3, a registered route handler has what all its layers declare. In Litestar 2 it collects that when asked.
_IS_MERGED: Final = not hasattr(BaseRouteHandler, "ownership_layers")


def layered_dependencies(handler: BaseRouteHandler) -> Mapping[str, Provide]:
    """Return the dependencies that a route handler may ask for."""
    return cast("Mapping[str, Provide]", handler.dependencies if _IS_MERGED else handler.resolve_dependencies())


def guards_of(handler: BaseRouteHandler) -> Sequence[Guard]:
    """Return the guards of a route handler and of its layers."""
    return cast("Sequence[Guard]", handler.guards if _IS_MERGED else handler.resolve_guards())


def security_of(handler: HTTPRouteHandler) -> Sequence[SecurityRequirement]:
    """Return the security requirements of a route handler and of its layers."""
    return cast("Sequence[SecurityRequirement]", handler.security if _IS_MERGED else handler.resolve_security())


def set_security(handler: Any, requirements: Sequence[SecurityRequirement]) -> None:
    """Have the OpenAPI document show other security requirements for a registered route handler."""
    setattr(handler, "security" if _IS_MERGED else "_resolved_security", requirements)


def _layered_parameters(handler: Any) -> Mapping[str, FieldDefinition]:
    return cast(
        "Mapping[str, FieldDefinition]",
        handler.parameter_field_definitions if _IS_MERGED else handler.resolve_layered_parameters(),
    )


def _finalize(provide: Provide, handler: Any, app: Litestar, names: set[str]) -> None:
    """Have the signature of a dependency parsed, as Litestar does for those that are registered."""
    finalize = getattr(provide, "finalize", partial(_finalize_version_2, provide))
    finalize(
        plugins=app.plugins,
        signature_namespace=handler.signature_namespace if _IS_MERGED else handler.resolve_signature_namespace(),
        dependency_keys=names,
        data_dto=None,
        type_decoders=handler.type_decoders if _IS_MERGED else handler.resolve_type_decoders(),
    )


def _finalize_version_2(
    provide: Any, *, signature_namespace: dict[str, Any], dependency_keys: set[str], type_decoders: Any, **_: Any
) -> None:
    if hasattr(provide, "signature_model"):
        return
    function: Any = unwrap_partial(provide.dependency)
    provide.parsed_fn_signature = ParsedSignature.from_fn(function, signature_namespace)
    provide.signature_model = SignatureModel.create(
        dependency_name_set=dependency_keys,
        fn=provide.dependency,
        parsed_signature=provide.parsed_fn_signature,
        type_decoders=type_decoders,
    )
