"""Tests in a time that passes only while nothing else happens."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from typing import Any

import anyio
import trio
from trio.testing import MockClock

from tests.unit.test_security.test_jwt.backends import on_both_libraries


def without_waiting(test: Callable[..., Any]) -> Callable[..., None]:
    """Run a test that uses no network on asyncio and on trio. What it sleeps for or times out after is skipped."""
    return on_both_libraries(test, _run_without_waiting)


def _run_without_waiting(test: Callable[[], Any], backend: str) -> None:
    if backend == "trio":
        trio.run(test, clock=MockClock(autojump_threshold=0))  # older releases of anyio pass no options on to trio
    else:
        anyio.run(test, backend_options={"loop_factory": _skipping_loop})


def _skipping_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.SelectorEventLoop(selector := _SkippingSelector())
    loop.time = lambda: selector.now  # type: ignore[method-assign]
    return loop


class _SkippingSelector(selectors.DefaultSelector):
    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        events = super().select(timeout and 0)
        self.now += 0 if events else timeout or 0
        return events
