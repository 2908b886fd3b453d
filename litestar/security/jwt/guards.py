from __future__ import annotations

import re
from collections.abc import Collection
from itertools import product
from typing import TYPE_CHECKING, Any, Final

from litestar.exceptions import ImproperlyConfiguredException, NotAuthorizedException, PermissionDeniedException
from litestar.plugins.base import ReceiveRoutePlugin
from litestar.routes import HTTPRoute
from litestar.security.jwt._challenges import challenge
from litestar.security.jwt._injection import guards_of, security_of, set_security
from litestar.security.jwt.token import Token

if TYPE_CHECKING:
    from collections.abc import Sequence

    from litestar.connection import ASGIConnection
    from litestar.handlers.base import BaseRouteHandler
    from litestar.openapi.spec import SecurityRequirement
    from litestar.routes import BaseRoute
    from litestar.types import Guard

__all__ = ("DocumentedScopes", "requires_scopes")

# RFC 6749, section 3.3: printable ASCII, without the space, the quotation mark and the backslash.
_SCOPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")


def requires_scopes(*scopes: str, any_of: bool = False) -> Guard:
    """Make a guard that lets in only those whose token has been granted something.

    What a token has been granted is in its claims ``scope`` and ``scp``, strings with spaces in between (`RFC 8693, section
    4.2 <https://datatracker.ietf.org/doc/html/rfc8693#section-4.2>`_) or lists, and in ``roles``, a list or a single name.
    All others are answered with ``403`` and told what is needed (`RFC 6750, section 3.1
    <https://datatracker.ietf.org/doc/html/rfc6750#section-3.1>`_), or with ``401`` if they have not been authenticated.

    The OpenAPI document lists the scopes with the operations that need them.

    Args:
        *scopes: Names of scopes or roles.
        any_of: Whether one of them is enough. By default all are needed.

    Returns:
        The guard, for any layer of an application.

    Raises:
        ImproperlyConfiguredException: If there are none, or one is not what a scope can be named.
    """
    if not scopes:
        raise ImproperlyConfiguredException("'requires_scopes' needs at least one scope")
    for scope in scopes:
        if not isinstance(scope, str) or not _SCOPE.fullmatch(scope):
            raise ImproperlyConfiguredException(f"{scope!r} cannot be the name of a scope")
    return _ScopesGuard(scopes, any_of)


class _ScopesGuard:
    __slots__ = ("_needed", "alternatives")

    alternatives: tuple[frozenset[str], ...]
    """What lets a token pass: all the scopes of any of these."""

    def __init__(self, scopes: Sequence[str], any_of: bool) -> None:
        self.alternatives = tuple(frozenset({s}) for s in scopes) if any_of else (frozenset(scopes),)
        self._needed = " ".join(dict.fromkeys(scopes))

    async def __call__(self, connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        token = connection.scope.get("auth")
        if not isinstance(token, Token):
            unauthenticated = NotAuthorizedException("No JWT token found")
            challenge(unauthenticated)
            raise unauthenticated
        granted = _granted(token)
        if not any(needed <= granted for needed in self.alternatives):
            denied = PermissionDeniedException("Insufficient scope")
            challenge(denied, error="insufficient_scope", scope=self._needed)
            raise denied


def _granted(token: Token) -> frozenset[str]:
    names: list[str] = []
    for claim in ("scope", "scp", "roles"):
        value = getattr(token, claim, None)
        if value is None:
            value = token.extras.get(claim)
        if isinstance(value, str):
            # Whoever has the role "read all" has not been granted the scope "all".
            names += (value,) if claim == "roles" else value.split(" ")
        elif isinstance(value, Collection):
            names += (name for name in value if isinstance(name, str))
    return frozenset(names)


class DocumentedScopes(ReceiveRoutePlugin):
    """Lists scopes that guards require in the security requirements of operations."""

    __slots__ = ("_scheme", "_security")

    def __init__(self, scheme: str, security: Sequence[SecurityRequirement] | None) -> None:
        """Say what they are scopes of.

        Args:
            scheme: Name of the security scheme.
            security: Requirements of operations that have none of their own.
        """
        self._scheme = scheme
        self._security = security or ()

    def receive_route(self, route: BaseRoute) -> None:
        """Look at the guards of a route.

        Args:
            route: The route.
        """
        for handler in route.route_handlers if isinstance(route, HTTPRoute) else ():
            guards = [guard.alternatives for guard in guards_of(handler) if isinstance(guard, _ScopesGuard)]
            if guards:
                combined = [sorted({name for names in needed for name in names}) for needed in product(*guards)]
                set_security(handler, self._requirements(security_of(handler) or self._security, combined))

    def _requirements(
        self, security: Sequence[SecurityRequirement], combined: Sequence[list[str]]
    ) -> list[SecurityRequirement]:
        """Replace a requirement of the scheme that lists nothing yet by one for each way to have enough scopes."""
        requirements: list[SecurityRequirement] = []
        for requirement in security:
            if requirement.get(self._scheme) == []:
                requirements += ({**requirement, self._scheme: scopes} for scopes in combined)
            else:
                requirements.append(requirement)
        return requirements
