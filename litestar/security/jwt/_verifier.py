"""PyJWT with faster parsers, and a memory for verified signatures."""

from __future__ import annotations

from collections import OrderedDict
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import jwt
from jwt.algorithms import Algorithm

from litestar.security.jwt.unverified import parse_claims, taken_apart

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("verify",)

# PyJWT looks at each character of a token in Python, which takes longer than the mathematics of RSA. What it does with a
# token before it verifies it is not public, so it is only replaced in versions that the tests have been run with.
_TRIED_VERSIONS: Final = frozenset({"2.14.0", "2.15.0", "2.15.1"})
# About 2 MB of usual tokens. A client sends the same token for some minutes.
_MEMORY_SIZE: Final = 1_024

# Signatures that have been verified, each with what it signs and the key. The oldest goes first.
_verified: Final = OrderedDict[bytes, tuple[bytes, Any]]()


class _Remembering:
    """An asymmetric algorithm of PyJWT that does the mathematics once for each signature."""

    __slots__ = ("_algorithm", "check_key_length", "prepare_key")

    def __init__(self, algorithm: Algorithm) -> None:
        self._algorithm = algorithm
        self.check_key_length = algorithm.check_key_length
        self.prepare_key = algorithm.prepare_key

    def verify(self, msg: bytes, key: Any, sig: bytes) -> bool:
        if _verified.get(sig) == (msg, key):
            return True
        if not self._algorithm.verify(msg, key, sig):
            return False
        if len(_verified) >= _MEMORY_SIZE:
            _verified.popitem(last=False)
        _verified[sig] = msg, key
        return True


@lru_cache(maxsize=32)
def _remembering(algorithm: Algorithm) -> Any:
    """Let an algorithm remember, unless it is the application's own, whose verdicts may change."""
    return _Remembering(algorithm) if type(algorithm).__module__ == Algorithm.__module__ else algorithm


class _Signatures(jwt.PyJWS):
    """PyJWT's verification of signatures, of tokens that are taken apart already."""

    def get_algorithm_by_name(self, alg_name: str) -> Any:
        """Find an algorithm among those of PyJWT, and those that the application has registered with it."""
        return _remembering(jwt.get_algorithm_by_name(alg_name))

    def _load(self, jwt: Any) -> Any:
        token = taken_apart(jwt)
        return token.payload, token.signing_input, token.header[0], token.signature


class _Verifier(jwt.PyJWT):
    """PyJWT's verification of tokens."""

    def __init__(self) -> None:
        super().__init__()
        self._jws = _Signatures()

    def _decode_payload(self, decoded: dict[str, Any]) -> dict[str, Any]:
        return parse_claims(decoded["payload"])


verify: Final[Callable[..., dict[str, Any]]] = (
    _Verifier().decode_complete if jwt.__version__ in _TRIED_VERSIONS else jwt.decode_complete
)
"""Verifies a token that has an asymmetric algorithm, with parameters and result of :func:`jwt.decode_complete`."""
