from __future__ import annotations

from typing import Any, Final

import jwt

from litestar.security.jwt.unverified import parse_claims, parsed, segments

__all__ = ("verifier",)

# A header without a signature algorithm, no claims, and a signature of one zero byte.
_SAMPLE: Final = "eyJhbGciOiJub25lIn0.e30.AA"


class _Signatures(jwt.PyJWS):
    """PyJWT's verification of signatures, of a token that has been taken apart before.

    PyJWT looks at each character of a token in Python, which takes longer than the mathematics of RSA.
    """

    def _load(self, jwt: Any) -> Any:
        token = parsed(jwt)
        payload, signing_input, signature = segments(token)
        return payload, signing_input, token.header, signature


class _Verifier(jwt.PyJWT):
    """PyJWT, with stricter and faster parsers. What is parsed is verified by PyJWT itself."""

    def __init__(self) -> None:
        super().__init__()
        if _replaces(_Signatures()):
            self._jws = _Signatures()

    def _decode_payload(self, decoded: dict[str, Any]) -> dict[str, Any]:
        return parse_claims(decoded["payload"])


def _replaces(signatures: jwt.PyJWS) -> bool:
    """Tell whether tokens are taken apart in the way that this version of PyJWT expects.

    That is not part of its public interface. If it changes, verification is slower, and not broken.
    """
    try:
        return signatures._load(_SAMPLE) == jwt.PyJWS()._load(_SAMPLE)
    except AttributeError:
        return False


# It does not know the algorithms that applications have registered with PyJWT.
verifier: Final = _Verifier()
