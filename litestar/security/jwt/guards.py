"""A guard for routes that require scopes or roles."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from litestar.exceptions import ImproperlyConfiguredException, NotAuthorizedException, PermissionDeniedException
from litestar.security.jwt._refusals import challenge
from litestar.security.jwt.token import Token

if TYPE_CHECKING:
    from litestar.connection import ASGIConnection
    from litestar.handlers.base import BaseRouteHandler
    from litestar.types import Guard

__all__ = ("requires_scopes",)

# RFC 6749, section 3.3: printable ASCII without the space, the quotation mark and the backslash.
_SCOPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")


def requires_scopes(
    *scopes: str, any_of: bool = False, claims: Sequence[str] | str = ("scope", "scp", "roles")
) -> Guard:
    """Create a guard that requires scopes or roles in the token.

    .. code-block:: python

        @get("/reports", guards=[requires_scopes("reports:read")])
        async def list_reports() -> list[Report]: ...


        is_keycloak_admin = requires_scopes("admin", claims="realm_access.roles")

    A string in a claim holds names that are separated by spaces (`RFC 8693, section 4.2
    <https://datatracker.ietf.org/doc/html/rfc8693#section-4.2>`_). If the name of the claim ends in ``roles`` or ``groups``, the
    string is one name. In a list, each string is one name. Other values grant nothing.

    If a scope is missing, the response is ``403`` and names the required scopes (`RFC 6750, section 3.1
    <https://datatracker.ietf.org/doc/html/rfc6750#section-3.1>`_). If the request is not authenticated, the response is ``401``.

    Args:
        *scopes: Names of scopes or roles.
        any_of: Whether one of the scopes is enough. By default, all of them are required.
        claims: The claims that hold scopes. Scopes in any of them count. A claim is a name or, if the token has no claim with
            that name, a dotted path into objects, such as ``resource_access.my-client.roles``.

    Returns:
        A guard for any layer of an application.

    Raises:
        ImproperlyConfiguredException: If an argument is not valid.
    """
    names = (claims,) if isinstance(claims, str) else claims
    _check_arguments(scopes, any_of, names)
    required = frozenset(scopes)

    async def guard(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        token = connection.scope.get("auth")
        if not isinstance(token, Token):
            unauthenticated = NotAuthorizedException("Not authenticated")
            challenge(unauthenticated)
            raise unauthenticated
        granted = required.intersection(scope for name in names for scope in _scopes_in(token, name))
        if not (granted if any_of else granted == required):
            denied = PermissionDeniedException("Insufficient scope")
            challenge(denied, error="insufficient_scope", scope=" ".join(dict.fromkeys(scopes)))
            raise denied

    return guard


def _check_arguments(scopes: Sequence[Any], any_of: Any, claims: Any) -> None:
    if not scopes:
        raise ImproperlyConfiguredException("'requires_scopes' has no scopes. Pass at least one, such as 'read'")
    for scope in scopes:
        if not isinstance(scope, str) or not _SCOPE.fullmatch(scope):
            raise ImproperlyConfiguredException(
                f"{scope!r} is not a valid scope for 'requires_scopes'. Pass each scope as a string of its own, without spaces"
            )
    if not isinstance(any_of, bool):
        raise ImproperlyConfiguredException(f"'any_of' of 'requires_scopes' is {any_of!r}. Pass True or False")
    if not isinstance(claims, Sequence) or not claims or not all(isinstance(name, str) and name for name in claims):
        raise ImproperlyConfiguredException(
            f"'claims' of 'requires_scopes' is {claims!r}. Pass names of claims, such as ['scope', 'realm_access.roles']"
        )


def _scopes_in(token: Token, claim: str) -> Sequence[str]:
    value = _find(token, claim)
    if isinstance(value, str):
        return (value,) if claim.endswith(("roles", "groups")) else value.split(" ")
    return [name for name in value if isinstance(name, str)] if isinstance(value, (list, tuple)) else ()


def _find(holder: Any, path: str) -> Any:
    """Follow a dotted path. Names can contain dots, so the longest name that exists decides where the path leads."""
    name, dot = path, "."
    while dot:
        value = _member(holder, name)
        if value is not None:
            return value if name == path else _find(value, path[len(name) + 1 :])
        name, dot, _ = name.rpartition(".")
    return None


def _member(holder: Any, name: str) -> Any:
    if isinstance(holder, Token):
        value = getattr(holder, name, None)
        # A claim that another issuer has nested in its claim "extras" is not one of the token's own.
        is_nested = name in getattr(holder, "_nested_claims", ())
        return holder.extras.get(name) if value is None and not is_nested else value
    return holder.get(name) if isinstance(holder, dict) else None
