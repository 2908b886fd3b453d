"""An issuer of tokens for tests."""

from __future__ import annotations

import json
import socket
import sys
import time
import weakref
from collections import deque
from contextlib import suppress
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from threading import Thread
from typing import TYPE_CHECKING, Any, Final, cast

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from litestar.exceptions import ImproperlyConfiguredException
from litestar.security.jwt.keys import (
    ASYMMETRIC_ALGORITHMS,
    KeyNotFoundException,
    KeySet,
    VerificationKey,
    public_jwk,
    thumbprint,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Self

    from litestar.security.jwt.keys import PrivateKey, SelectedKeys
    from litestar.security.jwt.unverified import UnverifiedToken

__all__ = ("LocalIssuer",)

_HOST: Final = "127.0.0.1"
_JWKS_PATH: Final = "/.well-known/jwks.json"
# OpenID Connect Discovery 1.0, section 4, and RFC 8414, section 3.
_DISCOVERY_PATHS: Final = ("/.well-known/openid-configuration", "/.well-known/oauth-authorization-server")
_CURVES: Final[dict[str, type[ec.EllipticCurve]]] = {
    "ES256": ec.SECP256R1,
    "ES256K": ec.SECP256K1,
    "ES384": ec.SECP384R1,
    "ES512": ec.SECP521R1,
}
# Stopping the server takes at most this many seconds.
_POLL_INTERVAL: Final = 0.02
# Generating an RSA key takes longer than most tests, so keys of issuers that no longer exist are used again. The one that waits
# longest is used, and only if more than this many wait: a token of a dropped issuer has to be a forgery for the next issuers.
_MIN_SPARE_KEYS: Final = 4
_spare_rsa_keys: Final[deque[rsa.RSAPrivateKey]] = deque()


class LocalIssuer:
    """An issuer of tokens for tests, in place of your identity provider.

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

    Each instance has its own keys. To forge a token, use a second instance with the same ``issuer``.
    """

    __slots__ = ("__weakref__", "_algorithm", "_audience", "_depth", "_issuer", "_key_set", "_keys", "_server")

    def __init__(
        self,
        *,
        audience: str | Sequence[str] | None = None,
        algorithm: str = "RS256",
        issuer: str | None = None,
    ) -> None:
        """Create an issuer with one key.

        Args:
            audience: The ``aud`` claim of its tokens.
            algorithm: The algorithm that it signs with. It must be an asymmetric one.
            issuer: The ``iss`` claim of its tokens. By default, the URL of its server.

        Raises:
            ImproperlyConfiguredException: If the algorithm is not an asymmetric one.
        """
        if algorithm not in ASYMMETRIC_ALGORITHMS:
            raise ImproperlyConfiguredException(
                f"'algorithm' of 'LocalIssuer' is {algorithm!r}. Use one of {', '.join(ASYMMETRIC_ALGORITHMS)}"
            )
        self._algorithm = algorithm
        self._audience = audience
        self._issuer = issuer
        self._depth = 0
        self._server: _Server | None = None
        self._keys: tuple[tuple[PrivateKey, dict[str, Any]], ...] = ()
        self.rotate()

    def __enter__(self) -> Self:
        if self._depth == 0:
            self._bound_server().start()
        self._depth += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._bound_server().stop()

    @property
    def issuer(self) -> str:
        """The ``iss`` claim of its tokens."""
        return self._url if self._issuer is None else self._issuer

    @property
    def jwks(self) -> dict[str, Any]:
        """The JWK Set, with the key that signs and, after a :meth:`rotate`, the key that signed before."""
        return {"keys": [dict(jwk) for _, jwk in self._keys]}

    @property
    def jwks_url(self) -> str:
        """The URL of the JWK Set on the server."""
        return self._url + _JWKS_PATH

    def key_provider(self, token: UnverifiedToken, /) -> SelectedKeys:
        """Find the key for a token without I/O. Use this in place of a backend's ``key_provider``.

        Args:
            token: The token.

        Returns:
            The keys that may verify it.

        Raises:
            KeyNotFoundException: If another issuer made the token, or no current key fits.
        """
        if token.issuer != self.issuer:
            raise KeyNotFoundException("Invalid token") from jwt.InvalidIssuerError("Invalid issuer")
        selected = self._key_set.select(token)
        if not selected.keys:
            raise KeyNotFoundException("Invalid token")
        return selected

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
        """
        private_key, jwk = self._keys[-1]
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
        return jwt.encode(
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
        private_key = self._generate_key()
        members = public_jwk(private_key)
        kid = thumbprint(members)
        self._keys = (*self._keys[-1:], (private_key, {**members, "kid": kid, "use": "sig", "alg": self._algorithm}))
        self._key_set = KeySet([VerificationKey.from_jwk(jwk) for _, jwk in self._keys])
        return kid

    @property
    def _url(self) -> str:
        return f"http://{_HOST}:{self._bound_server().server_address[1]}"

    def _bound_server(self) -> _Server:
        """Return the server. It gets its port when something needs the URL."""
        if self._server is None:
            self._server = _Server(weakref.proxy(self))
            weakref.finalize(self, self._server.server_close)
        return self._server

    def _generate_key(self) -> PrivateKey:
        if self._algorithm == "EdDSA":
            return Ed25519PrivateKey.generate()
        if curve := _CURVES.get(self._algorithm):
            return ec.generate_private_key(curve())
        if len(_spare_rsa_keys) > _MIN_SPARE_KEYS:
            key = _spare_rsa_keys.popleft()
        else:
            key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        weakref.finalize(self, _spare_rsa_keys.append, key)
        return key

    def _answer(self, path: str) -> tuple[int, dict[str, Any]]:
        """Return the status and the document for a path."""
        if path == _JWKS_PATH:
            return 200, self.jwks
        if path not in _DISCOVERY_PATHS:
            return 404, {"error": "not_found"}
        return 200, {
            "issuer": self.issuer,
            "jwks_uri": self.jwks_url,
            # Clients insist on these endpoints, which do not exist.
            "authorization_endpoint": f"{self._url}/authorize",
            "token_endpoint": f"{self._url}/token",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [self._algorithm],
        }


class _Server(ThreadingTCPServer):
    """A server that keeps its port all the time, and refuses connections while it is stopped."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, issuer: LocalIssuer) -> None:
        self.issuer = issuer
        self._connections: set[socket.socket] = set()
        super().__init__((_HOST, 0), _Handler)

    def server_activate(self) -> None:
        """Do not listen before :meth:`start`."""

    def start(self) -> None:
        super().server_activate()
        self._thread = Thread(target=self.serve_forever, args=(_POLL_INTERVAL,), name="LocalIssuer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()
        for connection in tuple(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.socket = socket.socket(self.address_family, self.socket_type)
        self.server_bind()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # a client can disconnect at any time
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        status, document = cast("_Server", self.server).issuer._answer(self.path.partition("?")[0])
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Keep the output of tests clean."""
