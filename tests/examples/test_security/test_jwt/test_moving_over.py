from __future__ import annotations

from types import ModuleType

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from docs.examples.security.jwt import (
    moving_from_pyjwkclient,
    moving_from_shared_secret,
    moving_from_workaround_after,
    moving_from_workaround_before,
)

from litestar.security.jwt.testing import LocalIssuer
from litestar.testing import TestClient


@pytest.fixture(scope="module")
def issuer() -> LocalIssuer:
    return LocalIssuer("https://idp.example.com", audience="my-api")


@pytest.mark.parametrize(
    "example", [moving_from_pyjwkclient, moving_from_workaround_before, moving_from_workaround_after]
)
def test_tokens_are_verified_before_and_after(
    example: ModuleType, issuer: LocalIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = getattr(example, "client", None) or example.jwt_auth.key_provider
    if hasattr(client, "fetch_data"):
        monkeypatch.setattr(client, "fetch_data", lambda: issuer.jwks)
    else:
        monkeypatch.setattr(example.jwt_auth, "key_provider", issuer.key_provider)
    with TestClient(example.app) as test_client:
        response = test_client.get("/me", headers=issuer.auth_header("alice"))
        assert (response.status_code, response.text) == (200, "alice")
        refused = {"Authorization": f"Bearer {issuer.forged_token('alice')}"}
        assert test_client.get("/me", headers=refused).status_code == 401


def test_private_key_takes_the_place_of_the_shared_secret(issuer: LocalIssuer, monkeypatch: pytest.MonkeyPatch) -> None:
    pem = issuer.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    monkeypatch.setenv("JWT_PRIVATE_KEY", pem.decode())
    with TestClient(moving_from_shared_secret.create_app()) as client:
        token = client.post("/login").json()["token"]
        assert client.get("/me", headers={"Authorization": f"Bearer {token}"}).text == "alice"
        assert client.get("/me", headers=issuer.auth_header("alice", key=LocalIssuer().private_key)).status_code == 401
