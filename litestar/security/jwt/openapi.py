"""What a backend with a key provider adds to the OpenAPI document (OpenAPI Specification 3.1, sections 4.8.27 and 4.8.30)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from litestar.openapi.spec import Components, OAuthFlow, SecurityScheme
from litestar.routes import HTTPRoute
from litestar.security.jwt.challenge import ChallengeOptions
from litestar.security.jwt.injection import requires_authentication

if TYPE_CHECKING:
    from litestar import Litestar
    from litestar.config.app import AppConfig
    from litestar.openapi.spec import OpenAPI, Operation

__all__ = ("OpenAPIOptions",)

UserType = TypeVar("UserType")
AuthType = TypeVar("AuthType")


@dataclass(kw_only=True, init=False, repr=False, eq=False, match_args=False)
class OpenAPIOptions(ChallengeOptions[UserType, AuthType]):
    """Describes tokens of a key provider, and which routes need one, in the OpenAPI document."""

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Attach the backend to an application.

        Args:
            app_config: The configuration of the application.

        Returns:
            The same configuration.
        """
        app_config = super().on_app_init(app_config)
        openapi_config = app_config.openapi_config
        if self.key_provider is not None and openapi_config is not None:
            components = openapi_config.components
            for item in components if isinstance(components, list) else [components]:
                self._describe_scheme(item)
            app_config.on_startup.append(self._describe_routes)
        return app_config

    def _describe_scheme(self, components: Components) -> None:
        """Give the security scheme the fields that OpenAPI has for its type, and no others."""
        schemes: dict[str, Any] = components.security_schemes or {}
        name = self._scheme_name()
        if isinstance(schemes.get(name), SecurityScheme):
            schemes[name] = self._valid_scheme(schemes[name])

    def _scheme_name(self) -> str:
        backend: Any = self  # a field of the backends
        return str(backend.openapi_security_scheme_name)

    def _valid_scheme(self, scheme: SecurityScheme) -> SecurityScheme:
        if scheme.type == "oauth2":
            return SecurityScheme(type="oauth2", description=scheme.description, flows=_valid_flows(scheme.flows))
        if scheme.type != "http":
            return scheme
        url: str | None = getattr(self.key_provider, "openid_connect_url", None)
        if url is not None:
            url = url.partition("?")[0]  # a query can be a secret
            return SecurityScheme(type="openIdConnect", description=scheme.description, open_id_connect_url=url)
        name = "Bearer" if self.auth_scheme is None else self.auth_scheme
        if not name:
            backend: Any = self
            return SecurityScheme(
                type="apiKey", description=scheme.description, name=backend.auth_header, security_scheme_in="header"
            )
        is_bearer = name.lower() == "bearer"
        return SecurityScheme(
            type="http", description=scheme.description, scheme=name, bearer_format="JWT" if is_bearer else None
        )

    def _describe_routes(self, app: Litestar) -> None:
        """Say which routes need no token, and at which one it is optional."""
        if app.openapi_config is None:
            return
        document = app.openapi_schema
        for route in app.routes:
            if isinstance(route, HTTPRoute):
                for handler in route.route_handlers:
                    is_optional = handler.opt.get(self.optional_auth_opt_key) is True
                    needs_token = requires_authentication(self, route.path, handler)
                    if is_optional or not needs_token:
                        for method in handler.http_methods:
                            operation = getattr(
                                (document.paths or {}).get(route.path_format or "/"), method.lower(), None
                            )
                            self._relax(document, operation, is_optional=needs_token)

    def _relax(self, document: OpenAPI, operation: Operation | None, *, is_optional: bool) -> None:
        """Take the scheme of this backend out of the requirements of an operation, or add that there may be no credentials."""
        if operation is None:
            return
        requirements = list((document.security if operation.security is None else operation.security) or ())
        others = [requirement for requirement in requirements if self._scheme_name() not in requirement]
        if len(others) == len(requirements):
            return
        if not is_optional:
            operation.security = others
        elif {} not in requirements:
            operation.security = [{}, *requirements]


def _valid_flows(flows: Any) -> Any:
    """Add the scopes that a flow has to have, even if there are none."""
    password: OAuthFlow | None = flows.password
    if password is None or password.scopes is not None:
        return flows
    return replace(flows, password=replace(password, scopes={}))
