from docs.examples.security.jwt.entra_single_tenant import Settings, create_app

from litestar.security.jwt.testing import LocalIssuer
from litestar.testing import TestClient


def test_keys_are_found_and_followed() -> None:
    with LocalIssuer(audience="my-client") as issuer:
        app = create_app(Settings(issuer=issuer.issuer, client_id="my-client"))
        with TestClient(app) as client:
            headers = issuer.auth_header("alice")
            assert client.get("/me", headers=headers).json() == {"id": "alice"}
            issuer.rotate()
            headers = issuer.auth_header("alice")
            assert client.get("/me", headers=headers).status_code == 200
