from __future__ import annotations

import logging

import pytest
from hypothesis import settings

# A busy machine takes its time, and examples that failed once are no part of a checkout.
settings.register_profile("calm", deadline=None, database=None)
settings.load_profile("calm")


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> list[logging.LogRecord]:
    """What the package logs, whatever has been made of the configuration of logging."""
    logger, found = logging.getLogger("litestar.security.jwt"), list[logging.LogRecord]()
    monkeypatch.setattr(logger, "isEnabledFor", lambda level: True)
    monkeypatch.setattr(logger, "handle", found.append)
    return found
