from __future__ import annotations

import logging
import ssl
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from litestar.security.jwt.testing import LocalIssuer
from litestar.stores.memory import MemoryStore
from litestar.stores.redis import RedisStore
from tests.examples.test_security.test_jwt.internet import Internet, Load, client_of, reason_of, send, text_of


def issuer_of(**options: Any) -> LocalIssuer:
    return LocalIssuer(**{"issuer": "https://idp.example.com", "audience": "my-api", **options})


def public_pem(issuer: LocalIssuer) -> str:
    key: Any = jwt.PyJWK(issuer.jwks["keys"][-1]).key
    return str(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


@pytest.fixture
def idp(internet: Internet) -> LocalIssuer:
    issuer = issuer_of()
    internet.publish(issuer, "https://idp.example.com/keys")
    return issuer


def test_workers_share_what_one_of_them_has_fetched(
    idp: LocalIssuer, internet: Internet, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore()
    monkeypatch.setattr(RedisStore, "with_client", lambda url: store)
    for _ in range(2):
        assert text_of(load("share_keys"), idp.token("alice")) == "alice"
    assert len(internet.asked) == 2  # the discovery document and the keys, once each


@pytest.mark.parametrize("is_up", [True, False])
def test_health_check_and_metrics(is_up: bool, internet: Internet, load: Load) -> None:
    if is_up:
        internet.publish(issuer_of(), "https://idp.example.com/keys")
    example = load("health_check")
    with client_of(example) as client:
        anyio.run(_settled, example.keys)
        response = client.get("/health")
        assert response.status_code == (200 if is_up else 503)
        assert (response.json()["keys"], response.json()["last_error"]) == ((1, None) if is_up else (0, "status 404"))
    example = load("prometheus_metrics")
    with client_of(example) as client:
        anyio.run(_settled, example.keys)
        response = client.get("/metrics")
        assert response.headers["Content-Type"].startswith("text/plain")
        assert f"jwt_keys {int(is_up):.1f}" in response.text
        assert f"jwt_keys_usable {int(is_up):.1f}" in response.text
        assert f"jwt_key_fetches_total {example.keys.status().fetches:.1f}" in response.text


async def _settled(keys: Any) -> None:
    try:
        await keys.refresh()
    except Exception:
        pass


def test_client_has_a_private_ca_and_a_proxy(
    idp: LocalIssuer, internet: Internet, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPANY_CA", "/etc/company.pem")
    monkeypatch.setenv("COMPANY_PROXY", "http://proxy.example.com:3128")
    example = load("private_ca")
    made: list[Any] = []
    monkeypatch.setattr(ssl, "create_default_context", lambda cafile: cafile)

    def make_client(**options: Any) -> Any:
        made.append(options)
        return internet.client()

    monkeypatch.setattr(example, "httpx2", SimpleNamespace(AsyncClient=make_client))
    assert text_of(example, idp.token("alice")) == "alice"
    assert made == [{"verify": "/etc/company.pem", "proxy": "http://proxy.example.com:3128"}]


@pytest.mark.parametrize("place", ["file", "variable", "escaped"])
def test_public_key_is_configured(place: str, load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    issuer = issuer_of()
    pem = public_pem(issuer)
    if place == "file":
        (tmp_path / "key.pem").write_text(pem)
        monkeypatch.setenv("JWT_PUBLIC_KEY_FILE", str(tmp_path / "key.pem"))
    else:
        monkeypatch.setenv("JWT_PUBLIC_KEY", pem if place == "variable" else pem.replace("\n", "\\n"))
    example = load("pem_keys")
    assert text_of(example, issuer.token("alice")) == "alice"
    assert send(example, issuer_of().token("alice")).status_code == 401


def test_keys_come_from_a_database_and_are_cached(load: Load) -> None:
    device, stranger = (issuer_of(algorithm="ES256") for _ in range(2))
    example = load("keys_from_database")
    kid = device.jwks["keys"][0]["kid"]
    example.DEVICE_KEYS[kid] = public_pem(device)
    assert text_of(example, device.token("thermometer")) == "thermometer"
    example.DEVICE_KEYS.clear()
    assert text_of(example, device.token("thermometer")) == "thermometer"
    assert reason_of(send(example, stranger.token("thermometer"))) == "unknown key"
    assert reason_of(send(example, stranger.token(headers={"kid": kid}))) == "signature"


ARN = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:loadbalancer/app/my-load-balancer/50dc6c495c0c9188"
KID = "9c2f5b3e-0000-4000-8000-123456789abc"


@pytest.mark.parametrize(
    ("headers", "claims", "reason"),
    [
        ({}, {}, None),
        ({"signer": "arn:of:another"}, {}, "unknown key"),
        ({"signer": None}, {}, "unknown key"),
        ({"kid": "../../secrets"}, {}, "unknown key"),
        ({"kid": KID.replace("9", "8")}, {}, "unknown key"),
        ({}, {"exp": 1}, "expired"),
    ],
)
def test_load_balancer_vouches_for_users(
    headers: Any, claims: Any, reason: str | None, internet: Internet, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer = issuer_of(algorithm="ES256")
    example = load("aws_load_balancer")
    internet.put(f"https://public-keys.auth.elb.eu-central-1.amazonaws.com/{KID}", lambda: public_pem(issuer))
    monkeypatch.setattr(example, "httpx2", SimpleNamespace(AsyncClient=internet.client))
    token = issuer.token("alice", iat=None, aud=None, headers={"signer": ARN, "kid": KID, **headers}, **claims)
    response = send(example, token, header="x-amzn-oidc-data", scheme="")
    if reason is None:
        assert response.text == "alice"
    else:
        assert reason_of(response) == reason


def test_one_line_of_the_log_says_why(idp: LocalIssuer, load: Load, caplog: pytest.LogCaptureFixture) -> None:
    example = load("remote_jwks")
    with caplog.at_level(logging.INFO, "litestar.security.jwt"):
        assert send(example, idp.token("alice", aud="another")).status_code == 401
    lines = [record.getMessage() for record in caplog.records if "refused" in record.getMessage()]
    assert lines == ["Token refused: audience (expected: my-api)"]


def test_token_can_be_looked_into(idp: LocalIssuer, load: Load) -> None:
    command = [sys.executable, str(load("look_into_token").__file__), idp.token("alice")]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert idp.jwks["keys"][0]["kid"] in output
    assert "https://idp.example.com" in output
