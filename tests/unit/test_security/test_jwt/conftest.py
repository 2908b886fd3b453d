from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    """What the package logs, whatever has been made of the configuration of logging."""
    logger, found = logging.getLogger("litestar.security.jwt"), list[logging.LogRecord]()
    handler, level = logging.Handler(), logger.level
    handler.emit = found.append  # type: ignore[assignment, method-assign]
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield found
    logger.removeHandler(handler)
    logger.setLevel(level)
