"""A guard for routes that require scopes or roles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn

from litestar.exceptions import (
    HTTPException,
    ImproperlyConfiguredException,
    NotAuthorizedException,
    PermissionDeniedException,
)
from litestar.security.jwt.challenge import RESOURCE_METADATA_OPT_KEY, SCOPE, challenge, log_refusal, scopes_of_route
from litestar.security.jwt.keys import names_of
from litestar.security.jwt.refusals import Reason, TokenRefused
from litestar.security.jwt.token import Token

if TYPE_CHECKING:
    from litestar.connection import ASGIConnection
    from litestar.handlers.base import BaseRouteHandler

__all__ = ("ScopeGuard", "ScopeRequirement", "requires_scopes")

# RFC 8693, section 4.2, and what Microsoft and Okta call it: these hold scopes that are separated by spaces.
_SCOPE_CLAIMS: Final = ("scope", "scp")
_DEFAULT_CLAIMS: Final = (*_SCOPE_CLAIMS, "roles")


@dataclass(frozen=True, slots=True)
class ScopeRequirement:
    """What a guard requires."""

    scopes: tuple[str, ...]
    """Names of scopes or roles."""
    any_of: bool
    """Whether one of them is enough."""
    claims: tuple[str, ...]
    """Names or paths of the claims that hold them."""

    def missing_from(self, token: Token) -> tuple[str, ...]:
        """Return the names that a token lacks.

        Args:
            token: A verified token.

        Returns:
            The names, none if the requirement is met.
        """
        granted = {name for claim in self.claims for name in _names_in(token, claim)}
        missing = tuple(name for name in self.scopes if name not in granted)
        return () if self.any_of and len(missing) < len(self.scopes) else missing


@dataclass(frozen=True, slots=True)
class ScopeGuard:
    """A guard that lets a request pass if its token has the required scopes."""

    required_scopes: ScopeRequirement
    """What it requires. Challenges and metadata name it."""

    async def __call__(self, connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        """Check the token of a connection.

        Args:
            connection: The connection.

        Raises:
            NotAuthorizedException: If the connection is not authenticated.
            PermissionDeniedException: If its token lacks scopes.
        """
        token, handler = connection.scope.get("auth"), connection.scope["route_handler"]
        if not isinstance(token, Token):
            unauthenticated = NotAuthorizedException("Not authenticated")
            _refuse(
                unauthenticated, TokenRefused(Reason.NO_CREDENTIALS), handler, scope=" ".join(scopes_of_route(handler))
            )
        missing = self.required_scopes.missing_from(token)
        if missing:
            denied = PermissionDeniedException("Insufficient scope")
            refused = TokenRefused(Reason.SCOPES, self._expected(missing))
            scope = " ".join(name for name in self.required_scopes.scopes if SCOPE.fullmatch(name))
            _refuse(denied, refused, handler, error="insufficient_scope", scope=scope)

    def _expected(self, names: Sequence[str]) -> str:
        """Say what is missing, and which claims were looked at."""
        conjunction = " or " if self.required_scopes.any_of else " and "
        return f"{conjunction.join(map(repr, names))} in {' or '.join(self.required_scopes.claims)}"


def _refuse(exception: HTTPException, refused: TokenRefused, handler: BaseRouteHandler, **parameters: str) -> NoReturn:
    """Log a refusal, and raise what the response is made of."""
    log_refusal(refused)
    challenge(exception, **parameters, resource_metadata=handler.opt.get(RESOURCE_METADATA_OPT_KEY))
    raise exception from refused


def requires_scopes(*scopes: str, any_of: bool = False, claims: Sequence[str] | str = _DEFAULT_CLAIMS) -> ScopeGuard:
    """Create a guard that requires scopes or roles in the token.

    .. code-block:: python

        @get("/reports", guards=[requires_scopes("reports:read")])
        async def list_reports() -> list[Report]: ...


        is_keycloak_admin = requires_scopes("admin", claims="realm_access.roles")
        is_sales = requires_scopes("Sales (EU)", claims="groups")

    In a list, each string is a name. A string is one name, but for ``scope`` and ``scp``, in which spaces separate names (`RFC 8693,
    section 4.2 <https://datatracker.ietf.org/doc/html/rfc8693#section-4.2>`_). Of an object, each member with a value is a name, as
    in Zitadel's roles, but not for ``scope`` and ``scp``. Other values grant nothing.

    If a scope is missing, the response is ``403`` and names the required scopes (`RFC 6750, section 3.1
    <https://datatracker.ietf.org/doc/html/rfc6750#section-3.1>`_). If the request is not authenticated, the response is ``401``. The
    log says what is missing, and in which claims.

    Args:
        *scopes: Names of scopes or roles.
        any_of: Whether one of the scopes is enough. By default, all of them are required.
        claims: The claims that hold scopes. Scopes in any of them count. A claim is a name or, if the token has no claim with
            that name, a dotted path into objects, such as ``resource_access.my-client.roles``.

    Returns:
        A guard for any layer of an application. Its attribute ``required_scopes`` says what it requires.

    Raises:
        ImproperlyConfiguredException: If an argument is not valid.
    """
    _check_arguments(scopes, any_of, claims)
    return ScopeGuard(ScopeRequirement(tuple(dict.fromkeys(scopes)), any_of, names_of(claims)))


def _check_arguments(scopes: Sequence[object], any_of: object, claims: object) -> None:
    if not isinstance(any_of, bool):
        raise ImproperlyConfiguredException(f"'any_of' of 'requires_scopes' is {any_of!r}. Pass True or False.")
    names = (claims,) if isinstance(claims, str) else claims
    if not isinstance(names, (list, tuple)) or not names or not all(isinstance(name, str) and name for name in names):
        raise ImproperlyConfiguredException(
            f"'claims' of 'requires_scopes' is {claims!r}. Pass names of claims, such as ['scope', 'realm_access.roles']."
        )
    if not scopes:
        raise ImproperlyConfiguredException("'requires_scopes' has no scopes. Pass at least one, such as 'read'.")
    # Where nothing but a scope is looked for, several in one string are a mistake.
    is_strict = set(names) <= set(_DEFAULT_CLAIMS) and not set(names).isdisjoint(_SCOPE_CLAIMS)
    for scope in scopes:
        if not isinstance(scope, str) or not scope or (is_strict and not SCOPE.fullmatch(scope)):
            raise ImproperlyConfiguredException(
                f"{scope!r} is not a valid scope for 'requires_scopes'. Pass each scope as a string of its own, without spaces. "
                "For names of groups or roles, set 'claims'."
            )


def _names_in(token: Token, claim: str) -> Iterable[str]:
    """Return the names that a claim grants."""
    value, is_scope = _find(token, claim), claim.rpartition(".")[2] in _SCOPE_CLAIMS
    if isinstance(value, str):
        return value.split(" ") if is_scope else (value,)
    if isinstance(value, Mapping) and not is_scope:
        value = [name for name, content in value.items() if content]
    return [name for name in value if isinstance(name, str)] if isinstance(value, (list, tuple)) else ()


def _find(holder: object, path: str) -> object:
    """Follow a dotted path. Names can contain dots, so the longest name that exists decides where the path leads."""
    parts = path.split(".")
    for end in range(len(parts), 0, -1):
        value = _member(holder, ".".join(parts[:end]))
        if value is not None:
            return value if end == len(parts) else _find(value, ".".join(parts[end:]))
    return None


def _member(holder: object, name: str) -> object:
    """Return a claim of a token, or a member of an object."""
    if not isinstance(holder, Token):
        return holder.get(name) if isinstance(holder, Mapping) else None
    # A claim that is called "extras" is one without a field, like any other.
    value: object = None if name == "extras" else getattr(holder, name, None)
    return holder.extras.get(name) if value is None or callable(value) else value
