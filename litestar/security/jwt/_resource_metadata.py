"""Metadata of a protected resource (RFC 9728), by which MCP clients find the authorization server."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from litestar import get
from litestar.exceptions import ImproperlyConfiguredException

if TYPE_CHECKING:
    from litestar.handlers import HTTPRouteHandler

__all__ = ("check_url", "create_metadata_handler", "metadata_url")

_URL: Final = re.compile(r"https?://([\w.-]+|\[[\da-fA-F:.]+\])(:\d+)?(/[^\s?#]*)?", re.ASCII)
_WELL_KNOWN_PATH: Final = "/.well-known/oauth-protected-resource"


def check_url(option: str, url: Any) -> None:
    """Check a URL that stands for the application (RFC 9728, section 1.2).

    Args:
        option: The name of the option that it was given for.
        url: The URL.

    Raises:
        ImproperlyConfiguredException: If it is not a URL, or has a query or a fragment.
    """
    if not isinstance(url, str) or not _URL.fullmatch(url):
        raise ImproperlyConfiguredException(
            f"{option!r} takes the URL of the application, without query and fragment, not {url!r}."
        )


def metadata_url(resource: str) -> str:
    """Return the URL of the metadata: the well-known path goes in front of the path of the resource (section 3.1).

    Args:
        resource: The URL of the protected resource.
    """
    parts = urlsplit(resource)
    return f"{parts.scheme}://{parts.netloc}{_WELL_KNOWN_PATH}{parts.path.rstrip('/')}"


def create_metadata_handler(backend: Any) -> HTTPRouteHandler:
    """Make the route handler that serves the metadata (section 2).

    Args:
        backend: The backend that protects the resource. Its key provider or ``accepted_issuers`` name the authorization servers.

    Returns:
        The route handler.
    """
    resource, accepted = backend.protected_resource, backend.accepted_issuers

    @get(urlsplit(metadata_url(resource)).path, opt={backend.exclude_opt_key: True}, include_in_schema=False)
    async def protected_resource_metadata() -> dict[str, Any]:
        issuers = getattr(backend.key_provider, "issuers", ()) or (() if callable(accepted) else accepted)
        metadata = {
            "resource": resource,
            "authorization_servers": list(issuers or ()),
            "bearer_methods_supported": ["header"],
            "scopes_supported": list(getattr(backend, "oauth_scopes", None) or ()),
        }
        return {name: value for name, value in metadata.items() if value}

    return protected_resource_metadata
