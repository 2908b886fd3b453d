"""Keys, and what provides them."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from math import ceil
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, get_args, runtime_checkable

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from litestar.exceptions import NotAuthorizedException, ServiceUnavailableException

if TYPE_CHECKING:
    from jwt.algorithms import Algorithm

    from litestar.connection import ASGIConnection
    from litestar.security.jwt.unverified import UnverifiedToken

__all__ = (
    "JWK",
    "Key",
    "KeyNotFoundException",
    "KeyProvider",
    "KeysUnavailableException",
    "SelectedKeys",
    "UnknownIssuerException",
    "UnusableKeyError",
    "VerificationKey",
)

PublicKey: TypeAlias = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey
PrivateKey: TypeAlias = (
    rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
)
JWK: TypeAlias = Mapping[str, object]
"""The members of a JWK, as decoded from JSON (RFC 7517, section 4)."""

SYMMETRIC_ALGORITHMS: Final = ("HS256", "HS384", "HS512")
RSA_ALGORITHMS: Final = ("RS256", "PS256", "RS384", "RS512", "PS384", "PS512")
EC_ALGORITHMS: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512", "secp256k1": "ES256K"}
# RFC 9864: names of EdDSA with one curve. PyJWT knows the algorithm as "EdDSA".
CURVE_NAMES: Final = ("Ed25519", "Ed448")
ASYMMETRIC_ALGORITHMS: Final = (*RSA_ALGORITHMS, *EC_ALGORITHMS.values(), "EdDSA", *CURVE_NAMES)
"""What a public key can verify, what every implementation has first (RFC 7518, section 3.1)."""

# RFC 7518, section 3.3. Larger keys than this cost a verifier more than the sender of a forged token.
_MIN_RSA_BITS: Final = 2048
_MAX_RSA_BITS: Final = 8192
# The exponent of nearly all keys has 17 bits. Verifying takes as many steps as it has bits.
_MAX_EXPONENT_BITS: Final = 32
# RFC 7518, section 6, and RFC 8037, section 2: the members that make a public key, in the order of RFC 7638, section 3.2.
PUBLIC_MEMBERS: Final = {"EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x"), "RSA": ("e", "kty", "n")}
_PUBLIC_KEYS: Final[tuple[type, ...]] = get_args(PublicKey)
_PRIVATE_KEYS: Final[tuple[type, ...]] = get_args(PrivateKey)


UNAVAILABLE: Final = "Keys to verify tokens with are unavailable"
"""What a client reads if no keys are available."""


class KeyNotFoundException(NotAuthorizedException):
    """No key can verify this token. The response is ``401``."""


class UnknownIssuerException(KeyNotFoundException):
    """The token is from an issuer that the key provider does not know. The response is ``401``."""

    def __init__(self, *expected: str) -> None:
        """Create the exception.

        Args:
            *expected: Names of the issuers that the provider knows, for the log.
        """
        super().__init__("Invalid token")
        self.expected = expected


class KeysUnavailableException(ServiceUnavailableException):
    """No keys are available at the moment. The response is ``503`` with ``Retry-After``."""

    def __init__(self, *args: Any, retry_after: float = 30, **kwargs: Any) -> None:
        """Create the exception.

        Args:
            *args: What went wrong. It is part of the response body.
            retry_after: Seconds after which a client may try again, rounded up.
            **kwargs: Passed on to :class:`ServiceUnavailableException <litestar.exceptions.ServiceUnavailableException>`.
        """
        headers = {"Retry-After": str(max(1, ceil(retry_after))), **(kwargs.pop("headers", None) or {})}
        super().__init__(*args, headers=headers, **kwargs)


class UnusableKeyError(ValueError):
    """A key that cannot be used here. The message says which rule it breaks, and never shows the key."""


@dataclass(frozen=True, slots=True, eq=False)
class VerificationKey:
    """One key, ready to verify signatures, and what it may be used for."""

    prepared: Mapping[str, Any] = field(repr=False)
    """The key by names of algorithms, as ``prepare_key`` of that algorithm of PyJWT returned it."""
    kid: str | None = None
    """The key's ID."""
    issuer: str | None = None
    """The only issuer that the key verifies tokens of, if its JWK names one, as in the JWK Sets of Microsoft Entra ID."""
    jwk: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The members that make the public key. A shared secret has none."""

    @property
    def algorithms(self) -> tuple[str, ...]:
        """Names of the algorithms that its signatures may have, the most common first."""
        return tuple(self.prepared)

    @property
    def thumbprint(self) -> str:
        """The SHA-256 thumbprint of the public key (RFC 7638)."""
        return thumbprint(self.jwk)


@dataclass(frozen=True, slots=True)
class SelectedKeys:
    """The keys that may verify a token. They need no further selection."""

    algorithm: str
    """The algorithm of the token."""
    keys: tuple[VerificationKey, ...]
    """The keys, in the order to try. Possibly none."""


SingleKey: TypeAlias = str | bytes | PublicKey | PrivateKey | jwt.PyJWK | VerificationKey | JWK
Key: TypeAlias = SingleKey | jwt.PyJWKSet | Sequence[SingleKey] | SelectedKeys
"""What verifies a signature. A PEM, an X.509 certificate or a shared secret as ``str`` or ``bytes``, a public or private key of
``cryptography``, a JWK or a JWK Set as a ``dict``, a :class:`jwt.PyJWK`, a :class:`jwt.PyJWKSet`, or a sequence of keys."""


@runtime_checkable
class KeyProvider(Protocol):
    """Anything that finds the key for a token.

    Any function or callable object of this shape is a key provider. A synchronous provider is called on the event loop, so
    it must not block.

    A provider can take the connection as a second parameter. It receives it if the parameter is required, or if its name is
    ``connection``. It can return another provider, which is then called in its place.

    A provider can also have any of these attributes:

    - ``lifespan(app)``: an async context manager, entered when the application starts and left when it shuts down.
    - ``async refetch(token) -> Key | None``: called once if the signature does not verify with the key that the provider
      returned. The issuer may have put a new key behind a known ID. It can take the connection, too.
    - ``issuers``: the names of the issuers, listed in protected resource metadata.
    - ``openid_connect_url``: URL of the discovery document, shown in the OpenAPI document.
    """

    def __call__(self, token: UnverifiedToken, /) -> Key | KeyProvider | Awaitable[Key | KeyProvider | None] | None:
        """Find the key that may verify a token.

        Any :class:`LookupError` counts as :class:`KeyNotFoundException`, any :class:`OSError` as
        :class:`KeysUnavailableException`. An :class:`HTTPException <litestar.exceptions.HTTPException>` reaches the client as it
        is. Other exceptions are the application's fault: they are logged, and the response is ``500``.

        Args:
            token: What the token says about itself. None of it can be trusted.

        Returns:
            A key, several keys, another provider, or an awaitable of these. ``None`` or an empty sequence refuses the token.

        Raises:
            KeyNotFoundException: If there is none for this token.
            KeysUnavailableException: If none are available at the moment.
        """
        ...


class ConnectionKeyProvider(Protocol):
    """A :class:`KeyProvider` that needs the connection."""

    def __call__(
        self, token: UnverifiedToken, connection: ASGIConnection[Any, Any, Any, Any], /
    ) -> Key | KeyProvider | Awaitable[Key | KeyProvider | None] | None:
        """Find the key that may verify a token.

        Args:
            token: What the token says about itself. None of it can be trusted.
            connection: The connection that the token came with.

        Returns:
            What a :class:`KeyProvider` returns.
        """
        ...


def names_of(algorithm: str | Iterable[str]) -> tuple[str, ...]:
    """Return the names of one algorithm or several."""
    return (algorithm,) if isinstance(algorithm, str) else tuple(algorithm)


def get_algorithm(name: str) -> Algorithm:
    """Return PyJWT's algorithm of a name.

    Args:
        name: The name, as in a token's header.

    Raises:
        NotImplementedError: If PyJWT has none, or the name is ``none``.
    """
    if name.lower() == "none":
        raise NotImplementedError("A token without a signature proves nothing")
    return jwt.get_algorithm_by_name("EdDSA" if name in CURVE_NAMES else name)


def is_public_or_private(key: object) -> bool:
    """Tell whether a value is a key object of ``cryptography`` that JWTs are signed with."""
    return isinstance(key, (*_PUBLIC_KEYS, *_PRIVATE_KEYS))


def is_private(key: object) -> bool:
    """Tell whether a value is a private key of ``cryptography`` that signs JWTs."""
    return isinstance(key, _PRIVATE_KEYS)


def is_key(value: object) -> bool:
    """Tell whether something is a key, or a sequence of keys, rather than a provider of keys."""
    if isinstance(value, (str, bytes, SelectedKeys, VerificationKey, jwt.PyJWK, jwt.PyJWKSet)):
        return True
    if callable(value):
        return False
    if isinstance(value, Sequence):
        return bool(value) and all(is_key(member) for member in value)
    return isinstance(value, Mapping) or is_public_or_private(value)


def single_keys(key: Key) -> Sequence[SingleKey]:
    """Return the keys of a sequence or a set, or the one key as the only one."""
    if isinstance(key, jwt.PyJWKSet):
        return list(key.keys)
    if isinstance(key, SelectedKeys):
        return key.keys
    if isinstance(key, Mapping):
        keys = key.get("keys")
        return keys if isinstance(keys, list) else (key,)
    if isinstance(key, Sequence) and not isinstance(key, (str, bytes)):
        return key
    return (key,)


def public_half(key: PublicKey | PrivateKey) -> PublicKey:
    """Return the public key of a key pair, or the public key itself."""
    return key.public_key() if isinstance(key, PrivateKey) else key


def algorithms_of(key: PublicKey) -> tuple[str, ...]:
    """Tell which algorithms a public key can be used with.

    Args:
        key: The key.

    Returns:
        Names of algorithms, the most common first.

    Raises:
        UnusableKeyError: If it cannot be used with any.
    """
    if isinstance(key, rsa.RSAPublicKey):
        _check_rsa(key)
        return RSA_ALGORITHMS
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in EC_ALGORITHMS:
        return (EC_ALGORITHMS[key.curve.name],)
    if isinstance(key, ed25519.Ed25519PublicKey):
        return ("EdDSA", "Ed25519")
    if isinstance(key, ed448.Ed448PublicKey):
        return ("EdDSA", "Ed448")
    raise UnusableKeyError(f"no algorithm takes a key of this kind: {type(key).__name__}")


def _check_rsa(key: rsa.RSAPublicKey) -> None:
    if not _MIN_RSA_BITS <= key.key_size <= _MAX_RSA_BITS:
        raise UnusableKeyError(
            f"it is an RSA key of {key.key_size} bits. Use one of {_MIN_RSA_BITS} to {_MAX_RSA_BITS} bits"
        )
    numbers = key.public_numbers()
    if numbers.e.bit_length() > _MAX_EXPONENT_BITS:
        raise UnusableKeyError(f"it is an RSA key with an exponent of more than {_MAX_EXPONENT_BITS} bits")
    if numbers.n % 2 == 0:
        raise UnusableKeyError("it is an RSA key with an even modulus")


def public_jwk(key: PublicKey | PrivateKey) -> dict[str, str]:
    """Return the members of the JWK of a public key, or of the public half of a private one, without metadata.

    Args:
        key: The key.

    Raises:
        UnusableKeyError: If no algorithm takes it.
    """
    public = public_half(key)
    jwk: dict[str, Any] = get_algorithm(algorithms_of(public)[0]).to_jwk(public, as_dict=True)
    return {name: str(jwk[name]) for name in PUBLIC_MEMBERS[jwk["kty"]]}


def thumbprint(jwk: Mapping[str, str]) -> str:
    """Compute the SHA-256 thumbprint of a public key (`RFC 7638 <https://datatracker.ietf.org/doc/html/rfc7638>`_).

    Args:
        jwk: Members of its JWK.

    Returns:
        The thumbprint in base64url, fit to be a key ID.
    """
    required = {name: jwk[name] for name in PUBLIC_MEMBERS[jwk["kty"]]}
    digest = sha256(json.dumps(required, separators=(",", ":")).encode()).digest()
    return urlsafe_b64encode(digest).rstrip(b"=").decode()
