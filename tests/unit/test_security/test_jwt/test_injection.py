"""Key providers that functions make out of what dependency injection gives them."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import jwt
import pytest

from litestar import Litestar, Request, Router, WebSocket, get, websocket
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.exceptions import ImproperlyConfiguredException, NotAuthorizedException, NotFoundException
from litestar.params import CookieParameter, FromHeader, FromPath, FromQuery, HeaderParameter
from litestar.security.jwt import KeyProvider, KeysUnavailableError, Token, UnverifiedToken
from litestar.security.jwt.testing import LocalIssuer
from litestar.testing import TestClient
from litestar.types import Scope
from tests.unit.test_security.test_jwt.injected import backend, provide, refusal_of, status_of, whoami

LOGGER = "litestar.security.jwt"


@dataclass
class Settings:
    tenant: str


class Tenants:
    """Identity providers by the name of a tenant, and the names that were asked for."""

    def __init__(self, **issuers: LocalIssuer) -> None:
        self.issuers = issuers
        self.asked: list[str] = []

    def __getitem__(self, tenant: str) -> KeyProvider:
        self.asked.append(tenant)
        if tenant not in self.issuers:
            raise NotFoundException("No such tenant")
        return self.issuers[tenant].key_provider

    def token(self, tenant: str) -> dict[str, str]:
        return self.issuers[tenant].auth_header()


@pytest.fixture(scope="module")
def issuers() -> dict[str, LocalIssuer]:
    return {"alpha": LocalIssuer(), "beta": LocalIssuer()}


@pytest.fixture
def tenants(issuers: dict[str, LocalIssuer]) -> Tenants:
    return Tenants(**issuers)


def test_tenant_comes_from_state(tenants: Tenants) -> None:
    async def keys(state: State) -> KeyProvider:
        return tenants[state.tenant]

    auth = backend(Provide(keys))
    for tenant, other in (("alpha", "beta"), ("beta", "alpha")):
        app = Litestar([whoami], state=State({"tenant": tenant}), on_app_init=[auth.on_app_init])
        with TestClient(app) as client:
            assert client.get("/", headers=tenants.token(tenant)).text == "user"
            assert client.get("/", headers=tenants.token(other)).status_code == 401
    assert tenants.asked == ["alpha", "beta"]


def test_state_may_be_set_by_the_start_up_of_the_app(tenants: Tenants, caplog: pytest.LogCaptureFixture) -> None:
    async def configure(app: Litestar) -> None:
        app.state.tenant = "beta"

    async def keys(state: State) -> KeyProvider:
        return tenants[state.tenant]

    app = Litestar([whoami], on_startup=[configure], on_app_init=[backend(Provide(keys)).on_app_init])
    with TestClient(app) as client:
        assert tenants.asked == ["beta"]
        assert client.get("/", headers=tenants.token("beta")).status_code == 200
    assert not caplog.messages


def test_tenant_comes_from_settings(tenants: Tenants) -> None:
    async def settings() -> Settings:
        return Settings("beta")

    async def keys(settings: NamedDependency[Settings]) -> KeyProvider:
        return tenants[settings.tenant]

    auth = backend(Provide(keys))
    app = Litestar([whoami], dependencies={"settings": Provide(settings)}, on_app_init=[auth.on_app_init])
    with TestClient(app) as client:
        assert client.get("/", headers=tenants.token("beta")).status_code == 200
        assert client.get("/", headers=tenants.token("alpha")).status_code == 401
    assert tenants.asked == ["beta"]


def test_tenant_comes_from_the_environment_at_start_up(tenants: Tenants, monkeypatch: pytest.MonkeyPatch) -> None:
    def keys() -> KeyProvider:
        return tenants[os.environ["TENANT_OF_THIS_TEST"]]

    app = Litestar([whoami], on_app_init=[backend(Provide(keys, sync_to_thread=False)).on_app_init])
    monkeypatch.setenv("TENANT_OF_THIS_TEST", "alpha")
    with TestClient(app) as client:
        monkeypatch.delenv("TENANT_OF_THIS_TEST")
        assert client.get("/", headers=tenants.token("alpha")).status_code == 200
        assert client.get("/", headers=tenants.token("beta")).status_code == 401


def test_tenant_comes_from_the_path(tenants: Tenants) -> None:
    async def keys(tenant: FromPath[str]) -> KeyProvider:
        return tenants[tenant]

    app = Litestar([Router("/{tenant:str}", route_handlers=[whoami])], on_app_init=[backend(Provide(keys)).on_app_init])
    with TestClient(app) as client:
        assert not tenants.asked
        for path, tenant, status in (
            ("/alpha", "alpha", 200),
            ("/beta", "beta", 200),
            ("/alpha", "beta", 401),
            ("/beta", "alpha", 401),
            ("/alpha", "alpha", 200),
        ):
            assert client.get(path, headers=tenants.token(tenant)).status_code == status
        assert client.get("/gamma", headers=tenants.token("alpha")).json()["detail"] == "No such tenant"
    assert tenants.asked == ["alpha", "beta", "alpha", "beta", "alpha", "gamma"]


@pytest.mark.parametrize("source", ["header", "query", "cookie"])
def test_tenant_comes_from_the_request(source: str, tenants: Tenants) -> None:
    async def of_header(tenant: Annotated[str, HeaderParameter(name="x-tenant")]) -> KeyProvider:
        return tenants[tenant]

    async def of_query(tenant: FromQuery[str]) -> KeyProvider:
        return tenants[tenant]

    async def of_cookie(tenant: Annotated[str, CookieParameter(name="tenant-name")]) -> KeyProvider:
        return tenants[tenant]

    auth = backend(Provide({"header": of_header, "query": of_query, "cookie": of_cookie}[source]))
    app = Litestar([whoami], on_app_init=[auth.on_app_init])
    headers = {**tenants.token("beta"), "x-tenant": "beta", "cookie": "tenant-name=beta"}
    with TestClient(app) as client:
        assert client.get("/?tenant=beta", headers=headers).status_code == 200
        assert client.get("/?tenant=beta", headers={**headers, **tenants.token("alpha")}).status_code == 401


def test_a_missing_parameter_is_the_fault_of_the_request(tenants: Tenants) -> None:
    async def keys(tenant: FromHeader[str]) -> KeyProvider:
        return tenants[tenant]

    app = Litestar([whoami], on_app_init=[backend(Provide(keys)).on_app_init])
    with TestClient(app) as client:
        assert client.get("/", headers=tenants.token("beta")).status_code == 400


def test_factory_gets_the_request_or_the_socket(tenants: Tenants) -> None:
    class AppRequest(Request[Any, Any, Any]):
        tenant = "beta"

    seen: list[type] = []

    async def keys(request: ASGIConnection[Any, Any, Any, Any], scope: Scope) -> KeyProvider:
        assert Litestar.from_scope(scope) is app
        seen.append(type(request))
        return tenants[getattr(request, "tenant", "alpha")]

    @websocket("/socket")
    async def socket_handler(socket: WebSocket[str, Token, Any]) -> None:
        await socket.accept()
        await socket.send_text(socket.user)
        await socket.close()

    app = Litestar([whoami, socket_handler], request_class=AppRequest, on_app_init=[backend(Provide(keys)).on_app_init])
    with TestClient(app) as client:
        assert client.get("/", headers=tenants.token("beta")).text == "user"
        with client.websocket_connect("/socket", headers=tenants.token("alpha")) as connected:
            assert connected.receive_text() == "user"
    assert seen == [AppRequest, WebSocket]


def test_layered_parameters_are_available(tenants: Tenants) -> None:
    async def keys(tenant: str) -> KeyProvider:
        return tenants[tenant]

    parameters = {
        "tenant": HeaderParameter(annotation=str, name="x-tenant"),
        "other": HeaderParameter(annotation=str, name="x-other"),
    }
    app = Litestar([whoami], parameters=parameters, on_app_init=[backend(Provide(keys)).on_app_init])
    with TestClient(app) as client:
        headers = {**tenants.token("beta"), "x-tenant": "beta"}
        assert client.get("/", headers={**headers, "x-other": ""}).status_code == 200
        # What the factory does not ask for is not needed to authenticate.
        assert client.get("/", headers={**headers, **tenants.token("alpha")}).status_code == 401


def test_nobody_overrides_a_default_value_with_the_query(tenants: Tenants) -> None:
    async def settings(tenant: str = "alpha") -> Settings:
        return Settings(tenant)

    async def keys(settings: NamedDependency[Settings], timeout: float = 5) -> KeyProvider:
        assert timeout == 5
        return tenants[settings.tenant]

    app = Litestar(
        [whoami], dependencies={"settings": Provide(settings)}, on_app_init=[backend(Provide(keys)).on_app_init]
    )
    with TestClient(app) as client:
        assert client.get("/?tenant=beta&timeout=1", headers=tenants.token("beta")).status_code == 401
        assert client.get("/?tenant=beta&timeout=1", headers=tenants.token("alpha")).status_code == 200
    assert tenants.asked == ["alpha"]


def test_factory_may_return_whatever_a_backend_takes(issuers: dict[str, LocalIssuer]) -> None:
    issuer = issuers["alpha"]
    with issuer:
        for made in (issuer.pyjwk, [issuer.pyjwk], issuer.public_pem, jwt.PyJWKClient(issuer.jwks_url)):
            auth = backend(provide(made))
            with TestClient(Litestar([whoami], on_app_init=[auth.on_app_init])) as client:
                assert client.get("/", headers=issuer.auth_header()).status_code == 200
                assert client.get("/", headers=issuers["beta"].auth_header()).status_code == 401


class Factory:
    """A provider out of the state, and several kinds of callables that make one."""

    def __init__(self, state: State) -> None:
        self.state = state

    def __call__(self, token: UnverifiedToken) -> Any:
        return self.state.provider(token)

    @staticmethod
    def in_thread(state: State) -> KeyProvider:
        assert threading.current_thread() is not threading.main_thread()
        return Factory(state)

    async def method(self, state: State) -> KeyProvider:
        return Factory(state)


class CallableFactory:
    async def __call__(self, state: State) -> KeyProvider:
        return Factory(state)


@pytest.mark.parametrize(
    "factory",
    [
        Provide(Factory, sync_to_thread=False),
        Provide(Factory.in_thread, sync_to_thread=True),
        Provide(Factory(State()).method),
        Provide(CallableFactory()),
        Provide(CallableFactory(), use_cache=True),
    ],
    ids=["class", "function for a thread", "method", "instance", "cached"],
)
def test_any_callable_may_be_a_factory(factory: Provide, tenants: Tenants) -> None:
    app = Litestar([whoami], state=State({"provider": tenants["alpha"]}), on_app_init=[backend(factory).on_app_init])
    with TestClient(app) as client:
        assert client.get("/", headers=tenants.token("alpha")).status_code == 200
        assert client.get("/", headers=tenants.token("beta")).status_code == 401


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA"])
def test_a_key_that_a_factory_returns_says_which_algorithm_is_accepted(algorithm: str) -> None:
    issuer = LocalIssuer(algorithm=algorithm)

    async def keys() -> jwt.PyJWK:
        return issuer.pyjwk

    with TestClient(Litestar([whoami], on_app_init=[backend(Provide(keys)).on_app_init])) as client:
        assert client.get("/", headers=issuer.auth_header()).status_code == 200
    with TestClient(Litestar([whoami], on_app_init=[backend(Provide(keys), algorithm="RS256").on_app_init])) as client:
        assert client.get("/", headers=issuer.auth_header()).status_code == 401


def test_generator_is_cleaned_up_after_the_app(tenants: Tenants) -> None:
    events: list[str] = []

    async def session() -> AsyncIterator[str]:
        events.append("open")
        yield "alpha"
        events.append("close")

    def keys(session: NamedDependency[str]) -> Iterator[KeyProvider]:
        yield tenants[session]
        events.append("clean up")

    app = Litestar(
        [whoami], dependencies={"session": Provide(session)}, on_app_init=[backend(Provide(keys)).on_app_init]
    )
    for _ in range(2):
        with TestClient(app) as client:
            assert client.get("/", headers=tenants.token("alpha")).status_code == 200
            assert client.get("/", headers=tenants.token("alpha")).status_code == 200
            assert events == ["open"]
        assert sorted(events) == ["clean up", "close", "open"]
        events.clear()
    assert tenants.asked == ["alpha", "alpha"]


@pytest.mark.parametrize(("tenant", "status"), [("alpha", 200), ("beta", 401)])
def test_generator_is_cleaned_up_after_the_request(tenant: str, status: int, tenants: Tenants) -> None:
    events: list[str] = []

    async def session(request: Request[Any, Any, Any]) -> AsyncIterator[str]:
        try:
            yield "alpha"
        finally:
            events.append("close")

    def keys(session: NamedDependency[str]) -> Iterator[KeyProvider]:
        yield tenants[session]
        events.append("clean up")

    @get("/")
    async def handler(key_provider: NamedDependency[KeyProvider]) -> None:
        events.append("handle")

    app = Litestar(
        [handler], dependencies={"session": Provide(session)}, on_app_init=[backend(Provide(keys)).on_app_init]
    )
    with TestClient(app) as client:
        for _ in range(2):
            assert client.get("/", headers=tenants.token(tenant)).status_code == status
            assert events[:-2] == ["handle"] * (status == 200)
            assert sorted(events[-2:]) == ["clean up", "close"]
            events.clear()
    assert tenants.asked == ["alpha", "alpha"]


def test_generators_are_cleaned_up_if_the_factory_fails(caplog: pytest.LogCaptureFixture) -> None:
    events: list[str] = []

    async def session(request: Request[Any, Any, Any]) -> AsyncIterator[None]:
        try:
            yield
        finally:
            events.append("close")

    async def keys(session: NamedDependency[None]) -> KeyProvider:
        raise RuntimeError("out of order")

    app = Litestar(
        [whoami], dependencies={"session": Provide(session)}, on_app_init=[backend(Provide(keys)).on_app_init]
    )
    with TestClient(app, raise_server_exceptions=False) as client:
        assert client.get("/", headers={"Authorization": "Bearer e30.e30.e30"}).status_code == 401
        assert events == []
        assert client.get("/", headers=LocalIssuer().auth_header()).status_code == 500
    assert events == ["close"]


@pytest.mark.parametrize("per_connection", [False, True])
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConnectionRefusedError("nobody home"), 503),
        (jwt.PyJWKClientConnectionError("nobody home"), 503),
        (KeysUnavailableError("nobody home", retry_after=7), 503),
        (KeyError("nobody home"), 500),
        (ImproperlyConfiguredException("nobody home"), 500),
        (ValueError("nobody home"), 500),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_failing_factory_is_reported_and_tried_again(
    error: Exception, status: int, per_connection: bool, tenants: Tenants, caplog: pytest.LogCaptureFixture
) -> None:
    faults: list[Exception] = []

    async def keys_of_app() -> KeyProvider:
        if faults:
            raise faults[0]
        return tenants["alpha"]

    async def keys_of_request(request: Request[Any, Any, Any]) -> KeyProvider:
        return await keys_of_app()

    auth = backend(Provide(keys_of_request if per_connection else keys_of_app))
    faults.append(error)
    with TestClient(Litestar([whoami], on_app_init=[auth.on_app_init])) as client:
        if not per_connection:
            assert [(r.name, r.levelname) for r in caplog.records] == [(LOGGER, "ERROR")]
        for _ in range(2):
            caplog.clear()
            response = client.get("/", headers=tenants.token("alpha"))
            assert response.status_code == status
            assert "nobody home" not in response.text or isinstance(error, KeysUnavailableError)
            assert [r.levelname for r in caplog.records if r.name == LOGGER] == ["ERROR"]
            [message] = [r.getMessage() for r in caplog.records if r.name == LOGGER]
            assert "nobody home" in message
            assert "keys_of_" in message
            assert ("Retry-After" in response.headers) == (status == 503)
        faults.clear()
        assert client.get("/", headers=tenants.token("alpha")).status_code == 200


def test_errors_of_the_client_are_answered_as_the_factory_says(
    tenants: Tenants, caplog: pytest.LogCaptureFixture
) -> None:
    async def keys(request: Request[Any, Any, Any]) -> KeyProvider:
        raise NotAuthorizedException("Not with us")

    with TestClient(Litestar([whoami], on_app_init=[backend(Provide(keys)).on_app_init])) as client:
        response = client.get("/", headers=tenants.token("alpha"))
    assert (response.status_code, response.json()["detail"]) == (401, "Not with us")
    assert response.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    assert not caplog.records


@pytest.mark.parametrize("made", [None, 5, object(), Provide(lambda: None, sync_to_thread=False), KeyProvider])
@pytest.mark.parametrize("per_connection", [False, True])
def test_what_is_no_provider_is_refused(
    made: Any, per_connection: bool, tenants: Tenants, caplog: pytest.LogCaptureFixture
) -> None:
    closed: list[bool] = []

    def keys_of_app() -> Iterator[Any]:
        yield made
        closed.append(True)

    def keys_of_request(request: Request[Any, Any, Any]) -> Iterator[Any]:
        yield from keys_of_app()

    auth = backend(Provide(keys_of_request if per_connection else keys_of_app))
    app = Litestar([whoami], on_app_init=[auth.on_app_init])
    with TestClient(app) as client:
        caplog.clear()
        closed.clear()
        assert client.get("/", headers=tenants.token("alpha")).status_code == 500
        assert closed == [True]
        assert client.get("/").status_code == 401
    [message] = [r.getMessage() for r in caplog.records if r.name == LOGGER]
    assert type(made).__name__ in message
    assert "keys_of_" in message


def test_unusable_key_of_a_factory_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec

    async def keys() -> Any:
        return ec.generate_private_key(ec.SECP192R1()).public_key()

    with TestClient(Litestar([whoami], on_app_init=[backend(Provide(keys)).on_app_init])) as client:
        caplog.clear()
        assert client.get("/", headers=LocalIssuer().auth_header()).status_code == 500
    assert "secp192r1" in caplog.text


@pytest.mark.parametrize("name", ["data", "body"])
def test_factory_that_asks_for_the_body_is_refused_at_construction(name: str) -> None:
    async def of_data(data: dict[str, Any]) -> Any: ...
    async def of_body(body: bytes) -> Any: ...

    factory: Any = {"data": of_data, "body": of_body}[name]
    with pytest.raises(ImproperlyConfiguredException, match=f"'of_{name}' asks for '{name}'.*before the body"):
        backend(Provide(factory))


def test_dependency_that_asks_for_the_body_is_refused_at_start_up() -> None:
    async def settings(data: dict[str, Any]) -> Any: ...
    async def keys(settings: NamedDependency[Settings]) -> Any: ...

    auth = backend(Provide(keys))
    app = Litestar([whoami], dependencies={"settings": Provide(settings)}, on_app_init=[auth.on_app_init])
    assert "'key_provider' of JWTAuth: 'settings' asks for 'data'" in refusal_of(app)


@pytest.mark.anyio
async def test_body_is_refused_by_an_app_that_is_never_started(caplog: pytest.LogCaptureFixture) -> None:
    async def settings(body: bytes) -> Any: ...
    async def keys(settings: NamedDependency[Settings]) -> Any: ...

    auth = backend(Provide(keys))
    app = Litestar([whoami], dependencies={"settings": Provide(settings)}, on_app_init=[auth.on_app_init])
    assert await status_of(app, LocalIssuer().auth_header()) == 500
    assert "'settings' asks for 'body'" in caplog.text


def test_factory_that_depends_on_what_it_makes_is_refused() -> None:
    async def settings(key_provider: NamedDependency[KeyProvider]) -> Any: ...
    async def keys(settings: NamedDependency[Settings]) -> Any: ...

    auth = backend(Provide(keys))
    app = Litestar([whoami], dependencies={"settings": Provide(settings)}, on_app_init=[auth.on_app_init])
    assert "key_provider -> settings -> key_provider" in refusal_of(app)


def test_signature_that_cannot_be_read_is_refused_at_start_up() -> None:
    async def keys(settings: NowhereToBeFound) -> Any: ...  # type: ignore[name-defined]  # noqa: F821

    app = Litestar([whoami], on_app_init=[backend(Provide(keys)).on_app_init])
    refusal = refusal_of(app)
    assert "'key_provider' of JWTAuth" in refusal
    assert "NowhereToBeFound" in refusal


@pytest.fixture(autouse=True)
def _levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
