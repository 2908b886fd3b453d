"""Keys as text, and texts that must not become a secret."""

from __future__ import annotations

import datetime
import json
import random
from base64 import b64encode, urlsafe_b64encode
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from litestar.security.jwt.keys import UnusableKeyError, public_jwk
from litestar.security.jwt.pem import load_pem, reject_key_as_secret

from .backends import ED448_KEY, PRIVATE_KEYS, SECRET, pem, private_pem

RSA, EC, ED = PRIVATE_KEYS["RS256"], PRIVATE_KEYS["ES256"], PRIVATE_KEYS["EdDSA"]
KEYS = {**PRIVATE_KEYS, "Ed448": ED448_KEY}


def certificate(key: Any) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "issuer")])
    start = datetime.datetime(2020, 1, 1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, start, start + datetime.timedelta(days=1))
    signed = builder.sign(key, None if key in (ED, ED448_KEY) else hashes.SHA256())
    return signed.public_bytes(Encoding.PEM)


def der(key: Any) -> bytes:
    return bytes(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def private_der(key: Any) -> bytes:
    return bytes(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))


def openssh(key: Any) -> bytes:
    return bytes(key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH))


@pytest.mark.parametrize("name", KEYS)
def test_key_is_loaded_from_every_form_of_text(name: str) -> None:
    key = KEYS[name]
    texts = [pem(key), private_pem(key), certificate(key), pem(key).replace(b"\n", b"\r\n"), b"\n" + pem(key).rstrip()]
    if name not in {"ES256K", "Ed448"}:  # OpenSSH has no such keys
        texts.append(openssh(key))
    for text in texts:
        assert public_jwk(load_pem(text)) == public_jwk(load_pem(text.decode())) == public_jwk(key)


def test_certificate_chain_is_refused() -> None:
    with pytest.raises(UnusableKeyError, match=r"^it is a chain of certificates\. Pass the first certificate$"):
        load_pem(certificate(RSA) + certificate(EC))


URL = "a URL. Use OpenIDProvider(issuer), or RemoteJWKSet(url) with the URL of a JWK Set"
ESCAPED = r"a PEM with line breaks written as '\n'. Replace them with real line breaks"
FRAMELESS = "a key without the lines '-----BEGIN …-----' and '-----END …-----'. Pass the whole PEM"
PATH = "a path. Pass the content of the file"
OTHER = "not a PEM, or encrypted. Pass the content of a file. For a shared secret, set key_algorithms=['HS256']"


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        pytest.param("https://login.example/tenant/v2.0", URL, id="url"),
        pytest.param(" HTTP://keycloak:8080/realms/demo", URL, id="url-without-tls"),
        pytest.param(pem(RSA).replace(b"\n", rb"\n"), ESCAPED, id="escaped-line-breaks"),
        pytest.param(b"\n".join(pem(RSA).splitlines()[1:-1]), FRAMELESS, id="without-frame"),
        pytest.param(b"".join(pem(RSA).splitlines()[1:-1]), FRAMELESS, id="one-line-as-keycloak-shows-it"),
        pytest.param(b64encode(pem(ED)), FRAMELESS, id="base64-of-a-pem"),
        pytest.param(der(EC).hex(), FRAMELESS, id="hex"),
        pytest.param(der(EC), FRAMELESS, id="der"),
        pytest.param(__file__, PATH, id="path"),
        pytest.param(SECRET, OTHER, id="secret"),
        pytest.param("", OTHER, id="empty"),
        pytest.param("\x00", OTHER, id="null-byte"),
        pytest.param(b"\xff", OTHER, id="bytes"),
        pytest.param("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", OTHER, id="no-key-in-the-frame"),
        pytest.param(
            RSA.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password")),
            OTHER,
            id="encrypted",
        ),
        pytest.param(pem(dsa.generate_private_key(1024)), OTHER, id="dsa"),
    ],
)
def test_text_that_is_no_key_is_explained_and_never_quoted(text: Any, advice: str) -> None:
    with pytest.raises(UnusableKeyError) as raised:
        load_pem(text)
    assert str(raised.value) == f"it is {advice}"


LINES = private_pem(RSA).splitlines(keepends=True)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param(" \n", id="blank"),
        pytest.param("-----BEGIN PRIVATE KEY-----", id="first-line"),
        pytest.param("-----BEGIN RSA PRIVATE KEY-----", id="first-line-of-pkcs1"),
        pytest.param("-----END PUBLIC KEY-----", id="last-line"),
        pytest.param("BEGIN PRIVATE KEY", id="first-line-without-dashes"),
        *(pytest.param(pem(key), id=f"public-pem-{name}") for name, key in KEYS.items()),
        *(pytest.param(private_pem(key), id=f"private-pem-{name}") for name, key in KEYS.items()),
        *(pytest.param(b64encode(pem(key)), id=f"base64-of-public-pem-{name}") for name, key in KEYS.items()),
        *(pytest.param(b64encode(private_pem(key)), id=f"base64-of-pem-{name}") for name, key in KEYS.items()),
        *(pytest.param(b64encode(der(key)), id=f"base64-of-der-{name}") for name, key in KEYS.items()),
        *(pytest.param(b64encode(private_der(key)), id=f"base64-of-private-der-{name}") for name, key in KEYS.items()),
        *(pytest.param(der(key).hex(), id=f"hex-{name}") for name, key in KEYS.items()),
        *(pytest.param(private_der(key).hex().upper(), id=f"hex-of-private-{name}") for name, key in KEYS.items()),
        *(pytest.param(private_der(key), id=f"private-der-{name}") for name, key in KEYS.items()),
        pytest.param(certificate(RSA), id="certificate"),
        pytest.param(openssh(ED), id="openssh-line"),
        pytest.param(openssh(ED).split()[1], id="openssh-body"),
        pytest.param(json.dumps(public_jwk(RSA)), id="jwk"),
        pytest.param(b64encode(json.dumps(public_jwk(RSA)).encode()), id="base64-of-a-jwk"),
        pytest.param(der(EC).hex(":"), id="hex-with-colons"),
        pytest.param(f"0x{der(EC).hex()}", id="hex-with-prefix"),
        pytest.param(private_pem(RSA).replace(b"\n", rb"\r\n"), id="escaped-windows-line-breaks"),
        pytest.param("data:;base64,AAAA", id="data-url"),
        pytest.param("file:///etc/keys/private.pem", id="file-url"),
        pytest.param(openssh(EC), id="openssh-line-of-ec"),
        pytest.param(b"".join(LINES[1:]), id="without-first-line"),
        pytest.param(b"".join(LINES[:-1]), id="without-last-line"),
        pytest.param(b"".join(LINES[1:-1]), id="without-frame"),
        pytest.param(b"".join(LINES[1:-1]).replace(b"\n", b"\r\n"), id="without-frame-from-windows"),
        pytest.param(b"".join(LINES[1:-1]).replace(b"\n", rb"\n"), id="without-frame-escaped"),
        pytest.param(LINES[1], id="first-line-of-base64"),
        pytest.param(urlsafe_b64encode(private_pem(RSA)).rstrip(b"="), id="base64url-of-pem"),
        pytest.param(private_pem(RSA).replace(b"\n", rb"\n"), id="escaped-line-breaks"),
        pytest.param(private_pem(RSA).decode().replace("\n", " "), id="spaces-for-line-breaks"),
        pytest.param("https://idp.test/.well-known/jwks.json", id="url"),
        pytest.param("HTTP://idp.test", id="url-without-tls"),
        pytest.param(__file__, id="path"),
        pytest.param(str(Path(__file__).parent), id="directory"),
        pytest.param(f"{__file__}\n", id="path-with-line-break"),
    ],
)
def test_key_is_no_secret(text: Any) -> None:
    for given in (text, text.encode() if isinstance(text, str) else text):
        with pytest.raises(UnusableKeyError) as raised:
            reject_key_as_secret(given)
        assert len(text) < 10 or str(text) not in str(raised.value)


@pytest.mark.parametrize(
    "secret",
    [
        pytest.param(SECRET, id="sentence"),
        pytest.param("x" * 10_000, id="longer-than-any-path"),
        pytest.param("private key", id="words"),
        pytest.param(b"\x00" * 64, id="zeros"),
        pytest.param(b"\xff" * 64, id="not-text"),
        pytest.param("é" * 32, id="not-ascii"),
        pytest.param("/run/secrets/that/are/not/there", id="no-path"),
    ],
)
def test_other_text_may_be_a_secret(secret: Any) -> None:
    reject_key_as_secret(secret)


@pytest.mark.parametrize("size", [32, 48, 64, 128, 256])
def test_random_secret_is_not_taken_for_a_key(size: int) -> None:
    generator = random.Random(size)
    for _ in range(500):
        data = generator.randbytes(size)
        for secret in (data, data.hex(), b64encode(data), urlsafe_b64encode(data).rstrip(b"=")):
            reject_key_as_secret(secret)
