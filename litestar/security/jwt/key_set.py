"""From JWKs, PEMs, certificates and objects to verification keys, and which of these fit a token."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, cast

import jwt
from cryptography.exceptions import UnsupportedAlgorithm

from litestar.security.jwt.keys import (
    ASYMMETRIC_ALGORITHMS,
    PUBLIC_MEMBERS,
    SYMMETRIC_ALGORITHMS,
    SelectedKeys,
    UnusableKeyError,
    VerificationKey,
    algorithms_of,
    get_algorithm,
    is_public_or_private,
    public_half,
    public_jwk,
    single_keys,
)
from litestar.security.jwt.pem import load_pem, reject_key_as_secret
from litestar.security.jwt.refusals import Reason, TokenRefused

if TYPE_CHECKING:
    from litestar.security.jwt.keys import JWK, Key, PrivateKey, PublicKey, SingleKey
    from litestar.security.jwt.unverified import UnverifiedToken

__all__ = ("TENANT", "EncryptionKeyError", "KeySet", "is_issuer", "load_keys", "parse_jwk", "select")

# A token without a key ID may cost this many verifications. No issuer was seen to publish more keys of a kind.
_MAX_CANDIDATES: Final = 8
# What stands for the tenant in the names that Microsoft Entra ID gives to issuers.
TENANT: Final = "{tenantid}"
# What libraries raise for keys that they cannot load.
_LOAD_ERRORS: Final = (jwt.PyJWTError, UnsupportedAlgorithm, ValueError, TypeError, KeyError, OverflowError)
_ANY_ALGORITHM: Final = {"EC": "ES256", "OKP": "EdDSA", "RSA": "RS256"}


class EncryptionKeyError(UnusableKeyError):
    """A key that is declared to be for encryption. Sets list such keys as a matter of course."""


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
        # Selections that depend on the key ID and the algorithm only.
        self._selected: dict[tuple[str | None, str], SelectedKeys] = {}

    def select(self, token: UnverifiedToken) -> SelectedKeys:
        """Select the keys that may verify a token.

        A key is for the algorithm that it declares, or for those of its kind, whatever the token says (`RFC 8725, section 3.1
        <https://datatracker.ietf.org/doc/html/rfc8725#section-3.1>`_). Keys that the token contains or points to, by ``jwk``,
        ``jku``, ``x5c`` or ``x5u``, are never used (section 3.10).

        Args:
            token: The token. If it names a key, the keys of this name are selected, or else those that have no name.

        Returns:
            The keys, possibly none.

        Raises:
            TokenRefused: If more than eight keys fit.
        """
        kid, algorithm = token.kid, token.algorithm
        selected = self._selected.get((kid, algorithm))
        if selected is None:
            named = self.keys if kid is None else self._by_kid.get(kid) or self._by_kid.get(None) or ()
            fitting = [key for key in named if algorithm in key.prepared]
            is_bound = any(key.issuer is not None for key in fitting)
            if is_bound:
                fitting = [key for key in fitting if key.issuer is None or is_issuer(key.issuer, token)]
            if len(fitting) > _MAX_CANDIDATES:
                raise TokenRefused(Reason.TOO_MANY_KEYS, f"at most {_MAX_CANDIDATES} keys that fit")
            selected = SelectedKeys(algorithm, tuple(fitting))
            if fitting and not is_bound and kid in self._by_kid:  # anyone can make up a key ID
                self._selected[kid, algorithm] = selected
        return selected


def is_issuer(name: str, token: UnverifiedToken) -> bool:
    """Tell whether a token is from the issuer of a name.

    Args:
        name: The name. ``{tenantid}`` in it stands for the ``tid`` claim of the token.
        token: The token.
    """
    if TENANT in name:
        tenant = token.claims.get("tid")
        return isinstance(tenant, str) and tenant != TENANT and token.issuer == name.replace(TENANT, tenant)
    return token.issuer == name


def select(key: Key | None, token: UnverifiedToken) -> SelectedKeys:
    """Select the keys that may verify a token from what a provider returned.

    Args:
        key: A key or several. Keys that are selected already have to be for the token's algorithm.
        token: The token.

    Returns:
        The keys to try, possibly none.

    Raises:
        TokenRefused: If more than eight keys fit.
        UnusableKeyError: If a key cannot be used with any token.
    """
    algorithm = token.algorithm
    if key is None:
        return SelectedKeys(algorithm, ())
    if isinstance(key, SelectedKeys):
        return key if key.algorithm == algorithm else SelectedKeys(algorithm, ())
    # A key of the application has to be usable, unless the token's algorithm is one that takes other keys.
    is_strict = algorithm in ASYMMETRIC_ALGORITHMS or algorithm in SYMMETRIC_ALGORITHMS
    keys = []
    for single in single_keys(key):
        try:
            keys.append(_load(single, algorithm))
        except UnusableKeyError:
            # Others publish JWKs, and list keys for other purposes, too. What is not a JWK is the application's own.
            if is_strict and not isinstance(single, (jwt.PyJWK, Mapping)) and not isinstance(key, Mapping):
                raise
    return KeySet(keys).select(token)


def load_keys(key: Key, algorithms: Sequence[str]) -> tuple[VerificationKey, ...]:
    """Load the keys that an application verifies with.

    Args:
        key: A key or several.
        algorithms: The algorithms that the application accepts, all of one kind.

    Returns:
        The keys, at least one.

    Raises:
        UnusableKeyError: If a key cannot be used with any of the algorithms.
    """
    singles = single_keys(key)
    # Issuers publish keys for other purposes, too.
    is_published = isinstance(key, (jwt.PyJWKSet, Mapping)) and singles != (key,)
    keys = []
    for single in singles:
        try:
            keys.append(_fitting(single, algorithms))
        except UnusableKeyError:
            if not is_published:
                raise
    if not keys:
        raise UnusableKeyError("there is no usable key in it" if singles else "it is empty")
    return tuple(keys)


def _fitting(single: SingleKey, algorithms: Sequence[str]) -> VerificationKey:
    """Load a key for some of the algorithms, or say what is wrong with it."""
    if not any(name in ASYMMETRIC_ALGORITHMS for name in algorithms):
        loaded: dict[str, Any] = {}
        for name in algorithms:
            loaded |= _load(single, name).prepared
        return VerificationKey(loaded)
    key = _load(single, next(name for name in algorithms if name in ASYMMETRIC_ALGORITHMS))
    if set(algorithms).isdisjoint(key.algorithms):
        raise UnusableKeyError(
            f"it is a key for {' or '.join(key.algorithms)}, not for {' or '.join(algorithms)}. Change 'key_algorithms'"
        )
    return key


def _load(single: SingleKey, algorithm: str) -> VerificationKey:
    """Load a key for one algorithm and all of its kind."""
    if isinstance(single, VerificationKey):
        return single
    if isinstance(single, Mapping):
        return parse_jwk(single)
    if algorithm in ASYMMETRIC_ALGORITHMS:
        return _load_public(single)
    return _load_for_other(single, algorithm)


def _load_public(single: str | bytes | PublicKey | PrivateKey | jwt.PyJWK) -> VerificationKey:
    """Load a public key, or the public half of a private one."""
    if isinstance(single, jwt.PyJWK):
        return _load_pyjwk(single)
    if isinstance(single, (str, bytes)):
        return _load_text(single)
    if not is_public_or_private(single):
        raise UnusableKeyError(f"no algorithm takes a key of this kind: {type(single).__name__}")
    public = public_half(single)
    return _prepare(public, algorithms_of(public))


@lru_cache(maxsize=32)
def _load_text(text: str | bytes) -> VerificationKey:
    public = public_half(load_pem(text))
    return _prepare(public, algorithms_of(public))


@lru_cache(maxsize=256)
def _load_pyjwk(key: jwt.PyJWK) -> VerificationKey:
    """Load a JWK that PyJWT has read. PyJWT binds it to one algorithm, and so does this (RFC 8725, section 3.1)."""
    if key.public_key_use not in (None, "sig"):
        raise EncryptionKeyError("not for signatures ('use')")
    name = key.algorithm_name
    if not is_public_or_private(key.key):
        raise UnusableKeyError(f"the JWK is not one for {name}")
    public = public_half(key.key)
    names = _declared(name, algorithms_of(public))
    if not names:
        raise UnusableKeyError(f"the JWK is not one for {name}")
    return _prepare(public, names, kid=key.key_id if isinstance(key.key_id, str) else None)


def _load_for_other(single: str | bytes | PublicKey | PrivateKey | jwt.PyJWK, algorithm: str) -> VerificationKey:
    """Load a shared secret, or a key for an algorithm that the application has registered with PyJWT."""
    material: Any = single.key if isinstance(single, jwt.PyJWK) else single
    if algorithm in SYMMETRIC_ALGORITHMS:
        if not isinstance(material, (str, bytes)):
            raise UnusableKeyError(f"it is not a secret. Set 'key_algorithms' to one for this key, not {algorithm}")
        reject_key_as_secret(material)
    prepare_key = get_algorithm(algorithm).prepare_key
    try:
        return VerificationKey({algorithm: prepare_key(material)})
    except Exception as e:  # algorithms of applications have errors of their own
        raise UnusableKeyError(f"{algorithm} refuses it: {e}") from e


def _prepare(
    key: PublicKey, names: Sequence[str], kid: str | None = None, issuer: str | None = None
) -> VerificationKey:
    """Let each algorithm prepare a key, and so check that the key fits."""
    try:
        prepared = {name: get_algorithm(name).prepare_key(key) for name in names}
    except _LOAD_ERRORS as e:
        raise UnusableKeyError(f"PyJWT refuses it: {e}") from e
    return VerificationKey(prepared, kid, issuer, public_jwk(key))


def parse_jwk(jwk: object) -> VerificationKey:
    """Parse a JWK (`RFC 7517, section 4 <https://datatracker.ietf.org/doc/html/rfc7517#section-4>`_).

    Args:
        jwk: The JWK, as decoded from JSON. Private members are ignored.

    Returns:
        The key.

    Raises:
        EncryptionKeyError: If it is for encryption.
        UnusableKeyError: If no signature can be verified with it here.
    """
    if not isinstance(jwk, Mapping):
        raise UnusableKeyError("not a JSON object")
    _check_purpose(jwk)
    kty, declared = jwk.get("kty"), jwk.get("alg")
    if not isinstance(kty, str) or kty not in PUBLIC_MEMBERS:  # a symmetric key is a secret that nobody publishes
        raise UnusableKeyError("unsupported 'kty'")
    for name in ("kid", "alg", "issuer"):
        if not isinstance(jwk.get(name), (str, type(None))):
            raise UnusableKeyError(f"{name!r} is not a string")
    material = _load_jwk(jwk, declared if declared in ASYMMETRIC_ALGORITHMS else _ANY_ALGORITHM[kty])
    names = _declared(declared, algorithms_of(material))
    if not names:
        raise UnusableKeyError("'alg' is unsupported or does not fit the key")
    return _prepare(material, names, jwk.get("kid"), jwk.get("issuer"))


def _declared(declared: str | None, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return those names of a key's algorithms that mean the declared one (RFC 9864 gives EdDSA a name for each curve)."""
    if declared is None or (declared in names and "EdDSA" in names):
        return names
    return (declared,) if declared in names else ()


def _check_purpose(jwk: JWK) -> None:
    """Check ``use`` and ``key_ops`` (RFC 7517, sections 4.2 and 4.3). Issuers write ``null`` for members that are absent."""
    if jwk.get("use") not in (None, "sig"):
        raise EncryptionKeyError("not for signatures ('use')")
    operations = jwk.get("key_ops")
    if operations is not None and not (isinstance(operations, list) and "verify" in operations):
        raise UnusableKeyError("not for verifying signatures ('key_ops')")


def _load_jwk(jwk: JWK, algorithm: str) -> PublicKey:
    members = {name: jwk[name] for name in PUBLIC_MEMBERS[str(jwk["kty"])] if name in jwk}
    try:
        return cast("PublicKey", get_algorithm(algorithm).from_jwk(members))
    except _LOAD_ERRORS as e:
        raise UnusableKeyError(f"invalid key material ({e})") from e
