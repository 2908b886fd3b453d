from __future__ import annotations

import importlib
import logging

import pytest

from litestar.security.jwt.key_providers import _fetch
from tests.examples.test_security.test_jwt.internet import Internet, Load

ENVIRONMENT = {
    "CLIENT_ID": "22222222-2222-2222-2222-222222222222",
    "ISSUER": "https://idp.example.com",
    "TENANT_ID": "11111111-1111-1111-1111-111111111111",
}


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set what examples read from the environment, and keep applications from configuring logging, which is global."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("litestar.logging.LoggingConfig.configure", lambda self: logging.getLogger)


@pytest.fixture
def internet(monkeypatch: pytest.MonkeyPatch) -> Internet:
    """Stand in for everything that providers fetch with a client of their own."""
    internet = Internet()
    monkeypatch.setattr(_fetch, "_make_client", internet.client)
    return internet


@pytest.fixture
def load(internet: Internet) -> Load:
    """Return a function that runs an example anew: what it fetched for another test is forgotten."""
    return lambda name: importlib.reload(importlib.import_module(f"docs.examples.security.jwt.{name}"))
