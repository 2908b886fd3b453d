"""Signing with a private key whose public half can be published."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, cast

import jwt

from litestar.exceptions import ImproperlyConfiguredException
from litestar.security.jwt.key_set import load_keys, parse_jwk
from litestar.security.jwt.keys import (
    ASYMMETRIC_ALGORITHMS,
    CURVE_NAMES,
    UnusableKeyError,
    get_algorithm,
    is_private,
    public_half,
)
from litestar.security.jwt.pem import load_pem

if TYPE_CHECKING:
    from typing import Self

    from litestar.security.jwt.keys import JWK, PrivateKey, PublicKey, VerificationKey
    from litestar.security.jwt.token import Token
    from litestar.security.jwt.unverified import UnverifiedToken

__all__ = ("SigningKey", "sign")

# What ``algorithm`` of a backend is if the application does not set it. No private key signs with it.
_RELEASED_DEFAULT: Final = "HS256"
_NUMERIC_DATES: Final = ("exp", "iat", "nbf")
# PyJWT knows EdDSA by that name only. RFC 9864 has a name for each curve.
_JWS: Final = jwt.PyJWS()
for _name in CURVE_NAMES:
    _JWS.register_algorithm(_name, get_algorithm(_name))


def sign(claims: Mapping[str, Any], key: PrivateKey, algorithm: str, headers: Mapping[str, Any]) -> str:
    """Sign claims.

    Args:
        claims: The claims, as JSON can hold them.
        key: The private key.
        algorithm: The name of the algorithm.
        headers: Header parameters besides ``alg`` and ``typ``.

    Returns:
        The encoded token.
    """
    payload = json.dumps(claims, separators=(",", ":")).encode()
    return _JWS.encode(payload, key, algorithm, dict(headers))


@dataclass(frozen=True, slots=True, init=False)
class SigningKey:
    """A private key that tokens are signed with, as the ``token_secret`` of a backend.

    .. code-block:: python

        signing_key = SigningKey(Path("private.pem").read_text())
        jwt_auth = JWTAuth[User](
            token_secret=signing_key,
            key_provider=signing_key,
            accepted_audiences=["my-api"],
            retrieve_user_handler=retrieve_user,
        )
        app = Litestar([create_jwks_handler(signing_key)], on_app_init=[jwt_auth.on_app_init])

    Tokens carry the ID of the key in their header, as ``kid``, and :func:`create_jwks_handler` publishes the public half under the
    same ID. As a ``key_provider``, it verifies its tokens.

    The ``algorithm`` of the backend must fit the key. If it is ``HS256``, which is what a backend has if you set none, the first of
    :attr:`algorithms` signs.
    """

    key_id: str
    """The ID of the key."""
    algorithms: tuple[str, ...]
    """Names of the algorithms that it can sign with, the one that signs by default first."""
    thumbprint: str
    """The SHA-256 thumbprint of the public key (`RFC 7638 <https://datatracker.ietf.org/doc/html/rfc7638>`_)."""
    public_key: PublicKey = field(repr=False, compare=False)
    """The public key, an object of ``cryptography``."""
    verification_key: VerificationKey = field(repr=False, compare=False)
    """The public key, ready to verify signatures."""
    _private_key: PrivateKey = field(repr=False, compare=False)

    def __init__(self, key: str | bytes | PrivateKey | jwt.PyJWK | JWK, key_id: str | None = None) -> None:
        """Load a private key.

        Args:
            key: A PEM, a private key of ``cryptography``, or a private JWK as a ``dict`` or a :class:`jwt.PyJWK`. For a key that
                cannot leave a hardware security module or a key management service, pass an object whose class derives from one
                of ``cryptography``, such as :class:`RSAPrivateKey
                <cryptography.hazmat.primitives.asymmetric.rsa.RSAPrivateKey>`. Its ``sign`` and ``public_key`` are used.
            key_id: The ID of the key. By default, the ``kid`` of the JWK, or else the RFC 7638 thumbprint.

        Raises:
            ImproperlyConfiguredException: If it is not a private key that signs JWTs, or the ID is not a string.
        """
        if key_id is not None and (not isinstance(key_id, str) or not key_id):
            raise ImproperlyConfiguredException(
                f"'key_id' of 'SigningKey' is {key_id!r}. Pass a string that is not empty."
            )
        try:
            private_key, public = _load_pair(key)
        except UnusableKeyError as e:
            raise ImproperlyConfiguredException(f"'SigningKey' cannot sign with this key: {e}.") from e
        values = {
            "key_id": key_id or public.kid or public.thumbprint,
            "algorithms": public.algorithms,
            "thumbprint": public.thumbprint,
            "public_key": public_half(private_key),
            "_private_key": private_key,
            "verification_key": replace(public, kid=key_id or public.kid or public.thumbprint),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __call__(self, token: UnverifiedToken, /) -> VerificationKey:
        """Return the public half, to verify tokens as a key provider.

        Args:
            token: The token. If it names another key, this one does not verify it.
        """
        return self.verification_key

    def __deepcopy__(self, memo: object) -> Self:
        """Return itself: Litestar copies the options of middleware, and a private key may have no copy."""
        return self

    @property
    def jwk(self) -> dict[str, str]:
        """The JWK of the public key, with ``kid``, ``use`` and ``alg``. Each access returns a new object."""
        return {**self.verification_key.jwk, "kid": self.key_id, "use": "sig", "alg": self.algorithms[0]}

    def encode(self, token: Token, algorithm: str = _RELEASED_DEFAULT, headers: Mapping[str, Any] | None = None) -> str:
        """Sign a token.

        Args:
            token: The token.
            algorithm: The name of the algorithm. ``HS256`` stands for the first one of :attr:`algorithms`.
            headers: Header parameters to add.

        Returns:
            The encoded token.

        Raises:
            ImproperlyConfiguredException: If the algorithm does not fit the key, ``headers`` contradicts it, or the claims are not
                JSON.
        """
        name = self.algorithms[0] if algorithm == _RELEASED_DEFAULT else algorithm
        if name not in self.algorithms:
            raise ImproperlyConfiguredException(
                f"'algorithm' is {algorithm!r}, and the key of 'token_secret' is for {' or '.join(self.algorithms)}."
            )
        parameters = {**(headers or {}), "kid": self.key_id}
        for parameter, value in (("kid", self.key_id), ("alg", name)):
            if (headers or {}).get(parameter, value) != value:
                raise ImproperlyConfiguredException(f"'headers' cannot change {parameter!r}, which is {value!r}.")
        claims = {claim: value for claim, value in asdict(token).items() if value is not None}
        for claim in _NUMERIC_DATES:
            if isinstance(claims.get(claim), datetime):
                claims[claim] = int(claims[claim].timestamp())
        try:
            return sign(claims, self._private_key, name, parameters)
        except (TypeError, ValueError, jwt.PyJWTError) as e:
            raise ImproperlyConfiguredException(f"The token cannot be signed: {e}.") from e


def _load_pair(key: Any) -> tuple[PrivateKey, VerificationKey]:
    """Return a private key, and what verifies its signatures."""
    if isinstance(key, Mapping):
        return _load_private_jwk(key)
    if isinstance(key, jwt.PyJWK):
        private, public = key.key, load_keys(key, ASYMMETRIC_ALGORITHMS)[0]
    else:
        private = load_pem(key) if isinstance(key, (str, bytes)) else key
        public = load_keys([private], ASYMMETRIC_ALGORITHMS)[0]
    if not is_private(private):
        raise UnusableKeyError("it is a public key. Pass the private one")
    return cast("PrivateKey", private), public


def _load_private_jwk(jwk: JWK) -> tuple[PrivateKey, VerificationKey]:
    operations = jwk.get("key_ops", ["sign"])
    if not isinstance(operations, list) or "sign" not in operations:
        raise UnusableKeyError("not for signing ('key_ops')")
    if "d" not in jwk:
        raise UnusableKeyError("it is a public or symmetric JWK. Pass the private one")
    public = parse_jwk({name: value for name, value in jwk.items() if name != "key_ops"})
    try:
        private = get_algorithm(public.algorithms[0]).from_jwk(dict(jwk))
    except (jwt.PyJWTError, ValueError, TypeError, KeyError) as e:
        raise UnusableKeyError("its private members are invalid") from e
    return cast("PrivateKey", private), public
