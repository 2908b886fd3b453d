"""Applications that issue tokens, the tests that they have (imported, to be run here), and how others move over."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from docs.examples.security.jwt.testing_an_app import (  # noqa: F401
    issuer,
    test_others_are_refused,
    test_staff_is_let_in,
)
from docs.examples.security.jwt.testing_over_http import test_keys_are_found_and_followed  # noqa: F401

from litestar.security.jwt.testing import LocalIssuer
from litestar.testing import TestClient
from tests.examples.test_security.test_jwt.internet import Internet, answer_of, client_of, load

ISSUER = "https://login.example.com"
PUBLISHED = ("/.well-known/openid-configuration", "/.well-known/jwks.json")


@pytest.fixture(scope="module")
def key_files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("keys")
    for name in ("old", "new"):
        key = rsa.generate_private_key(65537, 2048)
        (folder / name).write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return [str(folder / "old"), str(folder / "new")]


def test_keys_are_rotated_in_three_steps_without_a_failed_request(
    key_files: Sequence[str], internet: Internet, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = key_files
    running: list[TestClient[Any]] = []
    for path in PUBLISHED:
        internet.put(ISSUER + path, lambda path=path: running[0].get(path).json() if running else None)  # type: ignore[misc]
    monkeypatch.setenv("ISSUER", ISSUER)
    signed_by: list[str] = []
    published: list[list[str]] = []
    statuses: list[int] = []
    headers: list[str] = []
    other = TestClient(load("verify_published_keys").create_app())
    with ExitStack() as stack:
        for step in ([old], [old, new], [new, old], [new]):
            monkeypatch.setenv("SIGNING_KEYS", os.pathsep.join(step))
            with client_of("publish_keys") as client:
                running[:] = [client]
                if not headers:
                    stack.enter_context(other)
                headers.append(client.post("/login/ann").headers["Authorization"])
                signed_by.append(jwt.get_unverified_header(headers[-1].removeprefix("Bearer "))["kid"])
                published.append([key["kid"] for key in client.get(PUBLISHED[1]).json()["keys"]])
                statuses += [other.get("/orders", headers={"Authorization": h}).status_code for h in headers]
            running.clear()  # it restarts, and nobody can ask it
            statuses.append(other.get("/orders", headers={"Authorization": headers[-1]}).status_code)
    first, second = published[0][0], published[3][0]
    assert published == [[first], [first, second], [second, first], [second]]
    assert signed_by == [first, first, second, second]
    assert set(statuses) == {200}


def test_published_keys_are_found_by_discovery(
    key_files: Sequence[str], internet: Internet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISSUER", ISSUER)
    monkeypatch.setenv("SIGNING_KEYS", os.pathsep.join(key_files))
    with client_of("publish_keys") as client:
        documents = {path: client.get(path).json() for path in PUBLISHED}
        for path, document in documents.items():
            internet.put(ISSUER + path, lambda document=document: document)  # type: ignore[misc]
        header = client.post("/login/ann").headers["Authorization"]
    with client_of("verify_published_keys") as other:
        assert other.get("/orders", headers={"Authorization": header}).text == "orders of ann"
        assert other.get("/orders").status_code == 401
    assert internet.requests == [ISSUER + path for path in PUBLISHED]


MOVED = ["moving_from_pyjwkclient", "moving_from_workaround_before", "moving_from_workaround_after"]


@pytest.mark.parametrize("name", MOVED)
def test_tokens_are_verified_before_and_after_moving_over(name: str, idp: LocalIssuer) -> None:
    example = load(name)
    assert answer_of(example, idp.token("alice")) == "alice"
    forger = LocalIssuer(issuer="https://idp.example.com", audience="my-api")
    forged = forger.token("alice", headers={"kid": idp.jwks["keys"][0]["kid"]})
    assert answer_of(example, forged) == "signature"


def test_private_key_takes_the_place_of_the_shared_secret(
    key_files: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JWT_PRIVATE_KEY", Path(key_files[0]).read_text())
    with client_of("moving_from_shared_secret") as client:
        token = client.post("/login").json()["token"]
        assert client.get("/me", headers={"Authorization": f"Bearer {token}"}).text == "alice"
        assert client.get("/me", headers=LocalIssuer().auth_header("alice")).status_code == 401
