from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from types import ModuleType

import pytest

from litestar.security.jwt import _http
from tests.examples.test_security.test_jwt.internet import Internet

Load = Callable[[str], ModuleType]


@pytest.fixture(autouse=True)
def logging_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep applications from configuring logging, which is global."""
    if find_spec("litestar.logging"):
        monkeypatch.setattr("litestar.logging.LoggingConfig.configure", lambda self: logging.getLogger)


@pytest.fixture
def internet(monkeypatch: pytest.MonkeyPatch) -> Iterator[Internet]:
    """Stand in for everything that is fetched with a client of our own."""
    with Internet() as internet:
        monkeypatch.setattr(_http, "_new_client", internet.client)
        yield internet


@pytest.fixture
def load(internet: Internet) -> Load:
    """Return a function that runs a recipe anew: what it fetched for another test is forgotten."""
    return lambda name: importlib.reload(importlib.import_module(f"docs.examples.security.jwt.{name}"))
