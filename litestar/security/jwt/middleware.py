from __future__ import annotations

import logging
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Final, cast

from jwt.exceptions import InvalidTokenError

from litestar.exceptions import ImproperlyConfiguredException, NotAuthorizedException
from litestar.middleware.authentication import AbstractAuthenticationMiddleware, AuthenticationResult
from litestar.security.jwt._challenges import challenge
from litestar.security.jwt._verified import Recollection
from litestar.security.jwt.keys import KeyNotFoundError, provider_error
from litestar.security.jwt.token import Token
from litestar.security.jwt.unverified import MAX_TOKEN_LENGTH, UnverifiedToken

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from datetime import timedelta

    from litestar.connection import ASGIConnection
    from litestar.security.jwt._sources import KeySource, RouteKeys
    from litestar.security.jwt._verified import VerifiedTokens
    from litestar.security.jwt.keys import Key
    from litestar.types import ASGIApp, Method, Receive, Scope, Scopes, Send

__all__ = ("SCOPE_KEY", "JWTAuthenticationMiddleware", "JWTCookieAuthenticationMiddleware")

_logger = logging.getLogger("litestar.security.jwt")

SCOPE_KEY: Final = "litestar.security.jwt"
"""Where a scope has what was made for its connection alone, if anything was."""


class JWTAuthenticationMiddleware(AbstractAuthenticationMiddleware):
    """Authenticates connections by a JSON Web Token in a request header."""

    __slots__ = (
        "accepted_types",
        "algorithm",
        "auth_header",
        "key_source",
        "leeway",
        "max_token_length",
        "require_claims",
        "retrieve_user_handler",
        "revoked_token_handler",
        "strict_audience",
        "token_audience",
        "token_cls",
        "token_issuer",
        "token_secret",
        "verified_tokens",
        "verify_expiry",
        "verify_not_before",
    )

    def __init__(
        self,
        algorithm: str | Sequence[str],
        app: ASGIApp,
        auth_header: str,
        exclude: str | list[str] | None,
        exclude_http_methods: Sequence[Method] | None,
        exclude_opt_key: str,
        retrieve_user_handler: Callable[[Any, ASGIConnection[Any, Any, Any, Any]], Awaitable[Any]],
        scopes: Scopes,
        token_secret: Key,
        token_cls: type[Token] = Token,
        token_audience: Sequence[str] | None = None,
        token_issuer: Sequence[str] | Callable[[str], bool] | None = None,
        require_claims: Sequence[str] | None = None,
        verify_expiry: bool = True,
        verify_not_before: bool = True,
        strict_audience: bool = False,
        revoked_token_handler: Callable[[Any, ASGIConnection[Any, Any, Any, Any]], Awaitable[Any]] | None = None,
        *,
        key_source: KeySource | None = None,
        leeway: float | timedelta = 0,
        accepted_types: Sequence[str] | None = None,
        max_token_length: int = MAX_TOKEN_LENGTH,
        verified_tokens: VerifiedTokens | None = None,
    ) -> None:
        """Set up one layer of the middleware stack.

        The options of a backend arrive here, see :class:`BaseJWTAuth <litestar.security.jwt.BaseJWTAuth>`.

        Args:
            algorithm: See ``BaseJWTAuth.algorithm``.
            app: The next layer.
            auth_header: See ``BaseJWTAuth.auth_header``.
            exclude: See ``BaseJWTAuth.exclude``.
            exclude_http_methods: See ``BaseJWTAuth.exclude_http_methods``.
            exclude_opt_key: See ``BaseJWTAuth.exclude_opt_key``.
            retrieve_user_handler: See ``BaseJWTAuth.retrieve_user_handler``.
            scopes: See ``BaseJWTAuth.scopes``.
            token_secret: See ``BaseJWTAuth.token_secret``. Not used when there is a ``key_source``.
            token_cls: See ``BaseJWTAuth.token_cls``.
            token_audience: See ``BaseJWTAuth.accepted_audiences``.
            token_issuer: See ``BaseJWTAuth.accepted_issuers``.
            require_claims: See ``BaseJWTAuth.require_claims``.
            verify_expiry: See ``BaseJWTAuth.verify_expiry``.
            verify_not_before: See ``BaseJWTAuth.verify_not_before``.
            strict_audience: See ``BaseJWTAuth.strict_audience``.
            revoked_token_handler: See ``BaseJWTAuth.revoked_token_handler``.
            key_source: Where the key provider of the backend is to be had.
            leeway: See ``BaseJWTAuth.leeway``.
            accepted_types: See ``BaseJWTAuth.accepted_types``.
            max_token_length: See ``BaseJWTAuth.max_token_length``.
            verified_tokens: What is remembered of tokens, see ``BaseJWTAuth.verified_token_cache_size``.
        """
        super().__init__(app, exclude, exclude_opt_key, exclude_http_methods, scopes)
        self.accepted_types = None if accepted_types is None else frozenset(map(_media_type, accepted_types))
        self.algorithm = algorithm
        self.auth_header = auth_header
        self.key_source = None if key_source is None else key_source.for_route()
        self.leeway = leeway
        self.max_token_length = max_token_length
        self.require_claims = require_claims
        self.retrieve_user_handler = retrieve_user_handler
        self.revoked_token_handler = revoked_token_handler
        self.strict_audience = strict_audience
        self.token_audience = token_audience
        self.token_cls = token_cls
        self.token_issuer = token_issuer
        self.token_secret = token_secret
        self.verified_tokens = verified_tokens
        self.verify_expiry = verify_expiry
        self.verify_not_before = verify_not_before

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Authenticate a connection and pass it on.

        Args:
            scope: The scope of the connection.
            receive: The function to receive events with.
            send: The function to send events with.
        """
        try:
            await super().__call__(scope, receive, send)
        finally:
            if (made := cast("dict[str, Any]", scope).pop(SCOPE_KEY, None)) is not None:
                await made.close()

    async def authenticate_request(self, connection: ASGIConnection[Any, Any, Any, Any]) -> AuthenticationResult:
        """Find the token of a connection, and authenticate it.

        Args:
            connection: The connection.

        Returns:
            The user and the token.

        Raises:
            NotAuthorizedException: If there is no token, or it is not valid, or nobody's.
        """
        auth_header = connection.headers.get(self.auth_header)
        if not auth_header:
            raise _no_credentials("No JWT token found in request header")
        return await self.authenticate_token(encoded_token=_credentials(auth_header), connection=connection)

    async def authenticate_token(
        self, encoded_token: str, connection: ASGIConnection[Any, Any, Any, Any]
    ) -> AuthenticationResult:
        """Verify a token, and look up whose it is.

        Args:
            encoded_token: The token.
            connection: The connection that it came with.

        Returns:
            The user and the token.

        Raises:
            NotAuthorizedException: If the token is not valid, or has been revoked, or there is no such user.
            KeysUnavailableError: If there are no keys to verify it with at the moment.
            ImproperlyConfiguredException: If the application's own key cannot be used.
        """
        try:
            token = await self._verify(encoded_token, connection)
            user = await self.retrieve_user_handler(token, connection)
            revoked = self.revoked_token_handler and await self.revoked_token_handler(token, connection)
            if not user or revoked:
                raise NotAuthorizedException()
        except NotAuthorizedException as e:
            challenge(e, error="invalid_token")
            raise
        return AuthenticationResult(user=user, auth=token)

    async def _verify(self, encoded_token: str, connection: ASGIConnection[Any, Any, Any, Any]) -> Token:
        if len(encoded_token) > self.max_token_length:
            raise NotAuthorizedException("Invalid token")
        try:
            if self.key_source is not None:
                return await self._verify_with(self.key_source, encoded_token, connection)
            if self.accepted_types is not None:
                self._check_type(_unverified(encoded_token))
            return self._decode(encoded_token, self.token_secret, self.algorithm)
        except ImproperlyConfiguredException as e:
            _logger.error("No token can be verified: %s", e.detail)
            raise

    async def _verify_with(
        self, source: RouteKeys, encoded_token: str, connection: ASGIConnection[Any, Any, Any, Any]
    ) -> Token:
        token = _unverified(encoded_token, source.checked)
        bound = source.provider_for(connection)
        if isinstance(bound, Awaitable):
            bound = await bound
        if token.algorithm not in bound.algorithms:
            raise NotAuthorizedException("Invalid token")
        self._check_type(token)
        try:
            key = bound.provider(token)
            if isinstance(key, Awaitable):
                key = await key
        except Exception as e:
            if (error := provider_error(e)) is e:
                raise
            raise error from e
        if key is None:
            raise KeyNotFoundError("Invalid token")
        return self._decode(encoded_token, key, token.algorithm)

    def _check_type(self, token: UnverifiedToken) -> None:
        """Tell tokens of one purpose from those of another (RFC 8725, section 3.11)."""
        if self.accepted_types is None:
            return
        declared = token.header.get("typ")
        if not isinstance(declared, str) or _media_type(declared) not in self.accepted_types:
            raise NotAuthorizedException("Invalid token")

    def _decode(self, encoded_token: str, key: Key, algorithm: str | Sequence[str]) -> Token:
        if self.verified_tokens is None:
            return self._decode_with(encoded_token, key, algorithm)
        with Recollection(self.verified_tokens, encoded_token) as recollection:
            token = self._decode_with(encoded_token, key, algorithm)
        recollection.keep(token.exp)
        return token

    def _decode_with(self, encoded_token: str, key: Key, algorithm: str | Sequence[str]) -> Token:
        # Overrides of ``decode`` that were written before there was a leeway do not know it.
        further: dict[str, Any] = {"leeway": self.leeway} if self.leeway else {}
        return self.token_cls.decode(
            encoded_token=encoded_token,
            secret=key,
            algorithm=algorithm,
            audience=self.token_audience,
            issuer=self.token_issuer,
            require_claims=self.require_claims,
            verify_exp=self.verify_expiry,
            verify_nbf=self.verify_not_before,
            strict_audience=self.strict_audience,
            **further,
        )


class JWTCookieAuthenticationMiddleware(JWTAuthenticationMiddleware):
    """Authenticates connections by a JSON Web Token in a request header or, failing that, in a cookie."""

    __slots__ = ("auth_cookie_key",)

    def __init__(
        self,
        algorithm: str | Sequence[str],
        app: ASGIApp,
        auth_cookie_key: str,
        auth_header: str,
        exclude: str | list[str] | None,
        exclude_opt_key: str,
        exclude_http_methods: Sequence[Method] | None,
        retrieve_user_handler: Callable[[Any, ASGIConnection[Any, Any, Any, Any]], Awaitable[Any]],
        scopes: Scopes,
        token_secret: Key,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Set up one layer of the middleware stack.

        Args:
            algorithm: See ``BaseJWTAuth.algorithm``.
            app: The next layer.
            auth_cookie_key: Name of the cookie.
            auth_header: See ``BaseJWTAuth.auth_header``.
            exclude: See ``BaseJWTAuth.exclude``.
            exclude_opt_key: See ``BaseJWTAuth.exclude_opt_key``.
            exclude_http_methods: See ``BaseJWTAuth.exclude_http_methods``.
            retrieve_user_handler: See ``BaseJWTAuth.retrieve_user_handler``.
            scopes: See ``BaseJWTAuth.scopes``.
            token_secret: See ``BaseJWTAuth.token_secret``.
            *args: What else :class:`JWTAuthenticationMiddleware` takes, in its order.
            **kwargs: The same by name.
        """
        super().__init__(
            algorithm,
            app,
            auth_header,
            exclude,
            exclude_http_methods,
            exclude_opt_key,
            retrieve_user_handler,
            scopes,
            token_secret,
            *args,
            **kwargs,
        )
        self.auth_cookie_key = auth_cookie_key

    async def authenticate_request(self, connection: ASGIConnection[Any, Any, Any, Any]) -> AuthenticationResult:
        """Find the token of a connection, and authenticate it.

        Args:
            connection: The connection.

        Returns:
            The user and the token.

        Raises:
            NotAuthorizedException: If there is no token, or it is not valid, or nobody's.
        """
        encoded_token = _credentials(connection.headers.get(self.auth_header, ""))
        if not encoded_token:
            encoded_token = connection.cookies.get(self.auth_cookie_key, "").rpartition(" ")[2]
        if not encoded_token:
            raise _no_credentials("No JWT token found in request header or cookies")
        return await self.authenticate_token(encoded_token=encoded_token, connection=connection)


def _no_credentials(detail: str) -> NotAuthorizedException:
    exception = NotAuthorizedException(detail)
    challenge(exception)
    return exception


def _credentials(header: str) -> str:
    """Return what follows the authentication scheme and any number of spaces (RFC 9110, section 11.4)."""
    return header.partition(" ")[2].strip(" ")


def _unverified(encoded_token: str, checked: Collection[str] = ()) -> UnverifiedToken:
    try:
        return UnverifiedToken(encoded_token, checked=checked)
    except InvalidTokenError as e:
        raise NotAuthorizedException("Invalid token") from e


def _media_type(name: str) -> str:
    """Fold the spellings of a ``typ`` header parameter (RFC 7515, section 4.1.9)."""
    return name.lower().removeprefix("application/")
