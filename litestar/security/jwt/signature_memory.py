"""A memory for verified signatures: a client sends the same token for some minutes."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from jwt.algorithms import Algorithm

from litestar.security.jwt.decoding import verify_signature
from litestar.security.jwt.keys import ASYMMETRIC_ALGORITHMS, get_algorithm
from litestar.security.jwt.protected_resource import ResourceOptions

if TYPE_CHECKING:
    from litestar.security.jwt.decoding import VerifySignature
    from litestar.security.jwt.keys import VerificationKey
    from litestar.security.jwt.unverified import UnverifiedToken

__all__ = ("RememberingOptions", "verify_signature_once")

UserType = TypeVar("UserType")
AuthType = TypeVar("AuthType")

_MAX_ENTRIES: Final = 1_024
# Longer messages are not remembered, so that the memory never holds more than 8 MiB of them.
_MAX_MESSAGE: Final = 8_192


class _Verified(NamedTuple):
    """A signature that has been verified."""

    algorithm: str
    """The algorithm."""
    message: bytes
    """What is signed."""
    signature: bytes
    """The signature."""


# Signatures that have been verified, each with the key as PyJWT has prepared it, the oldest first. Only verify_signature_once
# changes this.
_verified: Final = OrderedDict[_Verified, Any]()


def verify_signature_once(token: UnverifiedToken, key: VerificationKey) -> bool:
    """Tell whether a key verifies the signature of a token. The mathematics is done once for each signature and key.

    Only asymmetric algorithms of PyJWT itself are remembered. The verdict of an application's own algorithm may change.

    Args:
        token: The token.
        key: A key for the algorithm of the token.
    """
    entry = _Verified(token.algorithm, token.signing_input, token.signature)
    prepared = key.prepared[token.algorithm]
    if _verified.get(entry) == prepared:
        return True
    if not verify_signature(token, key):
        return False
    if _is_remembered(token):
        if len(_verified) >= _MAX_ENTRIES:
            _verified.popitem(last=False)
        _verified[entry] = prepared
    return True


def _is_remembered(token: UnverifiedToken) -> bool:
    if len(token.signing_input) > _MAX_MESSAGE or token.algorithm not in ASYMMETRIC_ALGORITHMS:
        return False
    return type(get_algorithm(token.algorithm)).__module__ == Algorithm.__module__


@dataclass(kw_only=True, init=False, repr=False, eq=False, match_args=False)
class RememberingOptions(ResourceOptions[UserType, AuthType]):
    """Lets a backend remember the signatures that it has verified."""

    def _verify_signature(self) -> VerifySignature:
        """Return what verifies signatures."""
        return verify_signature_once
