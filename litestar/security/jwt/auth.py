"""The three backends: their options, issuing tokens, and what they add to an OpenAPI document."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeVar, cast

import jwt
from typing_extensions import TypeVar as DefaultingTypeVar

from litestar.datastructures import Cookie
from litestar.di import Provide
from litestar.enums import MediaType
from litestar.exceptions import ImproperlyConfiguredException, LitestarWarning
from litestar.middleware import DefineMiddleware
from litestar.openapi.spec import Components, OAuthFlow, OAuthFlows, SecurityRequirement, SecurityScheme
from litestar.security.base import AbstractSecurityConfig
from litestar.security.jwt._injection import KeySource, as_provider
from litestar.security.jwt._resource_metadata import check_url, create_metadata_handler, metadata_url
from litestar.security.jwt.keys import (
    ASYMMETRIC_ALGORITHMS,
    UnusableKeyError,
    identified,
    names_of,
    natural_algorithms,
    own_keys,
    refuse_mixture,
    signing_key,
)
from litestar.security.jwt.middleware import JWTAuthenticationMiddleware, JWTCookieAuthenticationMiddleware
from litestar.security.jwt.token import Token
from litestar.status_codes import HTTP_201_CREATED
from litestar.types import Empty
from litestar.utils import ensure_async_callable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from litestar import Response
    from litestar.config.app import AppConfig
    from litestar.connection import ASGIConnection
    from litestar.security.jwt.keys import Key, KeyProvider
    from litestar.types import ControllerRouterHandler, Guard, Method, Scopes, SyncOrAsyncUnion, TypeEncodersMap

__all__ = ("BaseJWTAuth", "JWTAuth", "JWTCookieAuth", "OAuth2Login", "OAuth2PasswordBearerAuth")

UserType = TypeVar("UserType")
TokenT = DefaultingTypeVar("TokenT", bound=Token, default=Token)

# RFC 9110, section 11.1, or nothing.
_SCHEME: Final = re.compile(r"[\w!#$%&'*+.^`|~-]*", re.ASCII)


@dataclass(kw_only=True)
class BaseJWTAuth(Generic[UserType, TokenT], AbstractSecurityConfig[UserType, TokenT]):
    """Base class of the JWT backends. It has the options that they share, and it issues tokens."""

    _sends_body = False
    # What the middleware calls by the same name.
    _middleware_options = (
        *("algorithm", "auth_header", "exclude", "exclude_http_methods", "exclude_opt_key", "require_claims"),
        *("retrieve_user_handler", "revoked_token_handler", "scopes", "strict_audience", "token_cls", "token_secret"),
        *("verify_expiry", "verify_not_before"),
    )

    token_secret: Any = field(default=None, repr=False, kw_only=False)
    """The :data:`Key` that signs tokens. It is a shared secret or a private key. If there are several keys, the first one signs.

    Without a ``key_provider``, it also verifies tokens. If the application issues no tokens, it can then be a public key. Keep
    secrets and private keys out of your source code. Read them from the environment, for example.
    """
    retrieve_user_handler: Callable[[Any, ASGIConnection[Any, Any, Any, Any]], SyncOrAsyncUnion[Any | None]]
    """Function that receives a verified token and the connection, and returns the user, or ``None`` if there is none.

    From then on, ``connection.user`` is the user and ``connection.auth`` is the token.
    """
    revoked_token_handler: Callable[[Any, ASGIConnection[Any, Any, Any, Any]], SyncOrAsyncUnion[bool]] | None = None
    """Function that receives a verified token and the connection, and tells whether the token has been revoked."""
    guards: Iterable[Guard] | None = None
    """Guards for all routes of the application."""
    exclude: str | list[str] | None = None
    """Patterns of paths that need no authentication."""
    exclude_opt_key: str = "exclude_from_auth"
    """Key in the ``opt`` of a route handler. If its value is true, the route handler needs no authentication."""
    exclude_http_methods: Sequence[Method] | None = field(
        default_factory=lambda: cast("Sequence[Method]", ["OPTIONS", "HEAD"])
    )
    """HTTP methods that need no authentication. ``OPTIONS`` and ``HEAD`` by default."""
    scopes: Scopes | None = None
    """Kinds of ASGI connections to authenticate. HTTP and websockets by default."""
    route_handlers: Iterable[ControllerRouterHandler] | None = None
    """Route handlers to register with the application."""
    dependencies: dict[str, Provide] | None = None
    """Dependencies to register with the application."""
    type_encoders: TypeEncodersMap | None = None
    """Functions that encode values for a response body, by type."""
    algorithm: Any = None
    """The name of the algorithm to accept, or a sequence of names. The first one that fits ``token_secret`` signs.

    By default, it is ``HS256`` with a shared secret. With an asymmetric key or a ``key_provider``, it is any asymmetric algorithm
    that fits the key. HMAC and asymmetric algorithms cannot be mixed. Otherwise, an attacker could sign with a public key as the
    secret (`RFC 8725, section 2.1 <https://datatracker.ietf.org/doc/html/rfc8725#section-2.1>`_).
    """
    auth_header: str = "Authorization"
    """Name of the request header that carries the token."""
    default_token_expiration: timedelta = field(default_factory=lambda: timedelta(days=1))
    """How long issued tokens are valid. One day by default."""
    openapi_security_scheme_name: str = "BearerToken"
    """Name of the security scheme in the OpenAPI document."""
    description: str = ""
    """Description of the security scheme in the OpenAPI document."""
    authentication_middleware_class: type[JWTAuthenticationMiddleware] = JWTAuthenticationMiddleware  # pyright: ignore[reportIncompatibleVariableOverride]
    """The middleware class, this one or a subclass."""
    token_cls: type[Token] = Token
    """The class that verified claims become an instance of."""
    accepted_audiences: Any = None
    """The audiences to accept, as a sequence or as a mapping from issuers to audiences. A mapping refuses tokens of other issuers.

    With a ``key_provider``, Litestar warns you if you omit this option, because the backend then accepts tokens that were issued
    for any application. To accept any audience on purpose, pass ``[]``.
    """
    accepted_issuers: Any = None
    """The issuers to accept, as a sequence of names, or a function that takes a name and returns ``True`` to accept it.

    The function can be synchronous or asynchronous. By default, any issuer is accepted. :class:`OpenIDProvider` and
    :class:`IssuerKeyProvider` check the issuer in any case.
    """
    require_claims: Sequence[str] | None = None
    """Names of claims that a token must have."""
    verify_expiry: bool = True
    """Whether ``exp`` must be in the future."""
    verify_not_before: bool = True
    """Whether ``nbf`` must be in the past."""
    strict_audience: bool = False
    """Whether ``aud`` must be a single value, equal to the one accepted audience."""
    key_provider: Key | KeyProvider | Provide | jwt.PyJWKClient | None = None
    """Finds the keys that verify tokens. ``token_secret`` then only signs.

    It can be:

    - an :class:`OpenIDProvider`, a :class:`RemoteJWKSet` or an :class:`IssuerKeyProvider`,
    - a key,
    - a function, synchronous or asynchronous, that takes an :class:`UnverifiedToken` and returns a key,
    - a :class:`jwt.PyJWKClient`,
    - a :class:`Provide <litestar.di.Provide>` with a function that returns one of these. See :ref:`key providers
      <jwt-key-providers>` for the parameters that this function may have.
    """
    key_provider_name: str = "key_provider"
    """Name of the dependency that holds the key provider.

    Route handlers can ask for it. Routers, controllers and route handlers can override it.
    """
    leeway: float | timedelta = 0
    """Seconds by which the clocks of issuer and application may differ when ``exp``, ``nbf`` and ``iat`` are verified."""
    accepted_types: Sequence[str] | None = None
    """Accept only tokens with one of these ``typ`` header parameters, such as ``at+jwt`` for the access tokens of `RFC 9068
    <https://datatracker.ietf.org/doc/html/rfc9068>`_. Case and a leading ``application/`` do not matter. Any type by default."""
    auth_scheme: str | None = None
    """The authentication scheme in front of the token. ``""`` for headers that hold a bare token, such as the ones of Google IAP,
    Cloudflare Access and AWS load balancers. By default, it is ``Bearer`` with a ``key_provider``, and any scheme without one."""
    protected_resource: str | None = None
    """URL of the application as a protected resource (`RFC 9728 <https://datatracker.ietf.org/doc/html/rfc9728>`_), which MCP clients
    need. Its metadata is served under ``/.well-known/oauth-protected-resource``, and challenges point there. A URL without a path
    ends in ``/``, because clients send it that way. Name at least one issuer: by an :class:`OpenIDProvider`, or in ``accepted_issuers``."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.revoked_token_handler is not None:
            self.revoked_token_handler = ensure_async_callable(cast("Any", self.revoked_token_handler))
        try:
            self._check_new_options()
            if self.key_provider is None:
                self._check_secret()
            else:
                self._check_provider()
        except UnusableKeyError as e:
            option = "token_secret" if self.key_provider is None else "key_provider"
            raise ImproperlyConfiguredException(f"{option!r} of {type(self).__name__} cannot be used: {e}") from e

    def _check_new_options(self) -> None:
        """Check the options that released Litestar does not have, or has for one algorithm only."""
        if self.algorithm is not None and not isinstance(self.algorithm, str):
            self.algorithm = _names("algorithm", self.algorithm)
            refuse_mixture(self.algorithm)
        if self.accepted_types is not None:
            self.accepted_types = _names("accepted_types", self.accepted_types)
        if isinstance(self.accepted_audiences, Mapping):
            names, audiences = _names("accepted_audiences", self.accepted_audiences.keys()), self.accepted_audiences
            self.accepted_audiences = {issuer: _names("accepted_audiences", audiences[issuer]) for issuer in names}
        leeway = self.leeway.total_seconds() if isinstance(self.leeway, timedelta) else self.leeway
        if not isinstance(leeway, (int, float)) or not 0 <= leeway < float("inf"):
            raise _wrong("leeway", "seconds, 0 or more, or a timedelta", self.leeway)
        if self.auth_scheme is not None and not (
            isinstance(self.auth_scheme, str) and _SCHEME.fullmatch(self.auth_scheme)
        ):
            raise _wrong("auth_scheme", "one word, or '' for a bare token", self.auth_scheme)
        if not isinstance(self.key_provider_name, str) or not self.key_provider_name.isidentifier():
            raise _wrong("key_provider_name", "the name of a parameter", self.key_provider_name)
        if self.protected_resource is not None:
            check_url("protected_resource", self.protected_resource)

    def _check_secret(self) -> None:
        """Check the key of an application that verifies its own tokens."""
        if self.token_secret is None:
            raise ImproperlyConfiguredException("'token_secret' and 'key_provider' are both None. Set one of them.")
        if self.algorithm is None:
            names = natural_algorithms(self.token_secret)
            self.algorithm = names[0] if len(names) == 1 else names
        if not self._is_customized():
            own_keys(self.token_secret, names_of(self.algorithm))

    def _is_customized(self) -> bool:
        """Tell whether the secret may be something that only classes of the application understand."""
        token_cls: Any = self.token_cls
        own = JWTAuthenticationMiddleware, JWTCookieAuthenticationMiddleware
        return self.authentication_middleware_class not in own or any(
            getattr(token_cls, name).__func__ is not getattr(Token, name).__func__
            for name in ("decode", "decode_payload")
        )

    def _check_provider(self) -> None:
        """Check the options of a backend with a key provider, and fix them, so that nothing opens it later."""
        if self.algorithm is None:
            self.algorithm = ASYMMETRIC_ALGORITHMS
        for name in names_of(self.algorithm):
            try:
                jwt.get_algorithm_by_name("" if name.lower() == "none" else name)
            except NotImplementedError as e:
                raise _wrong("algorithm", "algorithms of PyJWT, such as 'RS256'", name) from e
        if self.require_claims is not None:
            self.require_claims = _names("require_claims", self.require_claims)
        if self.accepted_issuers is not None and not callable(self.accepted_issuers):
            self.accepted_issuers = _names("accepted_issuers", self.accepted_issuers)
        if self.accepted_audiences is None:
            warnings.warn(
                "Without 'accepted_audiences', this backend accepts every token of its issuer, whatever application it was "
                "issued for. Name the audiences, or set '[]' if you intend that.",
                LitestarWarning,
                stacklevel=4,
            )
        elif not isinstance(self.accepted_audiences, Mapping):
            self.accepted_audiences = _names("accepted_audiences", self.accepted_audiences, may_be_empty=True)
            if self.strict_audience and len(self.accepted_audiences) != 1:
                raise ImproperlyConfiguredException("'strict_audience' needs one audience in 'accepted_audiences'.")
        self.auth_scheme = "Bearer" if self.auth_scheme is None else self.auth_scheme
        if not isinstance(self.key_provider, Provide):
            as_provider(self.key_provider, names_of(self.algorithm))
        if self.token_secret is not None:
            self._signer()

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Attach the backend to an application.

        Args:
            app_config: The configuration of the application.

        Returns:
            The same configuration.

        Raises:
            ImproperlyConfiguredException: If the name of the key provider is taken, or an override of :attr:`middleware`
                ignores the key provider.
        """
        app_config = super().on_app_init(app_config)
        if self.key_provider is not None:
            if self.middleware.kwargs.get("key_source") is None:
                raise ImproperlyConfiguredException(
                    f"The property 'middleware' of {type(self).__name__} ignores 'key_provider'. Take the options from "
                    "'super().middleware.kwargs', or do not override the property."
                )
            KeySource(self).install(app_config)
        if self.protected_resource is not None:
            app_config.route_handlers.append(create_metadata_handler(self))
        return app_config

    @property
    def openapi_components(self) -> Components:
        """The security scheme, for the OpenAPI document."""
        return self._components(type="http", name=self.auth_header)

    def _components(self, **fields: Any) -> Components:
        """Describe the security scheme. For tokens of others, with the fields that OpenAPI has for its type, and no others."""
        if self.key_provider is None or fields["type"] != "http":
            fields |= {"scheme": "Bearer", "bearer_format": "JWT"}
        elif (url := getattr(self.key_provider, "openid_connect_url", None)) is not None:
            fields = {"type": "openIdConnect", "open_id_connect_url": url}
        elif self.auth_scheme:
            is_bearer = self.auth_scheme.lower() == "bearer"
            fields = {"type": "http", "scheme": self.auth_scheme, "bearer_format": "JWT" if is_bearer else None}
        else:
            fields = {"type": "apiKey", "name": self.auth_header, "security_scheme_in": "header"}
        scheme = SecurityScheme(**fields, description=self.description)
        return Components(security_schemes={self.openapi_security_scheme_name: scheme})

    @property
    def security_requirement(self) -> SecurityRequirement:
        """The security scheme as a requirement of operations, for the OpenAPI document."""
        return {self.openapi_security_scheme_name: []}

    @property
    def middleware(self) -> DefineMiddleware:
        """The authentication middleware with the options of this backend, for any layer of an application."""
        # Middleware that was written before these options existed does not know them.
        further = {
            "accepted_types": self.accepted_types,
            "auth_scheme": self.auth_scheme,
            "key_source": None if self.key_provider is None else KeySource(self),
            "leeway": self.leeway or None,
            "resource_metadata": None if self.protected_resource is None else metadata_url(self.protected_resource),
        }
        options = {name: getattr(self, name) for name in self._middleware_options}
        options |= {"token_audience": self.accepted_audiences, "token_issuer": self.accepted_issuers}
        options |= {name: value for name, value in further.items() if value is not None}
        return DefineMiddleware(self.authentication_middleware_class, **options)

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
        send_token_as_response_body: bool = cast("bool", None),
    ) -> Response[Any]:
        """Create a token, and a response that carries it in a header, and in a cookie if the backend reads one.

        Args:
            identifier: Subject of the token, usually the ID of a user.
            response_body: Body of the response. None by default.
            response_media_type: ``Content-Type`` of the response.
            response_status_code: Status code of the response.
            token_expiration: How long the token is valid, ``default_token_expiration`` by default.
            token_issuer: Issuer (``iss``) of the token.
            token_audience: Audience (``aud``) of the token.
            token_unique_jwt_id: ID (``jti``) of the token.
            token_extras: Further claims, under ``extras``.
            send_token_as_response_body: Whether to send the token as the body if there is no ``response_body``. ``False`` by
                default, and ``True`` with :class:`OAuth2PasswordBearerAuth`, whose body is an :class:`OAuth2Login`.

        Returns:
            The response.

        Raises:
            ImproperlyConfiguredException: If there is no ``token_secret``, or it cannot sign.
        """
        encoded_token = self.create_token(
            identifier, token_expiration, token_issuer, token_audience, token_unique_jwt_id, token_extras
        )
        lifetime = token_expiration or self.default_token_expiration
        if response_body is Empty:
            is_sent = self._sends_body if send_token_as_response_body is None else send_token_as_response_body
            response_body = self._token_body(encoded_token, lifetime) if is_sent else None
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
            identifier: Subject of the token, usually the ID of a user.
            token_expiration: How long the token is valid, ``default_token_expiration`` by default.
            token_issuer: Issuer (``iss``) of the token.
            token_audience: Audience (``aud``) of the token.
            token_unique_jwt_id: ID (``jti``) of the token.
            token_extras: Further claims, under ``extras``.
            **kwargs: Values for further fields of ``token_cls``.

        Returns:
            The token in compact serialization. With a private key, its header has a ``kid``: the ID of the key or, if it has none,
            its thumbprint (`RFC 7638 <https://datatracker.ietf.org/doc/html/rfc7638>`_).

        Raises:
            ImproperlyConfiguredException: If there is no ``token_secret``, or it cannot sign.
        """
        key, algorithm = self._signer()
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

    def _signer(self) -> tuple[Any, str]:
        """Choose the key and the algorithm to sign with."""
        if self.token_secret is None:
            raise ImproperlyConfiguredException("To sign tokens, set 'token_secret' to a secret or a private key.")
        if self.token_cls.encode is not Token.encode:
            return self.token_secret, names_of(self.algorithm)[0]
        try:
            private, kid, name = signing_key(self.token_secret, self.algorithm)
        except UnusableKeyError as e:
            raise ImproperlyConfiguredException(f"'token_secret' cannot sign tokens: {e}") from e
        return identified(private, kid, name) if name in ASYMMETRIC_ALGORITHMS else private, name

    def format_auth_header(self, encoded_token: str) -> str:
        """Put the authentication scheme, if there is one, in front of a token.

        Args:
            encoded_token: The token.

        Returns:
            Value of the header that carries the token.
        """
        if self.auth_scheme is not None:
            return f"{self.auth_scheme} {encoded_token}".lstrip()
        schemes = self.openapi_components.security_schemes or {}
        scheme = schemes.get(self.openapi_security_scheme_name)
        return f"{scheme.scheme} {encoded_token}" if isinstance(scheme, SecurityScheme) else encoded_token


@dataclass(kw_only=True)
class JWTAuth(BaseJWTAuth[UserType, TokenT]):
    """Authentication by a token in a request header."""

    description: str = "JWT api-key authentication and authorization."


@dataclass(kw_only=True)
class _CookieAuth(BaseJWTAuth[UserType, TokenT]):
    """What the backends that set a cookie have in common."""

    key: str = "token"
    """Name of the cookie."""
    path: str = "/"
    """The browser sends the cookie with requests whose path starts with this."""
    domain: str | None = None
    """Domain that receives the cookie. By default, only the host that set it."""
    secure: bool | None = None
    """Whether the cookie is sent over HTTPS only."""
    samesite: Literal["lax", "strict", "none"] = "lax"
    """Whether the browser sends the cookie with requests from other sites."""
    authentication_middleware_class: type[JWTCookieAuthenticationMiddleware] = JWTCookieAuthenticationMiddleware  # pyright: ignore[reportIncompatibleVariableOverride]
    """The middleware class, this one or a subclass."""

    @property
    def middleware(self) -> DefineMiddleware:
        """The authentication middleware with the options of this backend, for any layer of an application."""
        middleware = super().middleware
        middleware.kwargs["auth_cookie_key"] = self.key
        return middleware

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


@dataclass(kw_only=True)
class JWTCookieAuth(_CookieAuth[UserType, TokenT]):
    """Authentication by a token in a request header or a cookie."""

    description: str = "JWT cookie-based authentication and authorization."

    @property
    def openapi_components(self) -> Components:
        """The security scheme, for the OpenAPI document."""
        return self._components(type="http", name=self.key, security_scheme_in="cookie")


@dataclass
class OAuth2Login:
    """Body of the response to a login (`RFC 6749, section 5.1 <https://datatracker.ietf.org/doc/html/rfc6749#section-5.1>`_)."""

    access_token: str
    """The token."""
    token_type: str
    """The type of the token, ``bearer``."""
    refresh_token: str | None = field(default=None)
    """A token that the client can exchange for a new one, if there is one."""
    expires_in: int | None = field(default=None)
    """Seconds until the token expires."""


@dataclass(kw_only=True)
class OAuth2PasswordBearerAuth(_CookieAuth[UserType, TokenT]):
    """Authentication by a token in a request header or a cookie, issued to OAuth 2.0 clients for a user's password."""

    _sends_body = True

    token_url: str
    """URL of the route that issues tokens."""
    oauth_scopes: dict[str, str] | None = None
    """Scopes that tokens can have, with their descriptions."""
    description: str = "OAUTH2 password bearer authentication and authorization."

    @property
    def oauth_flow(self) -> OAuthFlow:
        """The password flow, for the OpenAPI document."""
        return OAuthFlow(token_url=self.token_url, scopes=self.oauth_scopes)

    @property
    def openapi_components(self) -> Components:
        """The security scheme, for the OpenAPI document."""
        flows = OAuthFlows(password=self.oauth_flow)
        return self._components(type="oauth2", name=self.auth_header, security_scheme_in="header", flows=flows)

    def _token_body(self, encoded_token: str, lifetime: timedelta) -> dict[str, Any]:
        return asdict(OAuth2Login(encoded_token, "bearer", expires_in=int(lifetime.total_seconds())))


def _wrong(option: str, takes: str, value: Any) -> ImproperlyConfiguredException:
    return ImproperlyConfiguredException(f"{option!r} takes {takes}, not {value!r}.")


def _names(option: str, given: Any, *, may_be_empty: bool = False) -> tuple[str, ...]:
    """Return the strings given for an option. A lone string is one of them."""
    values = (given,) if isinstance(given, str) else given
    is_sequence = isinstance(values, Collection) and not isinstance(values, (bytes, Mapping))
    if not is_sequence or not all(isinstance(value, str) and value for value in values):
        raise _wrong(option, "a string or a sequence of strings that are not empty", given)
    if not values and not may_be_empty:
        raise ImproperlyConfiguredException(f"{option!r} is empty. Leave it out if you do not want this check.")
    return tuple(values)
