"""What tests ask of key providers."""

from __future__ import annotations

import logging
import multiprocessing
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from inspect import isawaitable, iscoroutine
from multiprocessing.connection import Connection
from typing import Any, TypeAlias

import anyio
import jwt

from litestar import Litestar
from litestar.exceptions import HTTPException
from litestar.security.jwt import RemoteJWKSet, UnverifiedToken
from litestar.security.jwt.keys import SelectedKeys

from .issuer_server import Issuer

# Making one configures logging, which is global, so tests that look at the log must not make their own.
APP = Litestar()
Log: TypeAlias = list[logging.LogRecord]


def ask(provider: Callable[[UnverifiedToken], Any], token: str) -> Any:
    return provider(UnverifiedToken(token))


async def answer_to(provider: Any, token: str) -> str:
    """Tell what a backend makes of a token: it looks again if the signature does not verify."""
    try:
        keys = ask(provider, token)
        keys = await keys if isawaitable(keys) else keys
        if not verifies(token, keys):
            keys = await provider.look_again(UnverifiedToken(token))
    except HTTPException as e:
        return str(e.status_code)
    return "200" if keys is not None and verifies(token, keys) else "401"


def verifies(token: str, keys: SelectedKeys) -> bool:
    for key in keys.keys:
        try:
            jwt.decode(token, key, [keys.algorithm], options={"verify_signature": True, "verify_aud": False})
        except jwt.InvalidSignatureError:
            continue
        return True
    return False


def answers_at_once(provider: Any, token: str) -> bool:
    """Tell whether a provider has the right key in memory."""
    keys = ask(provider, token)
    if iscoroutine(keys):
        keys.close()
    return isinstance(keys, SelectedKeys) and verifies(token, keys)


@asynccontextmanager
async def asking(provider: Any, *tokens: str) -> AsyncIterator[list[str]]:
    """Ask for the keys of tokens at the same time, do something else when all wait, and have the answers at the end."""
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
    while not condition():
        await anyio.sleep(0.003)


async def leave_in_the_middle(provider: RemoteJWKSet, issuer: Issuer) -> None:
    """Cancel a request that waits for the issuer."""
    async with anyio.create_task_group() as tasks:
        _ = tasks.start_soon(answer_to, provider, issuer.token())
        await until(lambda: issuer.requests)
        tasks.cancel_scope.cancel()


@contextmanager
def forked(work: Callable[..., None], *arguments: Any) -> Iterator[Connection]:
    """Run a function in a process of its own, with the other end of a pipe as its first argument."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=work, args=(theirs, *arguments))
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # this process has threads
        process.start()
    theirs.close()
    try:
        yield ours
    finally:
        process.kill()
        process.join()
        ours.close()


def lines_of(records: Log, level: int = logging.INFO) -> list[str]:
    return [record.getMessage() for record in records if record.levelno >= level]
