from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    """What the package logs from level INFO on, whatever has been made of the configuration of logging."""
    logger, found = logging.getLogger("litestar.security.jwt"), list[logging.LogRecord]()
    handler, level = logging.Handler(), logger.level
    handler.emit = found.append  # type: ignore[assignment, method-assign]
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield found
    logger.removeHandler(handler)
    logger.setLevel(level)
