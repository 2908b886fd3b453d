from __future__ import annotations

import json
import os
import runpy
import sys
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pytest import CaptureFixture, MonkeyPatch

from litestar.security.jwt.testing import LocalIssuer
from tests.examples.test_security.test_jwt.internet import Internet, answer_of, client_of, load, outcome_of
from tests.unit.test_security.test_jwt.key_providers.issuer_server import Answer

issuer_of = partial(LocalIssuer, issuer="https://idp.example.com", audience="my-api")


def public_pem(issuer: LocalIssuer) -> bytes:
    key: Any = jwt.PyJWK(issuer.jwks["keys"][-1]).key
    return bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


@pytest.mark.usefixtures("store")
def test_workers_share_what_one_has_fetched(idp: LocalIssuer, internet: Internet) -> None:
    for _ in range(2):
        assert answer_of("share_keys", idp.token("alice")) == "alice"
    assert len(internet.requests) == 2  # the discovery document and the keys, once each


def test_application_is_ready_as_soon_as_its_issuer_is(internet: Internet) -> None:
    with client_of("health_check") as client:
        for status, keys, error in ((503, 0, "status 404"), (200, 1, None)):
            ready = client.get("/health/ready")
            assert (ready.status_code, ready.json()["keys"]) == (status, keys)
            assert ready.json()["last_error"] is error or error in ready.json()["last_error"]
            assert client.get("/health/live").status_code == 200
            internet.host(issuer_of())


def test_metrics(idp: LocalIssuer) -> None:
    example = load("prometheus_metrics")
    with client_of(example) as client:
        anyio.run(example.keys.refresh)
        counts = client.get("/metrics")
    assert counts.headers["Content-Type"].startswith("text/plain")
    fetches = example.keys.status().fetches
    for count in ("jwt_keys 1.0", "jwt_keys_usable 1.0", f"jwt_key_fetches_total {fetches:.1f}"):
        assert f"\n{count}\n" in counts.text


def test_client_has_a_private_ca_and_a_proxy(idp: LocalIssuer, internet: Internet, monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setenv("COMPANY_CA", os.environ["SSL_CERT_FILE"])
    monkeypatch.setenv("COMPANY_PROXY", internet.issuer)
    for name in ("SSL_CERT_FILE", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name)
    assert answer_of("private_ca", idp.token("alice")) == "alice"
    assert internet.requests[-1] == "https://idp.example.com/keys"


def test_service_account_reads_keys_of_the_cluster(internet: Internet, tmp_path: Path) -> None:
    issuer = LocalIssuer(issuer="https://kubernetes.default.svc.cluster.local", audience="my-api")
    internet.put("https://kubernetes.default.svc/openid/v1/jwks", lambda: issuer.jwks)
    (tmp_path / "ca.crt").write_bytes(internet.authority.pem)
    example: Any = load("kubernetes")
    example.FOLDER = tmp_path
    checkout, shop = (f"system:serviceaccount:shop:{name}" for name in ("checkout", "default"))
    with client_of(example) as client:
        assert client.get("/me", headers=issuer.auth_header(checkout)).status_code == 503  # no token yet
    for secret in ("first", "second"):
        (tmp_path / "token").write_text(secret)
        assert answer_of(example, issuer.token(checkout)) == checkout
        assert internet.headers[-1]["authorization"] == f"Bearer {secret}"
    assert answer_of(example, issuer.token(shop)) == "no user"


def test_key_file_is_replaced(tmp_path: Path, monkeypatch: MonkeyPatch) -> None:
    file, issuer = tmp_path / "jwks.json", issuer_of(algorithm="ES256")
    monkeypatch.setenv("JWKS_FILE", str(file))
    with client_of("keys_on_disk") as client:
        assert client.get("/me", headers=issuer.auth_header()).status_code == 503
        for _ in range(2):
            file.write_text(json.dumps(issuer.jwks))
            assert client.get("/me", headers=issuer.auth_header("alice")).text == "alice"
            issuer.rotate()
            assert outcome_of(client.get("/me", headers=issuer.auth_header())) == "unknown key"


@pytest.mark.parametrize(
    ("use", "sub", "answer"),
    [("jwt-svid", "checkout", ""), ("jwt-svid", "other", "no user"), ("x509-svid", "checkout", "unknown key")],
)
def test_spiffe_bundle(use: str, sub: str, answer: str, tmp_path: Path, monkeypatch: MonkeyPatch) -> None:
    issuer, sub = issuer_of(algorithm="ES256"), f"spiffe://example.org/shop/{sub}"
    (tmp_path / "bundle").write_text(json.dumps({"keys": [{**issuer.jwks["keys"][0], "use": use}]}))
    monkeypatch.setenv("SPIFFE_BUNDLE", str(tmp_path / "bundle"))
    assert answer_of("spiffe", issuer.token(sub, aud="spiffe://example.org/my-api", iat=None)) == (answer or sub)


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
    device, other = (issuer_of(algorithm="ES256") for _ in range(2))
    example = load("keys_from_database")
    example.DEVICE_KEYS.update(thermometer=public_pem(device).decode(), door=public_pem(other).decode())
    assert answer_of(example, device.token("thermometer")) == "thermometer"
    del example.DEVICE_KEYS["thermometer"]
    assert answer_of(example, device.token("thermometer")) == "thermometer"
    for kid in ("thermometer", "door"):  # a device cannot pass for another
        assert answer_of(example, device.token("door", headers={"kid": kid})) == "signature"
    subjects: list[Any] = ["window", None, 7, ["door"]]
    for sub in subjects:
        assert answer_of(example, device.token(sub)) == "unknown key"


ARN = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:loadbalancer/app/my-load-balancer/50dc6c495c0c9188"
KID = "9c2f5b3e-0000-4000-8000-123456789abc"


@pytest.mark.parametrize(
    ("headers", "claims", "answer"),
    [
        ({}, {}, "alice"),
        *(({"signer": signer}, {}, "unknown key") for signer in ("arn:of:another", None)),
        *(({"kid": kid}, {}, "unknown key") for kid in ("../../secrets", KID.replace("9", "8"))),
        ({}, {"exp": 1}, "expired"),
        ({"kid": KID.replace("9", "7")}, {}, "503"),
    ],
)
def test_load_balancer_vouches_for_users(headers: Any, claims: Any, answer: str, internet: Internet) -> None:
    issuer = issuer_of(algorithm="ES256")
    keys = "https://public-keys.auth.elb.eu-central-1.amazonaws.com"
    internet.put(f"{keys}/{KID}", lambda: public_pem(issuer))
    internet.answers[f"{keys}/{KID.replace('9', '7')}"] = Answer(status=500)
    token = issuer.token("alice", iat=None, aud=None, headers={"signer": ARN, "kid": KID, **headers}, **claims)
    with client_of("aws_load_balancer") as client:
        assert outcome_of(client.get("/me", headers={"x-amzn-oidc-data": token})) == answer


def test_token_can_be_looked_into(idp: LocalIssuer, monkeypatch: MonkeyPatch, capsys: CaptureFixture[str]) -> None:
    script = str(load("look_into_token").__file__)
    monkeypatch.setattr(sys, "argv", [script, idp.token("alice")])
    runpy.run_path(script, run_name="__main__")
    output = capsys.readouterr().out
    assert idp.jwks["keys"][0]["kid"] in output and "https://idp.example.com" in output
