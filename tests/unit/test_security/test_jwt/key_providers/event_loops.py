"""Tests on asyncio and on trio, in real time and in a time that passes only while nothing else happens."""

from __future__ import annotations

import asyncio
import inspect
import selectors
from collections.abc import Callable, Coroutine
from functools import partial, wraps
from typing import Any, cast

import anyio
import pytest
import trio
from trio.testing import MockClock

AsyncTest = Callable[..., Coroutine[Any, Any, None]]


def on_both_loops(
    test: AsyncTest, options: Callable[[str], dict[str, Any]] = lambda backend: {}
) -> Callable[..., None]:
    """Run a test on asyncio and on trio."""

    @pytest.mark.parametrize("backend", ["asyncio", "trio"])
    @wraps(test)
    def run(backend: str, **arguments: Any) -> None:
        chosen = options(backend)
        if backend == "trio":
            trio.run(partial(test, **arguments), **chosen)  # older releases of anyio pass no options on to trio
        else:
            anyio.run(partial(test, **arguments), backend_options=chosen)

    signature = inspect.signature(test)
    parameters = [*signature.parameters.values(), inspect.Parameter("backend", inspect.Parameter.KEYWORD_ONLY)]
    setattr(run, "__signature__", signature.replace(parameters=parameters))
    return cast("Callable[..., None]", run)


def without_waiting(test: AsyncTest) -> Callable[..., None]:
    """Run a test that uses no network on asyncio and on trio. What it sleeps for or times out after is skipped."""
    return on_both_loops(test, _clock_that_skips)


def _clock_that_skips(backend: str) -> dict[str, Any]:
    return {"clock": MockClock(autojump_threshold=0)} if backend == "trio" else {"loop_factory": _SkippingLoop}


class _SkippingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._skipping = _SkippingSelector()
        super().__init__(self._skipping)

    def time(self) -> float:
        return self._skipping.now


class _SkippingSelector(selectors.DefaultSelector):
    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        events = super().select(timeout and 0)
        self.now += 0 if events else timeout or 0
        return events
