from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import docs.examples.security.jwt
import pytest

from litestar.security.jwt.testing import LocalIssuer
from litestar.testing import TestClient
from tests.examples.test_security.test_jwt.internet import Internet, status_of, text_of

Load = Callable[[str], ModuleType]


def published(internet: Internet, name: str, **options: Any) -> LocalIssuer:
    issuer = LocalIssuer(name, audience="my-api", **options)
    internet.publish(issuer, f"{name}/keys", id_token_signing_alg_values_supported=[issuer.algorithm])
    return issuer


@pytest.fixture
def idp(internet: Internet) -> LocalIssuer:
    return published(internet, "https://idp.example.com", algorithm="ES256")


@pytest.fixture
def contoso(internet: Internet) -> LocalIssuer:
    return published(internet, "https://login.contoso.example")


@pytest.fixture
def fabrikam(internet: Internet) -> LocalIssuer:
    return published(internet, "https://login.fabrikam.example", algorithm="EdDSA")


def test_router_has_a_provider_of_its_own(idp: LocalIssuer, internet: Internet, load: Load) -> None:
    partner = published(internet, "https://partner.example")
    recipe = load("provider_per_router")
    assert text_of(recipe, idp.token("alice"), "/me") == "alice of https://idp.example.com"
    assert text_of(recipe, partner.token("bob"), "/partner/me") == "bob of https://partner.example"
    assert status_of(recipe, partner.token("bob"), "/me") == 401
    assert status_of(recipe, idp.token("alice"), "/partner/me") == 401


def test_issuer_comes_from_the_environment(
    idp: LocalIssuer, contoso: LocalIssuer, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    for issuer, other in ((idp, contoso), (contoso, idp)):
        # Nothing is read before the start, and no more after it.
        monkeypatch.setenv("ISSUER", issuer.issuer)
        recipe = load("settings_from_environment")
        with TestClient(recipe.app) as client:
            monkeypatch.delenv("ISSUER")
            assert client.get("/me", headers=issuer.auth_header("alice")).text == "alice"
            assert client.get("/me", headers=other.auth_header("alice")).status_code == 401


def test_issuer_that_is_not_set_is_logged_and_lets_nobody_in(
    idp: LocalIssuer, load: Load, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("ISSUER", raising=False)
    with TestClient(load("settings_from_environment").app, raise_server_exceptions=False) as client:
        assert "KeyError('ISSUER')" in caplog.text
        assert client.get("/me", headers=idp.auth_header("alice")).status_code == 500


def test_path_names_the_tenant(contoso: LocalIssuer, fabrikam: LocalIssuer, load: Load) -> None:
    recipe = load("provider_from_path")
    # The algorithms come from each tenant's own document.
    assert text_of(recipe, contoso.token("alice"), "/contoso/me") == "alice of contoso"
    assert text_of(recipe, fabrikam.token("bob"), "/fabrikam/me") == "bob of fabrikam"
    assert status_of(recipe, contoso.token("alice"), "/fabrikam/me") == 401
    assert status_of(recipe, fabrikam.token("bob"), "/contoso/me") == 401


def test_path_of_no_tenant_is_not_found(contoso: LocalIssuer, internet: Internet, load: Load) -> None:
    assert status_of(load("provider_from_path"), contoso.token("alice"), "/initech/me") == 404
    assert internet.asked == []


def test_keys_of_tenants_are_kept(contoso: LocalIssuer, internet: Internet, load: Load) -> None:
    recipe = load("provider_from_path")
    with TestClient(recipe.app) as client:
        for _ in range(3):
            assert client.get("/contoso/me", headers=contoso.auth_header("alice")).status_code == 200
    assert internet.asked == [
        "https://login.contoso.example/.well-known/openid-configuration",
        "https://login.contoso.example/keys",
    ]


def test_key_set_is_enough(idp: LocalIssuer, internet: Internet, load: Load) -> None:
    assert text_of(load("remote_jwks"), idp.token("alice")) == "alice"
    assert internet.asked == ["https://idp.example.com/keys"]


@pytest.mark.parametrize(
    "claims", [{"iss": "https://other.example"}, {"iss": None}, {"aud": "other-api"}, {"aud": None}, {"exp": 1}]
)
def test_key_set_verifies_nothing_else(idp: LocalIssuer, load: Load, claims: Any) -> None:
    assert status_of(load("remote_jwks"), idp.token("alice", **claims)) == 401


def test_key_set_is_for_one_algorithm(internet: Internet, load: Load) -> None:
    issuer = published(internet, "https://idp.example.com", algorithm="RS256")
    assert status_of(load("remote_jwks"), issuer.token("alice")) == 401


def test_signature_of_a_remembered_token_is_not_verified_again(
    internet: Internet, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer = published(internet, "https://idp.example.com", algorithm="RS256")
    recipe = load("remember_tokens")
    with TestClient(recipe.app) as client:
        headers = issuer.auth_header("alice")
        assert client.get("/me", headers=headers).text == "alice"
        monkeypatch.setattr("jwt.algorithms.RSAAlgorithm.verify", lambda *_: False)
        assert client.get("/me", headers=headers).text == "alice"
        assert client.get("/me", headers=issuer.auth_header("bob")).status_code == 401


def test_tests_of_an_application_pass_without_its_provider() -> None:
    path = Path(str(docs.examples.security.jwt.__file__)).parent / "testing_an_app.py"
    root = path.parents[4]
    command = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "-p", "no:cacheprovider", str(path)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert "2 passed" in done.stdout, done.stdout
