"""What this package signs and publishes, others verify: its own key sets, PyJWT's client, and the npm package ``jose``."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
import uvicorn
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from litestar import Litestar
from litestar.security.jwt import JWTAuth, RemoteJWKSet, Token, create_jwks_handler
from litestar.testing import TestClient
from tests.unit.test_security.test_jwt.injected import backend, retrieve_user, whoami
from tests.unit.test_security.test_jwt.node_packages import installed_package, program

pytestmark = pytest.mark.xdist_group("round_trips")

KEYS: dict[str, Any] = {
    "RS256": rsa.generate_private_key(65537, 2048),
    "PS256": rsa.generate_private_key(65537, 2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}


@pytest.fixture(scope="module", params=KEYS)
def auth(request: pytest.FixtureRequest) -> JWTAuth[str, Token]:
    # Another key is published too, as it is during a rotation.
    is_rsa = request.param in {"RS256", "PS256"}
    other = rsa.generate_private_key(65537, 2048) if is_rsa else ec.generate_private_key(ec.SECP256R1())
    algorithm = ["EdDSA", "ES256"] if request.param == "EdDSA" else request.param
    return JWTAuth(retrieve_user_handler=retrieve_user, token_secret=[KEYS[request.param], other], algorithm=algorithm)


@pytest.fixture(scope="module")
def jwks_url(auth: JWTAuth[str, Token]) -> Iterator[str]:
    app = Litestar([create_jwks_handler(auth.token_secret or (), algorithm=auth.algorithm)])
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/.well-known/jwks.json"
        finally:
            server.should_exit = True
            thread.join()


def forged(token: str) -> str:
    header, payload, signature = token.split(".")
    return ".".join((header, payload, signature[:-8] + "AAAAAAAA"))


def test_another_application_verifies(auth: JWTAuth[str, Token], jwks_url: str) -> None:
    other = backend(RemoteJWKSet(jwks_url), algorithm=auth.algorithm)
    token = auth.create_token("ann")
    with TestClient(Litestar([whoami], on_app_init=[other.on_app_init])) as client:
        assert client.get("/", headers={"Authorization": f"Bearer {token}"}).text == "ann"
        assert client.get("/", headers={"Authorization": f"Bearer {forged(token)}"}).status_code == 401


def test_client_of_pyjwt_verifies(auth: JWTAuth[str, Token], jwks_url: str) -> None:
    client = jwt.PyJWKClient(jwks_url, timeout=5)
    token = auth.create_token("ann")
    key = client.get_signing_key_from_jwt(token)
    algorithms = [key.algorithm_name]
    assert jwt.decode(token, key, algorithms)["sub"] == "ann"
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(forged(token), key, algorithms)


def test_jose_verifies(auth: JWTAuth[str, Token], jwks_url: str, pytestconfig: pytest.Config) -> None:
    node = program("node")
    directory = installed_package(Path(__file__).parent / "jose", pytestconfig.rootpath)
    token = auth.create_token("ann")

    def verify(token: str) -> subprocess.CompletedProcess[str]:
        command = [node, str(directory / "verify.js"), jwks_url, token]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    assert verify(token).stdout == "ann\n"
    refused = verify(forged(token))
    assert refused.returncode != 0
    assert "signature verification failed" in refused.stderr
