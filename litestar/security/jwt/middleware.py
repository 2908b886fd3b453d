"""From a connection to its token, the key that verifies it, and the user."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from contextlib import suppress
from functools import partial
from inspect import iscoroutine
from typing import TYPE_CHECKING, Any, Required, TypedDict, Unpack

import jwt

from litestar.exceptions import HTTPException, ImproperlyConfiguredException, NotAuthorizedException
from litestar.middleware.authentication import AbstractAuthenticationMiddleware, AuthenticationResult
from litestar.security.jwt._refusals import MISSING_CLAIMS, WRONG_TYPE, challenge, logger, reason_of
from litestar.security.jwt.keys import KeyNotFoundException, SelectedKeys, names_of, raise_meaning, select
from litestar.security.jwt.token import Token
from litestar.security.jwt.unverified import UnverifiedToken

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta

    from litestar.connection import ASGIConnection
    from litestar.security.jwt._injection import KeySource
    from litestar.security.jwt.keys import Key, KeyProvider
    from litestar.types import ASGIApp, Method, Receive, Scope, Scopes, Send

__all__ = ("JWTAuthenticationMiddleware", "JWTCookieAuthenticationMiddleware")


class MiddlewareOptions(TypedDict, total=False):
    """What the middleware of a backend is told. :class:`BaseJWTAuth <litestar.security.jwt.BaseJWTAuth>` explains the options.

    Those that released Litestar does not have are left out if they are not set, as middleware of applications may not know them.
    """

    algorithm: Required[str | Sequence[str]]
    auth_header: Required[str]
    exclude: Required[str | list[str] | None]
    exclude_http_methods: Required[Sequence[Method] | None]
    exclude_opt_key: Required[str]
    retrieve_user_handler: Required[Callable[[Any, ASGIConnection[Any, Any, Any, Any]], Awaitable[Any]]]
    scopes: Required[Scopes | None]
    token_secret: Required[Any]
    token_cls: type[Token]
    token_audience: Sequence[str] | Mapping[str, Sequence[str]] | None
    token_issuer: Sequence[str] | Callable[[str], bool | Awaitable[bool]] | None
    require_claims: Sequence[str] | None
    verify_expiry: bool
    verify_not_before: bool
    strict_audience: bool
    revoked_token_handler: Callable[[Any, ASGIConnection[Any, Any, Any, Any]], Awaitable[Any]] | None
    accepted_types: Sequence[str] | None
    auth_scheme: str | None
    key_source: KeySource | None
    leeway: float | timedelta
    resource_metadata: str | None


class JWTAuthenticationMiddleware(AbstractAuthenticationMiddleware):
    """Authenticates connections by a JSON Web Token in a request header."""

    def __init__(self, app: ASGIApp, **options: Unpack[MiddlewareOptions]) -> None:
        """Set up one layer of the middleware stack.

        Args:
            app: The next layer.
            **options: The options of a backend.

        Raises:
            TypeError: If there is an option that is not known.
        """
        if unknown := options.keys() - MiddlewareOptions.__annotations__.keys():
            raise TypeError(f"{type(self).__name__} got unexpected keyword arguments: {', '.join(sorted(unknown))}")
        super().__init__(
            app, options["exclude"], options["exclude_opt_key"], options["exclude_http_methods"], options["scopes"]
        )
        types = options.get("accepted_types")
        self.accepted_types = None if types is None else frozenset(map(_media_type, types))
        self.algorithm = options["algorithm"]
        self._algorithms = names_of(self.algorithm)
        self.auth_header = options["auth_header"]
        self._header_name = self.auth_header.lower().encode()
        self.auth_scheme = options.get("auth_scheme")
        self.key_source = options.get("key_source")
        self.leeway = options.get("leeway")
        self.require_claims = options.get("require_claims")
        self.resource_metadata = options.get("resource_metadata")
        self.retrieve_user_handler = options["retrieve_user_handler"]
        self.revoked_token_handler = options.get("revoked_token_handler")
        self.strict_audience = options.get("strict_audience", False)
        self.token_audience = options.get("token_audience")
        self._reads_before_verifying = types is not None or isinstance(self.token_audience, Mapping)
        self.token_cls = options.get("token_cls", Token)
        self.token_issuer = options.get("token_issuer")
        self.token_secret = options["token_secret"]
        self.verify_expiry = options.get("verify_expiry", True)
        self.verify_not_before = options.get("verify_not_before", True)
        self._expected: dict[str, Any] = {
            **MISSING_CLAIMS,
            "algorithm": self.algorithm,
            "audience": self.token_audience,
            "issuer": None if callable(self.token_issuer) else self.token_issuer,
            WRONG_TYPE: sorted(self.accepted_types or ()),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Authenticate a connection and pass it on.

        Args:
            scope: The scope of the connection.
            receive: The function to receive events with.
            send: The function to send events with.
        """
        app = scope["litestar_app"]
        try:
            await super().__call__(scope, receive, send)
        finally:
            if self.key_source is not None:
                await self.key_source.close(app, scope)

    async def authenticate_request(self, connection: ASGIConnection[Any, Any, Any, Any]) -> AuthenticationResult:
        """Find the token of a connection, and authenticate the connection.

        Args:
            connection: The connection.

        Returns:
            The user and the token.

        Raises:
            NotAuthorizedException: If there is no token, it is not valid, or it belongs to no user.
        """
        encoded_token = self._token_in_header(connection)
        if encoded_token is None:
            raise self._challenged(NotAuthorizedException("No JWT token found in request header"))
        return await self.authenticate_token(encoded_token=encoded_token, connection=connection)

    async def authenticate_token(
        self, encoded_token: str, connection: ASGIConnection[Any, Any, Any, Any]
    ) -> AuthenticationResult:
        """Verify a token, and look up the user that it belongs to.

        Args:
            encoded_token: The token.
            connection: The connection that it came with.

        Returns:
            The user and the token.

        Raises:
            NotAuthorizedException: If the token is not valid, has been revoked, or belongs to no user.
            KeysUnavailableException: If no keys to verify it with are available at the moment.
            ImproperlyConfiguredException: If the application's own key cannot be used.
        """
        try:
            token = await self._verify(encoded_token, connection)
        except (NotAuthorizedException, jwt.InvalidTokenError) as e:
            refused: Any = e
            if isinstance(e, jwt.InvalidTokenError):
                refused = NotAuthorizedException("Invalid token")
                refused.__cause__ = e
            self._refuse(refused, reason_of(refused, self.token_cls), encoded_token)
            raise refused from refused.__cause__
        except Exception as e:
            if not isinstance(e, HTTPException) or isinstance(e, ImproperlyConfiguredException):
                logger.error("The application cannot verify tokens: %r", e)
            raise
        return AuthenticationResult(user=await self._user_of(token, connection), auth=token)

    async def _user_of(self, token: Token, connection: ASGIConnection[Any, Any, Any, Any]) -> Any:
        """Return the user that a verified token belongs to."""
        user = None
        try:
            user = await self.retrieve_user_handler(token, connection)
            revoked = self.revoked_token_handler and await self.revoked_token_handler(token, connection)
            if self.key_source is not None and (iscoroutine(user) or iscoroutine(revoked)):
                raise ImproperlyConfiguredException("A handler returned a coroutine. Declare it with 'async def'.")
            if revoked or not user:
                raise NotAuthorizedException()
        except NotAuthorizedException as e:
            self._refuse(e, "revoked" if user else "no user")
            raise
        return user

    async def _verify(self, encoded_token: str, connection: ASGIConnection[Any, Any, Any, Any]) -> Token:
        if self.key_source is not None:
            unverified = self._unverified(encoded_token)
            if unverified.algorithm not in self._algorithms:
                raise jwt.InvalidAlgorithmError
            token = await self._verify_with(await self.key_source.provider_for(connection.scope), unverified)
        else:
            token = self._decode(encoded_token, self.token_secret, self.algorithm, self._audience_of(encoded_token))
        if callable(self.token_issuer):
            await self._check_issuer(self.token_issuer, token)
        return token

    async def _verify_with(self, provider: KeyProvider, unverified: UnverifiedToken) -> Token:
        """Verify a token with the key that a provider finds. If its signature does not verify, the provider looks again."""
        audience = self._audience_of(unverified)
        key = await _answer_of(provider, unverified)
        try:
            return self._decode(unverified.encoded, key, unverified.algorithm, audience)
        except NotAuthorizedException as e:
            look_again = getattr(provider, "look_again", None)
            if look_again is None or not isinstance(e.__cause__, jwt.InvalidSignatureError):
                raise
            with suppress(KeyNotFoundException):
                if (key := await _answer_of(look_again, unverified)).keys:
                    return self._decode(unverified.encoded, key, unverified.algorithm, audience)
            raise

    def _decode(self, encoded_token: str, key: Key, algorithm: Any, audience: Any) -> Token:
        # Overrides of ``decode`` that were written before there was a leeway do not know it.
        decode = partial(self.token_cls.decode, leeway=self.leeway) if self.leeway else self.token_cls.decode
        return decode(
            encoded_token=encoded_token,
            secret=key,
            algorithm=algorithm,
            audience=audience,
            issuer=None if callable(self.token_issuer) else self.token_issuer,
            require_claims=self.require_claims,
            verify_exp=self.verify_expiry,
            verify_nbf=self.verify_not_before,
            strict_audience=self.strict_audience,
        )

    def _unverified(self, encoded_token: str) -> UnverifiedToken:
        # AWS load balancers send a bare token, whose segments are padded.
        return UnverifiedToken(encoded_token, allow_padding=self.auth_scheme == "")

    def _audience_of(self, token: str | UnverifiedToken) -> Any:
        """Check the type of a token (RFC 8725, section 3.11), and return the audiences to accept of the issuer it names."""
        if not self._reads_before_verifying:
            return self.token_audience
        token = token if isinstance(token, UnverifiedToken) else self._unverified(token)
        if self.accepted_types is not None:
            declared = token.header.get("typ")
            if not isinstance(declared, str) or _media_type(declared) not in self.accepted_types:
                raise jwt.InvalidTokenError(WRONG_TYPE)
        if not isinstance(self.token_audience, Mapping):
            return self.token_audience
        if (issuer := token.issuer) is None or issuer not in self.token_audience:
            raise jwt.InvalidIssuerError(f"one of {', '.join(self.token_audience)}")
        return self.token_audience[issuer]

    async def _check_issuer(self, accepts: Callable[[str], bool | Awaitable[bool]], token: Token) -> None:
        """Refuse a token unless a function of the application says ``True``, and nothing else, to its issuer."""
        if isinstance(token.iss, str):
            accepted = accepts(token.iss)
            if isinstance(accepted, Awaitable):
                accepted = await accepted
            if accepted is True:
                return
        raise jwt.InvalidIssuerError(f"one for which {getattr(accepts, '__qualname__', accepts)} returns True")

    def _token_in_header(self, connection: ASGIConnection[Any, Any, Any, Any]) -> str | None:
        """Return what follows the authentication scheme and any number of spaces (RFC 9110, section 11.4)."""
        # This one is looked for, as ``connection.headers`` would parse all of them.
        headers = [value for name, value in connection.scope["headers"] if name.lower() == self._header_name]
        header = headers[0].decode("latin-1") if headers else ""
        if not header or self.auth_scheme == "":
            return header or None
        scheme, _, credentials = header.partition(" ")
        if self.auth_scheme is not None and scheme.lower() != self.auth_scheme.lower():
            return None
        return credentials.strip(" ")

    def _challenged(self, exception: NotAuthorizedException, **parameters: str) -> NotAuthorizedException:
        if self.resource_metadata is not None:
            parameters["resource_metadata"] = self.resource_metadata
        challenge(exception, self.auth_scheme or "Bearer", **parameters)
        return exception

    def _refuse(self, exception: NotAuthorizedException, reason: str, encoded_token: str = "") -> None:
        """Log why a token is refused, and let the response say so."""
        expected = self._expected.get(reason) or (exception.__cause__ if reason == "issuer" else None)
        if reason == "unknown key":
            with suppress(jwt.InvalidTokenError):
                expected = f"a known key, not {str(self._unverified(encoded_token).kid)[:64]!r}"
        expected = ", ".join(expected) if isinstance(expected, (tuple, list)) else expected
        logger.info("Token refused: %s%s", reason, "" if expected is None else f" (expected: {expected})")
        self._challenged(exception, error="invalid_token", error_description=f"Token refused: {reason}")


class JWTCookieAuthenticationMiddleware(JWTAuthenticationMiddleware):
    """Authenticates connections by a JSON Web Token in a request header or, if there is none, in a cookie."""

    def __init__(self, app: ASGIApp, auth_cookie_key: str, **options: Unpack[MiddlewareOptions]) -> None:
        """Set up one layer of the middleware stack.

        Args:
            app: The next layer.
            auth_cookie_key: Name of the cookie.
            **options: The options of a backend.
        """
        super().__init__(app, **options)
        self.auth_cookie_key = auth_cookie_key

    async def authenticate_request(self, connection: ASGIConnection[Any, Any, Any, Any]) -> AuthenticationResult:
        """Find the token of a connection, and authenticate the connection.

        Args:
            connection: The connection.

        Returns:
            The user and the token.

        Raises:
            NotAuthorizedException: If there is no token, it is not valid, or it belongs to no user.
        """
        encoded_token = self._token_in_header(connection)
        if not encoded_token:
            encoded_token = connection.cookies.get(self.auth_cookie_key, "").rpartition(" ")[2]
        if not encoded_token:
            raise self._challenged(NotAuthorizedException("No JWT token found in request header or cookies"))
        return await self.authenticate_token(encoded_token=encoded_token, connection=connection)


async def _answer_of(provider: Callable[[UnverifiedToken], Any], token: UnverifiedToken) -> SelectedKeys:
    """Ask a provider for the keys of a token."""
    try:
        key = provider(token)
        if not isinstance(key, SelectedKeys) and isinstance(key, Awaitable):
            key = await key
        return select(key, token)
    except Exception as e:
        raise_meaning(e)
        raise


def _media_type(name: str) -> str:
    """Fold the spellings of a ``typ`` header parameter (RFC 7515, section 4.1.9)."""
    return name.lower().removeprefix("application/")
