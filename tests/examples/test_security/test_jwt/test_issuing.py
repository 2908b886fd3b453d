"""Applications that issue tokens, the tests that they have (imported, to be run here), and how others move over."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from docs.examples.security.jwt.testing_an_app import (  # noqa: F401
    issuer,
    test_others_are_refused,
    test_staff_is_let_in,
)
from docs.examples.security.jwt.testing_over_http import test_keys_are_found_and_followed  # noqa: F401
from pytest import MonkeyPatch

from litestar.security.jwt.testing import LocalIssuer
from litestar.testing import TestClient
from tests.examples.test_security.test_jwt.internet import Internet, answer_of, client_of, load

NAME = "https://login.example.com"
PUBLISHED = ("/.well-known/openid-configuration", "/.well-known/jwks.json")


@pytest.fixture(scope="module")
def key_files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    files = [tmp_path_factory.mktemp("keys") / name for name in ("old", "new")]
    for file in files:
        key = generate_private_key(65537, 2048)
        file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return list(map(str, files))


def test_keys_are_rotated_in_three_steps(key_files: list[str], internet: Internet, monkeypatch: MonkeyPatch) -> None:
    old, new = key_files
    running: list[TestClient[Any]] = []
    for path in PUBLISHED:
        internet.put(NAME + path, lambda path=path: running[0].get(path).json() if running else None)  # type: ignore[misc]
    monkeypatch.setenv("ISSUER", NAME)
    signed_by, headers, published, statuses = list[str](), list[Any](), list[list[str]](), set[int]()
    other = TestClient(load("verify_published_keys").create_app())
    with ExitStack() as stack:
        for step in ([old], [old, new], [new, old], [new]):
            monkeypatch.setenv("SIGNING_KEYS", os.pathsep.join(step))
            with client_of("publish_keys") as client:
                running[:] = [client]
                if not headers:
                    stack.enter_context(other)
                headers.append({"Authorization": client.post("/login/ann").headers["Authorization"]})
                signed_by.append(jwt.get_unverified_header(headers[-1]["Authorization"].split()[1])["kid"])
                published.append([key["kid"] for key in client.get(PUBLISHED[1]).json()["keys"]])
                statuses |= {other.get("/orders", headers=sent).status_code for sent in headers}
            running.clear()  # it restarts, and nobody can ask it
            statuses.add(other.get("/orders", headers=headers[-1]).status_code)
    first, second = published[0][0], published[3][0]
    assert published == [[first], [first, second], [second, first], [second]]
    assert signed_by == [first, first, second, second]
    assert statuses == {200}
    assert internet.requests[:2] == [NAME + path for path in PUBLISHED]


@pytest.mark.parametrize(
    ("name", "refusal"),
    [
        ("moving_from_pyjwkclient", "signature"),
        ("moving_from_workaround_before", "401"),
        ("moving_from_workaround_after", "signature"),
    ],
)
def test_tokens_are_verified_before_and_after_moving_over(name: str, refusal: str, idp: LocalIssuer) -> None:
    example = load(name)
    assert answer_of(example, idp.token("alice")) == "alice"
    forger = LocalIssuer(issuer="https://idp.example.com", audience="my-api")
    forged = forger.token("alice", headers={"kid": idp.jwks["keys"][0]["kid"]})
    assert answer_of(example, forged) == refusal


def test_key_stays_in_the_kms() -> None:
    key = generate_private_key(65537, 2048)
    digests: list[bytes] = []

    def sign(Message: bytes, **options: str) -> dict[str, bytes]:
        digests.append(Message)
        return {"Signature": key.sign(Message, PKCS1v15(), Prehashed(SHA256()))}

    public_key = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    kms = SimpleNamespace(get_public_key=lambda KeyId: {"PublicKey": public_key}, sign=sign)
    with TestClient(load("kms_signing").create_app(kms, "alias/login")) as client:
        token = client.post("/login/ann").headers["Authorization"].split()[1]
        keys = jwt.PyJWKSet.from_dict(client.get("/.well-known/jwks.json").json())
    assert jwt.decode(token, keys[jwt.get_unverified_header(token)["kid"]], audience="my-api")["sub"] == "ann"
    assert len(digests) == 1


def test_private_key_takes_the_place_of_the_shared_secret(key_files: list[str], monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setenv("JWT_PRIVATE_KEY", Path(key_files[0]).read_text())
    with client_of("moving_from_shared_secret") as client:
        token = client.post("/login").json()["token"]
        assert client.get("/me", headers={"Authorization": f"Bearer {token}"}).text == "alice"
        assert client.get("/me", headers=LocalIssuer().auth_header("alice")).status_code == 401
