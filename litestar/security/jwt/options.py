"""The options of the backends that need a key provider."""

from __future__ import annotations

from dataclasses import Field, dataclass, field, fields
from functools import wraps
from inspect import signature
from typing import TYPE_CHECKING, Any, TypeVar

from litestar import Litestar
from litestar.exceptions import ImproperlyConfiguredException
from litestar.security.base import AbstractSecurityConfig
from litestar.security.jwt.decoding import verify_signature
from litestar.security.jwt.injection import KeyProviderResolver, routes_of
from litestar.security.jwt.option_checks import accepted_algorithms, check_handler, verifier_options
from litestar.security.jwt.verifier import TokenVerifier, refuse_plainly

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta

    import jwt

    from litestar.config.app import AppConfig
    from litestar.connection import ASGIConnection
    from litestar.di import Provide
    from litestar.security.jwt.decoding import VerifySignature
    from litestar.security.jwt.keys import ConnectionKeyProvider, Key, KeyProvider
    from litestar.security.jwt.lookup import KeyLookup
    from litestar.security.jwt.verifier import Refuse

__all__ = ("KeyProviderOptions", "optional_token_secret")

UserType = TypeVar("UserType")
AuthType = TypeVar("AuthType")
BackendT = TypeVar("BackendT", bound=type)


@dataclass(kw_only=True, init=False, repr=False, eq=False, match_args=False)
class KeyProviderOptions(AbstractSecurityConfig[UserType, AuthType]):
    """Options of :class:`JWTAuth`, :class:`JWTCookieAuth` and :class:`OAuth2PasswordBearerAuth` for tokens that are verified by
    a key provider.

    All of them are keyword-only. A backend without a ``key_provider`` refuses the others.
    """

    key_provider: Key | KeyProvider | ConnectionKeyProvider | Provide | jwt.PyJWKClient | None = field(
        default=None, repr=False
    )
    """Finds the keys that verify tokens. ``token_secret`` and ``algorithm`` then only sign, and ``token_secret`` can be left out.

    It can be:

    - an :class:`OpenIDProvider`, a :class:`RemoteJWKSet` or an :class:`IssuerKeyProvider`,
    - a key,
    - a function, synchronous or not, that takes an :class:`UnverifiedToken` and returns a key,
    - a :class:`jwt.PyJWKClient`,
    - a :class:`Provide <litestar.di.Provide>` with a function that returns one of these.
    """
    key_provider_name: str = field(default="key_provider", repr=False)
    """Name of the dependency that holds the key provider.

    Route handlers can ask for it. Routers, controllers and route handlers can override it.
    """
    key_algorithms: str | Sequence[str] | None = field(default=None, repr=False)
    """Names of the algorithms to accept, such as ``RS256``. By default, all asymmetric ones. For a shared secret as the key
    provider, name the HMAC algorithm. HMAC and asymmetric algorithms cannot be mixed (`RFC 8725, section 2.1
    <https://datatracker.ietf.org/doc/html/rfc8725#section-2.1>`_)."""
    leeway: float | timedelta | None = field(default=None, repr=False)
    """Seconds by which the clocks of issuer and application may differ when ``exp``, ``nbf`` and ``iat`` are verified, 0 to 600.
    30 by default."""
    accepted_types: str | Sequence[str] | None = field(default=None, repr=False)
    """Accept only tokens with one of these ``typ`` header parameters, such as ``at+jwt`` for the access tokens of `RFC 9068
    <https://datatracker.ietf.org/doc/html/rfc9068>`_. Case and a leading ``application/`` do not matter. By default, any type but
    logout tokens, security events and DPoP proofs."""
    auth_scheme: str | None = field(default=None, repr=False)
    """The authentication scheme in front of the token, ``Bearer`` by default. ``""`` is for headers that hold a bare token, such as
    those of Google IAP, Cloudflare Access and AWS load balancers."""
    accept_bound_tokens: bool = field(default=False, repr=False)
    """Accept tokens that are bound to their sender by a ``cnf`` claim (`RFC 7800 <https://datatracker.ietf.org/doc/html/rfc7800>`_).
    Set this only behind a proxy that checks the proof of possession, because Litestar does not."""
    optional_auth_opt_key: str = field(default="optional_auth", repr=False)
    """Key in the ``opt`` of a route handler. If its value is ``True``, the route handler also accepts requests without credentials.
    ``user`` and ``auth`` of the connection are then ``None``. A token that is there must be valid."""

    def __post_init__(self) -> None:
        if self.key_provider is None:
            _refuse_without_provider(self)
            super().__post_init__()
            return
        for name in ("retrieve_user_handler", "revoked_token_handler"):
            check_handler(name, getattr(self, name, None))
        super().__post_init__()
        if self.exclude == []:  # Litestar would exclude every path
            self.exclude = None
        self.create_verifier()  # checks the options

    def create_verifier(self) -> TokenVerifier:
        """Create what verifies tokens by the options that this backend has now.

        Raises:
            ImproperlyConfiguredException: If an option is not valid.
        """
        return TokenVerifier(
            verifier_options(self), self._resolve, verify_signature=self._verify_signature(), refuse=self._refuse()
        )

    def get_accepted_algorithms(self) -> tuple[str, ...]:
        """Names of the algorithms to accept.

        Raises:
            ImproperlyConfiguredException: If ``key_algorithms`` is not valid.
        """
        return accepted_algorithms(self.key_algorithms)

    def get_resolver(self) -> KeyProviderResolver:
        """Return what finds the key provider. The dependency and the middleware of a backend share this object."""
        attributes = vars(self)
        resolver: KeyProviderResolver | None = attributes.get("_resolver")
        if resolver is None or resolver.backend is not self:  # a copy of a backend has a resolver of its own
            resolver = attributes["_resolver"] = KeyProviderResolver(self)
        return resolver

    @property
    def middleware_options(self) -> dict[str, Any]:
        """What the middleware gets besides the options of backends without a key provider."""
        return {} if self.key_provider is None else {"verifier": self.create_verifier()}

    async def verify(
        self,
        encoded_token: str,
        *,
        connection: ASGIConnection[Any, Any, Any, Any] | None = None,
        app: Litestar | None = None,
    ) -> AuthType:
        """Verify a token that is not in the header of a request: in the first message of a websocket, or in a queue.

        This checks the signature and the claims. It calls neither ``retrieve_user_handler`` nor ``revoked_token_handler``.

        Args:
            encoded_token: The token.
            connection: The connection that it came with. A key provider may need it.
            app: The application, if there is no connection and ``key_provider`` is a ``Provide``.

        Returns:
            The instance of ``token_cls``.

        Raises:
            NotAuthorizedException: If the token is not valid. Its ``__cause__`` is a :class:`TokenRefused`.
            KeysUnavailableException: If no keys are available at the moment.
            ImproperlyConfiguredException: If there is no ``key_provider``, or it needs what you did not pass.
        """
        if self.key_provider is None:
            raise ImproperlyConfiguredException("'verify' needs a 'key_provider'.")
        token: AuthType = await self.create_verifier().verify(encoded_token, connection=connection, app=app)
        return token

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
            if self.middleware.kwargs.get("verifier") is None:
                raise ImproperlyConfiguredException(
                    f"The property 'middleware' of {type(self).__name__} ignores 'key_provider'. Pass "
                    "**self.middleware_options to the middleware."
                )
            self.get_resolver().install(app_config)
            app_config.on_startup.append(self._check_routes)
        return app_config

    async def _resolve(self, connection: ASGIConnection[Any, Any, Any, Any] | None, app: Litestar | None) -> KeyLookup:
        """Find the key provider for a connection or an application."""
        if connection is None:
            return await self.get_resolver().resolve(app, None)
        handler: Any = connection.scope["route_handler"]
        return await self.get_resolver().resolve(Litestar.from_scope(connection.scope), handler)

    def _verify_signature(self) -> VerifySignature:
        """Return what verifies signatures."""
        return verify_signature

    def _refuse(self) -> Refuse:
        """Return what completes the exception for a refused token."""
        return refuse_plainly

    def _check_routes(self, app: Litestar) -> None:
        """Refuse values under ``optional_auth_opt_key`` that only look like a switch."""
        for _, handler, _ in routes_of(app):
            value = handler.opt.get(self.optional_auth_opt_key, True)
            if value is not True:
                raise ImproperlyConfiguredException(
                    f"'opt' of {handler} has {value!r} under {self.optional_auth_opt_key!r}. Pass True, or leave it out."
                )


def optional_token_secret(cls: BackendT) -> BackendT:
    """Let a backend be created without ``token_secret`` if it has a ``key_provider``.

    A dataclass cannot express that. So the fields stay as they are, and only the constructor changes. The new options come last
    among the fields.

    Args:
        cls: A backend.

    Returns:
        The same class.
    """
    backend: Any = cls
    released_init: Callable[..., None] = backend.__init__

    @wraps(released_init)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        if not args and kwargs.get("key_provider") is not None:
            kwargs.setdefault("token_secret", None)
        released_init(self, *args, **kwargs)

    # Tools that do not look behind a wrapper see the released parameters, too.
    vars(init)["__signature__"] = signature(released_init)
    backend.__init__ = init
    # The fields of a base come first. Those of Litestar are not keyword-only.
    by_name: dict[str, Field[Any]] = backend.__dataclass_fields__
    for option in [option for option in fields(backend) if option.kw_only]:
        by_name[option.name] = by_name.pop(option.name)
    return cls


def _refuse_without_provider(backend: KeyProviderOptions[Any, Any]) -> None:
    """Refuse options that do nothing without a key provider."""
    for option in fields(KeyProviderOptions):
        if getattr(backend, option.name, option.default) != option.default:
            raise ImproperlyConfiguredException(f"{option.name!r} of {type(backend).__name__} needs a 'key_provider'.")
