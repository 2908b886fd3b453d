from __future__ import annotations

from copy import deepcopy
from typing import Any
from unittest.mock import AsyncMock, MagicMock, Mock

import anyio
import pytest
from jwt.exceptions import InvalidIssuerError

from litestar.exceptions import ImproperlyConfiguredException
from litestar.security.jwt import IssuerKeyProvider, KeysUnavailableException, RemoteJWKSet, UnverifiedToken
from litestar.security.jwt.keys import KeyNotFoundException, SelectedKeys
from tests.unit.test_security.test_jwt.backends import on_both_libraries

from .asking import APP, answer_to, ask, asking, until
from .event_loops import without_waiting
from .issuer_server import Answer, Clock, Issuer, Signer, bogus, client_of, jwks_of

A, B, C = "https://a.example", "https://b.example", "https://c.example"


class Tenants:
    """Issuers without a network. It is a function that makes their key providers."""

    def __init__(self) -> None:
        self.signers = {A: Signer(A), B: Signer(B)}
        self.requests: list[str] = []

    def __call__(self, issuer: str) -> RemoteJWKSet | None:
        return RemoteJWKSet(issuer, client=client_of(self._fetch)) if issuer in self.signers else None

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
        assert isinstance(ask(provider, tenants.token(name)), SelectedKeys)
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
    with pytest.raises(KeyNotFoundException, match="Invalid token") as caught:
        await provider(token)  # type: ignore[misc]
    assert isinstance(caught.value.__cause__, InvalidIssuerError)
    assert str(caught.value.__cause__) == (" or ".join(provider.issuers) or "what the function accepts")
    assert await provider.look_again(token) is None
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


@pytest.mark.parametrize(("is_tenant", "forgotten"), [(True, ["1"]), (False, ["0", "1"])])
@on_both_libraries
async def test_1000_tenants_and_1000_strangers_are_remembered(clock: Clock, is_tenant: bool, forgotten: Any) -> None:
    key = Signer()
    keys = SelectedKeys("EdDSA", (key.key.public_key(),))
    provider = IssuerKeyProvider(function := Mock(return_value=(lambda token: keys) if is_tenant else None))
    for number in (*range(1000), 0, 1000, 0, 1):
        assert await answer_to(provider, key.token(iss=str(number))) == ("200" if is_tenant else "401")
    assert [call.args[0] for call in function.mock_calls] == [*map(str, range(1001)), *forgotten]
    assert await provider.look_again(UnverifiedToken(key.token(iss="1"))) is None


@on_both_libraries
async def test_strangers_drop_no_tenant(tenants: Tenants) -> None:
    provider = IssuerKeyProvider(tenants)
    assert await answer_to(provider, tenants.token(A)) == "200"
    for number in range(1001):
        assert await answer_to(provider, bogus(iss=str(number))) == "401"
    assert await answer_to(provider, tenants.token(A)) == "200"
    assert (set(provider.status()), tenants.requests) == ({A}, [A])


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
    function = AsyncMock(side_effect=tenants.later)
    async with asking(IssuerKeyProvider(function), *[tenants.token(A)] * 20) as answers:
        pass
    assert (answers, function.call_count, tenants.requests) == (["200"] * 20, 20, [A])


@pytest.mark.parametrize("mock", [Mock, AsyncMock])
@on_both_libraries
async def test_function_that_fails_is_asked_again(tenants: Tenants, mock: Any) -> None:
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
    provider = IssuerKeyProvider({A: (own := MagicMock()), B: own, C: lambda token: own(token)})
    async with provider.lifespan(APP):
        own.lifespan.assert_called_once_with(APP)
        own.lifespan.return_value.__aenter__.assert_awaited_once()
        own.lifespan.return_value.__aexit__.assert_not_awaited()
    own.lifespan.return_value.__aexit__.assert_awaited_once()
    assert provider.status() == {}
