from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from copy import deepcopy
from typing import Any

import anyio
import pytest
from jwt.exceptions import InvalidIssuerError
from time_machine import Traveller

from litestar import Litestar
from litestar.exceptions import ImproperlyConfiguredException
from litestar.security.jwt.key_providers.issuers import IssuerKeyProvider
from litestar.security.jwt.key_providers.jwks import RemoteJWKSet
from litestar.security.jwt.key_providers.openid import OpenIDProvider
from litestar.security.jwt.keys import KeyNotFoundException, KeysUnavailableException, SelectedKeys
from litestar.security.jwt.unverified import UnverifiedToken

from .issuer_server import IssuerServer, Signer, answer_to, ask, bogus, serving, until

pytestmark = pytest.mark.anyio

A, B = "https://a.example", "https://b.example"


@pytest.fixture
def servers() -> Iterator[dict[str, IssuerServer]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(serving(Signer(name))) for name in (A, B)}


@pytest.fixture
def tenants(servers: dict[str, IssuerServer]) -> Callable[[str], RemoteJWKSet | None]:
    return lambda issuer: RemoteJWKSet(servers[issuer].url) if issuer in servers else None


def asynchronous(function: Callable[[str], Any]) -> Callable[[str], Any]:
    async def call(issuer: str) -> Any:
        await anyio.sleep(0)
        return function(issuer)

    return call


@pytest.fixture(params=["mapping", "function", "async function"])
def provider(request: pytest.FixtureRequest, servers: dict[str, IssuerServer], tenants: Any) -> IssuerKeyProvider:
    if request.param == "mapping":
        return IssuerKeyProvider({name: RemoteJWKSet(server.url) for name, server in servers.items()})
    return IssuerKeyProvider(tenants if request.param == "function" else asynchronous(tenants))


async def test_token_is_verified_with_the_keys_of_its_issuer(
    provider: IssuerKeyProvider, servers: dict[str, IssuerServer]
) -> None:
    for name, server in servers.items():
        assert await answer_to(provider, server.token(iss=name)) == "200"
        assert isinstance(ask(provider, server.token(iss=name)), SelectedKeys)
    assert await answer_to(provider, servers[A].token(iss=B)) == "401"
    assert set(provider.status()) == {A, B}


async def test_new_key_behind_a_known_id_is_looked_for(
    provider: IssuerKeyProvider, servers: dict[str, IssuerServer]
) -> None:
    await answer_to(provider, servers[A].token(iss=A))
    servers[A].publish(Signer(A))
    assert await answer_to(provider, servers[A].token(iss=A)) == "200"


@pytest.mark.parametrize("claims", [{}, {"iss": ""}, {"iss": "https://c.example"}, {"iss": f"{A}/"}])
async def test_unknown_issuers_cost_no_request(
    provider: IssuerKeyProvider, servers: dict[str, IssuerServer], claims: dict[str, str]
) -> None:
    with pytest.raises(KeyNotFoundException, match="Invalid token") as caught:
        found = ask(provider, servers[A].token(**claims))
        await found
    assert isinstance(caught.value.__cause__, InvalidIssuerError)
    assert await provider.look_again(UnverifiedToken(servers[A].token(**claims))) is None
    assert [server.requests for server in servers.values()] == [[], []]


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_none_is_remembered_for_a_minute(tenants: Any, clock: Traveller, kind: str) -> None:
    asked = []

    def function(issuer: str) -> Any:
        asked.append(issuer)
        return tenants(issuer)

    provider = IssuerKeyProvider(function if kind == "sync" else asynchronous(function))
    for _ in range(3):
        assert await answer_to(provider, bogus(iss="https://c.example")) == "401"
    clock.shift(59)
    assert await answer_to(provider, bogus(iss="https://c.example")) == "401"
    assert asked == ["https://c.example"]
    clock.shift(2)
    assert await answer_to(provider, bogus(iss="https://c.example")) == "401"
    assert asked == ["https://c.example"] * 2


async def test_made_up_issuers_drop_neither_tenants_nor_memory(
    tenants: Any, servers: dict[str, IssuerServer], clock: Traveller
) -> None:
    asked: list[str] = []

    def function(issuer: str) -> Any:
        asked.append(issuer)
        return tenants(issuer)

    provider = IssuerKeyProvider(function)
    await answer_to(provider, servers[A].token(iss=A))
    for number in range(1001):
        assert await answer_to(provider, bogus(iss=f"https://{number}.example")) == "401"
    assert await answer_to(provider, servers[A].token(iss=A)) == "200"
    assert await answer_to(provider, bogus(iss="https://1.example")) == "401"
    assert len(asked) == 1002
    assert await answer_to(provider, bogus(iss="https://0.example")) == "401"
    assert len(asked) == 1003
    assert len(servers[A].requests) == 1


async def test_tenant_that_was_not_used_for_longest_is_dropped() -> None:
    made: list[str] = []
    key = Signer("any")

    def function(issuer: str) -> Any:
        made.append(issuer)
        return lambda token: SelectedKeys("EdDSA", (key.key.public_key(),))

    provider = IssuerKeyProvider(function)
    for number in range(1000):
        await answer_to(provider, key.token(iss=str(number)))
    for name in ("0", "1000", "0"):
        assert await answer_to(provider, key.token(iss=name)) == "200"
    assert len(made) == 1001
    assert await answer_to(provider, key.token(iss="1")) == "200"
    assert made[-1] == "1"
    assert await provider.look_again(UnverifiedToken(key.token(iss="1"))) is None


async def test_async_function_that_hangs_once_fails_one_request(
    servers: dict[str, IssuerServer], tenants: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("litestar.security.jwt.key_providers.issuers._TIMEOUT", 0.1)
    hangs = [True]

    async def function(issuer: str) -> Any:
        if hangs.pop() if hangs else False:
            await anyio.sleep_forever()
        return tenants(issuer)

    provider = IssuerKeyProvider(function)
    token = servers[A].token(iss=A)
    assert await answer_to(provider, token) == "503"
    assert await answer_to(provider, token) == "200"


async def test_of_two_providers_for_one_issuer_the_first_is_kept(servers: dict[str, IssuerServer]) -> None:
    answers: list[str] = []
    provider = IssuerKeyProvider(asynchronous(lambda issuer: RemoteJWKSet(servers[issuer].url)))

    async def request() -> None:
        answers.append(await answer_to(provider, servers[A].token(iss=A)))

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            _ = tasks.start_soon(request)
    assert answers == ["200"] * 20
    assert len(servers[A].requests) == 1


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_function_that_fails_is_asked_again(servers: dict[str, IssuerServer], tenants: Any, kind: str) -> None:
    errors = [OSError("the database is down")]

    def function(issuer: str) -> Any:
        if errors:
            raise errors.pop()
        return tenants(issuer)

    provider = IssuerKeyProvider(function if kind == "sync" else asynchronous(function))
    with pytest.raises(OSError, match="database"):
        await answer_to(provider, servers[A].token(iss=A))
    assert await answer_to(provider, servers[A].token(iss=A)) == "200"


@pytest.mark.parametrize("issuers", [None, A, [A], {A: None}, {A: "a key"}, {None: RemoteJWKSet(A)}])
async def test_mistakes_are_told_at_construction(issuers: Any) -> None:
    with pytest.raises(ImproperlyConfiguredException):
        IssuerKeyProvider(issuers)


async def test_function_that_returns_something_else_is_to_blame() -> None:
    with pytest.raises(ImproperlyConfiguredException, match="'a key'"):
        ask(IssuerKeyProvider(lambda issuer: "a key"), bogus(iss=A))  # type: ignore[arg-type, return-value]


async def test_start_waits_for_none_of_ten_issuers_that_hang() -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(serving()) for _ in range(10)]
        for server in servers:
            server.jwks.hangs = True
        provider = IssuerKeyProvider({s.issuer: RemoteJWKSet(s.url, timeout=30) for s in servers})
        async with provider.lifespan(Litestar()):
            assert not any(status.usable for status in provider.status().values())
            await until(lambda: all(server.requests for server in servers))


async def test_required_keys_are_fetched_at_the_same_time(servers: dict[str, IssuerServer]) -> None:
    for server in servers.values():
        server.jwks.hangs = True
    sets = {name: RemoteJWKSet(s.url, timeout=30, require_on_startup=True) for name, s in servers.items()}
    provider = IssuerKeyProvider(sets)

    async def release() -> None:
        await until(lambda: all(server.requests for server in servers.values()))
        for server in servers.values():
            server.release.set()

    async with anyio.create_task_group() as tasks:
        _ = tasks.start_soon(release)
        async with provider.lifespan(Litestar()):
            assert all(status.usable for status in provider.status().values())
    servers[A].jwks.status = 500
    with pytest.raises(KeysUnavailableException):
        async with IssuerKeyProvider({A: RemoteJWKSet(servers[A].url, require_on_startup=True)}).lifespan(Litestar()):
            pytest.fail("it must not start")


async def test_lifespans_of_all_kinds_of_providers_are_entered_once() -> None:
    entered = []

    class Own:
        def __call__(self, token: UnverifiedToken) -> Any:
            raise KeyNotFoundException("Invalid token")

        @asynccontextmanager
        async def lifespan(self, app: Litestar) -> AsyncIterator[None]:
            entered.append(app)
            yield

    own, app = Own(), Litestar()
    provider = IssuerKeyProvider({A: own, B: own, "https://c.example": lambda token: own(token)})
    async with provider.lifespan(app):
        assert entered == [app]
    assert provider.status() == {}


async def test_outage_of_one_issuer_does_not_concern_the_others(
    provider: IssuerKeyProvider, servers: dict[str, IssuerServer]
) -> None:
    servers[A].stop()
    assert await answer_to(provider, servers[A].token(iss=A)) == "503"
    assert await answer_to(provider, servers[B].token(iss=B)) == "200"


async def test_tenants_of_one_discovery_document_share_a_provider(issuer: IssuerServer) -> None:
    issuer.discover(issuer="https://{tenantid}.example")
    shared = OpenIDProvider(
        "https://{tenantid}.example", discovery_url=f"{issuer.issuer}/.well-known/openid-configuration"
    )
    provider = IssuerKeyProvider(lambda name: shared if name in {A, B} else None)
    for name, tenant in ((A, "a"), (B, "b")):
        assert await answer_to(provider, issuer.token(iss=name, tid=tenant)) == "200"
    assert await answer_to(provider, issuer.token(iss=A, tid="b")) == "401"
    assert len(issuer.requests) == 2


async def test_names_and_copies(tenants: Any) -> None:
    given = IssuerKeyProvider({A: RemoteJWKSet(A)})
    found = IssuerKeyProvider(tenants)
    assert (given.issuers, found.issuers) == ((A,), ())
    assert repr(given) == f"IssuerKeyProvider([{A!r}])"
    assert repr(tenants) in repr(found)
    assert deepcopy([given]) == [given]
