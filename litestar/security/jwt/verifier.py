"""From an encoded token to its key, its claims and the instance of a token class."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import isawaitable
from logging import getLogger
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol, TypeAlias

from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException, ImproperlyConfiguredException, NotAuthorizedException
from litestar.middleware.authentication import AuthenticationResult
from litestar.security.jwt.claims import (
    Audiences,
    ClaimRules,
    IssuerCheck,
    verify_audience,
    verify_claims,
    verify_issuer_of_mapping,
    verify_kind,
)
from litestar.security.jwt.conversion import to_token
from litestar.security.jwt.decoding import (
    VerifySignature,
    accepted_names,
    find_verifying_key,
    rules_for,
    verify_signature,
)
from litestar.security.jwt.keys import KeysUnavailableException
from litestar.security.jwt.lookup import name_of
from litestar.security.jwt.refusals import Reason, TokenRefused
from litestar.security.jwt.unverified import UnverifiedToken

if TYPE_CHECKING:
    from litestar import Litestar
    from litestar.security.jwt.keys import VerificationKey
    from litestar.security.jwt.lookup import KeyLookup

__all__ = ("TokenVerifier", "VerifierOptions")

Connection: TypeAlias = ASGIConnection[Any, Any, Any, Any]
Resolve: TypeAlias = "Callable[[Connection | None, Litestar | None], Awaitable[KeyLookup]]"
Refuse: TypeAlias = "Callable[[TokenRefused, NotAuthorizedException, Connection | None], NotAuthorizedException]"

_logger: Final = getLogger("litestar.security.jwt")


class _Middleware(Protocol):
    """What the verifier uses of an authentication middleware. Subclasses can override all of it."""

    retrieve_user_handler: Callable[..., Awaitable[Any]]
    revoked_token_handler: Callable[..., Awaitable[Any]] | None

    async def authenticate_token(self, encoded_token: str, connection: Connection) -> AuthenticationResult:
        """Verify a token, and find the user that it belongs to."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierOptions:
    """The options of one backend, checked."""

    token_cls: type[Any]
    """The class that verified claims become an instance of."""
    algorithms: frozenset[str]
    """Names of the algorithms to accept."""
    rules: ClaimRules
    """What the claims must be."""
    audiences: Audiences | None
    """The audiences to accept. ``None`` accepts any."""
    issuer_check: IssuerCheck | None
    """A function that decides whether to accept an issuer."""
    types: frozenset[str] | None
    """Values of ``typ`` to accept."""
    strict_audience: bool = False
    """Whether ``aud`` must be a single value."""
    accept_bound_tokens: bool = False
    """Whether to accept tokens that are bound to their sender."""
    auth_header: str = "Authorization"
    """Name of the header that has the token."""
    auth_scheme: str = "Bearer"
    """The authentication scheme. Empty for a bare token."""
    optional_auth_opt_key: str = "optional_auth"
    """The key in a route's ``opt`` that makes authentication optional."""


def refuse_plainly(
    refused: TokenRefused, exception: NotAuthorizedException, connection: Connection | None
) -> NotAuthorizedException:
    """Return the exception for a refusal without a log line and without a challenge."""
    return exception


class TokenVerifier:
    """Verifies tokens for one backend that has a key provider."""

    __slots__ = ("_accepted", "_header_name", "_refuse", "_resolve", "_rules", "_verify_signature", "options")

    options: VerifierOptions
    """The options of the backend."""

    def __init__(
        self,
        options: VerifierOptions,
        resolve: Resolve,
        *,
        verify_signature: VerifySignature = verify_signature,
        refuse: Refuse = refuse_plainly,
    ) -> None:
        """Create a verifier.

        Args:
            options: The options of the backend.
            resolve: Returns the key provider for a connection or an application.
            verify_signature: Tells whether a key verifies the signature of a token.
            refuse: Logs a refusal, and completes the exception that the client's response is made of.
        """
        self.options = options
        self._resolve = resolve
        self._verify_signature = verify_signature
        self._refuse = refuse
        self._accepted = accepted_names(options.algorithms)
        self._header_name = options.auth_header.lower().encode()
        self._rules = rules_for(options.token_cls, options.rules)

    def __deepcopy__(self, memo: dict[int, Any]) -> TokenVerifier:
        """Return itself: Litestar copies the middleware of controllers, and all copies share one key provider."""
        return self

    async def authenticate_request(
        self, middleware: _Middleware, connection: Connection, cookie: str | None = None
    ) -> AuthenticationResult:
        """Find the token of a connection, and authenticate the connection.

        Args:
            middleware: The middleware that calls.
            connection: The connection.
            cookie: The name of the cookie that has the token if the header does not.

        Returns:
            The user and the token. Both are ``None`` if authentication is optional and there are no credentials.

        Raises:
            NotAuthorizedException: If there is no token, it is not valid, or it belongs to no user.
        """
        fields = [value for name, value in connection.scope["headers"] if name.lower() == self._header_name]
        try:
            encoded_token = self._token_in_header(fields)
        except TokenRefused as e:
            raise self._refused(e, connection) from e
        if not encoded_token and cookie is not None:
            encoded_token = _cookie_value(connection, cookie).rpartition(" ")[2]
        if encoded_token:
            return await middleware.authenticate_token(encoded_token=encoded_token, connection=connection)
        if not any(fields) and self._is_optional(connection):
            return AuthenticationResult(user=None, auth=None)
        place = "request header" if cookie is None else "request header or cookies"
        refused = TokenRefused(Reason.NO_CREDENTIALS, self._expected_credentials(cookie))
        exception = NotAuthorizedException(f"No JWT token found in {place}")
        raise self._refused(refused, connection, exception) from refused

    async def authenticate_token(
        self, middleware: _Middleware, encoded_token: str, connection: Connection
    ) -> AuthenticationResult:
        """Verify a token, and find the user that it belongs to.

        Args:
            middleware: The middleware that calls.
            encoded_token: The token.
            connection: The connection that it came with.

        Returns:
            The user and the token.

        Raises:
            NotAuthorizedException: If the token is not valid, has been revoked, or belongs to no user.
            KeysUnavailableException: If no keys to verify it with are available at the moment.
        """
        token = await self.verify(encoded_token, connection=connection)
        reason = Reason.NO_USER
        exception = NotAuthorizedException()
        try:
            user = await _result_of(middleware.retrieve_user_handler(token, connection))
            if user:
                reason = Reason.REVOKED
                handler = middleware.revoked_token_handler
                if handler is None or not await _result_of(handler(token, connection)):
                    return AuthenticationResult(user=user, auth=token)
        except NotAuthorizedException as e:
            exception = e
        refused = TokenRefused(reason)
        raise self._refused(refused, connection, exception) from refused

    async def verify(
        self, encoded_token: str, *, connection: Connection | None = None, app: Litestar | None = None
    ) -> Any:
        """Verify a token.

        Args:
            encoded_token: The token.
            connection: The connection that it came with, if there is one.
            app: The application, if there is no connection.

        Returns:
            The instance of the token class.

        Raises:
            NotAuthorizedException: If the token is not valid.
            KeysUnavailableException: If no keys to verify it with are available at the moment.
            ImproperlyConfiguredException: If the application's key provider cannot be used.
        """
        try:
            return await self._verify(encoded_token, connection, app)
        except TokenRefused as e:
            raise self._refused(e, connection) from e
        except Exception as e:
            if not isinstance(e, HTTPException) or isinstance(e, ImproperlyConfiguredException):
                _logger.error("The application cannot verify tokens: %r", e)
            raise

    async def _verify(self, encoded_token: str, connection: Connection | None, app: Litestar | None) -> Any:
        options = self.options
        token = UnverifiedToken(encoded_token, allow_padding=not options.auth_scheme)
        if token.algorithm not in self._accepted:
            raise TokenRefused(Reason.ALGORITHM, " or ".join(sorted(options.algorithms)), received=token.algorithm)
        verify_kind(token, options.types, accept_bound=options.accept_bound_tokens)
        lookup = await self._resolve(connection, app)
        key = await self._verifying_key(token, lookup, connection)
        verify_claims(token.claims, self._rules, time.time())
        if options.issuer_check is not None:
            await _check_issuer(options.issuer_check, token)
        audiences = await _audiences_for(options.audiences, token)
        if audiences:
            verify_audience(token.claims, audiences, strict=options.strict_audience)
        return to_token(options.token_cls, token, key, self._rules, audiences, strict_audience=options.strict_audience)

    async def _verifying_key(
        self, token: UnverifiedToken, lookup: KeyLookup, connection: Connection | None
    ) -> VerificationKey:
        """Return the key that verifies the signature. If none does, the provider refetches once."""
        found = await lookup.find(token, connection)
        key = find_verifying_key(token, found.selected, self.options.algorithms, self._verify_signature)
        if key is None:
            others = await found.lookup.find_again(token, connection, found.selected)
            if others is not None:
                key = find_verifying_key(token, others, self.options.algorithms, self._verify_signature)
        if key is None:
            raise TokenRefused(Reason.SIGNATURE)
        return key

    def _refused(
        self, refused: TokenRefused, connection: Connection | None, exception: NotAuthorizedException | None = None
    ) -> NotAuthorizedException:
        return self._refuse(refused, exception or NotAuthorizedException("Invalid token"), connection)

    def _token_in_header(self, fields: Sequence[bytes]) -> str:
        """Return what follows the authentication scheme and any number of spaces (RFC 9110, section 11.4)."""
        if len(fields) > 1:
            raise TokenRefused(Reason.MALFORMED, f"one header field {self.options.auth_header}")
        header = fields[0].decode("latin-1").strip(" \t") if fields else ""
        if not self.options.auth_scheme:
            return header
        scheme, _, credentials = header.partition(" ")
        return credentials.strip(" ") if scheme.lower() == self.options.auth_scheme.lower() else ""

    def _expected_credentials(self, cookie: str | None) -> str:
        kind = f"a {self.options.auth_scheme} token" if self.options.auth_scheme else "a token"
        place = f"{kind} in {self.options.auth_header}"
        return place if cookie is None else f"{place} or in the cookie {cookie!r}"

    def _is_optional(self, connection: Connection) -> bool:
        return connection.scope["route_handler"].opt.get(self.options.optional_auth_opt_key) is True


async def _check_issuer(check: IssuerCheck, token: UnverifiedToken) -> None:
    """Refuse a token unless a function of the application returns ``True``, and nothing else, for its issuer."""
    if token.issuer is not None:
        try:
            accepted = check(token.issuer)
            accepted = await accepted if isinstance(accepted, Awaitable) else accepted
        except (LookupError, OSError) as e:
            _raise_for_callback(e, Reason.ISSUER)
        if accepted is True:
            return
    raise TokenRefused(Reason.ISSUER, f"an issuer for which {name_of(check)} returns True", received=token.issuer)


async def _audiences_for(audiences: Audiences | None, token: UnverifiedToken) -> Sequence[str]:
    """Return the audiences to accept for a verified token."""
    if audiences is None:
        return ()
    if isinstance(audiences, str):
        return (audiences,)
    if isinstance(audiences, Mapping):
        names = audiences[verify_issuer_of_mapping(token, audiences)]
        return (names,) if isinstance(names, str) else names
    if isinstance(audiences, Sequence):
        return audiences
    try:
        answer: object = audiences(token.issuer or "")
        answer = await answer if isinstance(answer, Awaitable) else answer
    except (LookupError, OSError) as e:
        _raise_for_callback(e, Reason.AUDIENCE)
    if isinstance(answer, (list, tuple)) and answer and all(isinstance(name, str) and name for name in answer):
        return answer
    raise TokenRefused(Reason.AUDIENCE, f"{name_of(audiences)} to return a list of audiences that is not empty")


def _raise_for_callback(error: Exception, reason: Reason) -> NoReturn:
    """Translate the exception of a function of the application that reads a database."""
    if isinstance(error, OSError):
        raise KeysUnavailableException("The token cannot be verified at the moment") from error
    raise TokenRefused(reason) from error


async def _result_of(answer: Any) -> Any:
    """Return what a handler of the application returned. A coroutine in place of a value would pass for a user."""
    while isawaitable(answer):
        answer = await answer
    return answer


def _cookie_value(connection: Connection, name: str) -> str:
    """Return the value of a cookie. HTTP/2 splits cookies over several header fields (RFC 9113, section 8.2.3)."""
    values = [value for field, value in connection.scope["headers"] if field.lower() == b"cookie"]
    if len(values) > 1:
        # Parsed cookies are kept in the state of a scope, so the copy has a state of its own.
        scope: Any = {**connection.scope, "headers": [(b"cookie", b"; ".join(values))], "state": {}}
        connection = ASGIConnection(scope)
    return connection.cookies.get(name, "")
