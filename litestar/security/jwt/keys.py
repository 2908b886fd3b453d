"""What a key is, which keys fit a token, and what signs."""

from __future__ import annotations

import json
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from hashlib import sha256
from math import ceil
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, cast, get_args, runtime_checkable

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from litestar.exceptions import ImproperlyConfiguredException, NotAuthorizedException, ServiceUnavailableException

if TYPE_CHECKING:
    from litestar.security.jwt.unverified import UnverifiedToken

__all__ = (
    "Key",
    "KeyNotFoundException",
    "KeyProvider",
    "KeySet",
    "KeysUnavailableException",
    "SelectedKeys",
    "UnusableKeyError",
    "VerificationKey",
)

PublicKey: TypeAlias = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey
PrivateKey: TypeAlias = (
    rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
)
SingleKey: TypeAlias = str | bytes | PublicKey | PrivateKey | jwt.PyJWK

SYMMETRIC_ALGORITHMS: Final = ("HS256", "HS384", "HS512")
_RSA_ALGORITHMS: Final = ("RS256", "PS256", "RS384", "RS512", "PS384", "PS512")
_EC_ALGORITHMS: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512", "secp256k1": "ES256K"}
ASYMMETRIC_ALGORITHMS: Final = (*_RSA_ALGORITHMS, *_EC_ALGORITHMS.values(), "EdDSA")
"""What a public key can verify, what every implementation has first (RFC 7518, section 3.1)."""

# RFC 7518, section 3.3, and the largest modulus that OpenSSL verifies with.
_MIN_RSA_BITS: Final = 2048
_MAX_RSA_BITS: Final = 16_384
# A token without a key ID may cost this many verifications. No issuer was seen to publish more keys of a kind.
_MAX_CANDIDATES: Final = 8
# RFC 7518, section 6, and RFC 8037, section 2: the members that make a public key, in the order of RFC 7638, section 3.2.
_PUBLIC_MEMBERS: Final = {"EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x"), "RSA": ("e", "kty", "n")}
_ANY_ALGORITHM: Final = {"EC": "ES256", "OKP": "EdDSA", "RSA": "RS256"}
_PRIVATE_KEYS: Final = get_args(PrivateKey)
_ASYMMETRIC_KEYS: Final = cast("Any", (*get_args(PublicKey), *_PRIVATE_KEYS))


class KeyNotFoundException(NotAuthorizedException):
    """No key can verify this token. The response is ``401``."""


class KeysUnavailableException(ServiceUnavailableException):
    """No keys are available at the moment. The response is ``503`` with ``Retry-After``."""

    def __init__(self, *args: Any, retry_after: float = 30, **kwargs: Any) -> None:
        """Create the exception.

        Args:
            *args: What went wrong. It is part of the response body.
            retry_after: Seconds after which a client may try again, rounded up.
            **kwargs: Passed on to :class:`ServiceUnavailableException <litestar.exceptions.ServiceUnavailableException>`.
        """
        super().__init__(*args, **{"headers": {"Retry-After": str(max(1, ceil(retry_after)))}, **kwargs})


class UnusableKeyError(ValueError):
    """A key that cannot be used here. The message says which rule it breaks."""


@dataclass(frozen=True, slots=True)
class SelectedKeys:
    """The keys that may verify a token, all for its algorithm. They need no further selection."""

    algorithm: str
    """The algorithm of the token."""
    keys: tuple[str | bytes | PublicKey | jwt.PyJWK, ...]
    """What PyJWT verifies with, in the order to try."""


Key: TypeAlias = SingleKey | jwt.PyJWKSet | Sequence[SingleKey] | SelectedKeys
"""What verifies a signature. A PEM or a shared secret as ``str`` or ``bytes``, a public or private key of ``cryptography``,
a :class:`jwt.PyJWK`, a :class:`jwt.PyJWKSet`, or a sequence of keys."""


@runtime_checkable
class KeyProvider(Protocol):
    """Anything that finds the key for a token.

    Any function or callable object of this shape is a key provider. A synchronous provider is called on the event loop, so
    it must not block. A provider can also have any of these attributes:

    - ``lifespan(app)``: an async context manager, entered when the application starts and left when it shuts down.
    - ``async look_again(token) -> Key | None``: called once if the signature does not verify with the key that the provider
      returned. The issuer may have put a new key behind a known ID.
    - ``issuers``: the names of the issuers, listed in protected resource metadata.
    - ``openid_connect_url``: URL of the discovery document, shown in the OpenAPI document.
    """

    def __call__(self, token: UnverifiedToken, /) -> Key | Awaitable[Key]:
        """Find the key that may verify a token.

        Any :class:`LookupError` counts as :class:`KeyNotFoundException`, any :class:`OSError` as
        :class:`KeysUnavailableException`. Other exceptions are the application's fault: they are logged, and the response is
        ``500``.

        Args:
            token: What the token says about itself. None of it can be trusted.

        Returns:
            A key, several keys, or an awaitable of these. ``None`` or an empty sequence refuses the token.

        Raises:
            KeyNotFoundException: If there is none for this token.
            KeysUnavailableException: If none are available at the moment.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class VerificationKey:
    """One public key, and what it may be used for."""

    material: PublicKey
    """The key itself."""
    algorithms: tuple[str, ...]
    """Names of the algorithms that its signatures may have."""
    kid: str | None = None
    """The key's ID."""
    issuer: str | None = None
    """The issuer that the key belongs to, if its JWK says so, as in the JWK Sets of Microsoft Entra ID."""

    @classmethod
    def from_jwk(cls, jwk: Any) -> VerificationKey:
        """Judge the members of a JWK (`RFC 7517, section 4 <https://datatracker.ietf.org/doc/html/rfc7517#section-4>`_).

        Args:
            jwk: The JWK, as decoded from JSON. Private members are ignored.

        Returns:
            The key.

        Raises:
            UnusableKeyError: If no signature can be verified with it here.
        """
        if not isinstance(jwk, Mapping):
            raise UnusableKeyError("not a JSON object")
        kty, declared = jwk.get("kty"), jwk.get("alg")
        if not isinstance(kty, str) or kty not in _PUBLIC_MEMBERS:  # a symmetric key is a secret that nobody publishes
            raise UnusableKeyError("unsupported 'kty'")
        for name in ("kid", "alg", "issuer"):
            if not isinstance(jwk.get(name), (str, type(None))):
                raise UnusableKeyError(f"{name!r} is not a string")
        _check_purpose(jwk, "verify")
        material = _load_jwk(jwk, declared if declared in ASYMMETRIC_ALGORITHMS else _ANY_ALGORITHM[kty])
        algorithms = tuple(name for name in algorithms_of(material) if declared in (None, name))
        if not algorithms:
            raise UnusableKeyError("'alg' is unsupported or does not fit the key")
        return cls(material, algorithms, jwk.get("kid"), jwk.get("issuer"))


class KeySet:
    """Keys, found by their ID."""

    __slots__ = ("_by_kid", "_selected", "keys")

    keys: tuple[VerificationKey, ...]
    """The keys, in order."""

    def __init__(self, keys: Iterable[VerificationKey]) -> None:
        """Index keys by their ID.

        Args:
            keys: The keys. Several may have the same ID.
        """
        self.keys = tuple(keys)
        self._by_kid: dict[str | None, list[VerificationKey]] = {}
        for key in self.keys:
            self._by_kid.setdefault(key.kid, []).append(key)
        self._selected: dict[tuple[str | None, str], SelectedKeys] = {}

    def select(self, token: UnverifiedToken) -> SelectedKeys:
        """Choose the keys that may verify a token.

        A key is for the algorithm it declares, or for those of its kind, whatever the token says (`RFC 8725, section 3.1
        <https://datatracker.ietf.org/doc/html/rfc8725#section-3.1>`_). Keys that the token brings along or points to, by ``jwk``,
        ``jku``, ``x5c`` or ``x5u``, are never looked at (section 3.10).

        Args:
            token: The token. If it names a key, those of this name are chosen, or else those that have no name.

        Returns:
            At most eight keys, possibly none.
        """
        kid, algorithm = token.kid, token.algorithm
        selected = self._selected.get((kid, algorithm))
        if selected is None:
            keys = self.keys if kid is None else self._by_kid.get(kid) or self._by_kid.get(None) or ()
            fitting = [key.material for key in keys if algorithm in key.algorithms]
            selected = SelectedKeys(algorithm, tuple(fitting[:_MAX_CANDIDATES]))
            if selected.keys and kid in self._by_kid:  # anyone can make up a name
                self._selected[kid, algorithm] = selected
        return selected


def select(key: Key | None, token: UnverifiedToken) -> SelectedKeys:
    """Choose those of a provider's or an application's keys that may verify a token.

    Args:
        key: A key or several. If they are selected already, they have to be for the token's algorithm.
        token: The token.

    Returns:
        The keys to try, possibly none.

    Raises:
        UnusableKeyError: If a key cannot be used with any token.
    """
    if isinstance(key, SelectedKeys) and key.algorithm == token.algorithm:
        return key
    several: Any = () if key is None or isinstance(key, SelectedKeys) else single_keys(key)
    if several and token.algorithm in ASYMMETRIC_ALGORITHMS:
        return KeySet(usable_keys(several)).select(token)
    return SelectedKeys(token.algorithm, tuple(several[:_MAX_CANDIDATES]))


def usable_keys(key: Key) -> list[VerificationKey]:
    """Return the public keys among an application's keys. A JWK that is for other purposes is left out.

    Args:
        key: A key or several.

    Returns:
        The keys that can verify signatures.

    Raises:
        UnusableKeyError: If a PEM cannot be read, or a key of ``cryptography`` is of no use here.
    """
    usable = []
    for single in single_keys(key):
        try:
            usable.append(verification_key(single))
        except UnusableKeyError:
            # Others publish JWKs, and tokens may name any of them. What is not a JWK is the application's own.
            if not isinstance(single, jwt.PyJWK):
                raise
    return usable


def own_keys(key: Key, algorithms: Sequence[str]) -> Sequence[VerificationKey]:
    """Judge the keys that an application verifies with.

    Args:
        key: A key or several.
        algorithms: The algorithms to accept, all of one kind.

    Returns:
        The public keys. None if the algorithms take secrets.

    Raises:
        UnusableKeyError: If a key cannot be used with any of the algorithms.
    """
    if not single_keys(key):
        raise UnusableKeyError("there is none")
    if not any(name in ASYMMETRIC_ALGORITHMS for name in algorithms):
        if any(name in SYMMETRIC_ALGORITHMS for name in algorithms) and any(map(is_asymmetric, single_keys(key))):
            raise UnusableKeyError(
                "it is a public key and not a secret. Set 'algorithm' to one for this key, such as 'RS256'"
            )
        return ()
    # Issuers publish keys for other purposes too, and PyJWT makes a PyJWKSet of all of them.
    is_published = isinstance(key, jwt.PyJWKSet)
    keys = usable_keys(key) if is_published else [verification_key(single) for single in single_keys(key)]
    fitting = [k for k in keys if not set(algorithms).isdisjoint(k.algorithms)]
    if not fitting or (len(fitting) < len(keys) and not is_published):
        raise UnusableKeyError(f"it is not a key for {' or '.join(algorithms)}. Set 'algorithm' to one for this key")
    return fitting


def natural_algorithms(key: Any) -> tuple[str, ...]:
    """Return the algorithms of an application that names none: those that its keys are for.

    Args:
        key: A key or several. Anything else counts as a shared secret.

    Returns:
        Names of algorithms, all of one kind.

    Raises:
        UnusableKeyError: If the keys are of different kinds, or one cannot be used.
    """
    names: list[str] = []
    for single in single_keys(key):
        if isinstance(single, jwt.PyJWK):
            names.append(single.algorithm_name)
        else:
            names += verification_key(single).algorithms if is_asymmetric(single) else ("HS256",)
    refuse_mixture(names)
    return tuple(dict.fromkeys(names))


def names_of(algorithm: str | Iterable[str]) -> tuple[str, ...]:
    """Return the names of one algorithm or several."""
    return (algorithm,) if isinstance(algorithm, str) else tuple(algorithm)


def refuse_mixture(algorithms: Sequence[str]) -> None:
    """Refuse to accept HMAC together with asymmetric algorithms.

    Anyone can sign with a public key that passes for a secret (`RFC 8725, section 2.1
    <https://datatracker.ietf.org/doc/html/rfc8725#section-2.1>`_).

    Raises:
        UnusableKeyError: If both are among the algorithms.
    """
    if any(name in SYMMETRIC_ALGORITHMS for name in algorithms) and any(n in ASYMMETRIC_ALGORITHMS for n in algorithms):
        raise UnusableKeyError("HMAC and asymmetric algorithms cannot be mixed. Choose one kind in 'algorithm'")


def raise_meaning(error: Exception) -> None:
    """Raise what an exception of a key provider means, unless it is one of the provider's own.

    Args:
        error: What the provider raised. PyJWT's client has exceptions of its own.
    """
    if isinstance(error, (jwt.PyJWKClientConnectionError, jwt.PyJWKSetError, OSError)):
        raise KeysUnavailableException("Keys to verify tokens with are unavailable") from error
    if isinstance(error, (jwt.PyJWTError, LookupError)):
        raise KeyNotFoundException("Invalid token") from error
    if isinstance(error, UnusableKeyError):
        raise ImproperlyConfiguredException(f"The key to verify tokens with cannot be used: {error}") from error


def is_key(value: Any) -> bool:
    """Tell whether something is a key, or a sequence of keys, rather than a provider of keys."""
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return bool(value) and all(is_key(member) for member in value)
    return isinstance(value, cast("Any", (str, bytes, jwt.PyJWK, jwt.PyJWKSet, *_ASYMMETRIC_KEYS)))


def single_keys(key: Key) -> Sequence[SingleKey]:
    """Return the keys of a sequence or a set, or the one key as the only one."""
    if isinstance(key, jwt.PyJWKSet):
        return cast("Sequence[SingleKey]", key.keys)
    if isinstance(key, Sequence) and not isinstance(key, (str, bytes)):
        return key
    return (cast("SingleKey", key),)


def verification_key(key: SingleKey) -> VerificationKey:
    """Judge one of the application's keys.

    Args:
        key: A PEM, an OpenSSH line, a key of ``cryptography`` or a JWK. A private key verifies with its public half.

    Returns:
        The key.

    Raises:
        UnusableKeyError: If it cannot verify signatures.
    """
    if isinstance(key, jwt.PyJWK):
        return _of_pyjwk(key)
    material = public_half(load_key(key) if isinstance(key, (str, bytes)) else key)
    return VerificationKey(material, algorithms_of(material))


@lru_cache(maxsize=256)
def _of_pyjwk(key: jwt.PyJWK) -> VerificationKey:
    """Judge a JWK that PyJWT has read. PyJWT binds it to one algorithm, and so does this (RFC 8725, section 3.1)."""
    _check_purpose(key._jwk_data, "verify", "sign")  # the public half of a key that signs may verify
    material = key.key
    if not isinstance(material, _ASYMMETRIC_KEYS) or key.algorithm_name not in algorithms_of(material):
        raise UnusableKeyError(f"the JWK is not one for {key.algorithm_name}")
    kid = key.key_id if isinstance(key.key_id, str) else None
    return VerificationKey(public_half(material), (key.algorithm_name,), kid)


def _check_purpose(jwk: Mapping[str, Any], *operations: str) -> None:
    """Check ``use`` and ``key_ops`` (RFC 7517, sections 4.2 and 4.3). Issuers write ``null`` for members that are absent."""
    if jwk.get("use") not in (None, "sig"):
        raise UnusableKeyError("not for signatures ('use')")
    declared = jwk.get("key_ops")
    if declared is not None and not (isinstance(declared, list) and any(name in declared for name in operations)):
        raise UnusableKeyError("not for verifying signatures ('key_ops')")


def _load_jwk(jwk: Mapping[str, Any], algorithm: str) -> PublicKey:
    members = {name: jwk[name] for name in _PUBLIC_MEMBERS[jwk["kty"]] if name in jwk}
    try:
        return cast("PublicKey", jwt.PyJWK(members, algorithm).key)
    except (jwt.PyJWTError, UnsupportedAlgorithm, ValueError, TypeError, KeyError, OverflowError) as e:
        raise UnusableKeyError("invalid key material") from e


@lru_cache(maxsize=32)
def load_key(pem: str | bytes) -> PublicKey | PrivateKey:
    """Read a key from a PEM or from the line of an OpenSSH public key.

    Args:
        pem: The text.

    Returns:
        The key.

    Raises:
        UnusableKeyError: If it is neither, is encrypted, or is of a kind that JWTs are not signed with.
    """
    data = pem.encode() if isinstance(pem, str) else pem
    for load in (
        serialization.load_pem_public_key,
        partial(serialization.load_pem_private_key, password=None),
        serialization.load_ssh_public_key,
    ):
        with suppress(ValueError, TypeError, UnsupportedAlgorithm):
            key: Any = load(data)
            if isinstance(key, _ASYMMETRIC_KEYS):
                return cast("PublicKey | PrivateKey", key)
    raise UnusableKeyError(f"it is {_description(data.strip())}")


def _description(data: bytes) -> str:
    """Say what a text is that is no key, and what to give instead. It may be a secret, so it is not repeated."""
    if data.startswith((b"http://", b"https://")):
        return "a URL. Use OpenIDProvider(issuer), or RemoteJWKSet(url) with the URL of a JWK Set"
    if rb"\n" in data:
        return "a PEM with line breaks written as '\\n'. Replace them with real line breaks"
    if _is_bare_public_key(data):
        return "a public key without the lines '-----BEGIN PUBLIC KEY-----' and '-----END PUBLIC KEY-----'. Add them"
    return "not a PEM, or encrypted. Pass the content of a file, not its path. A secret needs algorithm='HS256'"


def _is_bare_public_key(data: str | bytes) -> bool:
    with suppress(ValueError, TypeError, UnsupportedAlgorithm):
        return bool(serialization.load_der_public_key(cast("bytes", data)))
    with suppress(ValueError, UnsupportedAlgorithm):
        return bool(serialization.load_der_public_key(b64decode(data)))
    return False


def is_asymmetric(key: SingleKey) -> bool:
    """Tell whether a key, in whatever encoding, is a public or private key rather than a shared secret."""
    material: Any = key.key if isinstance(key, jwt.PyJWK) else key
    if not isinstance(material, (str, bytes)):
        return isinstance(material, _ASYMMETRIC_KEYS)
    with suppress(UnusableKeyError):
        return bool(load_key(material))
    return _is_bare_public_key(material)


def public_half(key: Any) -> PublicKey:
    """Return the public key of a key pair, or the public key itself."""
    return cast("PublicKey", key.public_key() if isinstance(key, _PRIVATE_KEYS) else key)


def algorithms_of(key: Any) -> tuple[str, ...]:
    """Tell which algorithms a public or private key can be used with.

    Args:
        key: A key of ``cryptography``.

    Returns:
        Names of algorithms, the most common first.

    Raises:
        UnusableKeyError: If it cannot be used with any.
    """
    key = public_half(key)
    if isinstance(key, rsa.RSAPublicKey):
        if not _MIN_RSA_BITS <= key.key_size <= _MAX_RSA_BITS:
            raise UnusableKeyError(
                f"it is an RSA key of {key.key_size} bits. Use one of {_MIN_RSA_BITS} to {_MAX_RSA_BITS} bits"
            )
        if key.public_numbers().n % 2 == 0:
            raise UnusableKeyError("it is an RSA key with an even modulus")
        return _RSA_ALGORITHMS
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _EC_ALGORITHMS:
        return (_EC_ALGORITHMS[key.curve.name],)
    if isinstance(key, (ed25519.Ed25519PublicKey, ed448.Ed448PublicKey)):
        return ("EdDSA",)
    raise UnusableKeyError(f"no algorithm takes a key of this kind: {type(key).__name__}")


def signing_key(key: Key, algorithm: str | Iterable[str]) -> tuple[Any, str | None, str]:
    """Choose what to sign a token with.

    Args:
        key: A key, or several of which the first signs.
        algorithm: The algorithm to sign with, or several of which the first that fits is used.

    Returns:
        The key, its ID, which only a :class:`jwt.PyJWK` has, and the algorithm.

    Raises:
        UnusableKeyError: If the key cannot sign.
    """
    names, kid = names_of(algorithm), None
    material: Any = next(iter(single_keys(key)), None)
    if isinstance(material, jwt.PyJWK):
        names, kid = tuple(name for name in names if name == material.algorithm_name), material.key_id
        material = material.key
    for name in names:
        if name not in ASYMMETRIC_ALGORITHMS:
            if name not in SYMMETRIC_ALGORITHMS or isinstance(material, (str, bytes)):
                return material, kid, name
        else:
            private = load_key(material) if isinstance(material, (str, bytes)) else material
            if name in algorithms_of(private):
                if not isinstance(private, _PRIVATE_KEYS):
                    raise UnusableKeyError("it is a public key. Only a private key signs")
                return private, kid, name
    raise UnusableKeyError(f"it is not a key for {' or '.join(names_of(algorithm))}")


@lru_cache(maxsize=32)
def identified(key: PrivateKey, kid: str | None, algorithm: str) -> jwt.PyJWK:
    """Make a JWK of a private key, with its thumbprint as the ID unless it has one.

    Args:
        key: The private key.
        kid: Its ID.
        algorithm: The algorithm to sign with.

    Returns:
        A JWK that signs.
    """
    members: dict[str, Any] = jwt.get_algorithm_by_name(algorithm).to_jwk(key, as_dict=True)
    return jwt.PyJWK({**members, "kid": kid or thumbprint(members)}, algorithm)


def public_jwk(key: PublicKey | PrivateKey) -> dict[str, Any]:
    """Return the members of the JWK of a public key, or of the public half of a private one, without metadata."""
    public = public_half(key)
    jwk: dict[str, Any] = jwt.get_algorithm_by_name(algorithms_of(public)[0]).to_jwk(public, as_dict=True)
    return {name: jwk[name] for name in _PUBLIC_MEMBERS[jwk["kty"]]}


def thumbprint(jwk: Mapping[str, Any]) -> str:
    """Compute the SHA-256 thumbprint of a public key (`RFC 7638 <https://datatracker.ietf.org/doc/html/rfc7638>`_).

    Args:
        jwk: Members of its JWK.

    Returns:
        The thumbprint in base64url, fit to be a key ID.
    """
    required = {name: jwk[name] for name in _PUBLIC_MEMBERS[jwk["kty"]]}
    digest = sha256(json.dumps(required, separators=(",", ":")).encode()).digest()
    return urlsafe_b64encode(digest).rstrip(b"=").decode()
