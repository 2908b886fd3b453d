from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Collection, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from itertools import islice
from math import ceil
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, cast, runtime_checkable

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey, Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import (
    load_pem_private_key,
    load_pem_public_key,
    load_ssh_public_key,
)

from litestar.exceptions import NotAuthorizedException, ServiceUnavailableException

if TYPE_CHECKING:
    from litestar.security.jwt.unverified import UnverifiedToken

__all__ = (
    "ALGORITHMS",
    "ASYMMETRIC_ALGORITHMS",
    "SYMMETRIC_ALGORITHMS",
    "Key",
    "KeyNotFoundError",
    "KeyProvider",
    "KeySet",
    "KeysUnavailableError",
    "UnusableKeyError",
    "VerificationKey",
    "algorithms_of",
    "candidates",
    "fitting",
    "identified",
    "is_key",
    "is_mixture",
    "load_key",
    "provider_error",
    "public_half",
    "public_jwk",
    "signing_key",
    "single_keys",
    "thumbprint",
)

PublicKey: TypeAlias = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | Ed448PublicKey
PrivateKey: TypeAlias = RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey | Ed448PrivateKey
SingleKey: TypeAlias = str | bytes | PublicKey | PrivateKey | jwt.PyJWK

Key: TypeAlias = SingleKey | jwt.PyJWKSet | Sequence[SingleKey]
"""Whatever can verify a signature. A shared secret or a PEM as ``str`` or ``bytes``, a public or private key of
``cryptography``, a :class:`jwt.PyJWK`, a :class:`jwt.PyJWKSet`, or a sequence of keys."""

SYMMETRIC_ALGORITHMS: Final = frozenset({"HS256", "HS384", "HS512"})
_RSA_ALGORITHMS: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_EC_ALGORITHMS: Final = {"secp256r1": "ES256", "secp256k1": "ES256K", "secp384r1": "ES384", "secp521r1": "ES512"}
_EDDSA: Final = frozenset({"EdDSA"})
ASYMMETRIC_ALGORITHMS: Final = _RSA_ALGORITHMS | frozenset(_EC_ALGORITHMS.values()) | _EDDSA
ALGORITHMS: Final = SYMMETRIC_ALGORITHMS | ASYMMETRIC_ALGORITHMS

# RFC 8725, section 3.5, with RFC 7518, section 3.3, and the largest modulus that OpenSSL verifies with.
_MIN_RSA_BITS: Final = 2048
_MAX_RSA_BITS: Final = 16_384
_MAX_CANDIDATES: Final = 8
# RFC 7518, section 6, and RFC 8037, section 2: the members that make a public key, in the order of RFC 7638, section 3.2.
_PUBLIC_MEMBERS: Final = {"EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x"), "RSA": ("e", "kty", "n")}
_PUBLIC_KEYS: Final = (RSAPublicKey, EllipticCurvePublicKey, Ed25519PublicKey, Ed448PublicKey)
_PRIVATE_KEYS: Final = (RSAPrivateKey, EllipticCurvePrivateKey, Ed25519PrivateKey, Ed448PrivateKey)


class KeyNotFoundError(NotAuthorizedException):
    """There is no key that could verify this token. Answered with ``401``."""


class KeysUnavailableError(ServiceUnavailableException):
    """There are no keys to be had at the moment. Answered with ``503`` and ``Retry-After``."""

    def __init__(self, *args: Any, retry_after: float = 30, **kwargs: Any) -> None:
        """Say when to come back.

        Args:
            *args: What went wrong. It is part of the response body.
            retry_after: Seconds after which a client may try again, rounded up.
            **kwargs: Passed on to :class:`ServiceUnavailableException <litestar.exceptions.ServiceUnavailableException>`.
        """
        super().__init__(*args, **{"headers": {"Retry-After": str(max(1, ceil(retry_after)))}, **kwargs})


class UnusableKeyError(ValueError):
    """A key that cannot verify anything here. The message says which rule it broke."""


@runtime_checkable
class KeyProvider(Protocol):
    """Anything that finds the key for a token.

    Any function, or object that can be called, of this shape is one. A synchronous provider is called on the event loop, so
    it must not block.
    """

    def __call__(self, token: UnverifiedToken, /) -> Key | Awaitable[Key]:
        """Find the key that may verify a token.

        Args:
            token: What the token says about itself. None of it can be trusted.

        Returns:
            A key or several, or an awaitable of that.

        Raises:
            KeyNotFoundError: If there is none for this token.
            KeysUnavailableError: If there are none to be had at the moment.
        """
        ...


class VerificationKey:
    """One public key, and what it may be used for."""

    __slots__ = ("_bound", "algorithms", "issuer", "jwk", "kid")

    algorithms: frozenset[str]
    """Names of the algorithms that signatures of this key may have."""
    issuer: str | None
    """The issuer that this key belongs to, where its JWK Set says so, as that of Microsoft Entra ID does."""
    jwk: Mapping[str, Any]
    """The public members of the JWK."""
    kid: str | None
    """The key's ID."""

    def __init__(self, jwk: Mapping[str, Any]) -> None:
        """Judge a JWK.

        Args:
            jwk: The members of a JSON Web Key. Private ones are left out.

        Raises:
            UnusableKeyError: If this key is not one that signatures can be verified with here.
        """
        _check_members(jwk)
        self.jwk = _public_members(jwk)
        self.kid = jwk.get("kid")
        self.issuer = jwk.get("issuer")
        self.algorithms = _declared_algorithms(jwk, algorithms_of(self._load(jwk.get("alg") or _any_algorithm(jwk))))
        self._bound: dict[str, jwt.PyJWK] = {}

    def bound_to(self, algorithm: str) -> jwt.PyJWK:
        """Return this key for use with one of its algorithms, the same object each time."""
        if (key := self._bound.get(algorithm)) is None:
            key = self._bound[algorithm] = jwt.PyJWK({**self.jwk, "alg": algorithm})
        return key

    def _load(self, algorithm: str) -> PublicKey:
        try:
            return cast("PublicKey", jwt.PyJWK(dict(self.jwk), algorithm).key)
        except (jwt.PyJWTError, UnsupportedAlgorithm, ValueError, TypeError, KeyError, OverflowError) as e:
            raise UnusableKeyError("invalid key material") from e

    def __repr__(self) -> str:
        return f"{type(self).__name__}(kid={self.kid!r}, algorithms={sorted(self.algorithms)})"


class KeySet:
    """The usable keys of a JWK Set. Key by key: what is not usable is skipped and spoils nothing."""

    __slots__ = ("_by_kid", "_selected", "keys", "skipped")

    keys: tuple[VerificationKey, ...]
    """The usable keys, in the order of the set."""
    skipped: tuple[str, ...]
    """Why each of the other keys is not usable."""

    def __init__(self, keys: Sequence[VerificationKey], skipped: Sequence[str] = ()) -> None:
        """Index keys by their ID.

        Args:
            keys: The keys.
            skipped: Why other keys were left out.
        """
        self.keys = tuple(keys)
        self.skipped = tuple(skipped)
        self._by_kid: dict[str | None, list[VerificationKey]] = {}
        for key in self.keys:
            self._by_kid.setdefault(key.kid, []).append(key)
        self._selected: dict[tuple[str | None, str], tuple[jwt.PyJWK, ...]] = {}

    @classmethod
    def from_document(cls, document: Any, *, max_keys: int) -> KeySet:
        """Judge the keys of a JWK Set, as decoded from JSON.

        Args:
            document: The JWK Set.
            max_keys: How many keys to look at, at most.

        Returns:
            The set of its usable keys, possibly empty.

        Raises:
            UnusableKeyError: If this is not a JWK Set (`RFC 7517, section 5
                <https://datatracker.ietf.org/doc/html/rfc7517#section-5>`_) or has too many keys.
        """
        members = document.get("keys") if isinstance(document, dict) else None
        if not isinstance(members, list):
            raise UnusableKeyError("not a JWK Set")
        if len(members) > max_keys:
            raise UnusableKeyError(f"more than {max_keys} keys")
        keys, skipped = [], []
        for position, jwk in enumerate(members):
            try:
                keys.append(VerificationKey(jwk))
            except UnusableKeyError as e:
                skipped.append(f"key {position}: {e}")
        return cls(keys, skipped)

    def __contains__(self, kid: str | None) -> bool:
        """Tell whether there is a key with an ID. Every set that is not empty has keys for a token that names none."""
        return kid in self._by_kid if kid is not None else bool(self.keys)

    def select(self, token: UnverifiedToken) -> tuple[jwt.PyJWK, ...]:
        """Return the keys that may verify a token, each bound to the token's algorithm.

        Args:
            token: The token. Without a ``kid``, at most eight of the keys that fit its algorithm are returned.

        Returns:
            The keys to try, in order. None when no key fits.
        """
        wanted = (token.kid, token.algorithm)
        if (selected := self._selected.get(wanted)) is None:
            selected = self._select(*wanted)
            if selected:  # what attackers make up is not remembered
                self._selected[wanted] = selected
        return selected

    def _select(self, kid: str | None, algorithm: str) -> tuple[jwt.PyJWK, ...]:
        keys = self.keys if kid is None else self._by_kid.get(kid, ())
        fitting = (key.bound_to(algorithm) for key in keys if algorithm in key.algorithms)
        return tuple(islice(fitting, _MAX_CANDIDATES))


def is_key(value: Any) -> bool:
    """Tell whether something is a key, or a sequence of keys, rather than a provider of them."""
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return bool(value) and all(is_key(member) for member in value)
    return isinstance(value, (str, bytes, jwt.PyJWK, jwt.PyJWKSet, *_PUBLIC_KEYS, *_PRIVATE_KEYS))


def is_mixture(algorithms: Collection[str]) -> bool:
    """Tell whether some algorithms take secrets and others public keys.

    Accepted together, they let a public key be taken for a secret: whoever has it could sign with it (RFC 8725, section 2.1).
    """
    return not SYMMETRIC_ALGORITHMS.isdisjoint(algorithms) and not ASYMMETRIC_ALGORITHMS.isdisjoint(algorithms)


def single_keys(key: Key) -> Sequence[SingleKey]:
    """Return the keys of a sequence or a set, or the one key as the only one."""
    if isinstance(key, (tuple, list)):
        return key
    if isinstance(key, jwt.PyJWKSet):
        return cast("Sequence[SingleKey]", key.keys)
    return key if isinstance(key, Sequence) and not isinstance(key, (str, bytes)) else (key,)


def candidates(key: Key, token: UnverifiedToken) -> Sequence[SingleKey]:
    """Choose those of a provider's or an application's keys that may verify a token.

    Keys that the token brings along or points to, by ``jwk``, ``jku``, ``x5c`` or ``x5u``, are never looked at (RFC 8725,
    section 3.10).

    Args:
        key: A key or several.
        token: The token.

    Returns:
        The keys to try, in order. None when no key fits.

    Raises:
        UnusableKeyError: If a PEM cannot be read.
    """
    if isinstance(key, jwt.PyJWK):
        return _of_jwk(key, token.algorithm)
    keys = single_keys(key)
    if token.kid is not None:
        named: list[SingleKey] = [k for k in keys if isinstance(k, jwt.PyJWK) and k.key_id == token.kid]
        keys = named or [k for k in keys if not (isinstance(k, jwt.PyJWK) and k.key_id)]
    if len(keys) == 1:
        return fitting(keys[0], token.algorithm)
    found: list[SingleKey] = []
    for single in keys:
        found += fitting(single, token.algorithm)
    return found[:_MAX_CANDIDATES]


def fitting(key: SingleKey, algorithm: str) -> Sequence[SingleKey]:
    """Return a key in the form that verifies signatures of an algorithm, or nothing if it does not do that.

    A key is for one algorithm, or for those of its kind, whatever a token says (RFC 8725, section 3.1).

    Args:
        key: The key.
        algorithm: The algorithm.

    Raises:
        UnusableKeyError: If a PEM cannot be read, or the key cannot be used with any algorithm.
    """
    if isinstance(key, jwt.PyJWK):
        return _of_jwk(key, algorithm)
    if isinstance(key, (str, bytes)):
        if algorithm not in ASYMMETRIC_ALGORITHMS:  # an application's own algorithm judges its keys by itself
            return (key,)
        key = load_key(key)
    key = public_half(key)
    return (key,) if algorithm in algorithms_of(key) else ()


@lru_cache(maxsize=256)
def _of_jwk(key: jwt.PyJWK, algorithm: str) -> Sequence[SingleKey]:
    declared = jwk_members(key)
    # The public half of a key that may sign may verify.
    if declared.get("use", "sig") != "sig" or not {"sign", "verify"}.intersection(declared.get("key_ops", ("verify",))):
        return ()
    if key.algorithm_name == algorithm:
        if algorithm in ASYMMETRIC_ALGORITHMS and algorithm not in _algorithms_of_jwk(key):
            return ()
        # PyJWT takes the public half of all private keys but those of RSA.
        return (key.key.public_key(),) if isinstance(key.key, RSAPrivateKey) else (key,)
    # PyJWT takes an RSA key that declares no algorithm for one of RS256 alone.
    if "alg" not in declared and key.algorithm_name == "RS256" and algorithm in _algorithms_of_jwk(key):
        return (public_half(key.key),)
    return ()


def _algorithms_of_jwk(key: jwt.PyJWK) -> frozenset[str]:
    """Return no algorithm for a key that cannot be used: others publish it, and tokens may name it."""
    try:
        return algorithms_of(key.key)
    except UnusableKeyError:
        return frozenset()


def jwk_members(key: jwt.PyJWK) -> Mapping[str, Any]:
    """Return the members that a key was made from. PyJWT has no public way to tell a declared ``alg`` from a guess."""
    return cast("Mapping[str, Any]", key._jwk_data)


@lru_cache(maxsize=32)
def load_key(pem: str | bytes) -> PublicKey | PrivateKey:
    """Read a key from a PEM, or from the line of an OpenSSH public key.

    Args:
        pem: The text.

    Returns:
        The key.

    Raises:
        UnusableKeyError: If it is neither, is encrypted, or is of a kind that JWTs are not signed with.
    """
    data = pem.encode() if isinstance(pem, str) else pem
    for load in (load_pem_public_key, lambda data: load_pem_private_key(data, password=None), load_ssh_public_key):
        try:
            key = load(data)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            continue
        if isinstance(key, (*_PUBLIC_KEYS, *_PRIVATE_KEYS)):
            return key
    raise UnusableKeyError("not a PEM with a public or private key")


def public_half(key: PublicKey | PrivateKey) -> PublicKey:
    """Return the public key of a key pair, or the public key itself."""
    return key.public_key() if isinstance(key, _PRIVATE_KEYS) else key


def algorithms_of(key: Any) -> frozenset[str]:
    """Tell which algorithms a public or private key can be used with.

    Args:
        key: A key of ``cryptography``.

    Returns:
        Names of algorithms, of those that PyJWT has.

    Raises:
        UnusableKeyError: If it cannot be used with any.
    """
    if isinstance(key, (RSAPublicKey, RSAPrivateKey)):
        if not _MIN_RSA_BITS <= key.key_size <= _MAX_RSA_BITS:
            raise UnusableKeyError(f"RSA key of {key.key_size} bit, {_MIN_RSA_BITS} to {_MAX_RSA_BITS} are accepted")
        public = key.public_key() if isinstance(key, RSAPrivateKey) else key
        if public.public_numbers().n % 2 == 0:
            raise UnusableKeyError("RSA key with an even modulus")
        return _RSA_ALGORITHMS
    if isinstance(key, (EllipticCurvePublicKey, EllipticCurvePrivateKey)):
        if (algorithm := _EC_ALGORITHMS.get(key.curve.name)) is None:
            raise UnusableKeyError(f"unsupported curve {key.curve.name}")
        return frozenset({algorithm})
    if isinstance(key, (Ed25519PublicKey, Ed25519PrivateKey, Ed448PublicKey, Ed448PrivateKey)):
        return _EDDSA
    raise UnusableKeyError(f"unsupported kind of key: {type(key).__name__}")


def _check_members(jwk: Any) -> None:
    """Check the members that say what a key is for (RFC 7517, section 4)."""
    if not isinstance(jwk, dict):
        raise UnusableKeyError("not a JSON object")
    if (
        not isinstance(jwk.get("kty"), str) or jwk["kty"] not in _PUBLIC_MEMBERS
    ):  # symmetric keys are secrets: nobody publishes them
        raise UnusableKeyError("unsupported 'kty'")
    for name in ("kid", "alg", "issuer"):
        if not isinstance(jwk.get(name), (str, type(None))):
            raise UnusableKeyError(f"{name!r} is not a string")
    if jwk.get("use", "sig") != "sig":
        raise UnusableKeyError("not for signatures")
    operations = jwk.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise UnusableKeyError("not for verifying signatures")
    if jwk.get("alg") is not None and jwk["alg"] not in ASYMMETRIC_ALGORITHMS:
        raise UnusableKeyError("unsupported 'alg'")


def _public_members(jwk: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out whatever a verifier has no use for: private members above all."""
    return {name: jwk[name] for name in (*_PUBLIC_MEMBERS[jwk["kty"]], "kid", "use", "alg", "issuer") if name in jwk}


def _any_algorithm(jwk: Mapping[str, Any]) -> str:
    """Name an algorithm that reads this kind of key, where PyJWT would not guess one."""
    if jwk["kty"] == "RSA":
        return "RS256"
    return "EdDSA" if jwk["kty"] == "OKP" else "ES256"


def _declared_algorithms(jwk: Mapping[str, Any], possible: frozenset[str]) -> frozenset[str]:
    declared = jwk.get("alg")
    if declared is None:
        return possible
    if declared not in possible:
        raise UnusableKeyError("'alg' does not fit the key")
    return frozenset({declared})


def signing_key(key: Key, algorithm: str) -> tuple[SingleKey, str | None]:
    """Choose what to sign a token with.

    Args:
        key: A key, or several of which the first signs.
        algorithm: The algorithm to sign with.

    Returns:
        The key and its ID. Only a :class:`jwt.PyJWK` has one.

    Raises:
        UnusableKeyError: If the key cannot sign with this algorithm.
    """
    if not (keys := single_keys(key)):
        raise UnusableKeyError("there is none")
    key = keys[0]
    if isinstance(key, jwt.PyJWK):
        if not _of_jwk(key, algorithm):
            raise UnusableKeyError(f"the key is not one for {algorithm}")
        signer, _ = signing_key(key.key, algorithm)
        return signer, key.key_id
    if algorithm not in ASYMMETRIC_ALGORITHMS:
        if not isinstance(key, (str, bytes)):
            raise UnusableKeyError(f"{algorithm} takes a secret")
        return key, None
    private = load_key(key) if isinstance(key, (str, bytes)) else key
    if algorithm not in algorithms_of(private):
        raise UnusableKeyError(f"the key is not one for {algorithm}")
    if not isinstance(private, _PRIVATE_KEYS):
        raise UnusableKeyError("a private key signs, this is a public one")
    return private, None


def provider_error(error: Exception) -> Exception:
    """Tell whose fault it is that a key provider raised something.

    Args:
        error: What it raised.

    Returns:
        What to raise instead: ``401`` if there is no key for the token, ``503`` if there is none for anybody. Errors of the
        provider itself are left as they are.
    """
    if isinstance(error, (jwt.PyJWKClientConnectionError, jwt.PyJWKSetError, OSError)):
        return KeysUnavailableError("Keys to verify tokens with are unavailable")
    if isinstance(error, (jwt.PyJWTError, LookupError)):
        return KeyNotFoundError("Invalid token")
    return error


def identified(key: SingleKey, algorithm: str) -> SingleKey:
    """Give a private key an ID, its thumbprint, unless it has one.

    Args:
        key: A key to sign with.
        algorithm: The algorithm to sign with.

    Returns:
        The key as a :class:`jwt.PyJWK` with an ID. A shared secret as it is.

    Raises:
        UnusableKeyError: If the key cannot sign with this algorithm.
    """
    private, kid = signing_key(key, algorithm)
    if kid is not None or algorithm not in ASYMMETRIC_ALGORITHMS:
        return key
    return _with_thumbprint(cast("PrivateKey", private), algorithm)


@lru_cache(maxsize=32)
def _with_thumbprint(key: PrivateKey, algorithm: str) -> jwt.PyJWK:
    members: dict[str, Any] = jwt.get_algorithm_by_name(algorithm).to_jwk(key, as_dict=True)
    return jwt.PyJWK({**members, "kid": thumbprint(members), "alg": algorithm, "key_ops": ["sign"]})


def public_jwk(key: PublicKey | PrivateKey) -> dict[str, Any]:
    """Return the members of the JWK of a public key, or of the public half of a private one, without metadata."""
    key = public_half(key)
    algorithm = jwt.get_algorithm_by_name(min(algorithms_of(key)))
    jwk: dict[str, Any] = algorithm.to_jwk(key, as_dict=True)
    return {name: jwk[name] for name in _PUBLIC_MEMBERS[jwk["kty"]]}


def thumbprint(jwk: Mapping[str, Any]) -> str:
    """Compute the SHA-256 thumbprint of a public key (`RFC 7638 <https://datatracker.ietf.org/doc/html/rfc7638>`_).

    Args:
        jwk: Members of its JWK.

    Returns:
        The thumbprint in base64url, fit to be a key ID.
    """
    required = {name: jwk[name] for name in _PUBLIC_MEMBERS[jwk["kty"]]}
    digest = sha256(json.dumps(required, separators=(",", ":"), sort_keys=True).encode()).digest()
    return urlsafe_b64encode(digest).rstrip(b"=").decode()
