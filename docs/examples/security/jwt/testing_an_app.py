import pytest
from docs.examples.security.jwt.entra_single_tenant import CLIENT_ID, app, jwt_auth

from litestar.security.jwt.testing import LocalIssuer
from litestar.testing import TestClient


@pytest.fixture
def issuer(monkeypatch: pytest.MonkeyPatch) -> LocalIssuer:
    issuer = LocalIssuer(audience=CLIENT_ID)
    monkeypatch.setattr(jwt_auth, "key_provider", issuer.key_provider)
    return issuer


def test_users_are_known_by_their_token(issuer: LocalIssuer) -> None:
    with TestClient(app) as client:
        assert client.get("/me", headers=issuer.auth_header("alice")).text == "alice"


def test_others_are_refused(issuer: LocalIssuer) -> None:
    with TestClient(app) as client:
        headers = {"Authorization": f"Bearer {issuer.forged_token('alice')}"}
        assert client.get("/me", headers=headers).status_code == 401
        assert client.get("/me", headers=issuer.auth_header("alice", audience="other-api")).status_code == 401
