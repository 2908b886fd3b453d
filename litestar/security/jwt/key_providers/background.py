"""Tasks that belong to no request, and who ends them."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from contextvars import Context
from importlib import import_module
from threading import local
from typing import TYPE_CHECKING, Final

import anyio
import sniffio
from anyio.lowlevel import checkpoint, current_token

from litestar.security.jwt.keys import KeysUnavailableException

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

__all__ = ("BackgroundTask", "LoopTasks", "running_loop")

# Seconds that the end of an application waits for a cancelled task. A thread that reads CA files cannot be cancelled.
_LONGEST_CANCELLATION: Final = 2.0


class BackgroundTask:
    """A task in the running event loop that neither the cancellation nor the context variables of a request reach."""

    def __init__(self, work: Callable[[BackgroundTask], Awaitable[None]], done: Callable[[], object]) -> None:
        """Start the task.

        Args:
            work: What to do. It receives the task.
            done: What to call at the end.
        """
        self.ready = anyio.Event()
        """Set when those who wait can go on, by the work itself or when it has ended."""
        self.ended = anyio.Event()
        """Set when the work has ended, which may have more to do when others can go on."""
        self.result: object = None
        """What the work has found. The work sets it."""
        self._error: Exception | None = None
        """What those who wait get: what the work raised. :meth:`cancel` changes it, too."""
        self._scope = anyio.CancelScope()
        """Ends the work early. :meth:`cancel` does that."""
        if sniffio.current_async_library() == "asyncio":
            self._task = asyncio.get_running_loop().create_task(self._run(work, done), context=Context())
            """The task itself, to which an event loop of asyncio has no strong reference."""
        else:
            import_module("trio").lowlevel.spawn_system_task(self._run, work, done, context=Context())

    async def wait(self) -> None:
        """Wait until the task is ready.

        Raises:
            Exception: What the work raised, or ``KeysUnavailableException`` if the application has ended.
        """
        await self.ready.wait()
        if self._error is not None:
            raise self._error

    async def cancel(self) -> None:
        """End the task, and wait for its end. Those who wait for it get ``503``."""
        self._error = KeysUnavailableException("The application shuts down", retry_after=1)
        self._scope.cancel()
        with anyio.move_on_after(_LONGEST_CANCELLATION, shield=True):
            await self.ended.wait()

    async def _run(self, work: Callable[[BackgroundTask], Awaitable[None]], done: Callable[[], object]) -> None:
        try:
            with self._scope:
                await checkpoint()  # an eager task would run before anyone knows of it
                await work(self)
        except Exception as e:  # noqa: BLE001  # trio ends the application for an exception in such a task
            self._error = e
        finally:
            self.ready.set()
            self.ended.set()
            done()


class LoopTasks(local):
    """The background tasks of the event loop that runs in this thread. Each thread sees its own.

    A new event loop in the thread takes the place of one that has ended, whose tasks never go on.
    """

    def __init__(self) -> None:
        """Have no tasks yet. This is called once in each thread."""
        self._loop: object = None
        """The event loop that the other attributes are about. ``_follow_loop`` changes it."""
        self._lifespans = 0
        """How many applications run in it. :meth:`running` changes it."""
        self._tasks: set[tuple[str, BackgroundTask]] = set()
        """The tasks, and what each is for. :meth:`start` adds one, and its end removes it."""

    def pending(self, purpose: str) -> BackgroundTask | None:
        """Return the task that others can wait for who want the same."""
        if not self._tasks or self._loop != running_loop():
            return None
        return next((task for known, task in self._tasks if known == purpose and not task.ready.is_set()), None)

    def start(self, purpose: str, work: Callable[[BackgroundTask], Awaitable[None]]) -> BackgroundTask:
        """Start a task.

        Args:
            purpose: What it is for.
            work: What to do. It receives the task.
        """
        self._follow_loop()
        tasks = self._tasks
        task = BackgroundTask(work, lambda: tasks.discard((purpose, task)))
        tasks.add((purpose, task))
        return task

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Own the tasks while an application runs. When the last one in this event loop ends, they are cancelled."""
        self._follow_loop()
        self._lifespans += 1
        try:
            yield
        finally:
            self._lifespans -= 1
            if not self._lifespans:
                for _, task in list(self._tasks):
                    await task.cancel()

    def _follow_loop(self) -> None:
        if self._loop != (loop := current_token()):
            self._loop, self._lifespans, self._tasks = loop, 0, set()


def running_loop() -> object:
    """Return what identifies the event loop that runs now, ``None`` if there is none."""
    with suppress(RuntimeError):
        return current_token()
    return None
