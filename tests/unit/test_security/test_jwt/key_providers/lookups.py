"""How tests call key providers, and what comes of it."""

from __future__ import annotations

import logging
import multiprocessing
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from inspect import isawaitable
from typing import Any, TypeAlias

import anyio

from litestar import Litestar
from litestar.exceptions import HTTPException
from litestar.security.jwt import UnverifiedToken
from litestar.security.jwt.keys import SelectedKeys, get_algorithm

# Making one configures logging, which is global, so tests that look at the log must not make their own.
APP = Litestar()
Log: TypeAlias = list[logging.LogRecord]


def look_up(provider: Callable[[UnverifiedToken], Any], token: str) -> Any:
    return provider(UnverifiedToken(token))


async def answer_to(provider: Any, token: str) -> str:
    """Do what a backend does with a token, and return the status code."""
    try:
        keys = look_up(provider, token)
        keys = await keys if isawaitable(keys) else keys
        if keys is not None and not isinstance(keys, SelectedKeys):  # another provider
            provider, keys = keys, look_up(keys, token)
        if not verifies(token, keys):
            keys = await provider.refetch(UnverifiedToken(token)) if hasattr(provider, "refetch") else None
    except HTTPException as e:
        return str(e.status_code)
    return "200" if keys is not None and verifies(token, keys) else "401"


def verifies(encoded: str, keys: SelectedKeys) -> bool:
    token, algorithm = UnverifiedToken(encoded), get_algorithm(keys.algorithm)
    prepared = [key.prepared[keys.algorithm] for key in keys.keys]
    return any(algorithm.verify(token.signing_input, key, token.signature) for key in prepared)


def answers_at_once(provider: Any, token: str) -> bool:
    """Tell whether a provider has the right key. It must not be necessary to wait for it."""
    return verifies(token, look_up(provider, token))


@asynccontextmanager
async def looking_up(provider: Any, *tokens: str) -> AsyncIterator[list[str]]:
    """Send requests with tokens at the same time, do something else when all wait, and have the answers at the end."""
    answers: list[str] = []

    async def request(token: str) -> None:
        answers.append(await answer_to(provider, token))

    async with anyio.create_task_group() as tasks:
        for token in tokens:
            _ = tasks.start_soon(request, token)
        await anyio.wait_all_tasks_blocked()
        yield answers


async def until(condition: Callable[[], Any]) -> None:
    """Wait for what happens in the background."""
    with anyio.fail_after(30):
        while not condition():
            await anyio.sleep(0.003)


def exit_codes(work: Callable[[], None], processes: int = 1) -> list[int | None]:
    """Run a function in processes of their own at the same time. Their exit codes are zero where it did not raise."""
    children = [multiprocessing.get_context("fork").Process(target=work, daemon=True) for _ in range(processes)]
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # this process has threads
        for child in children:
            child.start()
    for child in children:
        child.join()
    return [child.exitcode for child in children]


def lines_of(records: Log, level: int = logging.INFO) -> list[str]:
    return [record.getMessage() for record in records if record.levelno >= level]
