from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from litestar.security.jwt.testing import LocalIssuer
from litestar.stores.memory import MemoryStore
from litestar.stores.redis import RedisStore
from tests.examples.test_security.test_jwt.internet import Internet

ISSUER = "https://idp.example.com"
ENVIRONMENT = {
    "CLIENT_ID": "22222222-2222-2222-2222-222222222222",
    "TENANT_ID": "11111111-1111-1111-1111-111111111111",
    "ISSUER": ISSUER,
    **{name: f"{name}, which is long enough for HMAC" for name in ("CLIENT_SECRET", "CSRF_SECRET", "JWT_SECRET")},
}


@pytest.fixture(autouse=True)
def internet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Internet]:
    """Stand in for the internet by what everybody's environment may have: a proxy, and a CA file."""
    internet = Internet()
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes(internet.authority.pem)
    proxies = dict.fromkeys(("HTTPS_PROXY", "https_proxy"), internet.issuer)
    files = {"SSL_CERT_FILE": str(ca_file), "DATABASE": str(tmp_path / "database")}
    for name, value in {**ENVIRONMENT, **proxies, **files}.items():
        monkeypatch.setenv(name, value)
    yield internet
    internet.stop()


@pytest.fixture
def idp(internet: Internet) -> LocalIssuer:
    return internet.host(LocalIssuer(issuer=ISSUER, audience="my-api"))


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    """What examples keep in Redis."""
    store = MemoryStore()
    monkeypatch.setattr(RedisStore, "with_client", lambda url: store)
    return store
