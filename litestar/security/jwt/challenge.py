"""The log line and the challenge of a refusal (RFC 6750, section 3)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from logging import getLogger
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, runtime_checkable

from litestar.security.jwt.options import KeyProviderOptions
from litestar.security.jwt.refusals import Reason, TokenRefused

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from litestar.connection import ASGIConnection
    from litestar.exceptions import HTTPException, NotAuthorizedException
    from litestar.security.jwt.verifier import Refuse

__all__ = (
    "RESOURCE_METADATA_OPT_KEY",
    "SCOPE",
    "ChallengeOptions",
    "RequiredScopes",
    "challenge",
    "log_refusal",
    "scopes_of_route",
)

UserType = TypeVar("UserType")
AuthType = TypeVar("AuthType")

RESOURCE_METADATA_OPT_KEY: Final = "resource_metadata"
"""The key in the ``opt`` of routes under which the URL of the metadata is, for guards that refuse a request."""

_logger: Final = getLogger("litestar.security.jwt")
# RFC 6750, section 3: the characters that a description may have.
_NOT_QUOTABLE: Final = re.compile(r"[^\x20-\x21\x23-\x5b\x5d-\x7e]")
# RFC 6749, section 3.3: printable ASCII without the space, the quotation mark and the backslash.
SCOPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")


class RequiredScopes(Protocol):
    """What a guard requires, for challenges and metadata."""

    scopes: tuple[str, ...]
    claims: tuple[str, ...]


@runtime_checkable
class _ScopeGuard(Protocol):
    """A guard that says which scopes it requires."""

    required_scopes: RequiredScopes


def challenge(exception: HTTPException, scheme: str = "Bearer", **parameters: str | None) -> None:
    """Let an error response say how to authenticate. A challenge that the exception has already stays.

    Args:
        exception: What is about to be raised.
        scheme: The authentication scheme.
        **parameters: Parameters of the challenge, such as ``error``. Those that are ``None`` or empty are left out.
    """
    headers: Mapping[str, str] = exception.headers or {}
    if "www-authenticate" not in map(str.lower, headers):
        values = ", ".join(f'{name}="{_NOT_QUOTABLE.sub("?", value)}"' for name, value in parameters.items() if value)
        exception.headers = {**headers, "WWW-Authenticate": f"{scheme} {values}".rstrip()}


def log_refusal(refused: TokenRefused) -> None:
    """Log why a token is refused. Nothing but a header parameter, an issuer or an audience of it is shown.

    Args:
        refused: The refusal. The record has its ``reason`` and ``expected`` as attributes.
    """
    facts = {"expected": refused.expected, "received": refused.received}
    shown = "; ".join(f"{name}: {value}" for name, value in facts.items() if value is not None)
    extra = {"reason": refused.reason, "expected": refused.expected}
    _logger.info("Token refused: %s%s", refused.description, f" ({shown})" if shown else "", extra=extra)


def scopes_of_route(handler: Any) -> list[str]:
    """Return the scopes that the guards of a route require, in order.

    Args:
        handler: The route handler. Only guards whose claims include ``scope`` or ``scp`` count, as clients ask for scopes.
    """
    # Litestar 3 has merged the guards of all layers.
    guards: Iterable[object] = handler.resolve_guards() if hasattr(handler, "ownership_layers") else handler.guards
    required = [guard.required_scopes for guard in guards if isinstance(guard, _ScopeGuard)]
    scopes = [scope for item in required if {"scope", "scp"} & {*item.claims} for scope in item.scopes]
    return [scope for scope in dict.fromkeys(scopes) if SCOPE.fullmatch(scope)]


@dataclass(kw_only=True, init=False, repr=False, eq=False, match_args=False)
class ChallengeOptions(KeyProviderOptions[UserType, AuthType]):
    """Logs refusals, and lets responses say why a token is refused."""

    @property
    def resource_metadata(self) -> str | None:
        """URL of the metadata of the protected resource (RFC 9728), ``None`` if there is none."""
        return None

    def _refuse(self) -> Refuse:
        """Return what logs a refusal and adds the challenge."""
        scheme, metadata = self.auth_scheme or "Bearer", self.resource_metadata

        def refuse(
            refused: TokenRefused,
            exception: NotAuthorizedException,
            connection: ASGIConnection[Any, Any, Any, Any] | None,
        ) -> NotAuthorizedException:
            log_refusal(refused)
            parameters: dict[str, str | None] = {}
            if refused.reason is not Reason.NO_CREDENTIALS:
                parameters["error"] = "invalid_token"
                parameters["error_description"] = f"Token refused: {refused.description}"
            elif connection is not None:
                parameters["scope"] = " ".join(scopes_of_route(connection.scope["route_handler"]))
            challenge(exception, scheme, **parameters, resource_metadata=metadata)
            return exception

        return refuse
