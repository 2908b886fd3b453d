from __future__ import annotations

import json
import socket
import sys
import time
import weakref
from collections import deque
from contextlib import suppress
from datetime import timedelta
from functools import partial
from hashlib import sha256
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast
from urllib.parse import urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from litestar.datastructures import Headers
from litestar.security.jwt.keys import (
    ASYMMETRIC_ALGORITHMS,
    KeyNotFoundError,
    KeySet,
    VerificationKey,
    public_jwk,
    signing_key,
    thumbprint,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from ssl import SSLContext
    from types import TracebackType
    from typing import Self

    from litestar.security.jwt.keys import PrivateKey, SingleKey
    from litestar.security.jwt.unverified import UnverifiedToken

__all__ = (
    "LocalIssuer",
    "ReceivedRequest",
)

_HOST: Final = "127.0.0.1"
_JWKS_PATH: Final = "/.well-known/jwks.json"
_OPENID_PATH: Final = "/.well-known/openid-configuration"
_OAUTH_PATH: Final = "/.well-known/oauth-authorization-server"
_RSA_BITS: Final = 2048
_CURVES: Final[dict[str, type[ec.EllipticCurve]]] = {
    "ES256": ec.SECP256R1,
    "ES256K": ec.SECP256K1,
    "ES384": ec.SECP384R1,
    "ES512": ec.SECP521R1,
}

# Generating an RSA key takes longer than most tests do, so those of issuers that are no more are used again: the one
# that was unused for longest first, and only while others are left, so that what a short-lived issuer signed is foreign
# to the next one.
_spare_rsa_keys: Final[deque[rsa.RSAPrivateKey]] = deque()
_MIN_SPARE: Final = 4


class ReceivedRequest(NamedTuple):
    """A request that reached the server of a :class:`LocalIssuer`."""

    path: str
    """Path and query."""
    headers: Headers
    """Headers. Their names are not case-sensitive."""


class LocalIssuer:
    """An issuer of tokens for tests and demos, in place of an identity provider.

    As an object it makes keys and tokens, without any I/O. Once started it is also a real HTTP server on the loopback
    interface, with a JWK Set and discovery documents, that rotates its keys, stalls, fails or vanishes when told to.

    .. code-block:: python

        @pytest.fixture
        def issuer() -> Iterator[LocalIssuer]:
            with LocalIssuer(audience="my-api") as issuer:
                yield issuer


        def test_me(issuer: LocalIssuer) -> None:
            headers = issuer.auth_header("alice", scopes=["read"])
            with TestClient(create_app(issuer.url)) as client:
                assert client.get("/me", headers=headers).status_code == 200

    An app that is not to use HTTP takes :meth:`issuer.key_provider <key_provider>` for its key provider.

    With ``keys`` and a fixed ``clock``, tokens of RS256, RS384, RS512 and EdDSA are the same in each run. Other
    signatures are made with random numbers.
    """

    __slots__ = (
        "__weakref__",
        "_declare_alg",
        "_failure",
        "_foreign",
        "_issuer",
        "_keys",
        "_origin",
        "_path",
        "_pooled",
        "_reservation",
        "_seeds",
        "_served",
        "_server",
        "_ssl_context",
        "algorithm",
        "audience",
        "cache_control",
        "clock",
        "delay",
        "kid",
        "metadata",
        "requests",
        "responder",
    )

    algorithm: str
    """The algorithm that tokens are signed with."""
    audience: str | Sequence[str] | None
    """The ``aud`` claim of tokens that are not given another."""
    cache_control: str | None
    """The ``Cache-Control`` header of answers. None is sent if not set."""
    clock: Callable[[], float]
    """Returns the time of the tokens, in seconds since the epoch."""
    delay: float
    """Seconds that the server waits before it answers."""
    kid: str
    """ID of the key that signs."""
    metadata: dict[str, Any]
    """Members of the discovery document to set, or with ``None`` to leave out."""
    requests: list[ReceivedRequest]
    """What the server has been asked, in that order, whatever it answered. May be cleared."""
    responder: Callable[[BaseHTTPRequestHandler], None] | None
    """Answers requests in place of the server, and may break every rule. The connection is closed afterwards."""

    def __init__(
        self,
        issuer: str | None = None,
        *,
        algorithm: str = "RS256",
        audience: str | Sequence[str] | None = None,
        keys: Iterable[SingleKey] = (),
        declare_alg: bool = True,
        clock: Callable[[], float] = time.time,
        path: str = "",
        cache_control: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        ssl_context: SSLContext | None = None,
    ) -> None:
        """Set up an issuer that has one key. The server is not started by this.

        Args:
            issuer: The name of the issuer. Its URL if not set.
            algorithm: The algorithm to sign with, any asymmetric one.
            audience: The ``aud`` claim of tokens that are not given another.
            keys: Private keys to use, in this order, before any are generated: of ``cryptography``, as unencrypted PEM,
                or as :class:`jwt.PyJWK`, whose ID they keep. The ID of all other keys is their RFC 7638 thumbprint.
            declare_alg: Whether published keys have the ``alg`` member. Microsoft Entra ID, for one, leaves it out.
            clock: Returns the time of the tokens, in seconds since the epoch.
            path: Path of the issuer's URL, such as ``/realms/demo``, or ``/`` for a name that ends with a slash.
            cache_control: The ``Cache-Control`` header of answers.
            metadata: Members of the discovery document to set, or with ``None`` to leave out.
            ssl_context: Makes the server an HTTPS one.

        Raises:
            ValueError: If the algorithm is not an asymmetric one, or the first key cannot sign with it.
        """
        if algorithm not in ASYMMETRIC_ALGORITHMS:
            raise ValueError(f"{algorithm!r} is not one of {', '.join(sorted(ASYMMETRIC_ALGORITHMS))}")
        self.algorithm = algorithm
        self.audience = audience
        self.cache_control = cache_control
        self.clock = clock
        self.delay = 0.0
        self.metadata = dict(metadata or {})
        self.requests = []
        self.responder = None
        self._declare_alg = declare_alg
        self._issuer = issuer
        self._path = path
        self._ssl_context = ssl_context
        self._origin = "https://issuer.test"
        self._failure: tuple[int, Mapping[str, str]] | None = None
        self._served: Mapping[str, Any] | bytes | None = None
        self._server: _Server | None = None
        self._reservation: socket.socket | None = None
        self._pooled: list[rsa.RSAPrivateKey] = []
        weakref.finalize(self, _spare_rsa_keys.extend, self._pooled)
        self._seeds = iter(keys)
        self._foreign: PrivateKey | None = None
        self._keys: dict[str, _IssuerKey] = {}
        self.kid = self.publish()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(issuer={self.issuer!r}, algorithm={self.algorithm!r}, kid={self.kid!r})"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def issuer(self) -> str:
        """The name of the issuer, which is the ``iss`` claim of its tokens."""
        return self._issuer or self.url

    @property
    def url(self) -> str:
        """Where the issuer is. Made up, ``https://issuer.test``, until the server has been started."""
        return self._origin + self._path

    @property
    def jwks_url(self) -> str:
        """Where the JWK Set is."""
        return self.url.removesuffix("/") + _JWKS_PATH

    @property
    def discovery_url(self) -> str:
        """Where the discovery document of OpenID Connect is. That of RFC 8414 is there too, and the same."""
        return self.url.removesuffix("/") + _OPENID_PATH

    @property
    def private_key(self) -> PrivateKey:
        """The key that signs."""
        return self._signing.private

    @property
    def public_pem(self) -> str:
        """The public half of the key that signs, as PEM."""
        public = self._signing.private.public_key()
        return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    @property
    def pyjwk(self) -> jwt.PyJWK:
        """The public half of the key that signs, as PyJWT has it."""
        return jwt.PyJWK(dict(self._signing.jwk), self.algorithm)

    @property
    def jwks(self) -> dict[str, Any]:
        """The JWK Set of the published keys, with public members only. The oldest key comes first."""
        return {"keys": [dict(key.jwk) for key in self._published()]}

    @property
    def discovery(self) -> dict[str, Any]:
        """The discovery document. The endpoints that people would log in at do not exist."""
        document = {
            "issuer": self.issuer,
            "jwks_uri": self.jwks_url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [self.algorithm],
            **self.metadata,
        }
        return {name: value for name, value in document.items() if value is not None}

    def key_provider(self, token: UnverifiedToken, /) -> Sequence[jwt.PyJWK]:
        """Find published keys without any I/O: a key provider to put in place of the one that an app has.

        Args:
            token: The token to verify.

        Returns:
            The keys that may verify it.

        Raises:
            KeyNotFoundError: If no published key fits.
        """
        if keys := KeySet([key.verification for key in self._published()]).select(token):
            return keys
        raise KeyNotFoundError("Invalid token")

    def token(
        self,
        sub: str = "user",
        *,
        scopes: str | Iterable[str] | None = None,
        audience: str | Sequence[str] | None = None,
        expires_in: float | timedelta = 3600,
        headers: Mapping[str, Any] | None = None,
        key: SingleKey | None = None,
        **claims: Any,
    ) -> str:
        """Make a token.

        Args:
            sub: The subject.
            scopes: The ``scope`` claim. Several are joined with spaces.
            audience: The ``aud`` claim, if it is not to be that of the issuer.
            expires_in: Seconds from now to ``exp``, less than 0 for a token that has expired.
            headers: JOSE header parameters to set, or with ``None`` to leave out.
            key: What to sign with if not the current key: the ID of another of the issuer's keys, or any private key.
            **claims: Claims to set, or with ``None`` to leave out. They go before those made of the other arguments.

        Returns:
            The token in compact serialization.

        Raises:
            ValueError: If the key cannot sign with the issuer's algorithm.
        """
        signer = self._signing if key is None else self._find(key)
        lifetime = expires_in.total_seconds() if isinstance(expires_in, timedelta) else expires_in
        now = self.clock()
        payload = {
            "iss": self.issuer,
            "sub": sub,
            "aud": self.audience if audience is None else audience,
            "iat": int(now),
            "exp": int(now + lifetime),
            "scope": scopes if scopes is None or isinstance(scopes, str) else " ".join(scopes),
            **claims,
        }
        return jwt.encode(
            {name: value for name, value in payload.items() if value is not None},
            signer.private,
            self.algorithm,
            # PyJWT adds "typ" unless it is told not to.
            {k: v for k, v in {"kid": signer.kid, **(headers or {})}.items() if v is not None or k == "typ"},
        )

    def forged_token(self, sub: str = "user", *, headers: Mapping[str, Any] | None = None, **kwargs: Any) -> str:
        """Make a token that looks right, down to its ``kid``, but is signed with a key that is not the issuer's.

        Args:
            sub: The subject.
            headers: JOSE header parameters to set, or with ``None`` to leave out.
            **kwargs: What else :meth:`token` takes.

        Returns:
            The token in compact serialization.
        """
        if self._foreign is None:
            self._foreign = self._generate()
        return self.token(sub, headers={"kid": self.kid, **(headers or {})}, key=self._foreign, **kwargs)

    def auth_header(self, sub: str = "user", **kwargs: Any) -> dict[str, str]:
        """Make a token and the header to send it with.

        Args:
            sub: The subject.
            **kwargs: What else :meth:`token` takes.

        Returns:
            The ``Authorization`` header.
        """
        return {"Authorization": f"Bearer {self.token(sub, **kwargs)}"}

    def rotate(self, keep: int = 1) -> str:
        """Sign with the next key from now on: one that was published ahead, else a new one, which is published at once.

        Args:
            keep: How many of the keys before it stay published, latest first. The others are withdrawn.

        Returns:
            The ID of the key that signs now.

        Raises:
            ValueError: If the next of ``keys`` cannot sign with the issuer's algorithm.
        """
        kids = list(self._keys)
        ahead = (kid for kid in kids[kids.index(self.kid) + 1 :] if self._keys[kid].published)
        self.kid = next(ahead, "") or self.publish()
        published = [key.kid for key in self._published()]
        older = published[: published.index(self.kid)]
        for kid in older[: max(0, len(older) - keep)]:
            self.withdraw(kid)
        return self.kid

    def publish(self, key: SingleKey | None = None) -> str:
        """Publish a key without signing with it yet. :meth:`rotate` does that.

        Args:
            key: A private key, or the ID of one that was withdrawn. A new one if not set. A :class:`jwt.PyJWK` takes
                the place of a key with the same ID.

        Returns:
            The ID of the key.

        Raises:
            ValueError: If the key cannot sign with the issuer's algorithm.
        """
        if key is None:
            key = next(self._seeds, None)
        added = self._find(self._generate() if key is None else key)
        added.published = True
        self._keys[added.kid] = added
        return added.kid

    def withdraw(self, kid: str) -> None:
        """Take a key out of the JWK Set. If it is the one that signs, it goes on signing.

        Args:
            kid: The ID of the key.

        Raises:
            KeyError: If the issuer never had such a key.
        """
        self._keys[kid].published = False

    def serve_jwks(self, document: Mapping[str, Any] | bytes | None) -> None:
        """Have the server send something else in place of the JWK Set.

        Args:
            document: What to send, bytes as they are. ``None`` for the JWK Set of the published keys again.
        """
        self._served = document

    def start(self, port: int = 0) -> Self:
        """Start the server, unless it runs already. It answers in threads of its own.

        Args:
            port: The port on 127.0.0.1. Any free one if 0.

        Returns:
            The issuer itself.

        Raises:
            OSError: If the port is taken.
        """
        self.back()
        if self._server is None:
            self._server = _Server(self, port, self._ssl_context)
            scheme = "http" if self._ssl_context is None else "https"
            self._origin = f"{scheme}://{_HOST}:{self._server.server_address[1]}"
        return self

    def close(self) -> None:
        """Stop the server and cut its connections. What needs no server still works, under the last URL."""
        if self._server is not None:
            self._server.stop()
            self._server = None
        if self._reservation is not None:
            self._reservation.close()
            self._reservation = None

    def gone(self) -> None:
        """Vanish: cut all connections and refuse new ones. Without effect on an issuer that was not started."""
        if self._server is not None:
            port = self._server.server_address[1]
            self.close()
            # A socket that is bound and does not listen refuses connections, and keeps the port from being given away.
            self._reservation = socket.socket()
            self._reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._reservation.bind((_HOST, port))

    def back(self) -> None:
        """Be there again after :meth:`gone`, at the same URL."""
        if self._reservation is not None:
            port = self._reservation.getsockname()[1]
            self.close()
            self.start(port)

    def fail_with(self, status: int, headers: Mapping[str, str] | None = None) -> None:
        """Answer every request with an error, until :meth:`recover`.

        Args:
            status: The status code.
            headers: Headers of the answer, such as ``Retry-After``, or ``Location`` for a redirect.
        """
        self._failure = (status, headers or {})

    def recover(self) -> None:
        """Put an end to every fault: the delay, the failure, the responder, and being gone."""
        self.delay = 0.0
        self._failure = None
        self.responder = None
        self.back()

    @property
    def _signing(self) -> _IssuerKey:
        return self._keys[self.kid]

    def _published(self) -> list[_IssuerKey]:
        # The server's threads come here while another adds keys, so the dict is copied before anything else.
        return [key for key in list(self._keys.values()) if key.published]

    def _find(self, key: SingleKey) -> _IssuerKey:
        """Return the issuer's own key of this ID or this material, or else wrap a key that is not the issuer's."""
        if isinstance(key, str) and key in self._keys:
            return self._keys[key]
        other = _IssuerKey(key, self.algorithm, declare_alg=self._declare_alg)
        return next((known for known in self._keys.values() if known.thumbprint == other.thumbprint), other)

    def _generate(self) -> PrivateKey:
        if self.algorithm == "EdDSA":
            return Ed25519PrivateKey.generate()
        if curve := _CURVES.get(self.algorithm):
            return ec.generate_private_key(curve())
        self._pooled.append(
            _spare_rsa_keys.popleft()
            if len(_spare_rsa_keys) > _MIN_SPARE
            else rsa.generate_private_key(public_exponent=65537, key_size=_RSA_BITS)
        )
        return self._pooled[-1]

    def _resource(self, path: str) -> tuple[str, bytes] | None:
        """Return the media type and the bytes of what is at a path."""
        base = self._path.removesuffix("/")
        if path == base + _JWKS_PATH:
            served = self.jwks if self._served is None else self._served
            return "application/jwk-set+json", served if isinstance(served, bytes) else json.dumps(served).encode()
        # RFC 8414, section 3.1, puts the issuer's path behind the well-known one, OpenID Connect in front of it.
        if path in {base + _OPENID_PATH, _OAUTH_PATH + base}:
            return "application/json", json.dumps(self.discovery).encode()
        return None


class _IssuerKey:
    """A private key with what is known of it in public."""

    __slots__ = ("jwk", "kid", "private", "published", "thumbprint", "verification")

    def __init__(self, key: SingleKey, algorithm: str, *, declare_alg: bool) -> None:
        private, kid = signing_key(key, algorithm)
        self.private = cast("PrivateKey", private)
        members = public_jwk(self.private)
        self.thumbprint = thumbprint(members)
        self.kid = kid or self.thumbprint
        self.jwk = {**members, "kid": self.kid, "use": "sig", **({"alg": algorithm} if declare_alg else {})}
        self.verification = VerificationKey(self.jwk)
        self.published = False


class _Server(ThreadingTCPServer):
    """Runs from when it is made until it is stopped."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, issuer: LocalIssuer, port: int, ssl_context: SSLContext | None) -> None:
        self.stopping = Event()
        super().__init__((_HOST, port), partial(_Handler, issuer, self.stopping))
        if ssl_context is not None:
            # The handshake is left to the thread that reads, lest a client that never finishes it keeps others waiting.
            self.socket = ssl_context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self._connections: set[socket.socket] = set()
        self._thread = Thread(target=self._serve, name="LocalIssuer", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self.stopping.is_set():
            self.handle_request()

    def stop(self) -> None:
        self.stopping.set()
        with socket.create_connection((_HOST, self.server_address[1])):  # wakes the thread
            self._thread.join()
        self.server_close()
        for connection in list(self._connections):
            with suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        return not self.stopping.is_set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # clients may leave when they like
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(self, issuer: LocalIssuer, stopping: Event, *args: Any) -> None:
        self._issuer = issuer
        self._stopping = stopping
        super().__init__(*args)  # answers until the connection ends

    def do_GET(self) -> None:
        issuer = self._issuer
        issuer.requests.append(ReceivedRequest(self.path, Headers(dict(self.headers.items()))))
        if self._stopping.wait(issuer.delay):
            self.close_connection = True
        elif (responder := issuer.responder) is not None:
            self.close_connection = True
            responder(self)
        elif (failure := issuer._failure) is not None:
            self._answer(*failure)
        else:
            self._send_resource()

    def _send_resource(self) -> None:
        if (resource := self._issuer._resource(urlsplit(self.path).path)) is None:
            return self._answer(404, {})
        media_type, body = resource
        etag = f'"{sha256(body).hexdigest()}"'
        headers = {"ETag": etag}
        if self._issuer.cache_control is not None:
            headers["Cache-Control"] = self._issuer.cache_control
        if etag in self.headers.get("If-None-Match", ""):
            return self._answer(304, headers)
        return self._answer(200, {"Content-Type": media_type, **headers}, body)

    def _answer(self, status: int, headers: Mapping[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 304:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Keep the output of tests clean: what came in is in ``requests``."""
