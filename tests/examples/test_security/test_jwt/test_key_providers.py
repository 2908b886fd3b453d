from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from docs.examples.security.jwt import key_status, look_into_token, own_provider, require_scopes, share_keys

from litestar.security.jwt import RemoteJWKSet
from litestar.security.jwt.testing import LocalIssuer
from litestar.testing import TestClient


def test_workers_share_what_one_of_them_has_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with LocalIssuer("https://idp.example.com", audience="my-api") as issuer:
        for _ in range(2):
            keys = RemoteJWKSet(issuer.jwks_url, store="keys")
            monkeypatch.setattr(share_keys.jwt_auth, "key_provider", keys)
            with TestClient(share_keys.app) as client:
                assert client.get("/me", headers=issuer.auth_header("alice")).text == "alice"
                while keys._document._running:  # until it is in the store
                    time.sleep(0.01)
        assert len(issuer.requests) == 1


def test_health_check_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    with LocalIssuer() as issuer:
        keys = RemoteJWKSet(issuer.jwks_url)
        monkeypatch.setattr(key_status, "keys", keys)
        monkeypatch.setattr(key_status.jwt_auth, "key_provider", keys)
        with TestClient(key_status.app) as client:
            requests = len(issuer.requests)
            response = client.get("/health")
            assert (response.status_code, response.json()["keys"]) == (200, 1)
            assert len(issuer.requests) == requests == 1


def test_health_check_fails_without_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = RemoteJWKSet("http://127.0.0.1:1/keys")
    monkeypatch.setattr(key_status, "keys", keys)
    monkeypatch.setattr(key_status.jwt_auth, "key_provider", keys)
    with TestClient(key_status.app) as client:
        response = client.get("/health")
        assert (response.status_code, response.json()["last_error"] is None) == (503, False)


def test_keys_come_from_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    device, stranger = (LocalIssuer(algorithm="ES256", audience="my-api") for _ in range(2))
    monkeypatch.setitem(own_provider.DEVICE_KEYS, device.kid, device.public_pem)
    with TestClient(own_provider.app) as client:
        assert client.get("/me", headers=device.auth_header("thermometer")).text == "thermometer"
        assert client.get("/me", headers=stranger.auth_header("thermometer")).status_code == 401


def test_token_can_be_looked_into() -> None:
    issuer = LocalIssuer("https://idp.example.com", audience="my-api")
    command = [sys.executable, look_into_token.__file__, issuer.token("alice")]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert issuer.kid in output
    assert "https://idp.example.com" in output


def test_scopes_and_roles_open_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    issuer = LocalIssuer("https://idp.example.com", audience="my-api")
    monkeypatch.setattr(require_scopes.jwt_auth, "key_provider", issuer.key_provider)
    with TestClient(require_scopes.app) as client:
        reader = issuer.auth_header("alice", scopes=["orders.read"])
        assert client.get("/orders", headers=reader).json() == ["tea"]
        refused = client.post("/orders", headers=reader)
        assert refused.status_code == 403
        assert "insufficient_scope" in refused.headers["WWW-Authenticate"]
        assert client.post("/orders", headers=issuer.auth_header("bob", roles=["admin"])).status_code == 201
