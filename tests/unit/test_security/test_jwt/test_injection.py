"""Where a key provider comes from: what its factory may ask for, who may override it, and who gets it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import partial
from inspect import signature
from itertools import repeat
from threading import current_thread, main_thread
from typing import Annotated, Any

import jwt
import pytest

from litestar import Controller, Litestar, Request, Router, WebSocket, asgi, get, post, websocket
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.exceptions import ImproperlyConfiguredException, NotFoundException
from litestar.params import CookieParameter, FromPath, FromQuery, HeaderParameter, JSONBody
from litestar.security.jwt import (
    JWTAuth,
    JWTCookieAuth,
    KeyProvider,
    KeysUnavailableException,
    OAuth2PasswordBearerAuth,
    Token,
)
from litestar.security.jwt.testing import LocalIssuer
from litestar.testing import TestClient
from tests.unit.test_security.test_jwt.backends import (
    backend,
    provide,
    refusal_of,
    retrieve_user,
    status_of,
    text_of,
    whoami,
)

ALPHA, BETA, GAMMA = (LocalIssuer(issuer=f"https://{name}.test", algorithm="ES256") for name in "abc")
ISSUERS = {"alpha": ALPHA, "beta": BETA, "gamma": GAMMA}
TENANTS: dict[str, KeyProvider] = {name: issuer.key_provider for name, issuer in ISSUERS.items()}


def at(path: str | list[str], **options: Any) -> Any:
    @get(path, **options)
    async def guarded() -> None: ...

    return guarded


def override(issuer: LocalIssuer, name: str = "key_provider") -> dict[str, Provide]:
    return {name: provide(issuer.key_provider)}


def attached(auth: JWTAuth[str, Token], *handlers: Any, **options: Any) -> Litestar:
    return Litestar([*handlers] or [whoami], on_app_init=[auth.on_app_init], **options)


def status(client: TestClient[Litestar], path: str, issuer: LocalIssuer, **headers: str) -> int:
    return client.get(path, headers={**issuer.auth_header(), **headers}).status_code


def accepted(app: Litestar, *paths: str) -> list[list[str]]:
    """Tell whose tokens are accepted at each path."""
    with TestClient(app) as client:
        return [[n for n, issuer in ISSUERS.items() if status(client, path, issuer) in {200, 204}] for path in paths]


@pytest.mark.parametrize("tenant", ["alpha", "beta"])
def test_tenant_comes_from_state_that_the_start_up_sets(tenant: str) -> None:
    calls: list[str] = []

    async def configure(app: Litestar) -> None:
        app.state.tenant = tenant

    async def keys(state: State) -> KeyProvider:
        calls.append(state.tenant)
        return TENANTS[state.tenant]

    app = attached(backend(Provide(keys)), on_startup=[configure])
    assert accepted(app, "/") == [[tenant]]
    assert calls == [tenant]


def test_tenant_comes_from_a_settings_dependency_of_the_layer() -> None:
    calls: list[str] = []

    async def keys(settings: NamedDependency[dict[str, str]]) -> KeyProvider:
        calls.append(settings["tenant"])
        return TENANTS[settings["tenant"]]

    router = Router(
        "/router", route_handlers=[at("/"), at("/2")], dependencies={"settings": provide({"tenant": "beta"})}
    )
    app = attached(backend(Provide(keys)), at("/"), router, dependencies={"settings": provide({"tenant": "alpha"})})
    assert accepted(app, "/", "/router", "/router/2") == [["alpha"], ["beta"], ["beta"]]
    assert sorted(calls) == ["alpha", "beta"]


def test_tenant_comes_from_the_environment_at_start_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def keys() -> KeyProvider:
        return TENANTS[os.environ["TENANT_OF_THIS_TEST"]]

    app = attached(backend(Provide(keys, sync_to_thread=False)))
    assert "TENANT_OF_THIS_TEST" in refusal_of(app)
    monkeypatch.setenv("TENANT_OF_THIS_TEST", "alpha")
    with TestClient(app) as client:
        monkeypatch.delenv("TENANT_OF_THIS_TEST")
        assert (status(client, "/", ALPHA), status(client, "/", BETA)) == (200, 401)


def test_tenant_comes_from_a_path_parameter() -> None:
    async def keys(tenant: FromPath[str]) -> KeyProvider:
        if tenant not in TENANTS:
            raise NotFoundException("No such tenant")
        return TENANTS[tenant]

    router = Router("/{tenant:str}", route_handlers=[whoami])
    with pytest.raises(Exception, match="unhandled errors"), TestClient(attached(backend(Provide(keys)), router)):
        pass  # the pages of the OpenAPI document are protected, too, and have no tenant
    app = attached(backend(Provide(keys), exclude="^/schema"), router)
    assert accepted(app, "/alpha", "/beta", "/alpha") == [["alpha"], ["beta"], ["alpha"]]
    with TestClient(app) as client:
        assert client.get("/delta", headers=ALPHA.auth_header()).json()["detail"] == "No such tenant"


def _of_request(request: Request[Any, Any, Any]) -> Any:
    return request.headers["x-tenant"]


def _of_socket(socket: Any) -> Any:
    return socket.headers["x-tenant"]


def _of_scope(scope: Any) -> Any:
    return dict(scope["headers"])[b"x-tenant"].decode()


def _of_headers(headers: Any) -> Any:
    return headers["x-tenant"]


def _of_cookies(cookies: Any) -> Any:
    return cookies["tenant"]


def _of_query(query: Any) -> Any:
    return query["tenant"]


def _of_path(tenant: FromPath[str]) -> Any:
    return tenant


def _of_state_and_query(state: State, query: Any) -> Any:
    return state[query["tenant"]]


ASKING = [_of_request, _of_socket, _of_scope, _of_headers, _of_cookies, _of_query, _of_path, _of_state_and_query]


@pytest.mark.parametrize("ask", ASKING)
@pytest.mark.parametrize("directly", [True, False])
def test_factory_asks_by_name_for_parts_of_the_connection(ask: Callable[..., Any], directly: bool) -> None:
    def choose(chosen: NamedDependency[str]) -> KeyProvider:
        return TENANTS[chosen]

    def chosen(**asked: Any) -> KeyProvider:
        return TENANTS[ask(**asked)]

    chosen.__signature__ = signature(ask)  # type: ignore[attr-defined]
    auth = backend(Provide(chosen if directly else choose, sync_to_thread=False))
    dependencies = {} if directly else {"chosen": Provide(ask, sync_to_thread=False)}
    router = Router("/{tenant:str}", route_handlers=[at("/")], dependencies=dependencies)
    app = attached(auth, router, state=State({name: name for name in TENANTS}), openapi_config=None)
    with TestClient(app) as client:
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
def _by_reserved_name(request_encoding: str) -> Any: ...


REFUSED: list[tuple[Callable[..., Any], str]] = [
    (_by_mere_name, "x_tenant"),
    (_by_query, "tenant"),
    (_by_header, "tenant"),
    (_by_cookie, "tenant"),
    (_by_data, "data"),
    (_by_body, "body"),
    (_by_data_if_any, "data"),
    (_by_reserved_name, "request_encoding"),
]


@pytest.mark.parametrize(("factory", "parameter"), REFUSED)
@pytest.mark.parametrize("layer", ["backend", "handler", "dependency"])
def test_whatever_else_a_factory_asks_for_is_refused_at_start_up(
    layer: str, factory: Callable[..., Any], parameter: str
) -> None:
    asking = Provide(factory, sync_to_thread=False)
    if layer == "backend":
        app, named = attached(backend(asking)), "'key_provider'"
    elif layer == "handler":
        handler, named = at("/", dependencies={"key_provider": asking}), "guarded"
        app = attached(backend(ALPHA.key_provider), handler)
    else:
        keys = Provide(lambda settings: settings, sync_to_thread=False)
        app, named = attached(backend(keys), dependencies={"settings": asking}), "'key_provider'"
    refusal = refusal_of(app)
    assert f"'{parameter}'" in refusal
    assert factory.__name__ in refusal
    assert named in refusal


@pytest.mark.anyio
async def test_application_that_is_never_started_refuses_at_the_request(caplog: pytest.LogCaptureFixture) -> None:
    app = attached(backend(Provide(_by_body, sync_to_thread=False)))
    assert await status_of(app, ALPHA.auth_header()) == 500
    assert "'body'" in caplog.text


def test_nobody_replaces_a_default_value_by_a_request() -> None:
    def settings(tenant: str = "alpha", *args: Any, **kwargs: Any) -> str:
        assert not args
        assert not kwargs
        return tenant

    def keys(settings: NamedDependency[str], timeout: float = 5) -> KeyProvider:
        assert timeout == 5
        return TENANTS[settings]

    app = attached(
        backend(Provide(keys, sync_to_thread=False)), dependencies={"settings": Provide(settings, sync_to_thread=False)}
    )
    with TestClient(app) as client:
        assert status(client, "/?tenant=beta&timeout=1", BETA, tenant="beta", cookie="tenant=beta") == 401
        assert status(client, "/?tenant=beta&timeout=1", ALPHA, tenant="beta", cookie="tenant=beta") == 200


def test_dependencies_that_go_in_a_circle_are_refused_at_start_up() -> None:
    def settings(key_provider: NamedDependency[Any]) -> Any: ...
    def keys(settings: NamedDependency[Any]) -> Any: ...

    auth = backend(Provide(keys, sync_to_thread=False))
    app = attached(auth, dependencies={"settings": Provide(settings, sync_to_thread=False)})
    assert "key_provider -> settings -> key_provider" in refusal_of(app)


class Factory:
    """A provider made out of the state, and several kinds of callables that make one."""

    def __init__(self, state: State) -> None:
        self.state = state

    def __call__(self, token: Any) -> Any:
        return TENANTS[self.state.tenant](token)

    async def method(self, state: State) -> KeyProvider:
        return Factory(state)


class CallableFactory:
    async def __call__(self, state: State) -> KeyProvider:
        return Factory(state)


def _in_thread(state: State) -> KeyProvider:
    assert current_thread() is not main_thread()
    return Factory(state)


def _of(tenant: str, state: State) -> KeyProvider:
    return TENANTS[tenant]


@pytest.mark.parametrize(
    "factory",
    [
        Provide(Factory, sync_to_thread=False),
        Provide(_in_thread, sync_to_thread=True),
        Provide(partial(_of, "alpha"), sync_to_thread=False),
        Provide(partial(Factory(State()).method)),
        Provide(Factory(State()).method),
        Provide(CallableFactory()),
        Provide(CallableFactory(), use_cache=True),
    ],
    ids=["class", "thread", "partial", "partial method", "method", "instance", "cached"],
)
def test_any_callable_may_be_a_factory(factory: Provide) -> None:
    assert accepted(attached(backend(factory), state=State({"tenant": "alpha"})), "/") == [["alpha"]]


def test_factory_may_return_whatever_a_backend_takes() -> None:
    jwk = jwt.PyJWK(ALPHA.jwks["keys"][0])
    with ALPHA:
        client = jwt.PyJWKClient(ALPHA.jwks_url)
        without_signature = partial(next, repeat(jwk))
        for made in (
            *(jwk, jwk.key, [jwk], jwt.PyJWKSet.from_dict(ALPHA.jwks)),
            *(ALPHA.key_provider, client, without_signature),
        ):
            assert accepted(attached(backend(provide(made))), "/") == [["alpha"]]


@pytest.mark.parametrize("made", [None, 5, object(), provide(None), KeyProvider, "https://a.test/keys", b"secret"])
@pytest.mark.parametrize("per_connection", [False, True])
def test_what_a_factory_makes_must_be_a_provider(made: Any, per_connection: bool) -> None:
    def of_request(request: Request[Any, Any, Any]) -> Any:
        return made

    factory = Provide(of_request, sync_to_thread=False) if per_connection else provide(made)
    if not per_connection:
        assert "'key_provider'" in refusal_of(attached(backend(factory)))
    else:
        with TestClient(attached(backend(factory)), raise_server_exceptions=False) as client:
            assert status(client, "/", ALPHA) == 500
            assert client.get("/").status_code == 401


FAILURES: list[tuple[Exception, int]] = [
    (ConnectionRefusedError("nobody home"), 503),
    (KeysUnavailableException("later", retry_after=7), 503),
    (NotFoundException("no such tenant"), 404),
    (ValueError("nobody home"), 500),
    (ImproperlyConfiguredException("nobody home"), 500),
]


@pytest.mark.parametrize("per_connection", [False, True])
@pytest.mark.parametrize(("error", "expected"), FAILURES)
@pytest.mark.anyio
async def test_failing_factory_is_answered_for_and_called_again(
    error: Exception, expected: int, per_connection: bool, caplog: pytest.LogCaptureFixture
) -> None:
    faults = [error, error]

    async def keys_of_app() -> KeyProvider:
        if faults:
            raise faults.pop()
        return ALPHA.key_provider

    async def keys_of_request(request: Request[Any, Any, Any]) -> KeyProvider:
        return await keys_of_app()

    app = attached(backend(Provide(keys_of_request if per_connection else keys_of_app)))
    with caplog.at_level(logging.ERROR, "litestar.security.jwt"):
        statuses = [await status_of(app, ALPHA.auth_header()) for _ in range(3)]
    assert statuses == [expected, expected, 200]
    messages = [r.getMessage() for r in caplog.records if r.name == "litestar.security.jwt"]
    if "nobody home" in str(error):
        assert messages
        assert all("nobody home" in message for message in messages)


@pytest.mark.parametrize("error", [error for error, _ in FAILURES])
def test_factory_that_fails_at_start_up_stops_the_start(error: Exception) -> None:
    async def keys() -> KeyProvider:
        raise error

    with pytest.raises(Exception), TestClient(attached(backend(Provide(keys)))):
        pytest.fail("started")


KINDS: list[Callable[..., Any]] = [
    JWTAuth,
    JWTCookieAuth,
    lambda **options: OAuth2PasswordBearerAuth(token_url="/login", **options),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("made", [False, True])
def test_one_application_has_three_providers(kind: Callable[..., Any], made: bool) -> None:
    default = provide(ALPHA.key_provider) if made else ALPHA.key_provider
    auth = kind(retrieve_user_handler=retrieve_user, key_provider=default, accepted_audiences=[])

    class Mine(Controller):
        path = "/mine"
        dependencies = override(BETA)

        @get("/")
        async def first(self) -> None: ...

        @get("/other", dependencies=override(GAMMA))
        async def second(self) -> None: ...

    inner = [at("/"), at("/handler", dependencies=override(GAMMA))]
    app = attached(auth, at("/"), Mine, Router("/router", route_handlers=inner, dependencies=override(BETA)))
    paths = ("/", "/router", "/router/handler", "/mine", "/mine/other")
    assert accepted(app, *paths) == [["alpha"], ["beta"], ["gamma"], ["beta"], ["gamma"]]


def test_override_may_depend_on_the_connection() -> None:
    async def keys(tenant: FromPath[str]) -> KeyProvider:
        return TENANTS[tenant]

    handler = at(["/{tenant:str}", "/{tenant:str}/{number:int}"], dependencies={"key_provider": Provide(keys)})
    app = attached(backend(ALPHA.key_provider), at("/"), handler)
    assert accepted(app, "/", "/beta", "/gamma", "/beta/5") == [["alpha"], ["beta"], ["gamma"], ["beta"]]


@pytest.mark.anyio
async def test_websockets_have_providers_too() -> None:
    async def serve(socket: WebSocket[str, Token, Any]) -> None:
        await socket.accept()
        await socket.send_text(socket.user)
        await socket.close()

    async def keys(socket: WebSocket[Any, Any, Any]) -> KeyProvider:
        return TENANTS[socket.url.path[1:]]

    handlers = [websocket("/")(serve)]
    handlers += [websocket(f"/{n}", dependencies={"key_provider": Provide(keys)})(serve) for n in ("alpha", "beta")]
    app = attached(backend(GAMMA.key_provider), *handlers)
    for path, mine, other in (("/", GAMMA, ALPHA), ("/beta", BETA, ALPHA), ("/alpha", ALPHA, BETA)):
        assert await text_of(app, mine.auth_header("ann"), path) == "ann"
        assert await text_of(app, other.auth_header("ann"), path) == "Invalid token"


@pytest.mark.parametrize("kind", ["given", "given to a route", "once", "per connection"])
def test_route_handler_gets_the_very_provider_that_verified(kind: str) -> None:
    made: list[Any] = []

    def once() -> KeyProvider:
        made.append(lambda token: ALPHA.key_provider(token))
        return made[-1]  # type: ignore[no-any-return]

    def per_connection(request: Request[Any, Any, Any]) -> KeyProvider:
        return once()

    @get("/")
    async def handler(key_provider: NamedDependency[Any]) -> int:
        return id(key_provider)

    if kind.startswith("given"):
        given: Any = once()
    else:
        given = Provide(per_connection if kind == "per connection" else once, sync_to_thread=False)
    of_route = {"key_provider": provide(given)} if kind == "given to a route" else {}
    router = Router("/", route_handlers=[handler], dependencies=of_route)
    app = attached(backend(BETA.key_provider if of_route else given), router)
    with TestClient(app) as client:
        answers = [client.get("/", headers=ALPHA.auth_header()).json() for _ in range(2)]
    assert answers == [id(provider) for provider in (made if kind == "per connection" else made * 2)]


@pytest.mark.parametrize("attach", ["on_app_init", "middleware"])
@pytest.mark.parametrize("made", [False, True])
def test_key_provider_can_be_swapped_at_any_time(attach: str, made: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def as_given(issuer: LocalIssuer) -> Any:
        return provide(issuer.key_provider) if made else issuer.key_provider

    auth = backend(as_given(ALPHA))
    app = attached(auth) if attach == "on_app_init" else Litestar([whoami], middleware=[auth.middleware])
    assert accepted(app, "/") == [["alpha"]]
    with monkeypatch.context() as patch:
        patch.setattr(auth, "key_provider", as_given(BETA))
        assert accepted(app, "/") == [["beta"]]
    with TestClient(app) as client:
        for _ in range(20):  # the memory of a dropped factory is used again
            for mine, other in ((BETA, ALPHA), (ALPHA, BETA)):
                auth.key_provider = as_given(mine)
                assert (status(client, "/", mine), status(client, "/", other)) == (200, 401)


@pytest.mark.parametrize("made", [False, True])
def test_backend_attached_as_middleware_works_and_can_be_overridden(made: bool) -> None:
    auth = backend(Provide(lambda issuer: issuer.key_provider, sync_to_thread=False) if made else BETA.key_provider)

    class Mine(Controller):
        path = "/controller"
        middleware = [auth.middleware]
        dependencies = {"issuer": provide(BETA)}

        @get("/")
        async def handler(self) -> None: ...

    router = Router(
        "/api",
        route_handlers=[at("/"), at("/override", dependencies=override(GAMMA))],
        middleware=[auth.middleware],
        dependencies={"issuer": provide(BETA)},
    )
    app = Litestar([at("/"), router, Mine])
    assert accepted(app, "/", "/api", "/api/override", "/controller") == [[*ISSUERS], ["beta"], ["gamma"], ["beta"]]


def test_two_backends_with_one_name_are_refused() -> None:
    backends = [backend(issuer.key_provider, exclude=f"/{n}") for n, issuer in (("a", BETA), ("b", ALPHA))]
    with pytest.raises(ImproperlyConfiguredException, match="key_provider_name"):
        Litestar([whoami], on_app_init=[auth.on_app_init for auth in backends])


def test_two_backends_never_use_overrides_of_each_other() -> None:
    first = backend(ALPHA.key_provider, exclude="^/b")
    second = backend(provide(BETA.key_provider), key_provider_name="other", exclude="^/a")
    handlers = [
        at(path, dependencies=override(GAMMA, name) if name else {})
        for path, name in (
            ("/a", ""),
            ("/b", ""),
            ("/a/1", "key_provider"),
            ("/a/2", "other"),
            ("/b/1", "key_provider"),
            ("/b/2", "other"),
        )
    ]
    app = Litestar(handlers, on_app_init=[first.on_app_init, second.on_app_init])
    assert accepted(app, "/a", "/b", "/a/1", "/a/2", "/b/1", "/b/2") == [
        ["alpha"],
        ["beta"],
        ["gamma"],
        ["alpha"],
        ["beta"],
        ["gamma"],
    ]


EXCLUSIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "path": ({"exclude": "^/open"}, {}),
    "key": ({}, {"exclude_from_auth": True}),
    "other key": ({"exclude_opt_key": "public"}, {"public": True}),
    "method": ({"exclude_http_methods": ["POST"]}, {}),
}


@pytest.mark.parametrize("exclusion", EXCLUSIONS)
def test_unrelated_dependency_of_an_excluded_route_is_left_alone(exclusion: str) -> None:
    async def unrelated(data: JSONBody[dict[str, int]]) -> int:
        return data["x"]

    options, opt = EXCLUSIONS[exclusion]

    @post("/open", opt=opt, dependencies={"key_provider": Provide(unrelated)})
    async def handler(data: JSONBody[dict[str, int]], key_provider: NamedDependency[int]) -> int:
        return key_provider

    with TestClient(attached(backend(ALPHA.key_provider, **options), handler, whoami)) as client:
        assert client.post("/open", json={"x": 5}).json() == 5
        assert client.get("/").status_code == 401


@pytest.mark.parametrize("exclusion", ["path", "key", "other key"])
def test_excluded_route_may_ask_for_the_provider(exclusion: str) -> None:
    options, opt = EXCLUSIONS[exclusion]

    @get("/open", opt=opt)
    async def handler(key_provider: NamedDependency[KeyProvider]) -> bool:
        return key_provider == ALPHA.key_provider

    for given in (ALPHA.key_provider, provide(ALPHA.key_provider)):
        with TestClient(attached(backend(given, **options), handler)) as client:
            assert client.get("/open").json() is True


@pytest.mark.parametrize("copy_scope", [True, False])
@pytest.mark.parametrize("asks", ["request", "state"])
def test_provider_made_for_one_application_is_never_used_in_another(asks: str, copy_scope: bool) -> None:
    factories: dict[str, Callable[..., KeyProvider]] = {
        "request": lambda request: TENANTS[request.app.state.tenant],
        "state": lambda state: TENANTS[state.tenant],
    }
    auth = backend(Provide(factories[asks], sync_to_thread=False))
    inner = attached(auth, at("/"), state=State({"tenant": "beta"}))
    for exempt, expected in ((True, ["beta"]), (False, [])):
        mount = asgi("/inner", is_mount=True, copy_scope=copy_scope, exclude_from_auth=exempt)(inner)
        outer = attached(auth, mount, at("/"), state=State({"tenant": "alpha"}))
        assert accepted(outer, "/", "/inner/") == [["alpha"], expected]


def test_mounted_asgi_applications_are_protected() -> None:
    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    handlers = [
        asgi("/asgi", is_mount=True, copy_scope=False)(mounted),
        asgi("/override", is_mount=True, copy_scope=True, dependencies=override(BETA))(mounted),
    ]
    app = attached(backend(ALPHA.key_provider), *handlers)
    assert accepted(app, "/asgi", "/asgi/deeper", "/override/deeper") == [["alpha"], ["alpha"], ["beta"]]


def test_provider_is_not_in_the_openapi_document() -> None:
    async def keys(tenant: FromPath[str], request: Request[Any, Any, Any], query: Any, x: int = 1) -> KeyProvider:
        return TENANTS[tenant]

    @get("/{tenant:str}")
    async def handler(tenant: FromPath[str], key_provider: NamedDependency[KeyProvider]) -> None: ...

    app = attached(backend(Provide(keys), exclude="^/schema"), handler)
    operation = app.openapi_schema.to_schema()["paths"]["/{tenant}"]["get"]
    assert [parameter["name"] for parameter in operation["parameters"]] == ["tenant"]
    assert "requestBody" not in operation
