from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from litestar.security.jwt.testing import LocalIssuer
from tests.examples.test_security.test_jwt.internet import Internet

ISSUER = "https://idp.example.com"
IDS = {"CLIENT_ID": "22222222-2222-2222-2222-222222222222", "TENANT_ID": "11111111-1111-1111-1111-111111111111"}


@pytest.fixture(autouse=True)
def internet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Internet]:
    """Stand in for the internet by what everybody's environment may have: a proxy, and a CA file."""
    internet = Internet()
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes(internet.authority.pem)
    proxies = dict.fromkeys(("HTTPS_PROXY", "https_proxy"), internet.issuer)
    for name, value in {**IDS, "ISSUER": ISSUER, **proxies, "SSL_CERT_FILE": str(ca_file)}.items():
        monkeypatch.setenv(name, value)
    yield internet
    internet.stop()


@pytest.fixture
def idp(internet: Internet) -> LocalIssuer:
    return internet.host(LocalIssuer(issuer=ISSUER, audience="my-api"))
