from __future__ import annotations

from collections.abc import Iterator

import pytest
import time_machine

from .issuer_server import START, Clock, Issuer


@pytest.fixture
def issuer(clock: Clock) -> Iterator[Issuer]:
    issuer = Issuer()
    yield issuer
    issuer.stop()


@pytest.fixture
def clock() -> Iterator[Clock]:
    """A clock that stands still unless it is told to go on."""
    with time_machine.travel(START, tick=False) as coordinates:
        yield coordinates
