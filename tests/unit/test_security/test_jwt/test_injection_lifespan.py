"""When key providers are made, started and closed, and what happens if many want one at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any
from unittest.mock import Mock

import anyio
import pytest

from litestar import Litestar, Request, Router, get
from litestar.di import NamedDependency, Provide
from litestar.exceptions import ImproperlyConfiguredException
from litestar.security.jwt import KeyProvider, UnverifiedToken

from .backends import ISSUER, OTHER, app_of, backend, on_both_libraries, provide, refusal_of, status_of, whoami


class Started:
    """A provider that takes down when it is started and closed."""

    def __init__(self, events: list[str], name: str = "provider") -> None:
        self.events, self.name, self.apps = events, name, list[Litestar]()

    def __call__(self, token: UnverifiedToken) -> Any:
        return ISSUER.key

    @asynccontextmanager
    async def lifespan(self, app: Litestar) -> AsyncIterator[None]:
        self.apps.append(app)
        self.events.append(f"start {self.name}")
        try:
            async with anyio.create_task_group():  # has to be left by the task that entered it
                yield
        finally:
            self.events.append(f"close {self.name}")


async def exchange(app: Litestar, statuses: list[int], path: str = "/") -> None:
    statuses.append(await status_of(app, ISSUER.auth_header(), path))


@pytest.mark.parametrize("attach", ["on_app_init", "middleware", "override"])
@on_both_libraries
async def test_100_concurrent_first_requests_call_a_factory_once(attach: str) -> None:
    calls, statuses, opened = list[None](), list[int](), anyio.Event()

    async def keys() -> KeyProvider:
        calls.append(None)
        await opened.wait()
        return ISSUER.key_provider

    auth = backend(OTHER.key_provider if attach == "override" else Provide(keys))
    layer = {"key_provider": Provide(keys)} if attach == "override" else {}
    router = Router("/", route_handlers=[whoami, get("/2")(whoami.fn)], dependencies=layer)
    app = app_of([], router, middleware=[auth.middleware]) if attach == "middleware" else app_of(auth, router)
    async with anyio.create_task_group() as group:
        for path in ["/", "/2"] * 50:
            _ = group.start_soon(exchange, app, statuses, path)
        await anyio.wait_all_tasks_blocked()
        opened.set()
    await exchange(app, statuses)
    assert (statuses, len(calls)) == ([200] * 101, 1)


@on_both_libraries
async def test_cancelled_first_request_breaks_no_other() -> None:
    calls, statuses, opened = list[None](), list[int](), anyio.Event()

    async def keys() -> KeyProvider:
        calls.append(None)
        await opened.wait()
        return ISSUER.key_provider

    app = app_of(backend(Provide(keys)))
    async with anyio.create_task_group() as group:
        async with anyio.create_task_group() as first:
            _ = first.start_soon(exchange, app, statuses)
            await anyio.wait_all_tasks_blocked()
            for _ in range(10):
                _ = group.start_soon(exchange, app, statuses)
            await anyio.wait_all_tasks_blocked()
            first.cancel_scope.cancel()
        await anyio.wait_all_tasks_blocked()
        opened.set()
    assert (statuses, len(calls)) == ([200] * 10, 2)


def test_event_loop_that_is_gone_holds_up_nobody() -> None:
    endings = [anyio.sleep_forever, anyio.lowlevel.checkpoint]

    async def keys() -> KeyProvider:
        await endings.pop(0)()
        return ISSUER.key_provider

    app = app_of(backend(Provide(keys)))
    loop = asyncio.new_event_loop()
    task = loop.create_task(status_of(app, ISSUER.auth_header()))
    while len(endings) == 2:
        loop.run_until_complete(asyncio.sleep(0))
    assert asyncio.run(status_of(app, ISSUER.auth_header())) == 200
    task.cancel()
    loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    loop.close()
    assert asyncio.run(status_of(app, ISSUER.auth_header())) == 200


@on_both_libraries
async def test_generators_are_resumed_when_the_application_shuts_down() -> None:
    events: list[str] = []

    async def session() -> AsyncIterator[str]:
        events.append("open session")
        yield "session"
        events.append("close session")

    def keys(session: NamedDependency[str]) -> Iterator[Started]:
        yield Started(events)
        events.append("clean up")

    auth = backend(Provide(keys))
    first, second = (app_of(auth, dependencies={"session": Provide(session)}) for _ in range(2))
    for app in (first, second, first):
        async with app.lifespan():
            assert [await status_of(app, ISSUER.auth_header()) for _ in range(2)] == [200, 200]
            assert events == ["open session", "start provider"]
        assert events[2:] == ["close provider", "clean up", "close session"]
        events.clear()


@pytest.mark.parametrize(
    ("case", "expected", "between"),
    [
        ("good", 200, "open handle close"),
        ("refused", 401, "open close"),
        ("handler raises", 500, "open handle close"),
        ("factory raises", 500, "open"),
        ("cancelled", None, "open handle close"),
    ],
)
@on_both_libraries
async def test_generators_are_resumed_when_the_connection_ends(case: str, expected: int | None, between: str) -> None:
    events: list[str] = []

    async def session(request: Request[Any, Any, Any]) -> AsyncIterator[None]:
        events.append("open session")
        yield
        await anyio.lowlevel.checkpoint()
        events.append("close session")

    def keys(session: NamedDependency[None]) -> Iterator[KeyProvider]:
        events.append("open")
        if case == "factory raises":
            raise RuntimeError
        yield ISSUER.key_provider
        events.append("close")

    @get("/")
    async def handler(key_provider: NamedDependency[KeyProvider]) -> None:
        events.append("handle")
        if case == "handler raises":
            raise ZeroDivisionError
        if case == "cancelled":
            scope.cancel()
            await anyio.sleep_forever()

    app = app_of(backend(Provide(keys)), handler, dependencies={"session": Provide(session)})
    headers = (OTHER if case == "refused" else ISSUER).auth_header()
    for _ in range(2):
        answered = None
        with anyio.CancelScope() as scope:
            answered = await status_of(app, headers)
        assert answered == expected
        assert events == ["open session", *between.split(), "close session"]
        events.clear()


@on_both_libraries
async def test_providers_are_started_once_and_closed_with_the_application() -> None:
    events: list[str] = []
    given, made, overriding, of_connection = (Started(events, name) for name in ("given", "made", "overriding", ""))

    async def keys(request: Request[Any, Any, Any]) -> Started:
        return of_connection

    layers: dict[str, dict[str, Provide]] = {
        "/made": {},
        "/override": {"key_provider": provide(overriding)},
        "/given": {"key_provider": provide(made), "other": provide(given)},
        "/connection": {"key_provider": Provide(keys)},
    }
    handlers = [get(path, dependencies=layer)(whoami.fn) for path, layer in layers.items()]
    auth = backend(provide(made), exclude="^/nowhere")
    other = backend(Started(events, "swapped"), key_provider_name="other")
    app = app_of([auth, other], whoami, *handlers)
    other.key_provider = given
    for _ in range(2):
        async with app.lifespan():
            assert sorted(events) == ["start given", "start made", "start overriding"]
            for path in ("/", *layers):
                assert await status_of(app, ISSUER.auth_header(), path) == 200
        assert sorted(events[3:]) == ["close given", "close made", "close overriding"]
        events.clear()
    assert given.apps == made.apps == overriding.apps == [app, app]


def test_provider_that_cannot_start_stops_the_start_and_closes_the_others() -> None:
    required = Mock(spec=["lifespan"])
    required.lifespan.side_effect = ImproperlyConfiguredException("required")
    events: list[str] = []
    other = backend(Started(events), key_provider_name="other")
    for key_provider in (required, provide(required)):
        assert refusal_of(app_of([other, backend(key_provider)])) == "required"
    assert events == ["start provider", "close provider"] * 2
