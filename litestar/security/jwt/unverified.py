from __future__ import annotations

import json
from binascii import a2b_base64
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import ref

import msgspec
from jwt.exceptions import DecodeError, InvalidAlgorithmError, InvalidTokenError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

__all__ = ("MAX_TOKEN_LENGTH", "UnverifiedToken", "parse_claims", "parsed", "segments")

MAX_TOKEN_LENGTH: Final = 16_384
"""Characters of the longest token that a backend looks at by default."""

_MAX_HEADER_LENGTH: Final = 8_192
_BASE64URL: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_STANDARD: Final = bytes.maketrans(b"-_", b"+/")
_PADDING: Final = (b"", b"", b"==", b"=")
# The characters that may end a segment of 4n + 2 or 4n + 3 characters: those whose unused bits are zero.
_LAST_CHARACTERS: Final = {2: frozenset(b"AQgw"), 3: frozenset(b"AEIMQUYcgkosw048")}


class _Header(NamedTuple):
    members: Mapping[str, Any]
    algorithm: str
    kid: str | None


class UnverifiedToken:
    """What a token says about itself before anybody has verified it.

    A key provider is given one of these to find the right key by. Anybody can write anything into it: use it to *look up*
    a key among those you trust, never to decide what to trust.

    The compact serialization is checked strictly when an instance is made: three segments of canonical, unpadded base64url
    (`RFC 7515, section 2 <https://datatracker.ietf.org/doc/html/rfc7515#section-2>`_), a JSON object with unique members
    as the header, and no extension that a verifier would have to understand. The claims are looked at on demand only.
    """

    __slots__ = ("__weakref__", "_claims", "_payload", "_signature", "algorithm", "checked", "encoded", "header", "kid")

    algorithm: str
    """Value of the ``alg`` header parameter."""
    checked: Collection[str]
    """What the caller compares with its own configuration, so that a provider may leave it alone.

    Any of ``alg`` and ``iss``. Empty unless a backend was given ``algorithm`` or ``accepted_issuers``.
    """
    encoded: str
    """The token as it was received."""
    header: Mapping[str, Any]
    """The JOSE header."""
    kid: str | None
    """Value of the ``kid`` header parameter, the ID of the key the token claims to be signed with."""

    def __init__(self, encoded: str, *, checked: Collection[str] = ()) -> None:
        """Take a token apart.

        Args:
            encoded: A token in compact serialization.
            checked: Of ``alg`` and ``iss``, what the caller verifies by itself.

        Raises:
            jwt.exceptions.InvalidTokenError: If the token is malformed, or asks for an extension.
        """
        header, self._payload, self._signature = _split(encoded)
        self.header, self.algorithm, self.kid = _parse_header(header)
        self.encoded = encoded
        self.checked = checked
        self._claims: dict[str, Any] | None = None
        _latest[0] = ref(self)

    @property
    def claims(self) -> dict[str, Any]:
        """The claims, as whoever made the token wants them to be seen.

        Raises:
            jwt.exceptions.InvalidTokenError: If the payload is not a JSON object.
        """
        if self._claims is None:
            self._claims = parse_claims(_decode_segment(self._payload))
        return self._claims

    @property
    def issuer(self) -> str | None:
        """Value of the ``iss`` claim, ``None`` when it is absent or not a string.

        Raises:
            jwt.exceptions.InvalidTokenError: If the payload is not a JSON object.
        """
        issuer = self.claims.get("iss")
        return issuer if isinstance(issuer, str) else None

    def __repr__(self) -> str:
        return f"{type(self).__name__}(…)"


def _split(encoded: str) -> list[bytes]:
    """Check the compact serialization and return its segments.

    Lenient decoders skip foreign characters and unused bits, which gives one signature many spellings.
    """
    if not encoded.isascii():
        raise DecodeError("Not base64url")
    characters = encoded.encode()
    if characters.translate(None, _BASE64URL) != b"..":
        raise DecodeError("Not three segments of base64url")
    segments = characters.split(b".")
    for segment in segments:
        rest = len(segment) % 4
        if rest == 1 or (rest and segment[-1] not in _LAST_CHARACTERS[rest]):
            raise DecodeError("Not canonical base64url")
    return segments


def _decode_segment(segment: bytes) -> bytes:
    return a2b_base64(segment.translate(_STANDARD) + _PADDING[len(segment) % 4])


# One key signs many tokens with the same header, so that nearly every header has been seen before.
@lru_cache(maxsize=128)
def _parse_header(segment: bytes) -> _Header:
    if len(segment) > _MAX_HEADER_LENGTH:
        raise DecodeError("Header too long")
    try:
        header = json.loads(
            _decode_segment(segment).decode(), object_pairs_hook=_unique_members, parse_constant=_no_constant
        )
    except (ValueError, RecursionError) as e:
        raise DecodeError("Header is not JSON") from e
    if not isinstance(header, dict):
        raise DecodeError("Header is not a JSON object")
    _refuse_extensions(header)
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or not algorithm:
        raise InvalidAlgorithmError("No algorithm in the header")
    if kid is not None and not isinstance(kid, str):
        raise InvalidTokenError("Key ID is not a string")
    return _Header(MappingProxyType(header), algorithm, kid)


def _refuse_extensions(header: dict[str, Any]) -> None:
    """No extension is understood here, so a token that depends on one is refused (RFC 7515, section 4.1.11).

    An unencoded payload (RFC 7797) and compression (RFC 8725, section 3.6) change what the signature covers.
    """
    for parameter in ("crit", "b64", "zip"):
        if parameter in header:
            raise InvalidTokenError(f"Unsupported header parameter: {parameter}")


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of two members of one name, readers may see either (RFC 7515, section 4)."""
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("Duplicate members")
    return members


def _no_constant(_: str) -> Any:
    raise ValueError("Not JSON")


def segments(token: UnverifiedToken) -> tuple[bytes, bytes, bytes]:
    """Return the payload of a token, what its signature covers, and the signature.

    Args:
        token: The token.
    """
    # RFC 7515, section 5.2: all that is in front of the last period.
    signing_input = token.encoded.encode()[: -len(token._signature) - 1]
    return _decode_segment(token._payload), signing_input, _decode_segment(token._signature)


def parse_claims(payload: bytes) -> dict[str, Any]:
    """Parse the payload of a token.

    Args:
        payload: The payload.

    Returns:
        The claims.

    Raises:
        jwt.exceptions.InvalidTokenError: If the payload is not a JSON object in UTF-8 (`RFC 8259, section 8
            <https://datatracker.ietf.org/doc/html/rfc8259#section-8>`_). Python's own parser takes more than that, such as
            text that is not Unicode and numbers that are none.
    """
    try:
        claims = msgspec.json.decode(payload)
    except (ValueError, RecursionError) as e:
        raise DecodeError("Payload is not JSON") from e
    if not isinstance(claims, dict):
        raise DecodeError("Payload is not a JSON object")
    return claims


# What was parsed last, for as long as somebody has a use for it.
_latest: list[Callable[[], UnverifiedToken | None]] = [lambda: None]


def parsed(encoded: str) -> UnverifiedToken:
    """Return what is known of a token that was just taken apart, to find its key by, without doing that again.

    Args:
        encoded: The token.

    Raises:
        jwt.exceptions.InvalidTokenError: If the token is malformed, or asks for an extension.
    """
    latest = _latest[0]()
    return latest if latest is not None and latest.encoded is encoded else UnverifiedToken(encoded)
