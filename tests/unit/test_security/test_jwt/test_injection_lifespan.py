"""When key providers are made, started and closed, and what happens if many want one at once."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from litestar import Litestar, Request, Router, get, post
from litestar.di import NamedDependency, Provide
from litestar.exceptions import ImproperlyConfiguredException
from litestar.security.jwt import KeyProvider, UnverifiedToken
from litestar.security.jwt.testing import LocalIssuer
from litestar.testing import TestClient
from tests.unit.test_security.test_jwt.injected import backend, provide, refusal_of, status_of, whoami

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def issuer() -> LocalIssuer:
    return LocalIssuer()


class Started:
    """A provider that takes down when it is started and closed."""

    def __init__(self, issuer: LocalIssuer, events: list[str], name: str = "provider") -> None:
        self.issuer = issuer
        self.events = events
        self.name = name
        self.apps: list[Litestar] = []

    def __call__(self, token: UnverifiedToken) -> Any:
        return self.issuer.key_provider(token)

    @asynccontextmanager
    async def lifespan(self, app: Litestar) -> AsyncIterator[None]:
        self.apps.append(app)
        self.events.append(f"start {self.name}")
        try:
            async with anyio.create_task_group():  # has to be left by the task that entered it
                yield
        finally:
            self.events.append(f"close {self.name}")


def handler_at(path: str, **options: Any) -> Any:
    @get(path, **options)
    async def handler() -> None: ...

    return handler


class Gate:
    """A factory that waits until it is let through, and counts its calls."""

    def __init__(self, issuer: LocalIssuer) -> None:
        self.issuer = issuer
        self.calls = 0
        self.error: Exception | None = None
        self.called = anyio.Event()
        self.opened = anyio.Event()

    async def keys(self) -> KeyProvider:
        self.calls += 1
        self.called.set()
        await self.opened.wait()
        if self.error is not None:
            raise self.error
        return self.issuer.key_provider


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not condition():
            await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("attach", ["on_app_init", "middleware", "override"])
async def test_factory_is_called_once_under_100_concurrent_first_requests(attach: str, issuer: LocalIssuer) -> None:
    gate = Gate(issuer)
    if attach == "override":
        handler = handler_at("/", dependencies={"key_provider": Provide(gate.keys)})
        app = Litestar([handler], on_app_init=[backend(LocalIssuer().key_provider).on_app_init])
    else:
        auth = backend(Provide(gate.keys))
        attached: dict[str, Any] = (
            {"on_app_init": [auth.on_app_init]} if attach == "on_app_init" else {"middleware": [auth.middleware]}
        )
        app = Litestar([handler_at("/"), handler_at("/2")], **attached)
    statuses: list[int] = []

    async def request(path: str) -> None:
        statuses.append(await status_of(app, issuer.auth_header(), path))

    async with anyio.create_task_group() as group:
        for number in range(100):
            _ = group.start_soon(request, "/2" if number % 2 and attach != "override" else "/")
        await gate.called.wait()
        await anyio.wait_all_tasks_blocked()
        gate.opened.set()
    assert statuses == [200] * 100
    assert await status_of(app, issuer.auth_header()) == 200
    assert gate.calls == 1


async def test_cancelled_first_request_breaks_no_other(issuer: LocalIssuer) -> None:
    gate = Gate(issuer)
    app = Litestar([whoami], on_app_init=[backend(Provide(gate.keys)).on_app_init])
    statuses: list[int] = []
    first = anyio.CancelScope()

    async def cancelled() -> None:
        with first:
            statuses.append(await status_of(app, issuer.auth_header()))

    async def request() -> None:
        statuses.append(await status_of(app, issuer.auth_header()))

    async with anyio.create_task_group() as group:
        _ = group.start_soon(cancelled)
        await gate.called.wait()
        for _ in range(10):
            _ = group.start_soon(request)
        await anyio.wait_all_tasks_blocked()
        first.cancel()
        await until(lambda: gate.calls == 2)
        gate.opened.set()
    assert statuses == [200] * 10
    assert gate.calls == 2


async def test_all_who_wait_are_told_that_the_factory_failed(issuer: LocalIssuer) -> None:
    gate = Gate(issuer)
    app = Litestar([whoami], on_app_init=[backend(Provide(gate.keys)).on_app_init])
    statuses: list[int] = []

    async def request() -> None:
        statuses.append(await status_of(app, issuer.auth_header()))

    gate.error = ConnectionRefusedError()
    async with anyio.create_task_group() as group:
        for _ in range(10):
            _ = group.start_soon(request)
        await gate.called.wait()
        await anyio.wait_all_tasks_blocked()
        gate.opened.set()
    assert (statuses, gate.calls) == ([503] * 10, 1)
    gate.error = None
    assert (await status_of(app, issuer.auth_header()), gate.calls) == (200, 2)


def test_attempt_of_an_event_loop_that_is_gone_holds_up_nobody(issuer: LocalIssuer) -> None:
    calls: list[None] = []

    async def keys() -> KeyProvider:
        calls.append(None)
        if len(calls) == 1:
            await anyio.sleep_forever()
        return issuer.key_provider

    app = Litestar([whoami], on_app_init=[backend(Provide(keys)).on_app_init])
    loop = asyncio.new_event_loop()
    task = loop.create_task(status_of(app, issuer.auth_header()))
    while not calls:
        loop.run_until_complete(asyncio.sleep(0))

    # The task is still there, as in a thread of its own: it will not be waited for.
    assert asyncio.run(status_of(app, issuer.auth_header())) == 200
    assert len(calls) == 2
    task.cancel()
    loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    loop.close()
    assert asyncio.run(status_of(app, issuer.auth_header())) == 200
    assert len(calls) == 2


@pytest.mark.parametrize("library", ["asyncio", "trio"])
def test_one_backend_serves_several_apps_and_event_loops(library: Any, issuer: LocalIssuer) -> None:
    calls: list[None] = []

    async def keys() -> KeyProvider:
        calls.append(None)
        return issuer.key_provider

    auth = backend(Provide(keys))
    apps = [Litestar([whoami], on_app_init=[auth.on_app_init]) for _ in range(2)]
    for _ in range(2):
        for app in apps:
            with TestClient(app, backend=library) as client:
                assert client.get("/", headers=issuer.auth_header()).status_code == 200
    assert len(calls) == 2


async def test_provider_is_called_and_started_with_the_app(issuer: LocalIssuer) -> None:
    events: list[str] = []
    given, made, overriding = (Started(issuer, events, name) for name in ("given", "made", "overriding"))

    async def keys() -> Started:
        events.append("make")
        return made

    handlers = [
        handler_at("/", dependencies={"key_provider": provide(overriding)}),
        handler_at("/made"),
        handler_at("/given", middleware=[backend(given, key_provider_name="given").middleware]),
        handler_at("/also", dependencies={"given": provide(given)}),
    ]
    auth, other = backend(Provide(keys)), backend(given, key_provider_name="given")
    app = Litestar(handlers, on_app_init=[auth.on_app_init, other.on_app_init], openapi_config=None)
    for _ in range(2):
        async with app.lifespan():
            assert sorted(events) == ["make", "start given", "start made", "start overriding"]
            events.clear()
            for path in ("/", "/made", "/given", "/also"):
                assert await status_of(app, issuer.auth_header(), path) == 200
            assert not events
        assert sorted(events) == ["close given", "close made", "close overriding"]
        events[:] = ["make"]
    assert given.apps == made.apps == overriding.apps == [app, app]


async def test_provider_of_several_backends_is_started_once(issuer: LocalIssuer) -> None:
    events: list[str] = []
    shared = Started(issuer, events)
    backends = [backend(shared), backend(shared, key_provider_name="other"), backend(provide(shared))]
    router = Router("/", route_handlers=[whoami], dependencies={"key_provider": provide(shared)})
    app = Litestar([router], on_app_init=[auth.on_app_init for auth in backends])
    async with app.lifespan():
        assert events == ["start provider"]
        assert await status_of(app, issuer.auth_header()) == 200
    assert events == ["start provider", "close provider"]


async def test_generator_outlives_what_it_made(issuer: LocalIssuer) -> None:
    events: list[str] = []

    async def keys(name: str) -> AsyncIterator[Started]:
        events.append(f"open {name}")
        yield Started(issuer, events, name)
        events.append(f"end {name}")

    async def first() -> AsyncIterator[Started]:
        async for made in keys("first"):
            yield made

    async def second() -> AsyncIterator[Started]:
        async for made in keys("second"):
            yield made

    backends = [backend(Provide(first)), backend(Provide(second), key_provider_name="other")]
    app = Litestar([whoami], on_app_init=[auth.on_app_init for auth in backends])
    for _ in range(2):
        async with app.lifespan():
            assert await status_of(app, issuer.auth_header()) == 200
        assert events == [
            f"{event} {name}"
            for name, happened in (("first", ["open", "start"]), ("second", ["open", "start", "close", "end"]))
            for event in happened
        ] + ["close first", "end first"]
        events.clear()


async def test_provider_of_a_connection_is_not_started(issuer: LocalIssuer) -> None:
    events: list[str] = []

    async def keys(request: Request[Any, Any, Any]) -> Started:
        return Started(issuer, events)

    app = Litestar([whoami], on_app_init=[backend(Provide(keys)).on_app_init])
    async with app.lifespan():
        assert await status_of(app, issuer.auth_header()) == 200
    assert not events


def test_provider_that_cannot_start_keeps_the_app_from_starting(issuer: LocalIssuer) -> None:
    class Required(Started):
        def lifespan(self, app: Litestar) -> Any:
            raise ImproperlyConfiguredException("required")

    events: list[str] = []
    other = backend(Started(issuer, events), key_provider_name="other")
    for key_provider in (Required(issuer, []), provide(Required(issuer, []))):
        auth = backend(key_provider)
        app = Litestar([whoami], on_app_init=[other.on_app_init, auth.on_app_init])
        assert refusal_of(app) == "required"
    assert events == ["start provider", "close provider"] * 2


@pytest.mark.parametrize("excluded", [["OPTIONS", "HEAD"], ["GET"], None])
async def test_what_needs_no_authentication_makes_no_provider(excluded: Any, issuer: LocalIssuer) -> None:
    calls: list[None] = []

    async def keys() -> KeyProvider:
        calls.append(None)
        return issuer.key_provider

    auth = backend(issuer.key_provider, exclude_http_methods=excluded)
    handlers = [
        handler_at("/", dependencies={"key_provider": Provide(keys)}, exclude_from_auth=excluded != ["GET"]),
        post("/", dependencies={"key_provider": Provide(keys)}, exclude_from_auth=excluded == ["GET"])(whoami.fn),
    ]
    app = Litestar(handlers, on_app_init=[auth.on_app_init])
    async with app.lifespan():
        assert len(calls) == (excluded != ["GET"])


async def test_swapped_provider_is_started_with_the_app(issuer: LocalIssuer, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    auth = backend(Started(issuer, events, "real"))
    app = Litestar([whoami], on_app_init=[auth.on_app_init])
    monkeypatch.setattr(auth, "key_provider", Started(issuer, events, "other"))
    async with app.lifespan():
        assert events == ["start other"]


async def test_connections_are_cleaned_up_when_they_are_cancelled(issuer: LocalIssuer) -> None:
    events: list[str] = []
    handling = anyio.Event()

    async def keys(request: Request[Any, Any, Any]) -> AsyncIterator[KeyProvider]:
        yield issuer.key_provider
        await anyio.lowlevel.checkpoint()
        events.append("cleaned up")

    @get("/")
    async def handler(key_provider: NamedDependency[KeyProvider]) -> None:
        handling.set()
        await anyio.sleep_forever()

    app = Litestar([handler], on_app_init=[backend(Provide(keys)).on_app_init])
    async with anyio.create_task_group() as group:
        _ = group.start_soon(status_of, app, issuer.auth_header())
        await handling.wait()
        assert not events
        group.cancel_scope.cancel()
    assert events == ["cleaned up"]


def test_backend_keeps_no_app_alive(issuer: LocalIssuer) -> None:
    async def keys() -> KeyProvider:
        return issuer.key_provider

    class App(Litestar):
        __slots__ = ("__weakref__",)

    auth = backend(Provide(keys))
    apps: list[Callable[[], Litestar | None]] = []
    for _ in range(2):
        app = App([handler_at("/")], on_app_init=[auth.on_app_init])
        with TestClient(app) as client:
            assert client.get("/", headers=issuer.auth_header()).status_code == 200
        apps.append(weakref.ref(app))
        if clear := getattr(app.asgi_router.handle_routing, "cache_clear", None):
            clear()  # the router of Litestar 2.24 remembers itself
        del app, client, clear
    gc.collect()
    assert [app() for app in apps] == [None, None]
