from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import time_machine

from .asking import Log
from .issuer_server import START, Clock, Issuer, serving


@pytest.fixture
def issuer(clock: Clock) -> Iterator[Issuer]:
    with serving() as issuer:
        yield issuer


@pytest.fixture
def clock() -> Iterator[Clock]:
    """A clock that stands still unless it is told to go on."""
    with time_machine.travel(START, tick=False) as coordinates:
        yield coordinates


@pytest.fixture
def records() -> Iterator[Log]:
    """What providers log, whatever applications have made of the configuration of logging."""
    logger, records = logging.getLogger("litestar.security.jwt"), Log()
    handler, level = logging.Handler(), logger.level
    handler.emit = records.append  # type: ignore[assignment, method-assign]
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield records
    logger.removeHandler(handler)
    logger.setLevel(level)
