"""An issuer of tokens for tests and development."""

from __future__ import annotations

import time
import weakref
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from logging import getLogger
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from litestar.exceptions import ImproperlyConfiguredException
from litestar.security.jwt.key_set import KeySet, parse_jwk
from litestar.security.jwt.keys import ASYMMETRIC_ALGORITHMS, KeyNotFoundException, UnknownIssuerException
from litestar.security.jwt.signing import SigningKey, sign
from litestar.security.jwt.testing._server import DocumentServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
    from typing import Self

    from litestar import Litestar
    from litestar.security.jwt.keys import PrivateKey, SelectedKeys
    from litestar.security.jwt.unverified import UnverifiedToken

__all__ = ("LocalIssuer",)

_JWKS_PATH: Final = "/.well-known/jwks.json"
# OpenID Connect Discovery 1.0, section 4, and RFC 8414, section 3.
_DISCOVERY_PATHS: Final = ("/.well-known/openid-configuration", "/.well-known/oauth-authorization-server")
_CURVES: Final[dict[str, type[ec.EllipticCurve]]] = {
    "ES256": ec.SECP256R1,
    "ES256K": ec.SECP256K1,
    "ES384": ec.SECP384R1,
    "ES512": ec.SECP521R1,
}
# Names that are easily taken for parameters of ``token``, and what to write.
_PARAMETERS: Final = ("scopes", "expires_in", "headers")
_CLAIMS: Final = {"audience": "aud", "issuer": "iss", "subject": "sub"}
# How alike two names are that differ by one letter or a plural, by the measure of ``difflib``.
_MISTYPED: Final = 0.8
# A claim (RFC 8693, section 4.2) that is nearly the name of a parameter.
_SCOPE: Final = "scope"

_logger: Final = getLogger("litestar.security.jwt")


@dataclass(frozen=True, slots=True)
class LocalKeyProvider:
    """Finds the keys of a local issuer without I/O."""

    issuer: LocalIssuer
    """The issuer."""

    def __call__(self, token: UnverifiedToken, /) -> SelectedKeys:
        """Find the keys for a token.

        Args:
            token: The token.

        Returns:
            The keys that may verify it.

        Raises:
            KeyNotFoundException: If another issuer made the token, or no current key fits.
        """
        if token.issuer != self.issuer.issuer:
            raise UnknownIssuerException(self.issuer.issuer)
        selected = self.issuer.key_set.select(token)
        if not selected.keys:
            raise KeyNotFoundException("Invalid token")
        return selected

    @property
    def issuers(self) -> tuple[str]:
        """The name of the issuer."""
        return (self.issuer.issuer,)

    @asynccontextmanager
    async def lifespan(self, app: Litestar) -> AsyncIterator[None]:
        """Say in the log that anyone who can create a ``LocalIssuer`` is trusted, unless the application is for debugging.

        Args:
            app: The application.
        """
        if not app.debug:
            _logger.warning("This application trusts %r. Do not use it in production", self.issuer)
        yield


class LocalIssuer:
    """An issuer of tokens for tests and development, in place of your identity provider. It is not made for production.

    It creates tokens, and it provides a backend with the keys for them:

    .. code-block:: python

        def test_me(monkeypatch: pytest.MonkeyPatch) -> None:
            issuer = LocalIssuer(audience="my-api")
            monkeypatch.setattr(jwt_auth, "key_provider", issuer.key_provider)
            with TestClient(app) as client:
                response = client.get("/me", headers=issuer.auth_header("alice"))
            assert response.status_code == 200

    As a context manager, it is also an HTTP server on the loopback interface, with a JWK Set and discovery documents:

    .. code-block:: python

        with LocalIssuer(audience="my-api") as issuer:
            app = create_app(key_provider=OpenIDProvider(issuer.issuer))

    The URL of the server never changes. Before you enter the context and after you leave it, the server refuses connections.

    Each instance has its own keys, which it generates when it first needs one. To forge a token, use a second instance with the same
    ``issuer``.
    """

    __slots__ = (
        "__weakref__",
        "_algorithm",
        "_audience",
        "_depth",
        "_generating",
        "_issuer",
        "_key_set",
        "_pairs",
        "_port",
        "_server",
    )

    def __init__(
        self,
        *,
        audience: str | Sequence[str] | None = None,
        algorithm: str = "RS256",
        issuer: str | None = None,
        port: int = 0,
    ) -> None:
        """Create an issuer with one key.

        Args:
            audience: The ``aud`` claim of its tokens.
            algorithm: The algorithm that it signs with. It must be an asymmetric one.
            issuer: The ``iss`` claim of its tokens. By default, the URL of its server.
            port: The port of its server. By default, any that is free.

        Raises:
            ImproperlyConfiguredException: If the algorithm is not an asymmetric one.
        """
        if algorithm not in ASYMMETRIC_ALGORITHMS:
            raise ImproperlyConfiguredException(
                f"'algorithm' of 'LocalIssuer' is {algorithm!r}. Use one of {', '.join(ASYMMETRIC_ALGORITHMS)}."
            )
        self._algorithm = algorithm
        self._audience = audience
        self._issuer = issuer
        self._port = port
        self._depth = 0
        self._server: DocumentServer | None = None
        self._generating = Lock()
        self._pairs: tuple[tuple[PrivateKey, dict[str, str]], ...] = ()
        self._key_set = KeySet([])

    def __enter__(self) -> Self:
        if self._depth == 0:
            self._bound_server().start()
        self._depth += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._bound_server().stop()

    def __repr__(self) -> str:
        is_bound = self._issuer is not None or self._server is not None
        name = f" {self.issuer}" if is_bound else ""
        return f"<LocalIssuer{name}, which signs {self._algorithm} tokens for tests and development>"

    @property
    def issuer(self) -> str:
        """The ``iss`` claim of its tokens."""
        return self._bound_server().url if self._issuer is None else self._issuer

    @property
    def jwks(self) -> dict[str, Any]:
        """The JWK Set, with the key that signs and, after a :meth:`rotate`, the key that signed before."""
        return {"keys": [dict(jwk) for _, jwk in self._generated()]}

    @property
    def jwks_url(self) -> str:
        """The URL of the JWK Set on the server."""
        return self._bound_server().url + _JWKS_PATH

    @property
    def key_set(self) -> KeySet:
        """The keys of :attr:`jwks`."""
        self._generated()
        return self._key_set

    @property
    def key_provider(self) -> LocalKeyProvider:
        """What finds the keys without I/O. Use this in place of a backend's ``key_provider``."""
        return LocalKeyProvider(self)

    def token(
        self,
        sub: str | None = "user",
        *,
        scopes: str | Iterable[str] | None = None,
        expires_in: float | timedelta = 3600,
        headers: Mapping[str, Any] | None = None,
        **claims: Any,
    ) -> str:
        """Create a token.

        Args:
            sub: The ``sub`` claim.
            scopes: The ``scope`` claim. Several scopes are joined with spaces.
            expires_in: Seconds until the token expires. A negative number creates an expired token.
            headers: Header parameters to add or replace. ``None`` as a value removes one.
            **claims: Claims to add or replace. ``None`` as a value removes one.

        Returns:
            The encoded token.

        Raises:
            TypeError: If a claim has a name that is nearly the name of a parameter, such as ``scops``.
        """
        for name in claims:
            _refuse_mistyped(name)
        private_key, jwk = self._generated()[-1]
        now = time.time()
        lifetime = expires_in.total_seconds() if isinstance(expires_in, timedelta) else expires_in
        payload = {
            "iss": self.issuer,
            "sub": sub,
            "aud": self._audience,
            "iat": int(now),
            "exp": int(now + lifetime),
            "scope": scopes if scopes is None or isinstance(scopes, str) else " ".join(scopes),
            **claims,
        }
        parameters = {"kid": jwk["kid"], **(headers or {})}
        return sign(
            {name: value for name, value in payload.items() if value is not None},
            private_key,
            self._algorithm,
            # PyJWT adds "typ" to the header unless it gets a None for it.
            {name: value for name, value in parameters.items() if value is not None or name == "typ"},
        )

    def auth_header(self, sub: str | None = "user", **options: Any) -> dict[str, str]:
        """Create a token and the header to send it in.

        Args:
            sub: The ``sub`` claim.
            **options: The other arguments of :meth:`token`.

        Returns:
            An ``Authorization`` header.
        """
        return {"Authorization": f"Bearer {self.token(sub, **options)}"}

    def rotate(self) -> str:
        """Sign with a new key from now on. The previous key stays in the JWK Set, the one before it is removed.

        Returns:
            The ID of the new key.
        """
        return self._add_key(self._generated())

    def _generated(self) -> tuple[tuple[PrivateKey, dict[str, str]], ...]:
        """Return the key pairs. The first is generated when it is needed, in whatever thread."""
        with self._generating:
            if not self._pairs:
                self._add_key(())
        return self._pairs

    def _add_key(self, previous: tuple[tuple[PrivateKey, dict[str, str]], ...]) -> str:
        private_key = _generate_key(self._algorithm)
        jwk = {**SigningKey(private_key).jwk, "alg": self._algorithm}
        pairs = (*previous[-1:], (private_key, jwk))
        self._key_set = KeySet([parse_jwk(jwk) for _, jwk in pairs])
        self._pairs = pairs
        return jwk["kid"]

    def _bound_server(self) -> DocumentServer:
        """Return the server. It gets its port when something needs the URL."""
        if self._server is None:
            self._server = DocumentServer(weakref.WeakMethod(self._answer), self._port)
            weakref.finalize(self, self._server.server_close)
        return self._server

    def _answer(self, path: str) -> tuple[int, dict[str, Any]]:
        """Return the status and the document for a path."""
        if path == _JWKS_PATH:
            return 200, self.jwks
        if path not in _DISCOVERY_PATHS:
            return 404, {"error": "not_found"}
        url = self._bound_server().url
        return 200, {
            "issuer": self.issuer,
            "jwks_uri": self.jwks_url,
            # Clients insist on these endpoints, which do not exist.
            "authorization_endpoint": f"{url}/authorize",
            "token_endpoint": f"{url}/token",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [self._algorithm],
        }


def _refuse_mistyped(name: str) -> None:
    """Refuse the name of a claim that is a parameter with a slip of the pen, as no test would notice that."""
    meant = [_CLAIMS[name]] if name in _CLAIMS else get_close_matches(name, _PARAMETERS, 1, _MISTYPED)
    if meant and name != _SCOPE:
        raise TypeError(f"LocalIssuer.token() got an unexpected argument {name!r}. Did you mean {meant[0]!r}?")


def _generate_key(algorithm: str) -> PrivateKey:
    if algorithm == "Ed448":
        return ed448.Ed448PrivateKey.generate()
    if algorithm in {"EdDSA", "Ed25519"}:
        return ed25519.Ed25519PrivateKey.generate()
    if curve := _CURVES.get(algorithm):
        return ec.generate_private_key(curve())
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)
