"""``key_provider`` as a dependency: what its factory can ask for, who overrides it, and when providers start and stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from copy import deepcopy
from functools import partial
from itertools import repeat
from typing import Any

import anyio
import pytest

from litestar import Controller, Litestar, Request, Router, asgi, get, post, websocket
from litestar.datastructures import ImmutableState, State
from litestar.di import NamedDependency, Provide
from litestar.events import BaseEventEmitterBackend
from litestar.exceptions import ImproperlyConfiguredException, NotAuthorizedException, NotFoundException
from litestar.params import FromPath, JSONBody, Parameter
from litestar.security.jwt import KeysUnavailableException
from litestar.security.jwt.unverified import UnverifiedToken
from litestar.testing import AsyncTestClient, TestClient

from .backends import Issuer, app_of, backend, greet, on_both_libraries, provide, refusal_of, status_of, text_of, whoami

ISSUERS = {"alpha": Issuer("alpha", "ES256"), "beta": Issuer("beta", "ES384"), "gamma": Issuer("gamma", "EdDSA")}


class Provider:
    """A key provider that notes when it starts and stops."""

    def __init__(self, issuer: str, events: list[str] | None = None) -> None:
        self.issuer = issuer
        self.events: list[str] = [] if events is None else events
        self.apps: list[Litestar] = []

    def __call__(self, token: UnverifiedToken) -> Any:
        return ISSUERS[self.issuer].key

    @asynccontextmanager
    async def lifespan(self, app: Litestar) -> AsyncIterator[None]:
        self.apps.append(app)
        self.events.append(f"start {self.issuer}")
        yield
        self.events.append(f"stop {self.issuer}")


class QuietEmitter(BaseEventEmitterBackend):
    """Emits nothing. Litestar's own emitter cannot be started twice at a time."""

    def emit(self, event_id: str, *args: Any, **kwargs: Any) -> None: ...
    async def __aenter__(self) -> QuietEmitter:
        return self

    async def __aexit__(self, *exc_info: object) -> None: ...


class Gate:
    """A factory that waits until it is opened, and counts its calls."""

    def __init__(self, provider: Provider, *, opened: bool = False) -> None:
        self.provider, self.calls, self.opened = provider, 0, anyio.Event()
        if opened:
            self.opened.set()

    async def create(self) -> Provider:
        self.calls += 1
        await self.opened.wait()
        return self.provider

    def __deepcopy__(self, memo: Any) -> Gate:
        return self


ALPHA, BETA, GAMMA = map(Provider, ISSUERS)


def sync(factory: Callable[..., Any], **options: Any) -> Provide:
    return Provide(factory, sync_to_thread=False, **options)


def override(provider: Provider, name: str = "key_provider") -> dict[str, Provide]:
    return {name: provide(provider)}


def handler_at(path: str | list[str], **options: Any) -> Any:
    return get(path, **options)(whoami.fn)


def answer(client: TestClient[Litestar], path: str, issuer: str) -> int:
    return client.get(path, headers=ISSUERS[issuer].auth_header()).status_code


def accepted(app: Litestar, *paths: str) -> list[str]:
    """Return whose tokens each path accepts."""
    with TestClient(app) as client:
        return [" ".join(issuer for issuer in ISSUERS if answer(client, path, issuer) == 200) for path in paths]


async def status_without_lifespan(app: Litestar, path: str = "/", issuer: str = "alpha") -> int:
    return await status_of(app, ISSUERS[issuer].auth_header(), path)


# What a factory can ask for


def test_factory_uses_the_dependencies_of_its_layer_and_is_called_once_for_each_plan() -> None:
    calls: list[str] = []

    async def create(issuer: NamedDependency[str], providers: NamedDependency[dict[str, Provider]]) -> Provider:
        calls.append(issuer)
        return providers[issuer]

    router = Router("/router", route_handlers=[whoami, handler_at("/2")], dependencies={"issuer": provide("beta")})
    dependencies = {"issuer": provide("alpha"), "providers": provide({"alpha": ALPHA, "beta": BETA})}
    app = app_of(backend(Provide(create)), whoami, router, dependencies=dependencies)
    assert accepted(app, "/", "/router", "/router/2") == ["alpha", "beta", "beta"]
    assert sorted(calls) == ["alpha", "beta"]


@pytest.mark.parametrize("use_cache", [False, True])
def test_handler_with_two_paths_never_mixes_tenants(use_cache: bool) -> None:
    def create(tenant: FromPath[str] = "alpha") -> Provider:
        raise AssertionError

    app = app_of(backend(sync(create, use_cache=use_cache)), handler_at(["/me", "/tenants/{tenant:str}/me"]))
    assert "asks for 'tenant'" in refusal_of(app)
    assert [anyio.run(status_without_lifespan, app, path) for path in ("/me", "/tenants/beta/me")] == [500, 500]


def test_provider_for_the_tenant_of_a_path_takes_the_connection() -> None:
    def key_provider(token: UnverifiedToken, connection: Any) -> Provider:
        return {"alpha": ALPHA, "beta": BETA}[connection.path_params.get("tenant", "alpha")]

    app = app_of(backend(provide(key_provider)), handler_at(["/me", "/tenants/{tenant:str}/me"]))
    assert accepted(app, "/me", "/tenants/beta/me", "/tenants/delta/me", "/me") == ["alpha", "beta", "", "alpha"]


PARAMETERS = ("request", "socket=None", "scope", "headers=None", "cookies", "query=None", "body=b''", "data=None")


@pytest.mark.parametrize("layer", ["backend", "handler", "dependency"])
@pytest.mark.parametrize("parameter", [*PARAMETERS, "tenant='alpha'", "unknown"])
def test_rejects_factory_parameter_of_a_connection(parameter: str, layer: str) -> None:
    name = parameter.partition("=")[0]
    factory: Any = eval(f"lambda {parameter}: None", {"__name__": __name__})
    factory.__annotations__ = {name: Any}
    given = {"backend": sync(factory), "dependency": sync(lambda settings: settings)}.get(layer, ALPHA)
    handler = handler_at("/{tenant:str}", dependencies={"key_provider": sync(factory)} if layer == "handler" else {})
    app = app_of(backend(given), handler, dependencies={"settings": sync(factory)} if layer == "dependency" else {})
    refusal = refusal_of(app)
    assert f"asks for '{name}'" in refusal
    assert "give the provider a second parameter, 'connection'" in refusal
    assert anyio.run(status_without_lifespan, app, "/alpha") == 500


def test_leaves_other_parameters_to_their_defaults() -> None:
    def create(settings: NamedDependency[str], issuer: str = "alpha", *args: Any, **kwargs: Any) -> Provider:
        assert (settings, args, kwargs) == ("settings", (), {})
        return Provider(issuer)

    def ask(tenant: str = Parameter(title="x-tenant")) -> Any: ...

    app = app_of(backend(sync(create)), dependencies={"settings": provide("settings")})
    assert accepted(app, "/?issuer=beta&args=1") == ["alpha"]
    assert "asks for 'tenant'" in refusal_of(app_of(backend(sync(ask))))


def test_rejects_dependencies_that_need_each_other() -> None:
    def settings(key_provider: NamedDependency[Any]) -> Any: ...

    app = app_of(backend(sync(lambda settings: settings)), dependencies={"settings": sync(settings)})
    assert "settings -> key_provider" in refusal_of(app)


async def _async_generator() -> AsyncIterator[Any]:
    yield ALPHA


def _generator() -> Iterator[Any]:
    yield ALPHA


@pytest.mark.parametrize("generator", [_generator, _async_generator])
def test_rejects_generator(generator: Any) -> None:
    for given in (Provide(generator), sync(lambda session: session)):
        refusal = refusal_of(app_of(backend(given), dependencies={"session": Provide(generator)}))
        assert f"{generator.__name__} at" in refusal
        assert "a provider's 'lifespan' does that" in refusal


class FromState:
    def __init__(self, state: State) -> None:
        self.state = state

    def __call__(self, token: UnverifiedToken) -> Any:
        return self.state.provider(token)


class Creator:
    async def __call__(self, state: State) -> Any:
        return state.provider


FACTORIES = {
    "class": sync(FromState),
    "thread": Provide(FromState, sync_to_thread=True),
    "partial": sync(partial(lambda name, state: state[name], "provider")),
    "method": Provide(Creator().__call__),
    "partial method": Provide(partial(Creator().__call__)),
    "instance": Provide(Creator()),
}


@pytest.mark.parametrize("factory", FACTORIES.values(), ids=FACTORIES)
def test_factory_is_any_callable_and_finds_in_the_state_what_start_up_hooks_put_there(factory: Provide) -> None:
    def configure(app: Litestar) -> None:
        app.state.provider = ALPHA

    assert accepted(app_of(backend(factory), on_startup=[configure]), "/") == ["alpha"]


@pytest.mark.parametrize("with_lifespan", [True, False])
def test_copies_of_a_factory_with_a_cache_create_one_provider(with_lifespan: bool) -> None:
    gate = Gate(ALPHA, opened=True)
    layer = {"key_provider": Provide(gate.create, use_cache=True)}
    routers = [Router(path, route_handlers=[whoami], dependencies=layer) for path in ("/a", "/b")]
    app = app_of(backend(BETA), Router("/", route_handlers=routers))
    if with_lifespan:
        assert accepted(app, "/a", "/b", "/a") == ["alpha"] * 3
    else:
        assert [anyio.run(status_without_lifespan, app, path) for path in ("/a", "/b", "/a")] == [200] * 3
    assert gate.calls == 1


def test_factory_returns_whatever_a_backend_takes() -> None:
    jwk = ISSUERS["alpha"].key
    for returned in (jwk, jwk.key, [jwk], partial(next, repeat(jwk)), ALPHA):
        assert accepted(app_of(backend(provide(returned))), "/") == ["alpha"]
    for returned in (None, Provider, provide(ALPHA), "no PEM"):
        refusal_of(app_of(backend(provide(returned))))


@pytest.mark.parametrize(
    ("error", "expected", "logged"),
    [
        pytest.param(ConnectionRefusedError("nobody home"), 503, 1, id="os-error"),
        pytest.param(KeysUnavailableException("later"), 503, 0, id="unavailable"),
        pytest.param(NotFoundException("no such tenant"), 404, 0, id="http-exception"),
        pytest.param(ValueError("nobody home"), 500, 1, id="value-error"),
        pytest.param(ImproperlyConfiguredException("nobody home"), 500, 1, id="misconfigured"),
    ],
)
def test_calls_a_failed_factory_again(error: Exception, expected: int, logged: int, records: list[Any]) -> None:
    outcomes = [error] * 3

    def create() -> Provider:
        if outcomes:
            raise outcomes.pop()
        return ALPHA

    app = app_of(backend(sync(create)))
    with pytest.raises(Exception), TestClient(app):
        pytest.fail("started")
    records.clear()
    assert [anyio.run(status_without_lifespan, app) for _ in range(3)] == [expected, expected, 200]
    errors = [record.getMessage() for record in records if record.levelname == "ERROR"]
    assert ["nobody home" in message for message in errors] == [True] * 2 * logged


# Who overrides it, and who gets it


@pytest.mark.parametrize("with_factory", [True, False])
@pytest.mark.parametrize("attach", ["on_app_init", "middleware"])
def test_each_layer_overrides_the_provider(attach: str, with_factory: bool) -> None:
    auth = backend(sync(lambda provider: provider) if with_factory else ALPHA)

    class Overriding(Controller):
        path = "/controller"
        dependencies = override(BETA)

        @get("/")
        async def first(self) -> None: ...

        @get("/handler", dependencies=override(GAMMA))
        async def second(self) -> None: ...

    handlers = [whoami, handler_at("/handler", dependencies=override(GAMMA))]
    router = Router("/router", route_handlers=handlers, dependencies=override(BETA))
    layer: Any = {"middleware": [auth.middleware] if attach == "middleware" else []}
    outer = Router("/", route_handlers=[whoami, Overriding, router], dependencies={"provider": provide(ALPHA)}, **layer)
    app = app_of([] if layer["middleware"] else auth, outer)
    paths = ("/", "/router", "/router/handler", "/controller", "/controller/handler")
    assert accepted(app, *paths) == ["alpha", "beta", "gamma", "beta", "gamma"]


@on_both_libraries
async def test_websockets_have_the_provider_of_their_route() -> None:
    app = app_of(backend(ALPHA), greet, websocket("/beta", dependencies=override(BETA))(greet.fn))
    alpha, beta = (ISSUERS[issuer].auth_header() for issuer in ("alpha", "beta"))
    assert [await text_of(app, alpha), await text_of(app, beta, "/beta")] == ["ann", "ann"]
    assert "ann" not in [await text_of(app, beta), await text_of(app, alpha, "/beta")]


def test_mounted_applications_have_the_provider_of_their_mount() -> None:
    mounted: Any = app_of([], handler_at(["/", "/deeper"]))
    handlers = [
        asgi("/asgi", is_mount=True, copy_scope=False)(mounted),
        asgi("/override", is_mount=True, copy_scope=True, dependencies=override(BETA))(mounted),
    ]
    app = app_of(backend(ALPHA), *handlers)
    assert accepted(app, "/asgi", "/asgi/deeper", "/override/deeper") == ["alpha", "alpha", "beta"]


def test_handlers_get_the_provider_that_verified() -> None:
    got: list[Any] = []

    @get("/")
    async def handler(key_provider: NamedDependency[Any], state: ImmutableState) -> None:
        got.append(key_provider)

    for given in (ALPHA, provide(ALPHA), sync(lambda: Provider("alpha"))):
        with TestClient(app_of(backend(given), handler)) as client:
            assert [answer(client, "/", "alpha") for _ in range(2)] == [200, 200]
    assert got[:4] == [ALPHA] * 4
    assert got[4] is got[5]
    assert got[4].events == ["start alpha", "stop alpha"]


def test_two_backends_have_their_providers_under_two_names() -> None:
    first = backend(ALPHA, exclude="^/b")
    with pytest.raises(ImproperlyConfiguredException, match="key_provider_name"):
        app_of([first, backend(BETA)])
    second = backend(provide(BETA), key_provider_name="other", exclude="^/a")
    layers = [(f"/{n}/{name}", override(GAMMA, name)) for n in "ab" for name in ("key_provider", "other")]
    handlers = [handler_at(path, dependencies=layer) for path, layer in [("/a", {}), ("/b", {}), *layers]]
    accepting = accepted(app_of([first, second], *handlers), *(path for handler in handlers for path in handler.paths))
    assert accepting == ["alpha", "beta", "gamma", "alpha", "beta", "gamma"]
    third = Router("/b", route_handlers=[whoami], middleware=[backend(GAMMA).middleware])
    assert accepted(app_of(first, whoami, third), "/", "/b") == ["alpha", "gamma"]  # one name, but no override


@pytest.mark.parametrize(
    ("options", "opt"),
    [
        pytest.param({"exclude": "^/open"}, {}, id="path"),
        pytest.param({"exclude": ["^/other", "^/open"], "exclude_http_methods": None}, {}, id="paths"),
        pytest.param({}, {"exclude_from_auth": True}, id="opt"),
        pytest.param({"exclude_opt_key": "public"}, {"public": True}, id="opt-key"),
        pytest.param({"exclude_http_methods": ["POST"]}, {}, id="method"),
    ],
)
def test_excluded_route_can_have_another_dependency_of_that_name(options: Any, opt: Any) -> None:
    async def unrelated(data: JSONBody[dict[str, int]]) -> int:
        return data["x"]

    @post("/open", opt=opt, dependencies={"key_provider": Provide(unrelated)})
    async def handler(data: JSONBody[dict[str, int]], key_provider: NamedDependency[int]) -> int:
        return key_provider

    @post("/open/2", opt=opt)
    async def asking(key_provider: NamedDependency[Any]) -> bool:
        return key_provider is ALPHA

    for given in (ALPHA, provide(ALPHA)):
        with TestClient(app_of(backend(given, **options), handler, asking, whoami)) as client:
            assert client.post("/open", json={"x": 5}).json() == 5
            assert client.post("/open/2").json() is True
            assert client.get("/").status_code == 401


@pytest.mark.parametrize("attach", ["on_app_init", "middleware"])
@pytest.mark.parametrize("factory", [True, False])
def test_tests_replace_the_provider_at_any_time(factory: bool, attach: str, monkeypatch: pytest.MonkeyPatch) -> None:
    auth = backend(provide(ALPHA) if factory else ALPHA)
    router = Router("/", route_handlers=[whoami], middleware=[auth.middleware])
    app = app_of(auth) if attach == "on_app_init" else app_of([], router)
    with TestClient(app) as client:
        for provider, other in ((BETA, "alpha"), (ALPHA, "beta")) * 20:
            monkeypatch.setattr(auth, "key_provider", provide(provider) if factory else provider)
            assert (answer(client, "/", provider.issuer), answer(client, "/", other)) == (200, 401)
    monkeypatch.setattr(auth, "key_provider", BETA)
    assert accepted(app, "/") == ["beta"]


def test_controllers_with_the_middleware_share_one_provider() -> None:
    gate = Gate(ALPHA, opened=True)
    auth = backend(Provide(gate.create))

    class Protected(Controller):
        middleware = [auth.middleware]

        @get("/")
        async def index(self) -> None: ...

    routers = [Router(path, route_handlers=[Protected]) for path in ("/a", "/b")]
    assert accepted(app_of([], Router("/", route_handlers=routers)), "/a", "/b", "/a") == ["alpha"] * 3
    assert gate.calls == 1
    assert deepcopy(auth.get_resolver()) is auth.get_resolver()


@on_both_libraries
async def test_verify_uses_the_provider_of_the_connection_or_of_the_application() -> None:
    auth = backend(provide(ALPHA))

    @get("/", dependencies=override(BETA), exclude_from_auth=True)
    async def handler(request: Request[Any, Any, Any]) -> str:
        return (await auth.verify(ISSUERS["beta"].token(), connection=request)).sub

    async def create() -> Provider:
        return BETA

    async with AsyncTestClient(app_of(auth, handler)) as client:
        assert (await client.get("/")).text == "ann"
        assert (await auth.verify(ISSUERS["alpha"].token(), app=client.app)).sub == "ann"
        with pytest.raises(NotAuthorizedException):
            await auth.verify(ISSUERS["beta"].token(), app=client.app)
    with pytest.raises(ImproperlyConfiguredException, match="Pass 'connection' or 'app' to 'verify'"):
        await auth.verify(ISSUERS["alpha"].token())
    assert (await backend(ALPHA).verify(ISSUERS["alpha"].token())).sub == "ann"
    app = app_of([], dependencies={"key_provider": create})
    assert [(await auth.verify(ISSUERS["beta"].token(), app=app)).sub for _ in range(2)] == ["ann", "ann"]


# When providers are created, started and stopped


@pytest.mark.parametrize("attach", ["on_app_init", "middleware", "override"])
@on_both_libraries
async def test_concurrent_first_requests_wait_for_one_call_of_the_factory(attach: str) -> None:
    gate, statuses = Gate(ALPHA), list[int]()
    auth = backend(BETA if attach == "override" else Provide(gate.create))
    layer = {"key_provider": Provide(gate.create)} if attach == "override" else {}
    middleware: list[Any] = [auth.middleware] if attach == "middleware" else []
    router = Router("/", route_handlers=[whoami, handler_at("/2")], dependencies=layer, middleware=middleware)
    app = app_of([] if middleware else auth, router)

    async def send(path: str) -> None:
        statuses.append(await status_without_lifespan(app, path))

    async with anyio.create_task_group() as group:
        async with anyio.create_task_group() as cancelled:
            _ = cancelled.start_soon(send, "/")
            await anyio.wait_all_tasks_blocked()
            for path in ["/", "/2"] * 50:
                _ = group.start_soon(send, path)
            await anyio.wait_all_tasks_blocked()
            assert gate.calls == 1
            cancelled.cancel_scope.cancel()
        await anyio.wait_all_tasks_blocked()
        gate.opened.set()
    await send("/")
    assert (statuses, gate.calls) == ([200] * 101, 2)


def test_event_loop_that_stopped_while_a_factory_ran_holds_up_nobody() -> None:
    gate = Gate(ALPHA)
    app = app_of(backend(Provide(gate.create)))
    loop = asyncio.new_event_loop()
    task = loop.create_task(status_without_lifespan(app))
    while not gate.calls:
        loop.run_until_complete(asyncio.sleep(0))
    gate.opened = anyio.Event()
    gate.opened.set()
    assert [asyncio.run(status_without_lifespan(app)) for _ in range(2)] == [200, 200]
    task.cancel()
    loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    loop.close()
    assert asyncio.run(status_without_lifespan(app)) == 200


@on_both_libraries
async def test_providers_start_and_stop_once_with_the_application() -> None:
    events: list[str] = []
    alpha, beta, gamma = (Provider(issuer, events) for issuer in ISSUERS)
    layers = {"/1": override(beta), "/2": override(beta), "/3": override(alpha)}
    handlers = [handler_at(path, dependencies=layer) for path, layer in layers.items()]
    auths = [backend(provide(alpha)), backend(gamma, key_provider_name="other", exclude="^/.")]
    app = app_of(auths, whoami, *handlers)
    for _ in range(2):
        async with app.lifespan():
            assert sorted(events) == ["start alpha", "start beta", "start gamma"]
            assert await status_without_lifespan(app, "/2", "beta") == 200
        assert sorted(events[3:]) == ["stop alpha", "stop beta", "stop gamma"]
        events.clear()
    assert alpha.apps == beta.apps == gamma.apps == [app, app]


@pytest.mark.parametrize("with_factory", [True, False])
@pytest.mark.parametrize("first_ends_first", [True, False])
@on_both_libraries
async def test_overlapping_lifespans_start_and_stop_once(first_ends_first: bool, with_factory: bool) -> None:
    provider = Provider("alpha")
    gate = Gate(provider)
    app = app_of(backend(Provide(gate.create) if with_factory else provider), event_emitter_backend=QuietEmitter)
    ends = [anyio.Event(), anyio.Event()]

    async def run(end: anyio.Event) -> None:
        async with app.lifespan():
            await end.wait()

    async with anyio.create_task_group() as group:
        for end in ends:
            _ = group.start_soon(run, end)
        await anyio.wait_all_tasks_blocked()
        gate.opened.set()
        for end in ends if first_ends_first else ends[::-1]:
            await anyio.wait_all_tasks_blocked()
            assert provider.events == ["start alpha"]
            assert await status_without_lifespan(app) == 200
            end.set()
    assert (provider.events, gate.calls) == (["start alpha", "stop alpha"], with_factory)


def test_second_test_client_leaves_the_provider_to_the_first() -> None:
    provider = Provider("alpha")
    app = app_of(backend(provide(provider)), event_emitter_backend=QuietEmitter)
    for _ in range(2):
        with TestClient(app) as first:
            for _ in range(2):
                with TestClient(app) as second:
                    assert [answer(client, "/", "alpha") for client in (first, second)] == [200, 200]
            assert provider.events == ["start alpha"]
        assert provider.events == ["start alpha", "stop alpha"]
        provider.events.clear()


def test_provider_that_cannot_start_stops_the_start_and_the_others() -> None:
    class Failing(Provider):
        def lifespan(self, app: Litestar) -> Any:
            raise ImproperlyConfiguredException("required")

    other = Provider("alpha")
    for key_provider in (Failing("beta"), provide(Failing("beta"))):
        app = app_of([backend(other, key_provider_name="other"), backend(key_provider)])
        assert refusal_of(app) == "required"
    assert other.events == ["start alpha", "stop alpha"] * 2


def test_applications_of_one_backend_have_providers_of_their_own() -> None:
    auth = backend(sync(lambda state: Provider(state.issuer)))
    apps = [app_of(auth, state=State({"issuer": issuer})) for issuer in ("alpha", "beta")]
    with TestClient(apps[0]) as first, TestClient(apps[1]) as second:
        answers = [answer(client, "/", issuer) for client in (first, second) for issuer in ("alpha", "beta")]
    assert answers == [200, 401, 401, 200]
