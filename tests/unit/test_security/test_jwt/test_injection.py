"""Where a key provider comes from: what its factory may ask for, who may override it, and who gets it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from inspect import Signature, signature
from itertools import repeat
from typing import Annotated, Any
from unittest.mock import Mock

import anyio
import jwt
import pytest

from litestar import Controller, Litestar, Router, WebSocket, asgi, get, post, websocket
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.exceptions import ImproperlyConfiguredException, NotFoundException
from litestar.openapi import OpenAPIConfig
from litestar.params import CookieParameter, FromPath, FromQuery, HeaderParameter, JSONBody
from litestar.security.jwt import KeyProvider, KeysUnavailableException, UnverifiedToken
from litestar.testing import TestClient

from .backends import Issuer, app_of, backend, greet, on_both_libraries, provide, refusal_of, status_of, text_of, whoami

ALPHA, BETA, GAMMA = map(Issuer, "abc", ("ES256", "ES384", "EdDSA"))
ISSUERS = {"alpha": ALPHA, "beta": BETA, "gamma": GAMMA}
TENANTS: dict[str, KeyProvider] = {name: issuer.key_provider for name, issuer in ISSUERS.items()}


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
        return [[n for n, issuer in ISSUERS.items() if status(client, path, issuer) == 200] for path in paths]


def test_tenant_comes_from_a_settings_dependency_of_the_layer() -> None:
    calls: list[str] = []

    async def keys(tenant: NamedDependency[str], tenants: NamedDependency[dict[str, KeyProvider]]) -> KeyProvider:
        calls.append(tenant)
        return tenants[tenant]

    router = Router("/router", route_handlers=[at("/"), at("/2")], dependencies={"tenant": provide("beta")})
    dependencies = {"tenant": provide("alpha"), "tenants": provide(TENANTS)}
    app = app_of(backend(Provide(keys)), whoami, router, dependencies=dependencies)
    assert accepted(app, "/", "/router", "/router/2") == [["alpha"], ["beta"], ["beta"]]
    assert sorted(calls) == ["alpha", "beta"]


def test_tenant_comes_from_a_path_parameter() -> None:
    async def keys(tenant: FromPath[str]) -> KeyProvider:
        if tenant == "slow":
            raise TimeoutError
        if tenant not in TENANTS:
            raise NotFoundException("No such tenant")
        return TENANTS[tenant]

    router, openapi = Router("/{tenant:str}", route_handlers=[whoami]), OpenAPIConfig(title="", version="")
    # The pages of the OpenAPI document are protected, too, and have no tenant.
    assert "asks for 'tenant'" in refusal_of(app_of(backend(Provide(keys)), router, openapi_config=openapi))
    app = app_of(backend(Provide(keys), exclude="^/schema"), router, openapi_config=openapi)
    assert accepted(app, "/alpha", "/beta", "/alpha") == [["alpha"], ["beta"], ["alpha"]]
    with TestClient(app) as client:
        assert client.get("/delta", headers=ALPHA.auth_header()).json()["detail"] == "No such tenant"
        assert status(client, "/slow", ALPHA) == 503


ASKING: dict[str, Callable[..., KeyProvider]] = {
    "request": lambda request: TENANTS[request.headers["x-tenant"] if request.method == "GET" else ""],
    "socket": lambda socket: TENANTS[socket.headers["x-tenant"]],
    "scope": lambda scope: TENANTS[dict(scope["headers"])[b"x-tenant"].decode()],
    "headers": lambda headers: TENANTS[headers["x-tenant"]],
    "cookies": lambda cookies: TENANTS[cookies["tenant"]],
    "a path parameter": lambda tenant: TENANTS[tenant],
    "state and query": lambda state, query: state[query["tenant"]],
    "a dependency that asks": lambda chosen: TENANTS[chosen],
}


@pytest.mark.parametrize("part", ASKING)
def test_factory_asks_by_name_for_parts_of_the_connection(part: str) -> None:
    def choose(tenant: FromPath[str], headers: Any) -> str:
        return tenant if headers["x-tenant"] == tenant else ""

    handler = at(["/", "/{number:int}"], dependencies={"chosen": sync(choose)})
    router = Router("/{tenant:str}", route_handlers=[handler])
    with TestClient(app_of(backend(sync(ASKING[part])), router, state=State(TENANTS))) as client:
        for tenant, rest, other in (("beta", "", ALPHA), ("alpha", "/5", BETA)):
            path, further = f"/{tenant}{rest}?tenant={tenant}", {"x-tenant": tenant, "cookie": f"tenant={tenant}"}
            assert [status(client, path, issuer, **further) for issuer in (ISSUERS[tenant], other)] == [200, 401]


def _by_mere_name(x_tenant: str) -> Any: ...
def _by_query(tenant: FromQuery[str]) -> Any: ...
def _by_header(tenant: Annotated[str, HeaderParameter(name="x-tenant")]) -> Any: ...
def _by_cookie(tenant: Annotated[str, CookieParameter(name="tenant")]) -> Any: ...
def _by_data(data: JSONBody[Any] = None) -> Any: ...
def _by_body(body: bytes = b"") -> Any: ...
def _by_reserved_name(request_encoding: str) -> Any: ...


@pytest.mark.parametrize(
    "factory", [_by_mere_name, _by_query, _by_header, _by_cookie, _by_data, _by_body, _by_reserved_name]
)
@pytest.mark.parametrize("layer", ["backend", "handler", "dependency"])
def test_whatever_else_a_factory_asks_for_is_refused(layer: str, factory: Any, records: list[Any]) -> None:
    layers: dict[str, tuple[Any, dict[str, Provide], dict[str, Provide]]] = {
        "backend": (sync(factory), {}, {}),
        "dependency": (sync(lambda settings: settings), {"settings": sync(factory)}, {}),
        "handler": (ALPHA.key_provider, {}, {"key_provider": sync(factory)}),
    }
    given, of_app, of_handler = layers[layer]
    app = app_of(backend(given), at("/", dependencies=of_handler), dependencies=of_app)
    (parameter,), refusal = signature(factory).parameters, refusal_of(app)
    for named in (f"'{parameter}'", factory.__name__, "whoami" if of_handler else "'key_provider' of JWTAuth"):
        assert named in refusal
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


@dataclass
class Tenant:
    state: State

    def __call__(self, token: UnverifiedToken) -> Any:
        return TENANTS[self.state.tenant](token)


class Maker:
    async def method(self, state: State) -> KeyProvider:
        return TENANTS[state.tenant]

    __call__ = method


@pytest.mark.parametrize(
    "factory",
    [
        sync(Tenant),
        Provide(Tenant, sync_to_thread=True),
        sync(partial(lambda tenant, state: TENANTS[tenant], "alpha")),
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
    read = Mock(return_value=Signature())

    class Maker:
        __signature__ = property(read)

        async def __call__(self) -> KeyProvider:
            return ALPHA.key_provider

    with TestClient(app_of(backend(Provide(Maker())))) as client:
        read.reset_mock()
        assert status(client, "/", ALPHA) == 200
    read.assert_not_called()


def test_factory_may_return_whatever_a_backend_takes() -> None:
    jwk, without_signature = ALPHA.key, partial(next, repeat(ALPHA.key))
    key_set = jwt.PyJWKSet.from_dict({"keys": [ALPHA.jwk]})
    for made in (jwk, jwk.key, [jwk], key_set, ALPHA.key_provider, without_signature):
        assert accepted(app_of(backend(provide(made))), "/") == [["alpha"]]


@pytest.mark.parametrize("per_connection", [False, True])
@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionRefusedError("nobody home"), 503),
        (KeysUnavailableException("later", retry_after=7), 503),
        (NotFoundException("no such tenant"), 404),
        (ValueError("nobody home"), 500),
        (ImproperlyConfiguredException("nobody home"), 500),
    ],
)
def test_failing_factory_is_called_again(error: Any, expected: int, per_connection: bool, records: list[Any]) -> None:
    make = Mock(side_effect=[*[error] * 3, ALPHA.key_provider][per_connection:])
    app = app_of(backend(sync((lambda request: make()) if per_connection else (lambda state: make()))))
    if not per_connection:
        with pytest.raises(Exception), TestClient(app):
            pytest.fail("started")
    assert [anyio.run(status_of, app, ALPHA.auth_header()) for _ in range(3)] == [expected, expected, 200]
    errors = {"nobody home" in record.getMessage() for record in records if record.levelname == "ERROR"}
    assert errors == ({True} if "nobody home" in str(error) else set())


@pytest.mark.parametrize("made", [False, True])
@pytest.mark.parametrize("attach", ["on_app_init", "middleware"])
def test_each_layer_may_have_its_own_provider(attach: str, made: bool) -> None:
    auth = backend(sync(lambda issuer: issuer.key_provider) if made else ALPHA.key_provider)

    class Mine(Controller):
        path = "/mine"
        dependencies = override(BETA)

        @get("/")
        async def first(self) -> None: ...

        @get("/other", dependencies=override(GAMMA))
        async def second(self) -> None: ...

    handlers = [at("/"), at("/handler", dependencies=override(GAMMA))]
    router = Router("/router", route_handlers=handlers, dependencies=override(BETA))
    layer: Any = {"middleware": [auth.middleware] if attach == "middleware" else []}
    outer = Router("/", route_handlers=[whoami, Mine, router], dependencies={"issuer": provide(ALPHA)}, **layer)
    paths = ("/", "/router", "/router/handler", "/mine", "/mine/other")
    accepting = accepted(app_of([] if layer["middleware"] else auth, outer), *paths)
    assert accepting == [["alpha"], ["beta"], ["gamma"], ["beta"], ["gamma"]]


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
    providers: list[Any] = [lambda token: ALPHA.key, lambda token: ALPHA.key]
    first, making, got = providers[0], iter(providers), list[Any]()
    given, of_route = {
        "given": (first, {}),
        "given to a route": (BETA.key_provider, {"key_provider": provide(first)}),
        "a key": (ALPHA.key, {}),
        "once": (sync(lambda: next(making)), {}),
        "per connection": (sync(lambda request: next(making)), {}),
    }[kind]

    @get("/", dependencies=of_route)
    async def handler(key_provider: NamedDependency[Any]) -> None:
        got.append(key_provider)

    with TestClient(app_of(backend(given), handler)) as client:
        assert [status(client, "/", ALPHA) for _ in range(2)] == [200, 200]
    assert got == {"a key": got[:1] * 2, "per connection": providers}.get(kind, [first, first])


@pytest.mark.parametrize("by_layer", [False, True])
@pytest.mark.parametrize("made", [False, True])
def test_key_provider_can_be_swapped_at_any_time(by_layer: bool, made: bool) -> None:
    def as_given(issuer: Issuer) -> Any:
        return provide(issuer.key_provider) if made else issuer.key_provider

    auth = backend(as_given(ALPHA))
    app = app_of([], Router("/", route_handlers=[whoami], middleware=[auth.middleware])) if by_layer else app_of(auth)
    auth.key_provider = as_given(BETA)
    assert accepted(app, "/") == [["beta"]]
    with TestClient(app) as client:
        for mine, other in ((BETA, ALPHA), (ALPHA, BETA)) * 20:  # the memory of a dropped factory is used again
            auth.key_provider = as_given(mine)
            assert (status(client, "/", mine), status(client, "/", other)) == (200, 401)


def test_two_backends_of_an_application_have_their_providers_under_two_names() -> None:
    first = backend(ALPHA.key_provider, exclude="^/b")
    with pytest.raises(ImproperlyConfiguredException, match="key_provider_name"):
        app_of([first, backend(BETA.key_provider)])
    second = backend(provide(BETA.key_provider), key_provider_name="other", exclude="^/a")
    names, handlers = ("key_provider", "other"), [at("/a"), at("/b")]
    handlers += [at(f"/{n}/{name}", dependencies=override(GAMMA, name)) for n in "ab" for name in names]
    accepting = accepted(app_of([first, second], *handlers), *(path for h in handlers for path in h.paths))
    assert accepting == [["alpha"], ["beta"], ["gamma"], ["alpha"], ["beta"], ["gamma"]]


@pytest.mark.parametrize(
    ("options", "opt"),
    [
        ({"exclude": "^/open"}, {}),
        ({}, {"exclude_from_auth": True}),
        ({"exclude_opt_key": "public"}, {"public": True}),
        ({"exclude_http_methods": ["POST"]}, {}),
    ],
)
def test_excluded_route_may_ask_for_the_provider_or_for_something_else_of_its_name(options: Any, opt: Any) -> None:
    async def unrelated(data: JSONBody[dict[str, int]]) -> int:
        return data["x"]

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
    mounted: Any = app_of([], at(["/", "/deeper"]))
    handlers = [
        asgi("/asgi", is_mount=True, copy_scope=False)(mounted),
        asgi("/override", is_mount=True, copy_scope=True, dependencies=override(BETA))(mounted),
    ]
    app = app_of(backend(ALPHA.key_provider), *handlers)
    assert accepted(app, "/asgi", "/asgi/deeper", "/override/deeper") == [["alpha"], ["alpha"], ["beta"]]
