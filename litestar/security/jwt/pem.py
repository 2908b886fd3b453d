"""Keys as text: PEM, X.509 certificates and OpenSSH lines, and texts that only look like a secret."""

from __future__ import annotations

import re
from base64 import b64decode
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from litestar.security.jwt.keys import UnusableKeyError, is_public_or_private

if TYPE_CHECKING:
    from litestar.security.jwt.keys import PrivateKey, PublicKey

__all__ = ("load_pem", "reject_key_as_secret")

_CERTIFICATE: Final = b"-----BEGIN CERTIFICATE-----"
_URL: Final = re.compile(rb"[a-z][a-z0-9+.-]*://|data:", re.IGNORECASE)
# Parts of a PEM or an OpenSSH line, what is in the base64 of such a line, and the JSON of a JWK.
_PEM_PART: Final = re.compile(
    rb"-----(BEGIN|END)|\b(PRIVATE|PUBLIC) KEY\b|ssh-(rsa|ed25519) |ecdsa-sha2-|^\x00{3}.ssh-|\"kty\"\s*:", re.DOTALL
)
# The bytes that start the DER encoding of a key or a certificate: a SEQUENCE that starts with a version, with an RSA modulus,
# with a long SEQUENCE, or with a SEQUENCE that starts with the identifier of an algorithm.
_DER: Final = re.compile(
    rb"\x30(\x81.|\x82..|[\x2a-\x7f])(\x02\x01[\x00\x01]|\x02[\x81\x82]|\x30[\x81\x82]|\x30.\x06)", re.DOTALL
)


def load_pem(pem: str | bytes) -> PublicKey | PrivateKey:
    """Load a key from a PEM, from one X.509 certificate, or from the line of an OpenSSH public key.

    Of a certificate, only the public key counts. Nothing else in it is checked.

    Args:
        pem: The text.

    Returns:
        The key.

    Raises:
        UnusableKeyError: If it is none of these, is encrypted, or is of a kind that JWTs are not signed with.
    """
    data = pem.encode() if isinstance(pem, str) else pem
    if data.count(_CERTIFICATE) > 1:
        raise UnusableKeyError("it is a chain of certificates. Pass the first certificate")
    for load in (_load_public_pem, _load_private_pem, _load_certificate, serialization.load_ssh_public_key):
        with suppress(ValueError, TypeError, UnsupportedAlgorithm):
            key = load(data)
            if is_public_or_private(key):
                return cast("PublicKey | PrivateKey", key)
    raise UnusableKeyError(f"it is {_explain_text(data.strip())}")


def _load_public_pem(data: bytes) -> object:
    return serialization.load_pem_public_key(data)


def _load_private_pem(data: bytes) -> object:
    return serialization.load_pem_private_key(data, password=None)


def _load_certificate(data: bytes) -> object:
    from cryptography import x509  # most applications have no certificates, and it is slow to import

    return x509.load_pem_x509_certificate(data).public_key()


def _explain_text(data: bytes) -> str:
    """Explain what was passed instead of a key. Never quote it: it may be a secret."""
    if _URL.match(data):
        return "a URL. Use OpenIDProvider(issuer), or RemoteJWKSet(url) with the URL of a JWK Set"
    if rb"\n" in data:
        return "a PEM with line breaks written as '\\n'. Replace them with real line breaks"
    if b"-----END" not in data and _is_encoded_key(data):
        return "a key without the lines '-----BEGIN …-----' and '-----END …-----'. Pass the whole PEM"
    if _is_path(data):
        return "a path. Pass the content of the file"
    return "not a PEM, or encrypted. Pass the content of a file. For a shared secret, set key_algorithms=['HS256']"


def reject_key_as_secret(secret: str | bytes) -> None:
    """Refuse a shared secret that is a key, or what is left of one: others may know it.

    Args:
        secret: The secret.

    Raises:
        UnusableKeyError: If it is part of a PEM, base64 or hex of a key, an existing path, or a URL.
    """
    data = secret.encode() if isinstance(secret, str) else secret
    data = data.strip()
    if not data:
        raise UnusableKeyError("it is an empty text. A shared secret needs at least as many bytes as its hash")
    if _URL.match(data):
        raise UnusableKeyError("it is a URL, and no secret. Use OpenIDProvider(issuer) or RemoteJWKSet(url)")
    if _PEM_PART.search(data) or _is_encoded_key(data):
        raise UnusableKeyError("it is a key, or a part of one, and no shared secret. Pass the whole PEM")
    if _is_path(data):
        raise UnusableKeyError("it is the path of a file, and no secret. Pass the content of the file")


def _is_encoded_key(data: bytes) -> bool:
    """Tell whether a text is a key in DER, or hex or base64 of a key in DER or PEM."""
    compact = b"".join(data.replace(rb"\r", b"").replace(rb"\n", b"").split())
    decoded = [data]
    with suppress(ValueError):
        decoded.append(bytes.fromhex(compact.replace(b":", b"").decode().removeprefix("0x")))
    with suppress(ValueError):
        compact = compact.translate(bytes.maketrans(b"-_", b"+/"))
        decoded.append(b64decode(compact + b"=" * (-len(compact) % 4), validate=True))
    return any(_DER.match(text) or _PEM_PART.search(text) for text in decoded)


def _is_path(data: bytes) -> bool:
    with suppress(OSError, ValueError):
        return bool(data) and Path(data.decode()).exists()
    return False
