"""Where a key provider comes from: what its factory may ask for, who may override it, and who gets it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from inspect import Signature, signature
from itertools import repeat
from threading import current_thread, main_thread
from typing import Annotated, Any

import anyio
import jwt
import pytest

from litestar import Controller, Litestar, Request, Router, WebSocket, asgi, get, post, websocket
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.exceptions import ImproperlyConfiguredException, NotFoundException
from litestar.openapi import OpenAPIConfig
from litestar.params import CookieParameter, FromPath, FromQuery, HeaderParameter, JSONBody
from litestar.security.jwt import (
    JWTAuth,
    JWTCookieAuth,
    KeyProvider,
    KeysUnavailableException,
    OAuth2PasswordBearerAuth,
)
from litestar.testing import TestClient

from .backends import Issuer, app_of, backend, greet, on_both_libraries, provide, refusal_of, status_of, text_of, whoami

ALPHA, BETA, GAMMA = (
    Issuer(name, algorithm) for name, algorithm in zip("abc", ("ES256", "ES384", "EdDSA"), strict=True)
)
ISSUERS = {"alpha": ALPHA, "beta": BETA, "gamma": GAMMA}
TENANTS: dict[str, KeyProvider] = {name: issuer.key_provider for name, issuer in ISSUERS.items()}
OPENAPI = OpenAPIConfig(title="", version="")


def at(path: str | list[str], **options: Any) -> Any:
    return get(path, **options)(whoami.fn)


def sync(factory: Callable[..., Any]) -> Provide:
    return Provide(factory, sync_to_thread=False)


def override(issuer: Issuer, name: str = "key_provider") -> dict[str, Provide]:
    return {name: provide(issuer.key_provider)}


def status(client: TestClient[Litestar], path: str, issuer: Issuer, **headers: str) -> int:
    return client.get(path, headers={**issuer.auth_header(), **headers}).status_code


def accepted(app: Litestar, *paths: str) -> list[list[str]]:
    """Tell whose tokens are accepted at each path."""
    with TestClient(app) as client:
        return [[n for n, issuer in ISSUERS.items() if status(client, path, issuer) in {200, 204}] for path in paths]


def test_tenant_comes_from_a_settings_dependency_of_the_layer() -> None:
    calls: list[str] = []

    async def keys(
        settings: NamedDependency[dict[str, str]], tenants: NamedDependency[dict[str, KeyProvider]]
    ) -> KeyProvider:
        calls.append(settings["tenant"])
        return tenants[settings["tenant"]]

    settings = [{"settings": provide({"tenant": tenant})} for tenant in ("alpha", "beta")]
    router = Router("/router", route_handlers=[at("/"), at("/2")], dependencies=settings[1])
    app = app_of(backend(Provide(keys)), whoami, router, dependencies={**settings[0], "tenants": provide(TENANTS)})
    assert accepted(app, "/", "/router", "/router/2") == [["alpha"], ["beta"], ["beta"]]
    assert sorted(calls) == ["alpha", "beta"]


def test_tenant_comes_from_a_path_parameter() -> None:
    async def keys(tenant: FromPath[str]) -> KeyProvider:
        if tenant == "slow":
            raise TimeoutError
        if tenant not in TENANTS:
            raise NotFoundException("No such tenant")
        return TENANTS[tenant]

    router = Router("/{tenant:str}", route_handlers=[whoami])
    unfit = app_of(backend(Provide(keys)), router, openapi_config=OPENAPI)
    with pytest.raises(Exception, match="unhandled errors"), TestClient(unfit):
        pass  # the pages of the OpenAPI document are protected, too, and have no tenant
    app = app_of(backend(Provide(keys), exclude="^/schema"), router, openapi_config=OPENAPI)
    assert accepted(app, "/alpha", "/beta", "/alpha") == [["alpha"], ["beta"], ["alpha"]]
    with TestClient(app) as client:
        assert client.get("/delta", headers=ALPHA.auth_header()).json()["detail"] == "No such tenant"
        assert status(client, "/slow", ALPHA) == 503


ASKING: dict[str, Callable[..., Any]] = {
    "request": lambda request: request.headers["x-tenant"],
    "socket": lambda socket: socket.headers["x-tenant"],
    "scope": lambda scope: dict(scope["headers"])[b"x-tenant"].decode(),
    "headers": lambda headers: headers["x-tenant"],
    "cookies": lambda cookies: cookies["tenant"],
    "a path parameter": lambda tenant: tenant,
    "state and query": lambda state, query: state[query["tenant"]],
}


@pytest.mark.parametrize("part", ASKING)
@pytest.mark.parametrize("directly", [True, False])
def test_factory_asks_by_name_for_parts_of_the_connection(part: str, directly: bool) -> None:
    ask = ASKING[part]
    types = {"tenant": FromPath[str], "state": State}
    ask.__annotations__ = {name: types.get(name, Any) for name in (*signature(ask).parameters, "return")}

    def choose(chosen: NamedDependency[str]) -> KeyProvider:
        return TENANTS[chosen]

    def chosen(**asked: Any) -> KeyProvider:
        return TENANTS[ask(**asked)]

    chosen.__signature__ = signature(ask)  # type: ignore[attr-defined]
    auth = backend(sync(chosen if directly else choose))
    router = Router("/{tenant:str}", route_handlers=[whoami], dependencies={} if directly else {"chosen": sync(ask)})
    with TestClient(app_of(auth, router, state=State({name: name for name in TENANTS}))) as client:
        for tenant, other in (("beta", ALPHA), ("alpha", BETA)):
            path, further = f"/{tenant}?tenant={tenant}", {"x-tenant": tenant, "cookie": f"tenant={tenant}"}
            assert status(client, path, ISSUERS[tenant], **further) == 200
            assert status(client, path, other, **further) == 401


def _by_mere_name(x_tenant: str) -> Any: ...
def _by_query(tenant: FromQuery[str]) -> Any: ...
def _by_header(tenant: Annotated[str, HeaderParameter(name="x-tenant")]) -> Any: ...
def _by_cookie(tenant: Annotated[str, CookieParameter(name="tenant")]) -> Any: ...
def _by_data(data: JSONBody[dict[str, str]]) -> Any: ...
def _by_body(body: bytes) -> Any: ...
def _by_data_if_any(data: JSONBody[Any] = None) -> Any: ...
def _by_body_if_any(body: bytes = b"") -> Any: ...
def _by_reserved_name(request_encoding: str) -> Any: ...


REFUSED = [_by_mere_name, _by_query, _by_header, _by_cookie, _by_data, _by_body, _by_data_if_any, _by_body_if_any]
REFUSED += [_by_reserved_name]


@pytest.mark.parametrize("factory", REFUSED)
@pytest.mark.parametrize("layer", ["backend", "handler", "dependency"])
def test_whatever_else_a_factory_asks_for_is_refused(layer: str, factory: Any, records: list[Any]) -> None:
    given: Any = sync(factory)
    of_app, of_handler = dict[str, Provide](), dict[str, Provide]()
    if layer == "handler":
        given, of_handler = ALPHA.key_provider, {"key_provider": sync(factory)}
    elif layer == "dependency":
        given, of_app = sync(lambda settings: settings), {"settings": sync(factory)}
    app = app_of(backend(given), at("/", dependencies=of_handler), dependencies=of_app)
    (parameter,) = signature(factory).parameters
    refusal = refusal_of(app)
    assert f"'{parameter}'" in refusal
    assert factory.__name__ in refusal
    assert ("whoami" if layer == "handler" else "'key_provider' of JWTAuth") in refusal
    assert anyio.run(status_of, app, ALPHA.auth_header()) == 500  # a server that starts nothing
    assert f"'{parameter}'" in records[-1].getMessage()


def test_nobody_replaces_a_default_value_by_a_request() -> None:
    def settings(tenant: str = "alpha", *args: Any, **kwargs: Any) -> str:
        assert (args, kwargs) == ((), {})
        return tenant

    def keys(timeout: float = 5, *, settings: NamedDependency[str]) -> KeyProvider:
        assert timeout == 5
        return TENANTS[settings]

    with TestClient(app_of(backend(sync(keys)), dependencies={"settings": sync(settings)})) as client:
        for issuer, expected in ((BETA, 401), (ALPHA, 200)):
            assert status(client, "/?tenant=beta&timeout=1", issuer, tenant="beta", cookie="tenant=beta") == expected


def test_dependencies_that_go_in_a_circle_are_refused_at_start_up() -> None:
    def settings(key_provider: NamedDependency[Any]) -> Any: ...
    def keys(settings: NamedDependency[Any]) -> Any: ...

    app = app_of(backend(sync(keys)), dependencies={"settings": sync(settings)})
    assert "key_provider -> settings -> key_provider" in refusal_of(app)


class Factory:
    """A provider made out of the state, and several kinds of callables that make one."""

    def __init__(self, state: State) -> None:
        self.keys = TENANTS[state.tenant]

    def __call__(self, token: Any) -> Any:
        return self.keys(token)


class Maker:
    async def __call__(self, state: State) -> KeyProvider:
        return Factory(state)

    async def method(self, state: State) -> KeyProvider:
        return Factory(state)


def _in_thread(state: State) -> KeyProvider:
    assert current_thread() is not main_thread()
    return Factory(state)


def _of(tenant: str, state: State) -> KeyProvider:
    return TENANTS[tenant]


@pytest.mark.parametrize(
    "factory",
    [
        sync(Factory),
        Provide(_in_thread, sync_to_thread=True),
        sync(partial(_of, "alpha")),
        Provide(partial(Maker().method)),
        Provide(Maker().method),
        Provide(Maker(), use_cache=True),
    ],
    ids=["class", "thread", "partial", "partial method", "method", "instance"],
)
def test_any_callable_may_be_a_factory_and_sees_what_the_start_up_puts_into_the_state(factory: Provide) -> None:
    async def configure(app: Litestar) -> None:
        app.state.tenant = "alpha"

    assert accepted(app_of(backend(factory), on_startup=[configure]), "/") == [["alpha"]]


def test_what_a_factory_asks_for_is_read_before_the_first_request() -> None:
    read: list[None] = []

    class Maker:
        @property
        def __signature__(self) -> Signature:
            read.append(None)
            return Signature()

        async def __call__(self) -> KeyProvider:
            return ALPHA.key_provider

    with TestClient(app_of(backend(Provide(Maker())))) as client:
        read.clear()
        assert status(client, "/", ALPHA) == 200
    assert read == []


def test_factory_may_return_whatever_a_backend_takes() -> None:
    class Client(jwt.PyJWKClient):
        def fetch_data(self) -> Any:
            return {"keys": [ALPHA.jwk]}

    jwk, without_signature = ALPHA.key, partial(next, repeat(ALPHA.key))
    key_set = jwt.PyJWKSet.from_dict({"keys": [ALPHA.jwk]})
    for made in (jwk, jwk.key, [jwk], key_set, ALPHA.key_provider, Client("https://a.test"), without_signature):
        assert accepted(app_of(backend(provide(made))), "/") == [["alpha"]]


FAILURES: list[tuple[Exception, int]] = [
    (ConnectionRefusedError("nobody home"), 503),
    (KeysUnavailableException("later", retry_after=7), 503),
    (NotFoundException("no such tenant"), 404),
    (ValueError("nobody home"), 500),
    (ImproperlyConfiguredException("nobody home"), 500),
]


@pytest.mark.parametrize("per_connection", [False, True])
@pytest.mark.parametrize(("error", "expected"), FAILURES)
def test_failing_factory_is_called_again(error: Any, expected: int, per_connection: bool, records: list[Any]) -> None:
    faults = [error] * 3

    async def keys_of_app(state: State) -> KeyProvider:
        if faults:
            raise faults.pop()
        return ALPHA.key_provider

    async def keys_of_request(request: Request[Any, Any, Any]) -> KeyProvider:
        return await keys_of_app(request.app.state)

    app = app_of(backend(Provide(keys_of_request if per_connection else keys_of_app)))
    if per_connection:
        faults.pop()
    else:
        with pytest.raises(Exception), TestClient(app):
            pytest.fail("started")
    assert [anyio.run(status_of, app, ALPHA.auth_header()) for _ in range(3)] == [expected, expected, 200]
    if "nobody home" in str(error):
        errors = [record.getMessage() for record in records if record.levelname == "ERROR"]
        assert errors
        assert all("nobody home" in message for message in errors)


@pytest.mark.parametrize("kind", [JWTAuth, JWTCookieAuth, OAuth2PasswordBearerAuth])
@pytest.mark.parametrize("made", [False, True])
def test_one_application_has_three_providers(kind: Any, made: bool) -> None:
    auth = backend(provide(ALPHA.key_provider) if made else ALPHA.key_provider, kind)

    class Mine(Controller):
        path = "/mine"
        dependencies = override(BETA)

        @get("/")
        async def first(self) -> None: ...

        @get("/other", dependencies=override(GAMMA))
        async def second(self) -> None: ...

    inner = [at("/"), at("/handler", dependencies=override(GAMMA))]
    app = app_of(auth, whoami, Mine, Router("/router", route_handlers=inner, dependencies=override(BETA)))
    paths = ("/", "/router", "/router/handler", "/mine", "/mine/other")
    assert accepted(app, *paths) == [["alpha"], ["beta"], ["gamma"], ["beta"], ["gamma"]]


def test_override_may_depend_on_the_connection() -> None:
    async def keys(tenant: FromPath[str]) -> KeyProvider:
        return TENANTS[tenant]

    handler = at(["/{tenant:str}", "/{tenant:str}/{number:int}"], dependencies={"key_provider": Provide(keys)})
    app = app_of(backend(ALPHA.key_provider), whoami, handler)
    assert accepted(app, "/", "/beta", "/gamma", "/beta/5") == [["alpha"], ["beta"], ["gamma"], ["beta"]]


@on_both_libraries
async def test_websockets_have_providers_too() -> None:
    async def keys(socket: WebSocket[Any, Any, Any]) -> KeyProvider:
        assert isinstance(socket, WebSocket)
        return TENANTS[socket.url.path[1:]]

    handlers = [websocket(f"/{n}", dependencies={"key_provider": Provide(keys)})(greet.fn) for n in ("alpha", "beta")]
    app = app_of(backend(GAMMA.key_provider), greet, *handlers)
    for path, mine, other in (("/ws", GAMMA, ALPHA), ("/beta", BETA, ALPHA), ("/alpha", ALPHA, BETA)):
        assert await text_of(app, mine.auth_header(), path) == "ann"
        assert await text_of(app, other.auth_header(), path) == "Invalid token"


@pytest.mark.parametrize("kind", ["given", "given to a route", "a key", "once", "per connection"])
def test_route_handler_gets_the_very_provider_that_verified(kind: str) -> None:
    made, got = list[Any](), list[Any]()

    def once() -> Any:
        made.append(lambda token: ALPHA.key)
        return made[-1]

    def per_connection(request: Request[Any, Any, Any]) -> Any:
        assert isinstance(request, Request)
        return once()

    @get("/", dependencies={"key_provider": provide(once())} if kind == "given to a route" else {})
    async def handler(key_provider: NamedDependency[Any]) -> None:
        got.append(key_provider)

    factories: dict[str, Callable[[], Any]] = {
        "given": once,
        "a key": lambda: ALPHA.key,
        "once": lambda: sync(once),
        "per connection": lambda: sync(per_connection),
    }
    auth = backend(factories.get(kind, lambda: BETA.key_provider)())
    with TestClient(app_of(auth, handler)) as client:
        assert [status(client, "/", ALPHA) for _ in range(2)] == [200, 200]
    assert got == (made if kind == "per connection" else (made or got[:1]) * 2)


@pytest.mark.parametrize("attach", ["on_app_init", "middleware"])
@pytest.mark.parametrize("made", [False, True])
def test_key_provider_can_be_swapped_at_any_time(attach: str, made: bool) -> None:
    def as_given(issuer: Issuer) -> Any:
        return provide(issuer.key_provider) if made else issuer.key_provider

    auth = backend(as_given(ALPHA))
    app = app_of(auth) if attach == "on_app_init" else app_of([], middleware=[auth.middleware])
    auth.key_provider = as_given(BETA)
    assert accepted(app, "/") == [["beta"]]
    with TestClient(app) as client:
        for _ in range(20):  # the memory of a dropped factory is used again
            for mine, other in ((BETA, ALPHA), (ALPHA, BETA)):
                auth.key_provider = as_given(mine)
                assert (status(client, "/", mine), status(client, "/", other)) == (200, 401)


@pytest.mark.parametrize("made", [False, True])
def test_backend_attached_as_middleware_works_and_can_be_overridden(made: bool) -> None:
    auth = backend(sync(lambda issuer: issuer.key_provider) if made else BETA.key_provider)
    layer: Any = {"middleware": [auth.middleware], "dependencies": {"issuer": provide(BETA)}}

    class Mine(Controller):
        path = "/controller"
        middleware = layer["middleware"]
        dependencies = layer["dependencies"]

        @get("/")
        async def handler(self) -> None: ...

    router = Router("/api", route_handlers=[at("/"), at("/override", dependencies=override(GAMMA))], **layer)
    app = app_of([], at("/", opt={"open": True}), router, Mine)
    assert accepted(app, "/api", "/api/override", "/controller") == [["beta"], ["gamma"], ["beta"]]


def test_two_backends_of_an_application_have_their_providers_under_two_names() -> None:
    first = backend(ALPHA.key_provider, exclude="^/b")
    with pytest.raises(ImproperlyConfiguredException, match="key_provider_name"):
        app_of([first, backend(BETA.key_provider)])
    second = backend(provide(BETA.key_provider), key_provider_name="other", exclude="^/a")
    handlers = [at("/a"), at("/b")]
    handlers += [
        at(f"/{n}/{name}", dependencies=override(GAMMA, name)) for n in "ab" for name in ("key_provider", "other")
    ]
    accepting = accepted(app_of([first, second], *handlers), *(path for h in handlers for path in h.paths))
    assert accepting == [["alpha"], ["beta"], ["gamma"], ["alpha"], ["beta"], ["gamma"]]


EXCLUSIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "path": ({"exclude": "^/open"}, {}),
    "key": ({}, {"exclude_from_auth": True}),
    "other key": ({"exclude_opt_key": "public"}, {"public": True}),
    "method": ({"exclude_http_methods": ["POST"]}, {}),
}


@pytest.mark.parametrize("exclusion", EXCLUSIONS)
def test_excluded_route_may_ask_for_the_provider_or_for_something_else_of_its_name(exclusion: str) -> None:
    async def unrelated(data: JSONBody[dict[str, int]]) -> int:
        return data["x"]

    options, opt = EXCLUSIONS[exclusion]

    @post("/open", opt=opt, dependencies={"key_provider": Provide(unrelated)})
    async def handler(data: JSONBody[dict[str, int]], key_provider: NamedDependency[int]) -> int:
        return key_provider

    @post("/open/2", opt=opt)
    async def asking(key_provider: NamedDependency[KeyProvider]) -> bool:
        return key_provider == ALPHA.key_provider

    for given in (ALPHA.key_provider, provide(ALPHA.key_provider)):
        with TestClient(app_of(backend(given, **options), handler, asking, whoami)) as client:
            assert client.post("/open", json={"x": 5}).json() == 5
            assert client.post("/open/2").json() is True
            assert client.get("/").status_code == 401


def test_mounted_asgi_applications_are_protected() -> None:
    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    handlers = [
        asgi("/asgi", is_mount=True, copy_scope=False)(mounted),
        asgi("/override", is_mount=True, copy_scope=True, dependencies=override(BETA))(mounted),
    ]
    app = app_of(backend(ALPHA.key_provider), *handlers)
    assert accepted(app, "/asgi", "/asgi/deeper", "/override/deeper") == [["alpha"], ["alpha"], ["beta"]]
