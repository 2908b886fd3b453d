"""One application issues tokens, another one verifies them with the keys that the first publishes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from docs.examples.security.jwt import publish_keys, verify_published_keys

from litestar.security.jwt import OpenIDProvider
from litestar.security.jwt.testing import LocalIssuer
from litestar.testing import TestClient

ROOT = Path(__file__).parents[4]
EXAMPLES = "docs.examples.security.jwt"


@pytest.fixture(scope="module")
def key_files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("keys")
    for name in ("old", "new"):
        key = rsa.generate_private_key(65537, 2048)
        (folder / name).write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return [str(folder / "old"), str(folder / "new")]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def served(module: str, port: int, **environment: str) -> Iterator[str]:
    """Run an example in a process of its own."""
    command = [sys.executable, "-m", "uvicorn", "--factory", f"{EXAMPLES}.{module}:create_app", "--port", str(port)]
    process = subprocess.Popen(
        [*command, "--log-level", "error"], cwd=ROOT, env={**os.environ, **environment, "PYTHONPATH": str(ROOT)}
    )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(200):
            try:
                httpx.get(f"{url}/schema/openapi.json")
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(10)


def login(url: str) -> str:
    return httpx.post(f"{url}/login/ann").headers["Authorization"]


class Traffic:
    """Requests with the newest token, one after the other, in a thread."""

    def __init__(self, url: str, header: str) -> None:
        self.header = header
        self.statuses: list[int] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(url,))

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self, url: str) -> None:
        with httpx.Client() as client:
            while not self._ended.is_set():
                answer = client.get(f"{url}/orders", headers={"Authorization": self.header})
                self.statuses.append(answer.status_code)

    def go_on(self) -> None:
        """Wait until some more requests have been answered."""
        enough = len(self.statuses) + 20
        while len(self.statuses) < enough:
            time.sleep(0.01)


@pytest.mark.timeout(90)
@pytest.mark.xdist_group("processes")
def test_keys_are_rotated_in_three_steps_without_a_failed_request(key_files: Sequence[str]) -> None:
    old, new = key_files
    port = free_port()
    issuer = f"http://127.0.0.1:{port}"
    signed_by, published = [], []
    with ExitStack() as stack:
        traffic: Traffic | None = None
        for step in ([old], [old, new], [new, old], [new]):
            with served("publish_keys", port, ISSUER=issuer, SIGNING_KEYS=os.pathsep.join(step)) as url:
                header = login(url)
                if traffic is None:
                    other = stack.enter_context(served("verify_published_keys", free_port(), ISSUER=issuer))
                    traffic = stack.enter_context(Traffic(other, header))
                traffic.header = header
                traffic.go_on()
                signed_by.append(jwt.get_unverified_header(header.removeprefix("Bearer "))["kid"])
                published.append([key["kid"] for key in httpx.get(f"{url}/.well-known/jwks.json").json()["keys"]])
            traffic.go_on()
    first, second = published[0][0], published[3][0]
    assert published == [[first], [first, second], [second, first], [second]]
    assert signed_by == [first, first, second, second]
    assert traffic is not None
    assert set(traffic.statuses) == {200}


def test_application_is_an_issuer_that_can_be_discovered(
    key_files: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISSUER", "https://login.example.com")
    monkeypatch.setenv("SIGNING_KEYS", os.pathsep.join(key_files))
    asked: list[str] = []
    with TestClient(publish_keys.create_app()) as client:

        async def fetch(url: str, headers: Mapping[str, str]) -> httpx.Response:
            asked.append(url)
            return client.get(url.removeprefix("https://login.example.com"))

        provider = OpenIDProvider("https://login.example.com", client=fetch)
        header = client.post("/login/ann").headers["Authorization"]
        monkeypatch.setattr(verify_published_keys, "RemoteJWKSet", lambda url: provider)
        with TestClient(verify_published_keys.create_app()) as other:
            assert other.get("/orders", headers={"Authorization": header}).text == "orders of ann"
            assert other.get("/orders").status_code == 401
    assert [url.rpartition("/")[2] for url in asked] == ["openid-configuration", "jwks.json"]


def test_one_line_puts_another_issuer_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    issuer = LocalIssuer("https://login.example.com", audience="orders")
    monkeypatch.setenv("ISSUER", issuer.issuer)
    monkeypatch.setattr(verify_published_keys, "RemoteJWKSet", lambda url: issuer.key_provider)
    with TestClient(verify_published_keys.create_app()) as client:
        assert client.get("/orders", headers=issuer.auth_header("ann")).text == "orders of ann"
        assert client.get("/orders", headers=issuer.auth_header("ann", audience="other")).status_code == 401
