"""What the tests in this folder rely on."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from importlib.util import find_spec
from typing import Any

import pytest


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def logging_as_it_is(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have records reach ``caplog``, and nothing else.

    Logging is global. Applications of other tests may have configured it, and those of these tests must not. Litestar 3 has no
    configuration of its own.
    """
    if find_spec("litestar.logging"):
        monkeypatch.setattr("litestar.logging.LoggingConfig.configure", lambda self: logging.getLogger)
    loggers = (logging.getLogger(), logging.getLogger("litestar"))
    before = [(logger, logger.level, logger.propagate, foreign_handlers(logger)) for logger in loggers]
    for logger, _, _, handlers in before:
        logger.setLevel(logging.WARNING if logger is loggers[0] else logging.NOTSET)
        logger.propagate = True
        for handler in handlers:
            logger.removeHandler(handler)
    yield
    for logger, level, propagate, handlers in before:
        logger.setLevel(level)
        logger.propagate = propagate
        for handler in handlers:
            logger.addHandler(handler)


def foreign_handlers(logger: logging.Logger) -> list[logging.Handler]:
    return [handler for handler in logger.handlers if not type(handler).__module__.startswith("_pytest.")]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Module | pytest.Class, obj: object) -> Generator[None, object, object]:
    """Leave tests that are marked for anyio to it. In its automatic mode, pytest-asyncio would run all of them on asyncio."""
    marks: list[Any] = [*collector.iter_markers(), *getattr(obj, "pytestmark", ())]
    with pytest.MonkeyPatch.context() as patch:
        if any(mark.name == "anyio" for mark in marks):
            patch.setattr(collector.config.option, "asyncio_mode", "strict", raising=False)
        return (yield)
