from __future__ import annotations

from copy import deepcopy
from typing import Any
from unittest.mock import AsyncMock, MagicMock, Mock

import anyio
import pytest

from litestar.exceptions import ImproperlyConfiguredException
from litestar.security.jwt import IssuerKeyProvider, KeysUnavailableException, RemoteJWKSet, UnverifiedToken
from litestar.security.jwt.key_set import parse_jwk
from litestar.security.jwt.keys import SelectedKeys, UnknownIssuerException
from tests.unit.test_security.test_jwt.backends import on_both_libraries

from .event_loops import without_waiting
from .issuer_server import Answer, Clock, Issuer, Signer, bogus, fake_client, jwks_of
from .lookups import APP, answer_to, look_up, looking_up, until

A, B, C = "https://a.example", "https://b.example", "https://c.example"


class Tenants:
    """Issuers without a network. It is a function that makes their key providers."""

    def __init__(self) -> None:
        self.signers = {A: Signer(A), B: Signer(B)}
        self.requests: list[str] = []

    def __call__(self, issuer: str) -> RemoteJWKSet | None:
        return RemoteJWKSet(issuer, client=fake_client(self._fetch)) if issuer in self.signers else None

    async def later(self, issuer: str) -> RemoteJWKSet | None:
        await anyio.sleep(0)
        return self(issuer)

    def _fetch(self, url: str) -> Any:
        self.requests.append(url)
        return jwks_of(self.signers[url])

    def token(self, name: str) -> str:
        return self.signers[name].token(iss=name)


@pytest.fixture
def tenants() -> Tenants:
    return Tenants()


@pytest.fixture(params=["mapping", "function", "async function"])
def provider(request: pytest.FixtureRequest, tenants: Tenants) -> IssuerKeyProvider:
    mapping = {name: tenants(name) for name in (A, B)}
    kinds: dict[str, Any] = {"mapping": mapping, "function": tenants, "async function": tenants.later}
    return IssuerKeyProvider(kinds[request.param])


@on_both_libraries
async def test_token_is_verified_with_the_keys_of_its_issuer(provider: IssuerKeyProvider, tenants: Tenants) -> None:
    for name in (A, B):
        assert await answer_to(provider, tenants.token(name)) == "200"
        assert isinstance(look_up(provider, tenants.token(name)), SelectedKeys)
    assert await answer_to(provider, tenants.signers[A].token(iss=B)) == "401"
    assert deepcopy([provider]) == [provider]
    assert set(provider.status()) == {A, B}
    tenants.signers[A] = Signer(A)  # a new key behind a known ID
    assert await answer_to(provider, tenants.token(A)) == "200"


@on_both_libraries
async def test_outage_of_one_issuer_does_not_concern_the_others(provider: IssuerKeyProvider, tenants: Tenants) -> None:
    token = tenants.token(A)
    tenants.signers[A] = None  # type: ignore[assignment]  # so that fetching fails
    assert await answer_to(provider, token) == "503"
    assert await answer_to(provider, tenants.token(B)) == "200"


@pytest.mark.parametrize("claims", [{}, {"iss": ""}, {"iss": C}, {"iss": f"{A}/"}])
@on_both_libraries
async def test_unknown_issuers_cost_no_request(provider: IssuerKeyProvider, tenants: Tenants, claims: Any) -> None:
    token = UnverifiedToken(bogus(**claims))
    with pytest.raises(UnknownIssuerException, match="Invalid token") as caught:
        await provider(token)  # type: ignore[misc]
    assert caught.value.expected == provider.issuers
    assert await provider.refetch(token) is None
    assert tenants.requests == []


@pytest.mark.parametrize("mock", [Mock, AsyncMock])
@on_both_libraries
async def test_none_is_remembered_for_a_minute(clock: Clock, mock: Any) -> None:
    provider = IssuerKeyProvider(function := mock(return_value=None))
    for seconds, times in ((0, 1), (59, 1), (1, 2), (-1, 3)):
        clock.shift(seconds)
        for name in ("", C, C):
            assert await answer_to(provider, bogus(iss=name)) == "401"
        assert function.call_count == times


def test_least_recently_used_of_10000_issuers_is_forgotten() -> None:
    provider = IssuerKeyProvider(function := Mock(return_value=Mock(spec=[])))
    for number in (*range(10_000), 0, 10_000, 0, 1):
        assert provider(Mock(issuer=str(number))) is function.return_value
    assert [call.args[0] for call in function.mock_calls[-2:]] == ["10000", "1"]
    assert function.call_count == 10_002


@on_both_libraries
async def test_new_issuers_are_limited_unless_their_keys_are_there(clock: Clock) -> None:
    signer, reachable = Signer(), [True]

    def document(url: str) -> Any:
        return jwks_of(signer) if reachable[0] else None

    provider = IssuerKeyProvider(
        lambda issuer: RemoteJWKSet(A, client=fake_client(document)) if "t" in issuer else None
    )
    for number in range(500):
        assert await answer_to(provider, signer.token(iss=f"t{number}")) == "200"
    reachable.clear()
    reachable.append(False)
    answers = [await answer_to(provider, signer.token(iss=f"made-up {number}")) for number in range(500)]
    assert (answers[:100], set(answers[100:])) == (["401"] * 100, {"503"})
    assert await answer_to(provider, signer.token(iss="t1")) == "200"
    assert await answer_to(provider, signer.token(iss="made-up 1")) == "401"
    clock.shift(1)
    answers = [await answer_to(provider, signer.token(iss=f"unreachable t{number}")) for number in range(11)]
    assert answers == ["503"] * 11
    assert len(provider.status()) == 510
    with pytest.raises(KeysUnavailableException) as caught:
        look_up(provider, signer.token(iss="unreachable t"))
    assert caught.value.headers == {"Retry-After": "1"}


@on_both_libraries
async def test_2000_tenants_come_back_after_a_restart(clock: Clock) -> None:
    signer, calls = Signer(), list[str]()

    async def tenant(issuer: str) -> Any:
        calls.append(issuer)
        await anyio.sleep(0)
        return RemoteJWKSet(A, client=fake_client(lambda url: jwks_of(signer)))

    provider = IssuerKeyProvider(tenant)
    answers: dict[str, str] = {}

    async def request(name: str) -> None:
        answers[name] = await answer_to(provider, signer.token(iss=name))

    for first in range(0, 2000, 100):
        async with anyio.create_task_group() as tasks:
            for number in range(first, first + 100):
                _ = tasks.start_soon(request, f"t{number}")
    assert (len(answers), set(answers.values())) == (2000, {"200"})
    assert len(calls) == len(set(calls)) == 2000


def test_long_names_of_issuers_are_unknown(tenants: Tenants) -> None:
    provider = IssuerKeyProvider(function := Mock(side_effect=tenants))
    for length, calls in ((2048, 1), (2049, 1)):
        with pytest.raises(UnknownIssuerException):
            look_up(provider, bogus(iss="a" * length))
        assert function.call_count == calls


@on_both_libraries
async def test_forgotten_issuer_is_looked_up_again(tenants: Tenants) -> None:
    provider = IssuerKeyProvider(tenants)
    assert await answer_to(provider, bogus(iss=C)) == "401"
    assert await answer_to(provider, tenants.token(A)) == "200"
    tenants.signers |= {A: Signer(A), C: Signer(C)}
    for name in (A, C, "never seen"):
        provider.forget(name)
    assert [await answer_to(provider, tenants.token(name)) for name in (A, C)] == ["200", "200"]
    assert tenants.requests == [A, A, C]
    del tenants.signers[A]
    provider.forget(A)
    assert await answer_to(provider, bogus(iss=A)) == "401"


@on_both_libraries
async def test_end_of_the_application_ends_a_call_that_hangs(tenants: Tenants) -> None:
    ended = list[bool]()

    async def function(issuer: str) -> Any:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(True)

    provider = IssuerKeyProvider(function)
    async with anyio.create_task_group() as tasks:
        async with provider.lifespan(APP):
            for _ in range(2):
                _ = tasks.start_soon(expect_unavailable, provider, tenants.token(A))
            await anyio.wait_all_tasks_blocked()
        assert ended == [True]


async def expect_unavailable(provider: IssuerKeyProvider, token: str) -> None:
    assert await answer_to(provider, token) == "503"


@on_both_libraries
async def test_strangers_drop_no_tenant(tenants: Tenants, clock: Clock) -> None:
    provider = IssuerKeyProvider(tenants)
    assert await answer_to(provider, tenants.token(A)) == "200"
    for number in range(1001):
        clock.shift(0.1)
        assert await answer_to(provider, bogus(iss=str(number))) == "401"
    assert await answer_to(provider, tenants.token(A)) == "200"
    assert set(provider.status()) == {A}


@without_waiting
async def test_async_function_that_hangs_once_fails_one_request(tenants: Tenants) -> None:
    hangs = [True]

    async def function(issuer: str) -> Any:
        if hangs and hangs.pop():
            await anyio.sleep_forever()
        return tenants(issuer)

    provider = IssuerKeyProvider(function)
    started_at = anyio.current_time()
    with pytest.raises(TimeoutError):  # as any OSError, it counts as unavailable keys
        await look_up(provider, tenants.token(A))
    assert anyio.current_time() - started_at == pytest.approx(5)
    assert await answer_to(provider, tenants.token(A)) == "200"


@on_both_libraries
async def test_first_requests_of_an_issuer_share_a_call(tenants: Tenants) -> None:
    function = AsyncMock(side_effect=tenants.later)
    async with looking_up(IssuerKeyProvider(function), *[tenants.token(A)] * 1000) as answers:
        pass
    assert (answers, function.call_count, tenants.requests) == (["200"] * 1000, 1, [A])


@on_both_libraries
async def test_first_requests_of_an_issuer_share_a_provider_of_another_kind(tenants: Tenants) -> None:
    keys = parse_jwk(tenants.signers[A].jwk)
    function = AsyncMock(return_value=lambda token: SelectedKeys("EdDSA", (keys,)))
    async with looking_up(IssuerKeyProvider(function), *[tenants.token(A)] * 10) as answers:
        pass
    assert (answers, function.call_count) == (["200"] * 10, 1)


def test_one_event_loop_after_the_other(tenants: Tenants) -> None:
    provider = IssuerKeyProvider(tenants.later)
    for name in (A, B, A):
        assert anyio.run(answer_to, provider, tenants.token(name)) == "200"


@pytest.mark.parametrize("mock", [Mock, AsyncMock])
@on_both_libraries
async def test_function_that_fails_is_called_again(tenants: Tenants, mock: Any) -> None:
    provider = IssuerKeyProvider(mock(side_effect=[OSError("the database is down"), tenants(A)]))
    with pytest.raises(OSError, match="database"):
        await answer_to(provider, tenants.token(A))
    assert await answer_to(provider, tenants.token(A)) == "200"


@pytest.mark.parametrize("issuers", [None, A, [A], {A: None}, {A: "a key"}, {None: RemoteJWKSet(A)}])
def test_mistakes_are_told_at_construction(issuers: Any) -> None:
    with pytest.raises(ImproperlyConfiguredException):
        IssuerKeyProvider(issuers)


def test_function_that_returns_something_else_is_to_blame() -> None:
    with pytest.raises(ImproperlyConfiguredException, match="has a str"):
        look_up(IssuerKeyProvider(lambda issuer: "a key"), bogus(iss=A))  # type: ignore[arg-type, return-value]


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
    provider = IssuerKeyProvider({A: (own := MagicMock()), B: own, C: lambda token: own(token)})
    async with provider.lifespan(APP):
        own.lifespan.assert_called_once_with(APP)
        own.lifespan.return_value.__aenter__.assert_awaited_once()
        own.lifespan.return_value.__aexit__.assert_not_awaited()
    own.lifespan.return_value.__aexit__.assert_awaited_once()
    assert provider.status() == {}
