"""The application as a protected resource (RFC 9728), which MCP clients need."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from litestar.exceptions import ImproperlyConfiguredException
from litestar.security.jwt.challenge import RESOURCE_METADATA_OPT_KEY
from litestar.security.jwt.openapi import OpenAPIOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from litestar.config.app import AppConfig

__all__ = ("ResourceOptions",)

UserType = TypeVar("UserType")
AuthType = TypeVar("AuthType")


@dataclass(kw_only=True, init=False, repr=False, eq=False, match_args=False)
class ResourceOptions(OpenAPIOptions[UserType, AuthType]):
    """Options of the backends for applications that are a protected resource of OAuth 2.0."""

    protected_resource: str | None = field(default=None, repr=False)
    """URL of the application as a protected resource (`RFC 9728 <https://datatracker.ietf.org/doc/html/rfc9728>`_). Its metadata is
    served under ``/.well-known/oauth-protected-resource``, and challenges point there. A URL without a path ends in ``/``, because
    clients send it that way. Name at least one issuer: by an :class:`OpenIDProvider`, or in ``accepted_issuers``."""
    scopes_supported: Sequence[str] | None = field(default=None, repr=False)
    """Scopes that the metadata lists. By default, those that the :func:`requires_scopes` guards of the routes require."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.resource_metadata is not None and self.key_provider is None:
            raise ImproperlyConfiguredException("'protected_resource' needs a 'key_provider'.")

    @property
    def resource_metadata(self) -> str | None:
        """URL of the metadata, ``None`` if the application is no protected resource.

        Raises:
            ImproperlyConfiguredException: If ``protected_resource`` or ``scopes_supported`` is not valid.
        """
        if self.protected_resource is None:
            if self.scopes_supported is not None:
                raise ImproperlyConfiguredException("'scopes_supported' needs 'protected_resource'.")
            return None
        from litestar.security.jwt.well_known import check_url, metadata_url

        check_url("protected_resource", self.protected_resource)
        scopes = self.scopes_supported
        if scopes is not None and (isinstance(scopes, str) or not all(isinstance(scope, str) for scope in scopes)):
            raise ImproperlyConfiguredException(f"'scopes_supported' takes a sequence of strings, not {scopes!r}.")
        return metadata_url(self.protected_resource)

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Attach the backend to an application, and serve the metadata.

        Args:
            app_config: The configuration of the application.

        Returns:
            The same configuration.
        """
        app_config = super().on_app_init(app_config)
        metadata = self.resource_metadata
        if metadata is not None:
            from litestar.security.jwt.well_known import create_metadata_handler

            backend: Any = self
            app_config.route_handlers.append(create_metadata_handler(backend))
            # Guards find it there, for the challenge of a 403.
            app_config.opt[RESOURCE_METADATA_OPT_KEY] = metadata
        return app_config
