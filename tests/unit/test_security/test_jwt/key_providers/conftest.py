from __future__ import annotations

from collections.abc import Iterator

import pytest
import time_machine

from .issuer_server import IssuerServer, serving


@pytest.fixture
def issuer() -> Iterator[IssuerServer]:
    with serving() as issuer:
        yield issuer


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    """A clock that stands still unless it is told to go on."""
    with time_machine.travel(1_750_000_000, tick=False) as coordinates:
        yield coordinates
