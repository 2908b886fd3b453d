"""Key providers of routers, controllers and route handlers, of several backends, and in tests."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from litestar import Controller, Litestar, Request, Router, WebSocket, asgi, get, websocket
from litestar.config.app import AppConfig
from litestar.di import NamedDependency, Provide
from litestar.exceptions import ImproperlyConfiguredException
from litestar.params import FromPath
from litestar.security.jwt import BaseJWTAuth, JWTAuth, JWTCookieAuth, KeyProvider, OAuth2PasswordBearerAuth, Token
from litestar.security.jwt.testing import LocalIssuer
from litestar.testing import TestClient
from litestar.types import Receive, Scope, Send
from tests.unit.test_security.test_jwt.injected import backend, provide, refusal_of, retrieve_user, text_of, whoami


@pytest.fixture(scope="module")
def alpha() -> LocalIssuer:
    return LocalIssuer()


@pytest.fixture(scope="module")
def beta() -> LocalIssuer:
    return LocalIssuer()


@pytest.fixture(scope="module")
def gamma() -> LocalIssuer:
    return LocalIssuer()


class Provider:
    def __init__(self, issuer: LocalIssuer) -> None:
        self.issuer = issuer

    def __call__(self, token: Any) -> Any:
        return self.issuer.key_provider(token)


def override(issuer: LocalIssuer, name: str = "key_provider") -> dict[str, Provide]:
    return {name: provide(issuer.key_provider)}


def status(client: TestClient[Litestar], path: str, issuer: LocalIssuer) -> int:
    return client.get(path, headers=issuer.auth_header()).status_code


def statuses(app: Litestar, paths: list[str], *issuers: LocalIssuer) -> list[list[int]]:
    """Send tokens of each issuer to each path."""
    with TestClient(app) as client:
        return [[status(client, path, issuer) for issuer in issuers] for path in paths]


def handler_at(path: str | list[str], **options: Any) -> Any:
    @get(path, **options)
    async def handler() -> None: ...

    return handler


def make_backend(kind: type[BaseJWTAuth[Any, Any]], key_provider: Any) -> BaseJWTAuth[str, Token]:
    options: dict[str, Any] = {"token_url": "/login"} if kind is OAuth2PasswordBearerAuth else {}
    return kind(retrieve_user_handler=retrieve_user, key_provider=key_provider, accepted_audiences=[], **options)


@pytest.mark.parametrize("given_as", ["provider", "factory"])
@pytest.mark.parametrize("kind", [JWTAuth, JWTCookieAuth, OAuth2PasswordBearerAuth])
def test_one_app_has_three_identity_providers(
    kind: type[BaseJWTAuth[Any, Any]], given_as: str, alpha: LocalIssuer, beta: LocalIssuer, gamma: LocalIssuer
) -> None:
    default = alpha.key_provider if given_as == "provider" else provide(alpha.key_provider)
    router = Router(
        "/router",
        route_handlers=[handler_at("/"), handler_at("/handler", dependencies=override(gamma))],
        dependencies=override(beta),
    )
    app = Litestar([handler_at("/"), router], on_app_init=[make_backend(kind, default).on_app_init])
    assert statuses(app, ["/", "/router", "/router/handler"], alpha, beta, gamma) == [
        [200, 401, 401],
        [401, 200, 401],
        [401, 401, 200],
    ]


def test_controller_has_its_own_provider(alpha: LocalIssuer, beta: LocalIssuer, gamma: LocalIssuer) -> None:
    class Mine(Controller):
        path = "/mine"
        dependencies = override(beta)

        @get("/")
        async def first(self) -> None: ...

        @get("/other", dependencies=override(gamma))
        async def second(self) -> None: ...

    app = Litestar([handler_at("/"), Mine], on_app_init=[backend(alpha.key_provider).on_app_init])
    assert statuses(app, ["/", "/mine", "/mine/other"], alpha, beta, gamma) == [
        [200, 401, 401],
        [401, 200, 401],
        [401, 401, 200],
    ]


@pytest.mark.parametrize("kind", [JWTAuth, JWTCookieAuth, OAuth2PasswordBearerAuth])
@pytest.mark.anyio
async def test_websocket_routes_have_their_own_provider(
    kind: type[BaseJWTAuth[Any, Any]], alpha: LocalIssuer, beta: LocalIssuer
) -> None:
    async def socket_handler(socket: WebSocket[str, Token, Any]) -> None:
        await socket.accept()
        await socket.send_text(socket.user)
        await socket.close()

    async def keys(socket: WebSocket[Any, Any, Any]) -> KeyProvider:
        return {"/b": beta, "/c": alpha}[socket.url.path].key_provider

    handlers = [
        websocket("/a")(socket_handler),
        websocket("/b", dependencies={"key_provider": Provide(keys)})(socket_handler),
        websocket("/c", dependencies={"key_provider": Provide(keys)})(socket_handler),
    ]
    app = Litestar(handlers, on_app_init=[make_backend(kind, alpha.key_provider).on_app_init])
    for path, mine, other in (("/a", alpha, beta), ("/b", beta, alpha), ("/c", alpha, beta)):
        assert await text_of(app, mine.auth_header(), path) == "user"
        assert await text_of(app, other.auth_header(), path) == "Invalid token"


def test_override_decides_which_algorithms_are_accepted() -> None:
    default, other = LocalIssuer(), LocalIssuer(algorithm="ES256")
    handlers = [handler_at("/"), handler_at("/static", dependencies={"key_provider": provide(other.pyjwk)})]
    app = Litestar(handlers, on_app_init=[backend(default.pyjwk).on_app_init])
    assert statuses(app, ["/", "/static"], default, other) == [[200, 401], [401, 200]]
    app = Litestar(handlers, on_app_init=[backend(default.pyjwk, algorithm=["RS256", "PS256"]).on_app_init])
    assert statuses(app, ["/", "/static"], default, other) == [[200, 401], [401, 401]]


def test_override_may_depend_on_the_connection(alpha: LocalIssuer, beta: LocalIssuer, gamma: LocalIssuer) -> None:
    async def keys(tenant: FromPath[str]) -> KeyProvider:
        return {"beta": beta, "gamma": gamma}[tenant].key_provider

    tenants = Router(
        "/t",
        route_handlers=[handler_at(["/{tenant:str}", "/{tenant:str}/{number:int}"])],
        dependencies={"key_provider": Provide(keys)},
    )
    app = Litestar([handler_at("/"), tenants], on_app_init=[backend(alpha.key_provider).on_app_init])
    assert statuses(app, ["/", "/t/beta", "/t/gamma", "/t/beta/5"], alpha, beta, gamma) == [
        [200, 401, 401],
        [401, 200, 401],
        [401, 401, 200],
        [401, 200, 401],
    ]


@pytest.mark.parametrize("as_provide", [False, True])
def test_dependency_of_a_layer_changes_what_a_factory_makes(
    as_provide: bool, alpha: LocalIssuer, beta: LocalIssuer
) -> None:
    calls: list[LocalIssuer] = []

    async def first() -> LocalIssuer:
        return alpha

    async def second() -> LocalIssuer:
        return beta

    async def keys(issuer: NamedDependency[LocalIssuer]) -> KeyProvider:
        calls.append(issuer)
        return issuer.key_provider

    def layer(function: Any) -> Any:
        return {"issuer": Provide(function) if as_provide else function}

    router = Router("/router", route_handlers=[handler_at("/"), handler_at("/2")], dependencies=layer(second))
    app = Litestar(
        [handler_at("/"), handler_at("/2"), router],
        dependencies=layer(first),
        on_app_init=[backend(Provide(keys)).on_app_init],
    )
    assert statuses(app, ["/", "/2", "/router", "/router/2"], alpha, beta) == [[200, 401]] * 2 + [[401, 200]] * 2
    assert sorted(map(id, calls)) == sorted(map(id, [alpha, beta]))


def test_override_that_asks_for_the_body_is_refused_at_start_up(alpha: LocalIssuer) -> None:
    async def form(data: dict[str, str]) -> Any: ...
    async def keys(form: NamedDependency[str]) -> Any: ...

    router = Router(
        "/router",
        route_handlers=[handler_at("/")],
        dependencies={"key_provider": Provide(keys), "form": Provide(form)},
    )
    refusal = refusal_of(Litestar([router], on_app_init=[backend(alpha.key_provider).on_app_init]))
    assert "Dependency 'key_provider' of route handler" in refusal
    assert "handler_at" in refusal
    assert "'form' asks for 'data', but keys are needed before the body of the request is read" in refusal


def test_override_of_a_route_without_authentication_is_left_alone(alpha: LocalIssuer) -> None:
    @get("/", exclude_from_auth=True, dependencies={"key_provider": provide(5)})
    async def handler(key_provider: NamedDependency[int]) -> int:
        return key_provider

    with TestClient(Litestar([handler], on_app_init=[backend(alpha.key_provider).on_app_init])) as client:
        assert client.get("/").json() == 5


@pytest.mark.parametrize("exclusion", ["exclude", "exclude_from_auth", "exclude_opt_key"])
def test_routes_without_authentication_may_ask_for_the_provider(exclusion: str, alpha: LocalIssuer) -> None:
    @get("/open", opt={"exclude_from_auth": exclusion == "exclude_from_auth", "open": exclusion == "exclude_opt_key"})
    async def handler(key_provider: NamedDependency[KeyProvider]) -> bool:
        return key_provider == alpha.key_provider

    options: dict[str, Any] = {"exclude": {"exclude": "^/open$"}, "exclude_opt_key": {"exclude_opt_key": "open"}}
    for key_provider in (alpha.key_provider, provide(alpha.key_provider)):
        auth = backend(key_provider, **options.get(exclusion, {}))
        with TestClient(Litestar([handler, whoami], on_app_init=[auth.on_app_init])) as client:
            assert client.get("/open").json() is True
            assert client.get("/").status_code == 401


def test_provider_that_cannot_be_injected_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    @get("/", exclude_from_auth=True)
    async def handler(key_provider: NamedDependency[KeyProvider]) -> None: ...

    with TestClient(Litestar([handler], on_app_init=[backend(provide(5)).on_app_init])) as client:
        caplog.clear()
        assert client.get("/").status_code == 500
    assert [r.getMessage() for r in caplog.records if r.name == "litestar.security.jwt" and "not int" in r.getMessage()]


def test_handlers_get_the_very_provider_that_verifies(alpha: LocalIssuer) -> None:
    provider = Provider(alpha)
    made: list[Provider] = []

    async def keys(request: Request[Any, Any, Any]) -> Provider:
        made.append(Provider(alpha))
        return made[-1]

    @get("/")
    async def handler(key_provider: NamedDependency[Provider]) -> int:
        return id(key_provider)

    @get("/renamed")
    async def renamed(keys: NamedDependency[KeyProvider]) -> int:
        return id(keys)

    for key_provider in (provider, provide(provider)):
        with TestClient(Litestar([handler], on_app_init=[backend(key_provider).on_app_init])) as client:
            assert client.get("/", headers=alpha.auth_header()).json() == id(provider)
    auth = backend(provider, key_provider_name="keys")
    with TestClient(Litestar([renamed], on_app_init=[auth.on_app_init])) as client:
        assert client.get("/renamed", headers=alpha.auth_header()).json() == id(provider)
    with TestClient(Litestar([handler], on_app_init=[backend(Provide(keys)).on_app_init])) as client:
        assert client.get("/", headers=alpha.auth_header()).json() == id(made[0])
        assert client.get("/", headers=alpha.auth_header()).json() == id(made[1])


@pytest.mark.parametrize("names", [("key_provider", "key_provider"), ("key_provider", "other"), ("one", "other")])
@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("as_factory", [False, True])
def test_two_backends_never_use_keys_of_each_other(
    as_factory: bool,
    order: int,
    names: tuple[str, str],
    alpha: LocalIssuer,
    beta: LocalIssuer,
    gamma: LocalIssuer,
) -> None:
    first, second = (
        backend(
            provide(issuer.key_provider) if as_factory else issuer.key_provider,
            key_provider_name=name,
            exclude=f"^/{excluded}",
            auth_header=header,
        )
        for issuer, name, excluded, header in (
            (alpha, names[0], "beta", "Authorization"),
            (beta, names[1], "alpha", "X-Other"),
        )
    )
    handlers = [handler_at(path) for path in ("/alpha", "/beta")]
    handlers += [handler_at("/alpha/override", dependencies=override(gamma, names[0]))]
    handlers += [handler_at("/beta/override", dependencies=override(gamma, names[1]))]
    app = Litestar(handlers, on_app_init=[auth.on_app_init for auth in (first, second)[::order]])
    owners = [alpha, beta] if names[0] != names[1] else [alpha, beta][::order][:1]
    with TestClient(app) as client:
        for name, mine, header in (("alpha", alpha, "Authorization"), ("beta", beta, "X-Other")):
            for issuer in (alpha, beta, gamma):
                headers = {header: issuer.auth_header()["Authorization"]}
                expected = 200 if issuer is mine else 401
                assert client.get(f"/{name}", headers=headers).status_code == expected
                expected = 200 if issuer is (gamma if mine in owners else mine) else 401
                assert client.get(f"/{name}/override", headers=headers).status_code == expected


@pytest.mark.parametrize("as_factory", [False, True])
def test_backend_attached_as_middleware_works_and_can_be_overridden(
    as_factory: bool, alpha: LocalIssuer, beta: LocalIssuer, gamma: LocalIssuer
) -> None:
    async def keys(issuer: NamedDependency[LocalIssuer]) -> KeyProvider:
        return issuer.key_provider

    auth = backend(Provide(keys) if as_factory else beta.key_provider)
    handlers = [handler_at("/"), handler_at("/override", dependencies=override(gamma))]
    router = Router(
        "/api", route_handlers=handlers, middleware=[auth.middleware], dependencies={"issuer": provide(beta)}
    )

    class Mine(Controller):
        path = "/controller"
        middleware = [auth.middleware]
        dependencies = {"issuer": provide(beta)}

        @get("/")
        async def handler(self) -> None: ...

    app = Litestar([handler_at("/"), router, Mine])
    assert statuses(app, ["/", "/api", "/api/override", "/controller"], alpha, beta, gamma) == [
        [200, 200, 200],
        [401, 200, 401],
        [401, 401, 200],
        [401, 200, 401],
    ]


def test_overrides_belong_to_the_backend_that_is_attached_to_the_app(
    alpha: LocalIssuer, beta: LocalIssuer, gamma: LocalIssuer
) -> None:
    by_middleware = backend(beta.key_provider)
    attached = backend(alpha.key_provider, exclude="^/api")
    handlers = [handler_at("/api", middleware=[by_middleware.middleware]), handler_at("/")]
    router = Router("/", route_handlers=handlers, dependencies=override(gamma))
    app = Litestar([router], on_app_init=[attached.on_app_init])
    assert statuses(app, ["/", "/api"], alpha, beta, gamma) == [[401, 401, 200], [401, 200, 401]]


@pytest.mark.parametrize("as_provide", [False, True])
@pytest.mark.parametrize("given_by", ["app", "backend", "plugin"])
def test_unrelated_dependency_of_that_name_is_refused(given_by: str, as_provide: bool, alpha: LocalIssuer) -> None:
    async def unrelated() -> Any: ...

    dependencies: Any = {"key_provider": Provide(unrelated) if as_provide else unrelated}

    def plugin(app_config: AppConfig) -> AppConfig:
        app_config.dependencies.update(dependencies)
        return app_config

    auth = backend(alpha.key_provider, **({"dependencies": dependencies} if given_by == "backend" else {}))

    def make(*hooks: Callable[[AppConfig], AppConfig]) -> Litestar:
        return Litestar([whoami], dependencies=dependencies if given_by == "app" else {}, on_app_init=[*hooks])

    if given_by == "plugin":
        assert "'key_provider_name'" in refusal_of(make(auth.on_app_init, plugin))
    else:
        with pytest.raises(ImproperlyConfiguredException, match="'key_provider_name'"):
            make(auth.on_app_init)


@pytest.mark.parametrize("as_provide", [False, True])
def test_middleware_alone_ignores_what_the_app_calls_by_that_name(
    as_provide: bool, alpha: LocalIssuer, beta: LocalIssuer
) -> None:
    async def unrelated() -> KeyProvider:
        return beta.key_provider

    app = Litestar(
        [whoami],
        middleware=[backend(alpha.key_provider).middleware],
        dependencies={"key_provider": Provide(unrelated) if as_provide else unrelated},
    )
    assert statuses(app, ["/"], alpha, beta) == [[200, 401]]


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("as_factory", [False, True])
@pytest.mark.parametrize("attach", ["on_app_init", "middleware"])
def test_one_line_swaps_the_provider_in_a_test(
    attach: str, as_factory: bool, moment: str, alpha: LocalIssuer, beta: LocalIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[None] = []

    async def keys() -> KeyProvider:
        calls.append(None)
        return alpha.key_provider

    auth = backend(Provide(keys) if as_factory else alpha.key_provider)

    def create_app() -> Litestar:
        if attach == "on_app_init":
            return Litestar([whoami], on_app_init=[auth.on_app_init])
        return Litestar([whoami], middleware=[auth.middleware])

    if moment == "after":
        app = create_app()
        assert statuses(app, ["/"], alpha, beta) == [[200, 401]]
        monkeypatch.setattr(auth, "key_provider", beta.key_provider)
    else:
        monkeypatch.setattr(auth, "key_provider", beta.key_provider)
        app = create_app()
    assert statuses(app, ["/"], alpha, beta) == [[401, 200]]
    monkeypatch.undo()
    assert statuses(app, ["/"], alpha, beta) == [[200, 401]]
    assert len(calls) == as_factory


def test_copy_of_a_backend_has_a_provider_of_its_own(alpha: LocalIssuer, beta: LocalIssuer) -> None:
    auth = backend(alpha.key_provider)
    app = Litestar([whoami], on_app_init=[auth.on_app_init])
    other = copy.copy(auth)
    other.key_provider = beta.key_provider
    assert statuses(app, ["/"], alpha, beta) == [[200, 401]]
    assert statuses(Litestar([whoami], on_app_init=[other.on_app_init]), ["/"], alpha, beta) == [[401, 200]]


def test_backend_without_key_provider_registers_nothing() -> None:
    auth: JWTAuth[str, Token] = JWTAuth(retrieve_user_handler=retrieve_user, token_secret="s" * 32)
    app = Litestar([whoami], on_app_init=[auth.on_app_init])
    assert "key_provider" not in app.dependencies


def test_mounted_apps_are_protected(alpha: LocalIssuer, beta: LocalIssuer) -> None:
    @asgi("/asgi", is_mount=True, copy_scope=False)
    async def mounted(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    @asgi("/override", is_mount=True, dependencies=override(beta), copy_scope=True)
    async def overridden(scope: Scope, receive: Receive, send: Send) -> None:
        await mounted.fn(scope, receive, send)

    app = Litestar([mounted, overridden], on_app_init=[backend(alpha.key_provider).on_app_init])
    assert statuses(app, ["/asgi", "/asgi/deeper", "/override/deeper"], alpha, beta) == [
        [204, 401],
        [204, 401],
        [401, 204],
    ]


def test_app_within_an_app_has_its_own_provider(alpha: LocalIssuer, beta: LocalIssuer) -> None:
    async def keys(request: Request[Any, Any, Any]) -> KeyProvider:
        return {inner: alpha, outer: beta}[Litestar.from_scope(request.scope)].key_provider

    auth = backend(Provide(keys))
    inner = Litestar([handler_at("/")], on_app_init=[auth.on_app_init])
    mount = asgi("/inner", is_mount=True, copy_scope=True, exclude_from_auth=True)(inner)
    outer = Litestar([mount, handler_at("/")], on_app_init=[auth.on_app_init])
    assert statuses(outer, ["/", "/inner/"], alpha, beta) == [[401, 200], [200, 401]]


def test_provider_is_no_parameter_in_openapi(alpha: LocalIssuer) -> None:
    async def keys(tenant: FromPath[str], request: Request[Any, Any, Any]) -> KeyProvider:
        return alpha.key_provider

    @get("/{tenant:str}")
    async def handler(tenant: FromPath[str], key_provider: NamedDependency[KeyProvider]) -> None: ...

    app = Litestar([handler], on_app_init=[backend(Provide(keys)).on_app_init])
    operation = app.openapi_schema.to_schema()["paths"]["/{tenant}"]["get"]
    assert [parameter["name"] for parameter in operation["parameters"]] == ["tenant"]
    assert "requestBody" not in operation
    with TestClient(app) as client:
        assert client.get("/schema/openapi.json", headers=alpha.auth_header()).status_code == 400
        assert status(client, "/any", alpha) == 200


@pytest.mark.parametrize(("enforces", "expected"), [((), 401), (("iss",), 401), (("alg", "iss"), 200)])
def test_provider_that_enforces_algorithms_is_not_second_guessed(
    enforces: tuple[str, ...], expected: int, alpha: LocalIssuer
) -> None:
    class Enforcing(Provider):
        def __init__(self, issuer: LocalIssuer) -> None:
            super().__init__(issuer)
            self.enforces = enforces

    other = LocalIssuer(algorithm="ES384")
    handlers = [handler_at("/", dependencies={"key_provider": provide(Enforcing(other))}), handler_at("/default")]
    app = Litestar(handlers, on_app_init=[backend(alpha.key_provider).on_app_init])
    assert statuses(app, ["/", "/default"], other) == [[expected], [401]]
