"""Strict parser for the JWS compact serialization (RFC 7515, section 7.1)."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from litestar.security.jwt.refusals import Reason, TokenRefused

__all__ = ("Claims", "UnverifiedToken")

Claims: TypeAlias = dict[str, Any]
"""The claims of a token. A value is whatever JSON can hold."""

# A header field of a request rarely has more than 8 or 16 KiB. A longer token costs memory before anybody has verified it.
_MAX_LENGTH: Final = 64 * 1024
# Real headers have some hundred characters, and 3,000 with a certificate chain.
_MAX_HEADER_LENGTH: Final = 8_192
# Key providers look key IDs up in databases and caches, which have limits of their own.
_MAX_KID_LENGTH: Final = 1_024
_SEGMENTS: Final = 3
# RFC 7516, section 7.1: an encrypted token has five segments.
_ENCRYPTED_SEGMENTS: Final = 5
_PADDING: Final = ("", "", "==", "=")
# The characters that may end a segment of 4n + 2 or 4n + 3 characters: those whose unused bits are zero.
_LAST_CHARACTERS: Final = {2: "AQgw", 3: "AEIMQUYcgkosw048"}
# No extension is understood here, so a token that depends on one is refused (RFC 7515, section 4.1.11). An unencoded payload
# (RFC 7797) and compression (RFC 8725, section 3.6) change what the signature covers.
_EXTENSIONS: Final = ("crit", "b64", "zip")


class _Header(NamedTuple):
    """What is used of a JOSE header."""

    algorithm: str
    kid: str | None
    typ: str | None


class UnverifiedToken:
    """The content of a token, before anybody has verified it.

    A key provider receives it to find the right key. Anyone can write anything into a token. Use it to *look up* a key among
    those that you trust, never to decide what to trust.

    The compact serialization is checked strictly: at most 64 KiB, three segments of canonical, unpadded base64url (`RFC 7515,
    section 2 <https://datatracker.ietf.org/doc/html/rfc7515#section-2>`_), a JSON object with unique members as the header,
    and no extension that a verifier would have to understand. The claims are parsed when you read them.
    """

    __slots__ = ("_claims", "algorithm", "encoded", "kid", "payload", "signature", "signing_input", "typ")

    encoded: str
    """The token as it was received."""
    algorithm: str
    """The ``alg`` header parameter."""
    kid: str | None
    """The ``kid`` header parameter, the ID of the key that the token claims to be signed with. At most 1,024 characters."""
    typ: str | None
    """The ``typ`` header parameter, in lower case and without a leading ``application/`` (RFC 7515, section 4.1.9)."""
    payload: bytes
    """The claims, as JSON."""
    signature: bytes
    """The signature."""
    signing_input: bytes
    """What the signature covers (RFC 7515, section 5.2)."""

    def __init__(self, encoded: str | bytes, *, allow_padding: bool = False) -> None:
        """Parse a token.

        Args:
            encoded: A token in compact serialization.
            allow_padding: Whether segments may end in ``=`` and be in the standard alphabet of base64, as AWS load balancers and
                WSO2 write them.

        Raises:
            TokenRefused: If the token is malformed or encrypted, or depends on an extension. It is a
                :class:`jwt.exceptions.InvalidTokenError`.
        """
        text = encoded.decode("latin-1") if isinstance(encoded, bytes) else encoded
        if not isinstance(text, str) or len(text) > _MAX_LENGTH or not text.isascii():
            raise TokenRefused(Reason.MALFORMED, f"ASCII text of at most {_MAX_LENGTH:,} characters")
        parts = text.split(".", _ENCRYPTED_SEGMENTS)
        if len(parts) != _SEGMENTS:
            raise TokenRefused(Reason.ENCRYPTED if len(parts) == _ENCRYPTED_SEGMENTS else Reason.MALFORMED)
        segments = [_standard_alphabet(part, allow_padding=allow_padding) for part in parts]
        header, payload, signature = segments
        self.encoded = text
        self.algorithm, self.kid, self.typ = _parse_header_cached(header)
        self.payload = _decode_segment(payload)
        self.signature = _decode_segment(signature)
        # Padding is signed, too: what is in front of the last period counts as it was received.
        self.signing_input = text.rpartition(".")[0].encode()
        self._claims: Claims | None = None

    @property
    def header(self) -> dict[str, Any]:
        """The JOSE header. Each access returns a new object, so you can change it safely."""
        segment = _standard_alphabet(self.encoded.partition(".")[0], allow_padding=True)
        return _load_header(segment)

    @property
    def claims(self) -> Claims:
        """The claims, unverified.

        Raises:
            TokenRefused: If the payload is not a JSON object in UTF-8 (`RFC 8259, section 8
                <https://datatracker.ietf.org/doc/html/rfc8259#section-8>`_).
        """
        if self._claims is None:
            self._claims = _parse_claims(self.payload)
        return self._claims

    @property
    def issuer(self) -> str | None:
        """The ``iss`` claim, ``None`` if it is absent or not a string.

        Raises:
            TokenRefused: If the payload is not a JSON object.
        """
        issuer = self.claims.get("iss")
        return issuer if isinstance(issuer, str) else None


def _standard_alphabet(segment: str, *, allow_padding: bool) -> str:
    """Return a segment in the standard alphabet of base64, without padding.

    Lenient decoders skip foreign characters, which gives one signature many spellings.
    """
    if allow_padding:
        stripped = segment.rstrip("=")
        if segment in (stripped, stripped + _PADDING[len(stripped) % 4]):
            return stripped.replace("-", "+").replace("_", "/")
    if "+" in segment or "/" in segment or "=" in segment:
        raise TokenRefused(Reason.MALFORMED, "unpadded base64url")
    return segment.replace("-", "+").replace("_", "/")


def _decode_segment(segment: str) -> bytes:
    rest = len(segment) % 4
    if rest == 1 or (rest and segment[-1] not in _LAST_CHARACTERS[rest]):
        raise TokenRefused(Reason.MALFORMED, "canonical base64url")
    try:
        return msgspec.convert(segment + _PADDING[rest], bytes)
    except msgspec.ValidationError as e:
        raise TokenRefused(Reason.MALFORMED, "base64url") from e


def _load_header(segment: str) -> dict[str, Any]:
    """Load the header as JSON (RFC 7515, section 4)."""
    if len(segment) > _MAX_HEADER_LENGTH:
        raise TokenRefused(Reason.MALFORMED, f"a header of at most {_MAX_HEADER_LENGTH:,} characters")
    try:
        text = _decode_segment(segment).decode()
        header = json.loads(text, object_pairs_hook=_unique_members, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as e:
        raise TokenRefused(Reason.MALFORMED, "JSON with unique members as the header") from e
    if not isinstance(header, dict):
        raise TokenRefused(Reason.MALFORMED, "a JSON object as the header")
    return header


def _parse_header(segment: str) -> _Header:
    header = _load_header(segment)
    for parameter in _EXTENSIONS:
        if parameter in header:
            raise TokenRefused(Reason.EXTENSION, subject=parameter)
    algorithm, kid, typ = header.get("alg"), header.get("kid"), header.get("typ")
    if not isinstance(algorithm, str) or not algorithm:
        raise TokenRefused(Reason.ALGORITHM, "a string as 'alg'")
    if "kid" in header and not _is_key_id(kid):
        raise TokenRefused(Reason.MALFORMED, f"a string of at most {_MAX_KID_LENGTH:,} characters as 'kid'")
    return _Header(algorithm, kid, typ.lower().removeprefix("application/") if isinstance(typ, str) else None)


# One key signs many tokens with the same header, so nearly every header has been seen before.
_parse_header_cached: Final = lru_cache(maxsize=128)(_parse_header)


def _is_key_id(value: object) -> bool:
    """Tell whether a provider can look a value up: JSON can hold lone surrogates, which no database or cache can."""
    return (
        isinstance(value, str) and len(value) <= _MAX_KID_LENGTH and not any("\ud800" <= c <= "\udfff" for c in value)
    )


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse two members of one name, of which readers may see either (RFC 7515, section 4)."""
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate members")
    return members


def _refuse_constant(name: str) -> None:
    """Refuse ``NaN`` and ``Infinity``, which Python reads, but which are not JSON."""
    raise ValueError(f"{name} is not JSON")


def _parse_claims(payload: bytes) -> Claims:
    try:
        claims = msgspec.json.decode(payload)
    except (msgspec.DecodeError, ValueError, RecursionError) as e:  # before msgspec 0.21 the first is not the second
        raise TokenRefused(Reason.MALFORMED, "JSON as the payload") from e
    if not isinstance(claims, dict):
        raise TokenRefused(Reason.MALFORMED, "a JSON object as the payload")
    return claims
