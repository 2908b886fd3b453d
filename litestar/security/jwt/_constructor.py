"""The constructors of the backends, as type checkers see them.

A dataclass cannot say that ``token_secret`` can be left out only if there is a ``key_provider``. So each backend has an
``__init__`` for type checkers, whose type is that of a function of this module. No application imports this module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import timedelta
    from typing import Literal, Unpack

    import jwt

    from litestar.connection import ASGIConnection
    from litestar.di import Provide
    from litestar.security.jwt.claims import Audiences, IssuerCheck
    from litestar.security.jwt.keys import ConnectionKeyProvider, Key, KeyProvider, PrivateKey
    from litestar.security.jwt.middleware import JWTAuthenticationMiddleware, JWTCookieAuthenticationMiddleware
    from litestar.security.jwt.signing import SigningKey
    from litestar.security.jwt.token import Token
    from litestar.types import ControllerRouterHandler, Guard, Method, Scopes, SyncOrAsyncUnion, TypeEncodersMap

    Connection: TypeAlias = ASGIConnection[Any, Any, Any, Any]
    UserHandler: TypeAlias = Callable[[Any, Connection], SyncOrAsyncUnion[Any | None]]
    RevokedHandler: TypeAlias = Callable[[Any, Connection], SyncOrAsyncUnion[bool]]
    Secret: TypeAlias = str | bytes | PrivateKey | SigningKey
    Provider: TypeAlias = Key | KeyProvider | ConnectionKeyProvider | Provide | jwt.PyJWKClient

__all__ = ("JWTAuthInit", "JWTCookieAuthInit", "OAuth2PasswordBearerAuthInit")

InitT = TypeVar("InitT")


class BackendOptions(TypedDict, total=False):
    """What all backends take by name."""

    guards: Iterable[Guard] | None
    exclude: str | list[str] | None
    exclude_opt_key: str
    exclude_http_methods: Sequence[Method] | None
    scopes: Scopes | None
    route_handlers: Iterable[ControllerRouterHandler] | None
    dependencies: dict[str, Provide] | None
    type_encoders: TypeEncodersMap | None
    algorithm: str
    auth_header: str
    default_token_expiration: timedelta
    openapi_security_scheme_name: str
    description: str
    token_cls: type[Token]
    accepted_audiences: Audiences | None
    accepted_issuers: Sequence[str] | IssuerCheck | None
    require_claims: Sequence[str] | None
    verify_expiry: bool
    verify_not_before: bool
    strict_audience: bool
    key_provider_name: str
    key_algorithms: str | Sequence[str] | None
    leeway: float | timedelta | None
    accepted_types: str | Sequence[str] | None
    auth_scheme: str | None
    accept_bound_tokens: bool
    optional_auth_opt_key: str
    protected_resource: str | None
    scopes_supported: Sequence[str] | None


class HeaderOptions(BackendOptions, total=False):
    """What :class:`JWTAuth` takes by name."""

    authentication_middleware_class: type[JWTAuthenticationMiddleware]


class CookieOptions(BackendOptions, total=False):
    """What :class:`JWTCookieAuth` takes by name."""

    key: str
    path: str
    domain: str | None
    secure: bool | None
    samesite: Literal["lax", "strict", "none"]
    authentication_middleware_class: type[JWTCookieAuthenticationMiddleware]


class OAuth2Options(CookieOptions, total=False):
    """What :class:`OAuth2PasswordBearerAuth` takes by name."""

    oauth_scopes: dict[str, str] | None


@overload
def _jwt_auth(
    self: Any,
    token_secret: Secret,
    retrieve_user_handler: UserHandler,
    revoked_token_handler: RevokedHandler | None = None,
    *,
    key_provider: Provider | None = None,
    **options: Unpack[HeaderOptions],
) -> None: ...
@overload
def _jwt_auth(
    self: Any,
    *,
    token_secret: None = None,
    retrieve_user_handler: UserHandler,
    revoked_token_handler: RevokedHandler | None = None,
    key_provider: Provider,
    **options: Unpack[HeaderOptions],
) -> None: ...
def _jwt_auth(*args: Any, **options: Any) -> None:
    """Create a :class:`JWTAuth`."""


@overload
def _jwt_cookie_auth(
    self: Any,
    token_secret: Secret,
    retrieve_user_handler: UserHandler,
    revoked_token_handler: RevokedHandler | None = None,
    *,
    key_provider: Provider | None = None,
    **options: Unpack[CookieOptions],
) -> None: ...
@overload
def _jwt_cookie_auth(
    self: Any,
    *,
    token_secret: None = None,
    retrieve_user_handler: UserHandler,
    revoked_token_handler: RevokedHandler | None = None,
    key_provider: Provider,
    **options: Unpack[CookieOptions],
) -> None: ...
def _jwt_cookie_auth(*args: Any, **options: Any) -> None:
    """Create a :class:`JWTCookieAuth`."""


@overload
def _oauth2_password_bearer_auth(
    self: Any,
    token_secret: Secret,
    token_url: str,
    retrieve_user_handler: UserHandler,
    revoked_token_handler: RevokedHandler | None = None,
    *,
    key_provider: Provider | None = None,
    **options: Unpack[OAuth2Options],
) -> None: ...
@overload
def _oauth2_password_bearer_auth(
    self: Any,
    *,
    token_secret: None = None,
    token_url: str,
    retrieve_user_handler: UserHandler,
    revoked_token_handler: RevokedHandler | None = None,
    key_provider: Provider,
    **options: Unpack[OAuth2Options],
) -> None: ...
def _oauth2_password_bearer_auth(*args: Any, **options: Any) -> None:
    """Create an :class:`OAuth2PasswordBearerAuth`."""


def _as_type_of(constructor: InitT) -> Callable[[Callable[..., None]], InitT]:
    """Return a decorator that gives a method the type of a function."""
    return lambda method: constructor


JWTAuthInit = _as_type_of(_jwt_auth)
JWTCookieAuthInit = _as_type_of(_jwt_cookie_auth)
OAuth2PasswordBearerAuthInit = _as_type_of(_oauth2_password_bearer_auth)
