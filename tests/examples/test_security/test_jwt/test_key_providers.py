from __future__ import annotations

import os
import runpy
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pytest import CaptureFixture, MonkeyPatch

from litestar.security.jwt import KeysUnavailableException
from litestar.security.jwt.testing import LocalIssuer
from litestar.stores.memory import MemoryStore
from litestar.stores.redis import RedisStore
from tests.examples.test_security.test_jwt.internet import Internet, answer_of, client_of, load, outcome_of

issuer_of = partial(LocalIssuer, issuer="https://idp.example.com", audience="my-api")


def public_pem(issuer: LocalIssuer) -> bytes:
    key: Any = jwt.PyJWK(issuer.jwks["keys"][-1]).key
    return bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def test_workers_share_what_one_has_fetched(idp: LocalIssuer, internet: Internet, monkeypatch: MonkeyPatch) -> None:
    store = MemoryStore()
    monkeypatch.setattr(RedisStore, "with_client", lambda url: store)
    for _ in range(2):
        assert answer_of("share_keys", idp.token("alice")) == "alice"
    assert len(internet.requests) == 2  # the discovery document and the keys, once each


@pytest.mark.parametrize("is_up", [True, False])
def test_health_check_and_metrics(is_up: bool, internet: Internet) -> None:
    if is_up:
        internet.host(issuer_of())
    responses = []
    for example, path in ((load("health_check"), "/health"), (metrics := load("prometheus_metrics"), "/metrics")):
        with client_of(example) as client:
            with suppress(KeysUnavailableException):
                anyio.run(example.keys.refresh)
            responses.append(client.get(path))
    health, counts = responses
    expected = (200, 1, None) if is_up else (503, 0, "status 404")
    assert (health.status_code, health.json()["keys"], health.json()["last_error"]) == expected
    assert counts.headers["Content-Type"].startswith("text/plain")
    fetches = metrics.keys.status().fetches
    for count in (f"jwt_keys {is_up:.1f}", f"jwt_keys_usable {is_up:.1f}", f"jwt_key_fetches_total {fetches:.1f}"):
        assert f"\n{count}\n" in counts.text


def test_client_has_a_private_ca_and_a_proxy(idp: LocalIssuer, internet: Internet, monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setenv("COMPANY_CA", os.environ["SSL_CERT_FILE"])
    monkeypatch.setenv("COMPANY_PROXY", internet.issuer)
    for name in ("SSL_CERT_FILE", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name)
    assert answer_of("private_ca", idp.token("alice")) == "alice"
    assert internet.requests[-1] == "https://idp.example.com/keys"


@pytest.mark.parametrize("place", ["file", "variable", "escaped"])
def test_public_key_is_configured(place: str, tmp_path: Path, monkeypatch: MonkeyPatch) -> None:
    issuer = issuer_of()
    pem = public_pem(issuer)
    if place == "file":
        (tmp_path / "key.pem").write_bytes(pem)
        monkeypatch.setenv("JWT_PUBLIC_KEY_FILE", str(tmp_path / "key.pem"))
    else:
        monkeypatch.setenv("JWT_PUBLIC_KEY", pem.decode().replace("\n", "\n" if place == "variable" else "\\n"))
    example = load("pem_keys")
    assert answer_of(example, issuer.token("alice")) == "alice"
    assert answer_of(example, issuer_of().token("alice")) == "signature"


def test_keys_come_from_a_database_and_are_cached() -> None:
    device, stranger = (issuer_of(algorithm="ES256") for _ in range(2))
    example = load("keys_from_database")
    kid = device.jwks["keys"][0]["kid"]
    example.DEVICE_KEYS[kid] = public_pem(device).decode()
    assert answer_of(example, device.token("thermometer")) == "thermometer"
    example.DEVICE_KEYS.clear()
    assert answer_of(example, device.token("thermometer")) == "thermometer"
    assert answer_of(example, stranger.token("thermometer")) == "unknown key"
    assert answer_of(example, stranger.token(headers={"kid": kid})) == "signature"


ARN = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:loadbalancer/app/my-load-balancer/50dc6c495c0c9188"
KID = "9c2f5b3e-0000-4000-8000-123456789abc"


@pytest.mark.parametrize(
    ("headers", "claims", "answer"),
    [
        ({}, {}, "alice"),
        *(({"signer": signer}, {}, "unknown key") for signer in ("arn:of:another", None)),
        *(({"kid": kid}, {}, "unknown key") for kid in ("../../secrets", KID.replace("9", "8"))),
        ({}, {"exp": 1}, "expired"),
    ],
)
def test_load_balancer_vouches_for_users(headers: Any, claims: Any, answer: str, internet: Internet) -> None:
    issuer = issuer_of(algorithm="ES256")
    internet.put(f"https://public-keys.auth.elb.eu-central-1.amazonaws.com/{KID}", lambda: public_pem(issuer))
    token = issuer.token("alice", iat=None, aud=None, headers={"signer": ARN, "kid": KID, **headers}, **claims)
    with client_of("aws_load_balancer") as client:
        assert outcome_of(client.get("/me", headers={"x-amzn-oidc-data": token})) == answer


def test_token_can_be_looked_into(idp: LocalIssuer, monkeypatch: MonkeyPatch, capsys: CaptureFixture[str]) -> None:
    script = str(load("look_into_token").__file__)
    monkeypatch.setattr(sys, "argv", [script, idp.token("alice")])
    runpy.run_path(script, run_name="__main__")
    output = capsys.readouterr().out
    assert idp.jwks["keys"][0]["kid"] in output and "https://idp.example.com" in output
