"""A certificate authority that only tests trust."""

from __future__ import annotations

import ssl
import tempfile
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


class Authority:
    """Signs certificates for any host, with the one key that all of them have."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority of a test")])
        signs_certificates = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        self.pem = self._certificate(self._name, signs_certificates, x509.BasicConstraints(ca=True, path_length=None))

    def context_for(self, host: str) -> ssl.SSLContext:
        """Return what a server needs that passes for a host."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate = self._certificate(x509.Name([]), x509.SubjectAlternativeName([x509.DNSName(host)]))
        with tempfile.NamedTemporaryFile() as chain:
            chain.write(self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate)
            chain.flush()
            context.load_cert_chain(chain.name)
        return context

    def _certificate(self, name: x509.Name, *extensions: x509.ExtensionType) -> bytes:
        public, years = self._key.public_key(), (datetime(2020, 1, 1, tzinfo=UTC), datetime(2099, 1, 1, tzinfo=UTC))
        builder = x509.CertificateBuilder(self._name, name, public, x509.random_serial_number(), *years)
        for extension in extensions:
            builder = builder.add_extension(extension, critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)
