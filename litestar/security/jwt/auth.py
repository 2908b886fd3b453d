from __future__ import annotations

from copy import copy
from dataclasses import Field, asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast

from typing_extensions import TypeVar as DefaultingTypeVar
from typing_extensions import dataclass_transform

from litestar.datastructures import Cookie
from litestar.enums import MediaType
from litestar.exceptions import ImproperlyConfiguredException
from litestar.middleware import DefineMiddleware
from litestar.openapi.spec import Components, OAuthFlow, OAuthFlows, SecurityRequirement, SecurityScheme
from litestar.security.base import AbstractSecurityConfig
from litestar.security.jwt._configuration import (
    DEFAULT_ALGORITHM,
    check_options,
    default_algorithm,
    given_algorithms,
    signer,
)
from litestar.security.jwt._verified import VerifiedTokens
from litestar.security.jwt.keys import UnusableKeyError
from litestar.security.jwt.middleware import JWTAuthenticationMiddleware, JWTCookieAuthenticationMiddleware
from litestar.security.jwt.token import Token
from litestar.security.jwt.unverified import MAX_TOKEN_LENGTH
from litestar.status_codes import HTTP_201_CREATED
from litestar.types import Empty
from litestar.utils import ensure_async_callable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import jwt

    from litestar import Response
    from litestar.config.app import AppConfig
    from litestar.connection import ASGIConnection
    from litestar.di import Provide
    from litestar.security.jwt._sources import KeySource
    from litestar.security.jwt.keys import Key, KeyProvider
    from litestar.types import ControllerRouterHandler, Guard, Method, Scopes, SyncOrAsyncUnion, TypeEncodersMap

__all__ = ("BaseJWTAuth", "JWTAuth", "JWTCookieAuth", "OAuth2Login", "OAuth2PasswordBearerAuth")

UserType = TypeVar("UserType")
TokenT = DefaultingTypeVar("TokenT", bound=Token, default=Token)
_T = TypeVar("_T")

# The defaults of the options that a class declares, by class.
_defaults: dict[type, dict[str, Any]] = {}


@dataclass_transform(field_specifiers=(field,))
def _declares_options(cls: type[_T]) -> type[_T]:
    """Keep what a class declares for :func:`_backend`, without making it a dataclass.

    Backends that users derive from :class:`BaseJWTAuth` are dataclasses with fields in an order of their own. They find plain
    defaults as class attributes, and declare anew what is a :func:`dataclasses.field` here.
    """
    _defaults[cls] = {name: cls.__dict__[name] for name in cls.__annotations__}
    for name, default in _defaults[cls].items():
        if isinstance(default, Field):
            delattr(cls, name)
    return cls


@dataclass_transform(field_specifiers=(field,))
def _backend(**in_front_of: str) -> Callable[[type[_T]], type[_T]]:
    """Make a dataclass of a class, with the options that it and its bases declare.

    Args:
        **in_front_of: Positional arguments are in the order of declaration, save for these: each goes right before another.
    """

    def decorate(cls: type[_T]) -> type[_T]:
        annotations: dict[str, Any] = {}
        for base in reversed(cls.__mro__):
            if base in _defaults:
                annotations |= base.__annotations__
                for name, default in _defaults[base].items():
                    if name not in cls.__annotations__:
                        setattr(cls, name, copy(default))
        annotations |= cls.__annotations__
        order = [name for name in annotations if name not in in_front_of]
        for name, following in in_front_of.items():
            order.insert(order.index(following), name)
        cls.__annotations__ = {name: annotations[name] for name in order}
        return dataclass(cls)

    return decorate


@_declares_options
class BaseJWTAuth(Generic[UserType, TokenT], AbstractSecurityConfig[UserType, TokenT]):
    """What all backends that authenticate by a JSON Web Token have in common: their options, and issuing tokens."""

    token_secret: Key | None = field(default=None, repr=False)
    """The key that tokens are signed with, a secret or a private key. Of several, the first signs.

    Without a ``key_provider`` it verifies too, all of several do, and a public key will do if the application signs nothing.
    Keep it out of the source, in the environment for example.
    """
    retrieve_user_handler: Callable[[Any, ASGIConnection[Any, Any, Any, Any]], SyncOrAsyncUnion[Any | None]] = field(
        default=cast("Any", None)
    )
    """Function that is given a verified token and the connection, and returns the user, or ``None`` if there is none.

    User and token can be had from ``connection.user`` and ``connection.auth`` from then on. Required.
    """
    revoked_token_handler: Callable[[Any, ASGIConnection[Any, Any, Any, Any]], SyncOrAsyncUnion[bool]] | None = None
    """Function that is given a verified token and the connection, and tells whether the token has been revoked."""
    guards: Iterable[Guard] | None = None
    """Guards for all routes of the application."""
    exclude: str | list[str] | None = None
    """Patterns of paths that need no authentication."""
    exclude_opt_key: str = "exclude_from_auth"
    """Key in the ``opt`` of a route handler that, when true, exempts it from authentication."""
    exclude_http_methods: Sequence[Method] | None = field(
        default_factory=lambda: cast("Sequence[Method]", ["OPTIONS", "HEAD"])
    )
    """HTTP methods that need no authentication, ``OPTIONS`` and ``HEAD`` by default."""
    scopes: Scopes | None = None
    """Kinds of ASGI connections to authenticate, HTTP and websockets by default."""
    route_handlers: Iterable[ControllerRouterHandler] | None = None
    """Route handlers to register with the application."""
    dependencies: dict[str, Provide] | None = None
    """Dependencies to register with the application."""
    type_encoders: TypeEncodersMap | None = None
    """Functions by type that make values fit for a response body."""
    algorithm: str | Sequence[str] = field(default=DEFAULT_ALGORITHM)
    """Algorithms to accept. The first signs.

    By default ``HS256`` with a shared secret, what fits the key with an asymmetric one, what the provider lists with
    :class:`OpenIDProvider`, and ``RS256`` with any other ``key_provider``. HMAC and asymmetric algorithms cannot be mixed: that would let a
    public key pass for a secret (`RFC 8725, section 2.1 <https://datatracker.ietf.org/doc/html/rfc8725#section-2.1>`_).
    """
    auth_header: str = field(default="Authorization")
    """Name of the request header that carries the token."""
    default_token_expiration: timedelta = field(default_factory=lambda: timedelta(days=1))
    """How long tokens that are issued here are valid, one day by default."""
    openapi_security_scheme_name: str = field(default="BearerToken")
    """Name of the security scheme in the OpenAPI document."""
    description: str = field(default="")
    """Description of the security scheme in the OpenAPI document."""
    authentication_middleware_class: type[JWTAuthenticationMiddleware] = field(  # pyright: ignore[reportIncompatibleVariableOverride]
        default=JWTAuthenticationMiddleware
    )
    """The middleware to use, this one or one derived from it."""
    token_cls: type[Token] = Token
    """The class that verified claims become an instance of."""
    accepted_audiences: Sequence[str] | None = None
    """Accept tokens for one of these audiences only.

    With a ``key_provider``, leaving this out accepts what the provider issued for any application whatsoever, and is warned
    of. An empty sequence says that this is intended.
    """
    accepted_issuers: Sequence[str] | Callable[[str], bool] | None = None
    """Accept tokens of these issuers only. Either their names, or a function that tells.

    By default any issuer, or the one that an :class:`OpenIDProvider` or :class:`IssuerKeyProvider` was made for.
    """
    require_claims: Sequence[str] | None = None
    """Names of claims that have to be there."""
    verify_expiry: bool = True
    """Whether ``exp`` has to be in the future."""
    verify_not_before: bool = True
    """Whether ``nbf`` has to be in the past."""
    strict_audience: bool = False
    """Whether ``aud`` has to be a single value, equal to the one accepted audience."""
    key_provider: Key | KeyProvider | Provide | jwt.PyJWKClient | None = None
    """Where the keys to verify tokens with come from, instead of ``token_secret``.

    A :class:`RemoteJWKSet`, :class:`OpenIDProvider` or :class:`IssuerKeyProvider`; any function, synchronous or asynchronous, from
    :class:`UnverifiedToken` to a key; a key; a :class:`jwt.PyJWKClient`; or a :class:`Provide <litestar.di.Provide>` with
    a function that returns one of those and may ask for dependencies, for all but the body of the request. It is called once
    for each application, when that starts, unless it or its dependencies ask for something of the connection, other than
    ``state``. Then it is called for each connection. Generators are resumed when the application, or the connection, ends.
    A parameter with a default value is only taken from the request if it is declared as part of that.

    A provider that has a ``lifespan``, a function that takes the application and returns an asynchronous context manager, is
    started and closed with the application.
    """
    key_provider_name: str = "key_provider"
    """Name of the dependency that the provider becomes.

    Route handlers can ask for it, and routers, controllers and route handlers can override it. If another backend of the
    application has taken that name, neither is possible with this one.
    """
    leeway: float | timedelta = 0
    """Seconds that the clocks of issuer and application may be apart when ``exp``, ``nbf`` and ``iat`` are verified."""
    accepted_types: Sequence[str] | None = None
    """Accept only tokens whose ``typ`` header parameter is one of these, such as ``at+jwt`` for the access tokens of `RFC 9068
    <https://datatracker.ietf.org/doc/html/rfc9068>`_. Case and a leading ``application/`` do not matter. Any type by default."""
    max_token_length: int = MAX_TOKEN_LENGTH
    """Refuse longer tokens unseen. In characters."""
    verified_token_cache_size: int = 0
    """How many tokens to remember whose signatures have been verified, so that this is not done again. None by default.

    A token counts as known if its key is still the one that verified it. All else is checked each time, its times, audience
    and issuer among that, and the handlers for revoked tokens and users are called. What is kept is a digest of the token,
    when that expires, and which key it was: no claims, and nothing to log in with.
    """

    # Fields whose place among the positional arguments makes them look optional.
    _required = frozenset({"retrieve_user_handler"})

    def __post_init__(self) -> None:
        for name in self._required:
            if getattr(self, name) is None:
                raise TypeError(f"missing required argument: {name!r}")
        super().__post_init__()
        if self.revoked_token_handler is not None:
            self.revoked_token_handler = ensure_async_callable(cast("Any", self.revoked_token_handler))
        check_options(self)
        if given_algorithms(self) is None:
            self.algorithm = default_algorithm(self)

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Attach the backend to an application.

        Args:
            app_config: Configuration of the application.

        Returns:
            The same configuration.

        Raises:
            ImproperlyConfiguredException: If the application has a dependency of the name of the key provider.
        """
        from litestar.security.jwt.guards import DocumentedScopes

        app_config = super().on_app_init(app_config)
        if (openapi := app_config.openapi_config) is not None:
            app_config.plugins.append(DocumentedScopes(self.openapi_security_scheme_name, openapi.security))
        if (source := self._key_source()) is not None:
            source.install(app_config)
        return app_config

    @property
    def openapi_components(self) -> Components:
        """The security scheme, for the OpenAPI document."""
        return self._components(
            SecurityScheme(
                type="http",
                scheme="Bearer",
                name=self.auth_header,
                bearer_format="JWT",
                description=self.description,
            )
        )

    def _components(self, scheme: SecurityScheme) -> Components:
        if scheme.type == "http" and self.key_provider is not None:
            scheme = self._provided_scheme()
        return Components(security_schemes={self.openapi_security_scheme_name: scheme})

    def _provided_scheme(self) -> SecurityScheme:
        """Describe tokens that others issue, with the fields that OpenAPI has for this type of scheme, and no others."""
        if (url := getattr(self.key_provider, "openid_connect_url", None)) is not None:
            return SecurityScheme(type="openIdConnect", open_id_connect_url=url, description=self.description)
        return SecurityScheme(type="http", scheme="Bearer", bearer_format="JWT", description=self.description)

    @property
    def security_requirement(self) -> SecurityRequirement:
        """The security scheme as a requirement of operations, for the OpenAPI document."""
        return {self.openapi_security_scheme_name: []}

    @property
    def middleware(self) -> DefineMiddleware:
        """The authentication middleware with the options of this backend, for use on any layer of an application."""
        return DefineMiddleware(self.authentication_middleware_class, **self._middleware_options())

    def _middleware_options(self) -> dict[str, Any]:
        options: dict[str, Any] = {
            "algorithm": self.algorithm,
            "auth_header": self.auth_header,
            "exclude": self.exclude,
            "exclude_http_methods": self.exclude_http_methods,
            "exclude_opt_key": self.exclude_opt_key,
            "retrieve_user_handler": self.retrieve_user_handler,
            "scopes": self.scopes,
            "token_secret": self.token_secret,
            "token_cls": self.token_cls,
            "token_audience": self.accepted_audiences,
            "token_issuer": self.accepted_issuers,
            "require_claims": self.require_claims,
            "verify_expiry": self.verify_expiry,
            "verify_not_before": self.verify_not_before,
            "strict_audience": self.strict_audience,
            "revoked_token_handler": self.revoked_token_handler,
        }
        # Middleware that was written before these options existed does not know them.
        if (source := self._key_source()) is not None:
            options["key_source"] = source
        for name in ("leeway", "accepted_types", "max_token_length"):
            if (value := getattr(self, name)) != _defaults[BaseJWTAuth][name]:
                options[name] = value
        if self.verified_token_cache_size:
            options["verified_tokens"] = VerifiedTokens(self.verified_token_cache_size)
        return options

    def _key_source(self) -> KeySource | None:
        """Return what the middleware of this backend gets key providers from, if there is one to verify tokens with."""
        if self.key_provider is None:
            return None
        from litestar.security.jwt._sources import KeySource

        source: KeySource | None = getattr(self, "_source", None)
        if source is None or source.backend is not self:
            algorithms = given_algorithms(self)
            checked = {"alg": algorithms, "iss": self.accepted_issuers}
            source = self._source = KeySource(
                self,
                algorithms=algorithms,
                checked=frozenset(name for name, configured in checked.items() if configured),
            )
        return source

    def login(
        self,
        identifier: str,
        *,
        response_body: Any = Empty,
        response_media_type: str | MediaType = MediaType.JSON,
        response_status_code: int = HTTP_201_CREATED,
        token_expiration: timedelta | None = None,
        token_issuer: str | None = None,
        token_audience: str | None = None,
        token_unique_jwt_id: str | None = None,
        token_extras: dict[str, Any] | None = None,
        send_token_as_response_body: bool = False,
    ) -> Response[Any]:
        """Create a token, and a response that carries it in a header.

        Args:
            identifier: Subject of the token, as a rule the ID of a user.
            response_body: Body of the response. None by default.
            response_media_type: ``Content-Type`` of the response.
            response_status_code: Status code of the response.
            token_expiration: How long the token is valid, ``default_token_expiration`` by default.
            token_issuer: Issuer (``iss``) of the token.
            token_audience: Audience (``aud``) of the token.
            token_unique_jwt_id: ID (``jti``) of the token.
            token_extras: Further claims, under ``extras``.
            send_token_as_response_body: Whether the token is the body, unless there is another.

        Returns:
            The response.

        Raises:
            ImproperlyConfiguredException: If there is no ``token_secret``, or it cannot sign.
        """
        encoded_token = self.create_token(
            identifier=identifier,
            token_expiration=token_expiration,
            token_issuer=token_issuer,
            token_audience=token_audience,
            token_unique_jwt_id=token_unique_jwt_id,
            token_extras=token_extras,
        )
        lifetime = token_expiration or self.default_token_expiration
        if response_body is Empty:
            response_body = self._token_body(encoded_token, lifetime) if send_token_as_response_body else None
        return self.create_response(
            content=response_body,
            status_code=response_status_code,
            media_type=response_media_type,
            headers={self.auth_header: self.format_auth_header(encoded_token)},
            cookies=self._token_cookies(encoded_token, lifetime),
        )

    def _token_body(self, encoded_token: str, lifetime: timedelta) -> dict[str, Any]:
        return {"token": encoded_token}

    def _token_cookies(self, encoded_token: str, lifetime: timedelta) -> list[Cookie] | None:
        return None

    def create_token(
        self,
        identifier: str,
        token_expiration: timedelta | None = None,
        token_issuer: str | None = None,
        token_audience: str | None = None,
        token_unique_jwt_id: str | None = None,
        token_extras: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> str:
        """Create a signed token.

        Args:
            identifier: Subject of the token, as a rule the ID of a user.
            token_expiration: How long the token is valid, ``default_token_expiration`` by default.
            token_issuer: Issuer (``iss``) of the token.
            token_audience: Audience (``aud``) of the token.
            token_unique_jwt_id: ID (``jti``) of the token.
            token_extras: Further claims, under ``extras``.
            **kwargs: Values for further fields of ``token_cls``.

        Returns:
            The token in compact serialization. With a private key, its header names the key by a ``kid``, which is the key's
            own, or else its thumbprint (`RFC 7638 <https://datatracker.ietf.org/doc/html/rfc7638>`_).

        Raises:
            ImproperlyConfiguredException: If there is no ``token_secret``, or it cannot sign.
        """
        try:
            key, algorithm = signer(self)
        except UnusableKeyError as e:
            raise ImproperlyConfiguredException(f"The key to sign tokens with cannot be used: {e}") from e
        token = self.token_cls(
            sub=identifier,
            exp=datetime.now(UTC) + (token_expiration or self.default_token_expiration),
            iss=token_issuer,
            aud=token_audience,
            jti=token_unique_jwt_id,
            extras=token_extras or {},
            **kwargs,
        )
        return token.encode(secret=key, algorithm=algorithm)

    def format_auth_header(self, encoded_token: str) -> str:
        """Put the authentication scheme in front of a token, if the security scheme has one.

        Args:
            encoded_token: The token.

        Returns:
            Value of the header that carries the token.
        """
        schemes = self.openapi_components.security_schemes or {}
        scheme = schemes.get(self.openapi_security_scheme_name)
        return f"{scheme.scheme or 'Bearer'} {encoded_token}" if isinstance(scheme, SecurityScheme) else encoded_token


@_backend()
class JWTAuth(BaseJWTAuth[UserType, TokenT]):
    """Authentication by a token in a request header."""

    description: str = "JWT api-key authentication and authorization."


@_declares_options
class _CookieAuth(BaseJWTAuth[UserType, TokenT]):
    """What the backends that set a cookie have in common."""

    key: str = "token"
    """Name of the cookie."""
    path: str = "/"
    """Path that request URLs have to start with for the cookie to be sent."""
    domain: str | None = None
    """Domain that the cookie is sent to, by default only the host that set it."""
    secure: bool | None = None
    """Whether the cookie is sent over HTTPS only."""
    samesite: Literal["lax", "strict", "none"] = "lax"
    """Whether the cookie goes with requests from other sites."""

    def _middleware_options(self) -> dict[str, Any]:
        return {**super()._middleware_options(), "auth_cookie_key": self.key}

    def _token_cookies(self, encoded_token: str, lifetime: timedelta) -> list[Cookie] | None:
        return [
            Cookie(
                key=self.key,
                path=self.path,
                value=encoded_token,
                max_age=int(lifetime.total_seconds()),
                domain=self.domain,
                secure=self.secure,
                samesite=self.samesite,
                httponly=True,
            )
        ]


@_backend(
    scopes="exclude_http_methods",
    key="description",
    path="description",
    domain="description",
    secure="description",
    samesite="description",
)
class JWTCookieAuth(_CookieAuth[UserType, TokenT]):
    """Authentication by a token in a request header or a cookie."""

    description: str = "JWT cookie-based authentication and authorization."
    authentication_middleware_class: type[JWTCookieAuthenticationMiddleware] = JWTCookieAuthenticationMiddleware  # pyright: ignore[reportIncompatibleVariableOverride]

    @property
    def openapi_components(self) -> Components:
        """The security scheme, for the OpenAPI document."""
        return self._components(
            SecurityScheme(
                type="http",
                scheme="Bearer",
                name=self.key,
                security_scheme_in="cookie",
                bearer_format="JWT",
                description=self.description,
            )
        )


@dataclass
class OAuth2Login:
    """Body of the response to a login (`RFC 6749, section 5.1 <https://datatracker.ietf.org/doc/html/rfc6749#section-5.1>`_)."""

    access_token: str
    """The token."""
    token_type: str
    """How to use it."""
    refresh_token: str | None = field(default=None)
    """A token to get another one with, if there is one."""
    expires_in: int | None = field(default=None)
    """Seconds until the token expires."""


@_backend(
    token_url="retrieve_user_handler",  # noqa: S106
    oauth_scopes="description",
    key="description",
    path="description",
    domain="description",
    secure="description",
    samesite="description",
)
class OAuth2PasswordBearerAuth(_CookieAuth[UserType, TokenT]):
    """Authentication by a token in a request header or a cookie, issued to OAuth 2.0 clients for a user's password."""

    _required = frozenset({"token_url", "retrieve_user_handler"})

    token_url: str = cast("str", None)
    """URL of the route that issues tokens. Required."""
    oauth_scopes: dict[str, str] | None = None
    """Scopes that tokens can have, with their descriptions."""
    description: str = "OAUTH2 password bearer authentication and authorization."
    authentication_middleware_class: type[JWTCookieAuthenticationMiddleware] = JWTCookieAuthenticationMiddleware  # pyright: ignore[reportIncompatibleVariableOverride]

    @property
    def oauth_flow(self) -> OAuthFlow:
        """The password flow, for the OpenAPI document."""
        return OAuthFlow(token_url=self.token_url, scopes=self.oauth_scopes)

    @property
    def openapi_components(self) -> Components:
        """The security scheme, for the OpenAPI document."""
        return self._components(
            SecurityScheme(
                type="oauth2",
                scheme="Bearer",
                name=self.auth_header,
                security_scheme_in="header",
                flows=OAuthFlows(password=self.oauth_flow),
                bearer_format="JWT",
                description=self.description,
            )
        )

    def login(self, identifier: str, *, send_token_as_response_body: bool = True, **kwargs: Any) -> Response[Any]:
        """Create a token, and a response that carries it in the body, a header and a cookie.

        Args:
            identifier: Subject of the token, as a rule the ID of a user.
            send_token_as_response_body: Whether an :class:`OAuth2Login` is the body, unless there is another.
            **kwargs: What else :meth:`BaseJWTAuth.login` takes.

        Returns:
            The response.

        Raises:
            ImproperlyConfiguredException: If there is no ``token_secret``, or it cannot sign.
        """
        return super().login(identifier, send_token_as_response_body=send_token_as_response_body, **kwargs)

    def _token_body(self, encoded_token: str, lifetime: timedelta) -> dict[str, Any]:
        expires_in = int(lifetime.total_seconds())
        return asdict(OAuth2Login(access_token=encoded_token, token_type="bearer", expires_in=expires_in))  # noqa: S106
