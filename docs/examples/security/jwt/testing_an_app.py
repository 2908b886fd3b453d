import pytest
from docs.examples.security.jwt.google import CLIENT_ID, app, jwt_auth

from litestar.security.jwt.testing import LocalIssuer
from litestar.testing import TestClient


@pytest.fixture
def issuer(monkeypatch: pytest.MonkeyPatch) -> LocalIssuer:
    issuer = LocalIssuer(audience=CLIENT_ID)
    monkeypatch.setattr(jwt_auth, "key_provider", issuer.key_provider)
    return issuer


def test_staff_is_let_in(issuer: LocalIssuer) -> None:
    with TestClient(app) as client:
        headers = issuer.auth_header("alice", hd="example.com")
        assert client.get("/me", headers=headers).text == "alice"


def test_others_are_refused(issuer: LocalIssuer) -> None:
    forger = LocalIssuer(audience=CLIENT_ID, issuer=issuer.issuer)
    with TestClient(app) as client:
        for headers in (
            issuer.auth_header("alice", hd="example.com", expires_in=-60),
            issuer.auth_header("alice", hd="example.com", aud="another"),
            forger.auth_header("alice", hd="example.com"),
        ):
            assert client.get("/me", headers=headers).status_code == 401
