"""A token taken apart strictly, once, before anybody has verified it."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import msgspec
from jwt.exceptions import DecodeError, InvalidAlgorithmError, InvalidTokenError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("UnverifiedToken", "parse_claims", "taken_apart")

# Longer headers are not worth a parser's time: real ones have some hundred characters, and 3,000 with a certificate chain.
_MAX_HEADER_LENGTH: Final = 8_192
_PADDING: Final = ("", "", "==", "=")
# The characters that may end a segment of 4n + 2 or 4n + 3 characters: those whose unused bits are zero.
_LAST_CHARACTERS: Final = {2: "AQgw", 3: "AEIMQUYcgkosw048"}


class _Encoded(str):
    """A token that remembers how it was taken apart, wherever it is passed on to."""

    __slots__ = ("header", "payload", "signature", "signing_input")

    header: tuple[dict[str, Any], str, str | None]
    payload: bytes
    signature: bytes
    signing_input: bytes


class UnverifiedToken:
    """The content of a token, before anybody has verified it.

    A key provider receives it to find the right key. Anyone can write anything into a token. Use it to *look up* a key among
    those that you trust, never to decide what to trust.

    The compact serialization is checked strictly: three segments of canonical, unpadded base64url (`RFC 7515, section 2
    <https://datatracker.ietf.org/doc/html/rfc7515#section-2>`_), a JSON object with unique members as the header, and no
    extension that a verifier would have to understand. The claims are parsed when you ask for them.
    """

    __slots__ = ("_claims", "_parts", "algorithm", "encoded", "kid")

    algorithm: str
    """The ``alg`` header parameter."""
    encoded: str
    """The token as it was received."""
    kid: str | None
    """The ``kid`` header parameter, the ID of the key that the token claims to be signed with."""

    def __init__(self, encoded: str | bytes, *, allow_padding: bool = False) -> None:
        """Take a token apart.

        Args:
            encoded: A token in compact serialization.
            allow_padding: Whether segments may end in ``=``, as AWS load balancers write them.

        Raises:
            jwt.exceptions.InvalidTokenError: If the token is malformed or asks for an extension.
        """
        self.encoded = self._parts = taken_apart(encoded, allow_padding=allow_padding)
        _, self.algorithm, self.kid = self._parts.header
        self._claims: dict[str, Any] | None = None

    @property
    def header(self) -> Mapping[str, Any]:
        """The JOSE header. Each access returns a new object, so you can change it safely.

        Raises:
            jwt.exceptions.InvalidTokenError: If it is nested too deeply.
        """
        return _parse_header(_in_standard_alphabet(self.encoded.partition(".")[0].rstrip("=")))[0]

    @property
    def claims(self) -> dict[str, Any]:
        """The claims, unverified.

        Raises:
            jwt.exceptions.InvalidTokenError: If the payload is not a JSON object.
        """
        if self._claims is None:
            self._claims = parse_claims(self._parts.payload)
        return self._claims

    @property
    def issuer(self) -> str | None:
        """The ``iss`` claim, ``None`` if it is absent or not a string.

        Raises:
            jwt.exceptions.InvalidTokenError: If the payload is not a JSON object.
        """
        issuer = self.claims.get("iss")
        return issuer if isinstance(issuer, str) else None


def taken_apart(encoded: Any, *, allow_padding: bool = False) -> _Encoded:
    """Check the compact serialization.

    Lenient decoders skip foreign characters and unused bits, which gives one signature many spellings.

    Args:
        encoded: A token. If it has been taken apart before, it is returned as it is.
        allow_padding: Whether segments may end in ``=``.

    Returns:
        The token with its parts. They are not to be changed.

    Raises:
        jwt.exceptions.InvalidTokenError: If the token is malformed or asks for an extension.
    """
    if isinstance(encoded, _Encoded):
        return encoded
    if isinstance(encoded, bytes):
        encoded = encoded.decode("latin-1")
    if not isinstance(encoded, str) or not encoded.isascii():
        raise DecodeError("Not base64url")
    bare = ".".join(map(_without_padding, encoded.split("."))) if allow_padding else encoded
    segments = _in_standard_alphabet(bare).split(".")
    if len(segments) != 3:
        raise DecodeError("Not three segments")
    header, payload, signature = segments
    token = _Encoded(encoded)
    token.header = _known_header(header)
    token.payload = _decode_segment(payload)
    token.signature = _decode_segment(signature)
    # RFC 7515, section 5.2: what is in front of the last period is signed, padding included.
    token.signing_input = encoded.rpartition(".")[0].encode()
    return token


def _in_standard_alphabet(base64url: str) -> str:
    if "+" in base64url or "/" in base64url or "=" in base64url:
        raise DecodeError("Not base64url")
    return base64url.replace("-", "+").replace("_", "/")


def _without_padding(segment: str) -> str:
    stripped = segment.rstrip("=")
    return stripped if segment == stripped + _PADDING[len(stripped) % 4] else segment


def _decode_segment(segment: str) -> bytes:
    rest = len(segment) % 4
    if rest == 1 or (rest and segment[-1] not in _LAST_CHARACTERS[rest]):
        raise DecodeError("Not canonical base64url")
    try:
        return msgspec.convert(segment + _PADDING[rest], bytes)
    except msgspec.ValidationError as e:
        raise DecodeError("Not base64url") from e


def _parse_header(segment: str) -> tuple[dict[str, Any], str, str | None]:
    if len(segment) > _MAX_HEADER_LENGTH:
        raise DecodeError("Header too long")
    try:
        # ``int`` refuses ``NaN`` and ``Infinity``, which are not JSON.
        header = json.loads(_decode_segment(segment).decode(), object_pairs_hook=_unique_members, parse_constant=int)
    except (ValueError, RecursionError) as e:
        raise DecodeError("Header is not JSON") from e
    if not isinstance(header, dict):
        raise DecodeError("Header is not a JSON object")
    # No extension is understood here, so a token that depends on one is refused (RFC 7515, section 4.1.11). An unencoded
    # payload (RFC 7797) and compression (RFC 8725, section 3.6) change what the signature covers.
    for parameter in ("crit", "b64", "zip"):
        if parameter in header:
            raise InvalidTokenError(f"Unsupported header parameter: {parameter}")
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or not algorithm:
        raise InvalidAlgorithmError("No algorithm in the header")
    if "kid" in header and not isinstance(kid, str):
        raise InvalidTokenError("Key ID is not a string")
    return header, algorithm, kid


# One key signs many tokens with the same header, so nearly every header has been seen before.
_known_header: Final = lru_cache(maxsize=128)(_parse_header)


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse two members of one name, of which readers may see either (RFC 7515, section 4)."""
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("Duplicate members")
    return members


def parse_claims(payload: bytes) -> dict[str, Any]:
    """Parse the payload of a token.

    Args:
        payload: The payload.

    Returns:
        The claims.

    Raises:
        jwt.exceptions.InvalidTokenError: If the payload is not a JSON object in UTF-8 (`RFC 8259, section 8
            <https://datatracker.ietf.org/doc/html/rfc8259#section-8>`_). Python's own parser takes more than that, such as
            ``NaN`` and lone surrogates.
    """
    try:
        claims = msgspec.json.decode(payload)
    except (msgspec.DecodeError, ValueError, RecursionError) as e:  # before msgspec 0.21 the first is not the second
        raise DecodeError("Payload is not JSON") from e
    if not isinstance(claims, dict):
        raise DecodeError("Payload is not a JSON object")
    return claims
