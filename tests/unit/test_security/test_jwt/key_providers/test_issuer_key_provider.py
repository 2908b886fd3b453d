from __future__ import annotations

import gc
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from copy import deepcopy
from typing import Any

import anyio
import pytest
from jwt.exceptions import InvalidIssuerError

from litestar import Litestar
from litestar.exceptions import ImproperlyConfiguredException
from litestar.security.jwt import (
    IssuerKeyProvider,
    KeyNotFoundException,
    KeysUnavailableException,
    RemoteJWKSet,
    UnverifiedToken,
)
from litestar.security.jwt.keys import SelectedKeys
from tests.unit.test_security.test_jwt.backends import on_both_libraries

from .asking import APP, answer_to, ask, asking, until
from .event_loops import without_waiting
from .issuer_server import Answer, Clock, Issuer, Signer, bogus, client_of, jwks_of

A, B, C = "https://a.example", "https://b.example", "https://c.example"
both_kinds = pytest.mark.parametrize("kind", ["function", "async function"])


class Tenants:
    """Issuers without a network, and a function, sync or async, that makes their key providers."""

    def __init__(self) -> None:
        self.signers = {A: Signer(A), B: Signer(B)}
        self.requests: list[str] = []
        self.asked: list[str] = []
        self.error: Exception | None = None

    def __call__(self, issuer: str) -> RemoteJWKSet | None:
        self.asked.append(issuer)
        if self.error is not None:
            raise self.error
        return self.key_set(issuer) if issuer in self.signers else None

    async def later(self, issuer: str) -> RemoteJWKSet | None:
        await anyio.sleep(0)
        return self(issuer)

    def key_set(self, issuer: str) -> RemoteJWKSet:
        return RemoteJWKSet(issuer, client=client_of(self._fetch))

    def _fetch(self, url: str) -> Any:
        self.requests.append(url)
        return jwks_of(self.signers[url])

    def of(self, kind: str) -> IssuerKeyProvider:
        if kind == "mapping":
            return IssuerKeyProvider({name: self.key_set(name) for name in self.signers})
        return IssuerKeyProvider(self if kind == "function" else self.later)

    def token(self, name: str) -> str:
        return self.signers[name].token(iss=name)


@pytest.fixture
def tenants() -> Tenants:
    return Tenants()


@pytest.fixture(params=["mapping", "function", "async function"])
def provider(request: pytest.FixtureRequest, tenants: Tenants) -> IssuerKeyProvider:
    return tenants.of(request.param)


@on_both_libraries
async def test_token_is_verified_with_the_keys_of_its_issuer(provider: IssuerKeyProvider, tenants: Tenants) -> None:
    for name in (A, B):
        assert await answer_to(provider, tenants.token(name)) == "200"
        assert isinstance(ask(provider, tenants.token(name)), SelectedKeys)
    assert await answer_to(provider, tenants.signers[A].token(iss=B)) == "401"
    assert set(provider.status()) == {A, B}
    tenants.signers[A] = Signer(A)  # a new key behind a known ID
    assert await answer_to(provider, tenants.token(A)) == "200"


@pytest.mark.parametrize("claims", [{}, {"iss": ""}, {"iss": C}, {"iss": f"{A}/"}])
@on_both_libraries
async def test_unknown_issuers_cost_no_request(provider: IssuerKeyProvider, tenants: Tenants, claims: Any) -> None:
    token = UnverifiedToken(bogus(**claims))
    with pytest.raises(KeyNotFoundException, match="Invalid token") as caught:
        await provider(token)  # type: ignore[misc]
    assert isinstance(caught.value.__cause__, InvalidIssuerError)
    assert str(caught.value.__cause__) == (" or ".join(provider.issuers) or "what the function accepts")
    assert await provider.look_again(token) is None
    assert tenants.requests == []


@both_kinds
@on_both_libraries
async def test_none_is_remembered_for_a_minute(tenants: Tenants, clock: Clock, kind: str) -> None:
    provider = tenants.of(kind)
    for seconds, times in ((0, 1), (59, 1), (1, 2)):
        clock.shift(seconds)
        for _ in range(2):
            assert await answer_to(provider, bogus(iss=C)) == "401"
        assert tenants.asked == [C] * times


def test_100_000_made_up_issuers_cost_no_tenant_and_no_memory(tenants: Tenants, clock: Clock) -> None:
    provider = tenants.of("function")
    assert anyio.run(answer_to, provider, tenants.token(A)) == "200"
    token = UnverifiedToken(bogus(iss=C))

    def ask_for(numbers: range) -> None:
        for number in numbers:
            token.claims["iss"] = f"https://{number}.example"
            with suppress(KeyNotFoundException):
                provider(token)

    ask_for(range(2000))
    before = sys.getallocatedblocks()
    ask_for(range(2000, 100_000))
    assert len(tenants.asked) == 100_001
    tenants.asked.clear()
    gc.collect()
    assert sys.getallocatedblocks() < before + 20_000
    ask_for(range(99_000, 100_000))
    assert tenants.asked == []
    ask_for(range(98_999, 99_000))
    assert tenants.asked == ["https://98999.example"]
    assert anyio.run(answer_to, provider, tenants.token(A)) == "200"
    assert (set(provider.status()), tenants.requests) == ({A}, [A])


@on_both_libraries
async def test_tenant_that_was_not_used_for_longest_is_dropped() -> None:
    made: list[str] = []
    key = Signer("any")

    def function(issuer: str) -> Any:
        made.append(issuer)
        return lambda token: SelectedKeys("EdDSA", (key.key.public_key(),))

    provider = IssuerKeyProvider(function)
    for number in range(1000):
        ask(provider, key.token(iss=str(number)))
    for name in ("0", "1000", "0", "1"):
        assert await answer_to(provider, key.token(iss=name)) == "200"
    assert made == [str(number) for number in (*range(1001), 1)]
    assert await provider.look_again(UnverifiedToken(key.token(iss="1"))) is None


@without_waiting
async def test_async_function_that_hangs_once_fails_one_request(tenants: Tenants) -> None:
    hangs = [True]

    async def function(issuer: str) -> Any:
        if hangs and hangs.pop():
            await anyio.sleep_forever()
        return lambda token: SelectedKeys("EdDSA", (tenants.signers[issuer].key.public_key(),))

    provider = IssuerKeyProvider(function)
    started_at = anyio.current_time()
    with pytest.raises(TimeoutError):  # as any OSError, it counts as unavailable keys
        await ask(provider, tenants.token(A))
    assert anyio.current_time() - started_at == pytest.approx(5)
    assert await answer_to(provider, tenants.token(A)) == "200"


@on_both_libraries
async def test_of_two_providers_for_one_issuer_the_first_is_kept(tenants: Tenants) -> None:
    async with asking(tenants.of("async function"), *[tenants.token(A)] * 20) as answers:
        pass
    assert (answers, tenants.asked, tenants.requests) == (["200"] * 20, [A] * 20, [A])


@both_kinds
@on_both_libraries
async def test_function_that_fails_is_asked_again(tenants: Tenants, kind: str) -> None:
    provider, tenants.error = tenants.of(kind), OSError("the database is down")
    with pytest.raises(OSError, match="database"):
        await answer_to(provider, tenants.token(A))
    tenants.error = None
    assert await answer_to(provider, tenants.token(A)) == "200"


@pytest.mark.parametrize("issuers", [None, A, [A], {A: None}, {A: "a key"}, {None: RemoteJWKSet(A)}])
def test_mistakes_are_told_at_construction(issuers: Any) -> None:
    with pytest.raises(ImproperlyConfiguredException):
        IssuerKeyProvider(issuers)


def test_function_that_returns_something_else_is_to_blame() -> None:
    with pytest.raises(ImproperlyConfiguredException, match="has a str"):
        ask(IssuerKeyProvider(lambda issuer: "a key"), bogus(iss=A))  # type: ignore[arg-type, return-value]


@on_both_libraries
async def test_start_waits_for_none_of_ten_issuers_that_hang(issuer: Issuer) -> None:
    issuer.answers = {f"/{number}": Answer(hangs=True) for number in range(10)}
    provider = IssuerKeyProvider({path: RemoteJWKSet(issuer.issuer + path, timeout=30) for path in issuer.answers})
    async with provider.lifespan(APP):
        assert not any(status.usable for status in provider.status().values())
        await until(lambda: len(issuer.requests) == 10)


@on_both_libraries
async def test_required_keys_are_fetched_at_the_same_time_or_stop_the_start(issuer: Issuer) -> None:
    issuer.answers = {f"/{number}": Answer(jwks_of(Signer()), hangs=True) for number in range(2)}

    async def start() -> None:
        urls = {path: issuer.issuer + path for path in issuer.answers}
        sets = {path: RemoteJWKSet(url, timeout=30, require_on_startup=True) for path, url in urls.items()}
        async with IssuerKeyProvider(sets).lifespan(APP):
            assert all(key_set.status().usable for key_set in sets.values())

    async with anyio.create_task_group() as tasks:
        _ = tasks.start_soon(start)
        await until(lambda: len(issuer.requests) == 2)
        issuer.release.set()
    issuer.answers["/1"].status = 500
    with pytest.raises(KeysUnavailableException):
        await start()


@on_both_libraries
async def test_lifespans_of_all_kinds_of_providers_are_entered_once() -> None:
    entered = []

    class Own:
        def __call__(self, token: UnverifiedToken) -> Any:
            raise KeyNotFoundException("Invalid token")

        @asynccontextmanager
        async def lifespan(self, app: Litestar) -> AsyncIterator[None]:
            entered.append(app)
            yield
            entered.remove(app)

    own = Own()
    provider = IssuerKeyProvider({A: own, B: own, C: lambda token: own(token)})
    async with provider.lifespan(APP):
        assert entered == [APP]
    assert entered == []
    assert provider.status() == {}


@on_both_libraries
async def test_outage_of_one_issuer_does_not_concern_the_others(provider: IssuerKeyProvider, tenants: Tenants) -> None:
    token = tenants.token(A)
    tenants.signers[A] = None  # type: ignore[assignment]  # so that fetching fails
    assert await answer_to(provider, token) == "503"
    assert await answer_to(provider, tenants.token(B)) == "200"


def test_names_and_copies(tenants: Tenants) -> None:
    given, found = tenants.of("mapping"), tenants.of("function")
    assert (given.issuers, found.issuers) == ((A, B), ())
    assert deepcopy([given]) == [given]
