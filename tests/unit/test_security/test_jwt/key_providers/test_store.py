from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, Mock

import anyio
import pytest
from redis.asyncio import Redis

from litestar import Litestar
from litestar.security.jwt import IssuerKeyProvider, RemoteJWKSet
from litestar.stores.base import Store
from litestar.stores.file import FileStore
from litestar.stores.memory import MemoryStore
from litestar.stores.redis import RedisStore
from tests.unit.test_security.test_jwt.backends import on_both_libraries
from tests.unit.test_security.test_jwt.node_packages import listening, program

from .asking import APP, Log, answer_to, answers_at_once, asking, exit_codes, lines_of, until
from .event_loops import without_waiting
from .issuer_server import DAY, HOUR, START, Clock, Issuer, Signer, bogus, client_of, jwks_of

Worker = Callable[..., RemoteJWKSet]


class Memory(MemoryStore):
    """A store that tells what was written to it, where, and for how many seconds each time."""

    key, value = "", ""
    written: tuple[Any, ...] = ()

    async def set(self, key: str, value: Any, expires_in: Any = None) -> None:
        await super().set(key, value, expires_in)
        self.key, self.value = key, value
        self.written += (expires_in,)


@pytest.fixture
def store() -> Memory:
    return Memory()


@pytest.fixture
def worker(issuer: Issuer, store: Memory) -> Worker:
    """Make a worker, which has nothing in its own memory."""
    return lambda **options: RemoteJWKSet(issuer.url, **{"store": store, "timeout": 30, **options})


@on_both_libraries
async def test_one_worker_renews_the_set_for_all(worker: Worker, issuer: Issuer, clock: Clock, store: Memory) -> None:
    document_at = Mock(return_value=issuer.jwks.document)
    fleet = [worker(client=client_of(document_at)) for _ in range(4)]
    for renewals in range(1, 4):
        for each in fleet:
            assert await answer_to(each, issuer.token()) == "200"
            await anyio.wait_all_tasks_blocked()
        assert len({each.status().fetched_at for each in fleet}) == 1
        assert document_at.call_count == sum(each.status().fetches for each in fleet) == renewals
        assert store.written == (600 + DAY,) * renewals
        clock.shift(595)


@on_both_libraries
async def test_worker_without_network_sees_what_others_fetch(worker: Worker, issuer: Issuer, clock: Clock) -> None:
    healthy, isolated = worker(), worker(client=AsyncMock(spec=[], side_effect=OSError("no network")))
    await healthy.refresh()
    assert await answer_to(isolated, issuer.token()) == "200"
    clock.shift(1)
    new = issuer.rotate()
    assert await answer_to(isolated, new.token()) == "503"
    assert await answer_to(healthy, new.token()) == "200"
    clock.shift(2)
    assert await answer_to(isolated, new.token()) == "200"
    clock.shift(2 * DAY)
    assert await answer_to(isolated, new.token()) == "503"
    assert await answer_to(healthy, new.token()) == "200"


@on_both_libraries
async def test_copy_that_came_while_a_fetch_failed_is_adopted(worker: Worker, issuer: Issuer) -> None:
    isolated = worker(client=client_of(lambda url: worker().refresh()))  # which returns no JWK Set
    assert await answer_to(isolated, issuer.token()) == "200"
    assert isolated.status().failures == 1


@on_both_libraries
async def test_sets_that_differ_in_headers_are_kept_apart(worker: Worker, issuer: Issuer) -> None:
    own, same, other = (worker(headers=headers) for headers in ({"X-A": "1"}, {"x-a": "1"}, {"X-A": "2"}))
    await own.refresh()
    token, _ = issuer.token(), issuer.rotate()
    assert [await answer_to(provider, token) for provider in (other, same)] == ["401", "200"]


@on_both_libraries
async def test_grace_of_a_withdrawn_key_survives_a_restart(worker: Worker, issuer: Issuer, clock: Clock) -> None:
    old, before = issuer.token(), worker()
    await before.refresh()
    clock.shift(10)
    issuer.rotate()
    await before.refresh()
    clock.shift(600)
    after = worker()
    assert await answer_to(after, old) == "200"
    assert after.status().withdrawn_key_ids == ("first",)
    clock.move_to(START + 600 + HOUR)
    assert await answer_to(after, old) == "401"
    assert await answer_to(worker(), old) == "401"


@on_both_libraries
async def test_lost_copy_is_written_again(worker: Worker, issuer: Issuer, store: Memory, clock: Clock) -> None:
    warm = worker()
    await warm.refresh()
    await store.delete_all()
    clock.shift(HOUR)
    issuer.jwks.hangs = True
    assert answers_at_once(warm, issuer.token())
    await until(lambda: len(store.written) == 2)
    restarted = worker()
    async with restarted.lifespan(APP):
        await until(lambda: restarted.status().usable)
        assert answers_at_once(restarted, issuer.token())


@pytest.mark.parametrize("error", [None, OSError("gone"), RuntimeError("of another event loop")])
@without_waiting
async def test_broken_store_costs_two_seconds_a_fetch(clock: Clock, error: Exception | None, records: Log) -> None:
    async def break_or_hang(*args: Any, **options: Any) -> None:
        if error:
            raise error
        await anyio.sleep_forever()

    signers, store = [Signer("old")], AsyncMock(spec=Store, get=break_or_hang, set=break_or_hang)
    client = client_of(lambda url: jwks_of(*signers))
    provider = RemoteJWKSet("https://issuer.test/keys", client=client, store=store)
    for _ in range(2):
        started_at = anyio.current_time()
        assert await answer_to(provider, signers[0].token()) == "200"
        assert anyio.current_time() - started_at == (0 if error else 2)
        signers[0] = Signer("new")
    (line,) = [line for line in lines_of(records) if "withdrawn" not in line]
    assert "store" in line and type(error or TimeoutError()).__name__ in line and str(error or "") in line


@without_waiting
async def test_store_that_breaks_again_is_told_again(records: Log) -> None:
    store = AsyncMock(spec=Store)
    store.get.side_effect = [OSError("first"), None, None, OSError("second")]
    provider = RemoteJWKSet("https://issuer.test/keys", client=client_of(lambda url: jwks_of(Signer())), store=store)
    for _ in range(2):
        await provider.refresh()
    first, second = [line for line in lines_of(records) if "the store" in line]
    assert "first" in first and "second" in second


@on_both_libraries
async def test_copy_is_kept_for_a_second_at_least(worker: Worker, store: Memory) -> None:
    await worker(lifetime=0.5, max_stale=0).refresh()
    assert store.written == (1,)


EVIL = json.dumps(Signer("evil").jwk)
COPIES: list[dict[str, Any]] = [
    *({jwk: (START, START + 600)} for jwk in ("[" * 100_000, "not JSON")),
    *({EVIL: times} for times in ((None, START + 600), (START + 62, START + 600), (START, 1e300), (START, START))),
    {EVIL: (True, 600)},
]
TOO_LARGE = json.dumps({EVIL: (START, START + 600)}).ljust(1024 * 1024 + 1)
GARBAGE = [b"garbage", b"\xff" * 100, b"[" * 100_000, b"[]", TOO_LARGE, *map(json.dumps, COPIES)]


@pytest.mark.parametrize("copy", GARBAGE, ids=range(12))
@on_both_libraries
async def test_garbage_is_replaced(worker: Worker, store: Memory, clock: Clock, copy: Any, records: Log) -> None:
    await worker().refresh()
    await store.set(store.key, copy)
    clock.shift(1)
    other = worker()
    await answer_to(other, bogus())
    assert other.status().key_ids == ("first",)
    (line,) = lines_of(records)
    assert "the store" in line
    assert [json.loads(jwk)["kid"] for jwk in json.loads(store.value)] == ["first"]


@on_both_libraries
async def test_secrets_are_neither_stored_nor_taken(worker: Worker, issuer: Issuer, store: Memory) -> None:
    issuer.jwks.document["keys"][0] |= {"d": "secret", "x5c": ["long"]}
    await worker().refresh()
    ((jwk, times),) = json.loads(store.value).items()
    assert json.loads(jwk).keys() == {"kid", "kty", "crv", "x"}
    await store.set(store.key, json.dumps({'{"kty": "oct", "kid": "secret", "k": "c2VjcmV0"}': times, jwk: times}))
    other = worker()
    assert await answer_to(other, issuer.token()) == "200"
    assert (other.status().fetches, other.status().key_ids) == (0, ("first",))


@pytest.mark.parametrize("lifetime", [1, DAY, 2 * DAY])
@on_both_libraries
async def test_copy_of_a_worker_whose_clock_is_ahead(
    worker: Worker, issuer: Issuer, store: Memory, clock: Clock, lifetime: float
) -> None:
    await worker(lifetime=lifetime).refresh()
    await store.set(store.key, store.value.ljust(1024 * 1024))
    clock.shift(-60)
    other = worker(lifetime=lifetime)
    assert [await answer_to(other, issuer.token()) for _ in range(3)] == ["200"] * 3
    assert (other.status().fetches, len(issuer.requests)) == (0, 1)


@on_both_libraries
async def test_newer_copy_is_not_replaced(worker: Worker, issuer: Issuer, store: Memory, clock: Clock) -> None:
    slow, new = worker(), Signer("new")
    issuer.jwks.hangs = True
    async with asking(slow, issuer.token()):
        await until(lambda: issuer.requests)
        clock.shift(5)
        issuer.jwks.hangs = False
        issuer.publish(new)
        await worker().refresh()
        issuer.release.set()
    assert answers_at_once(slow, new.token())
    assert new.kid in [json.loads(jwk)["kid"] for jwk in json.loads(store.value)]


@pytest.mark.parametrize("started", [lambda provider: provider, lambda provider: IssuerKeyProvider({"any": provider})])
@on_both_libraries
async def test_name_of_a_store_is_looked_up_at_the_start(
    worker: Worker, store: Memory, records: Log, started: Any
) -> None:
    provider = worker(store="keys")
    await provider.refresh()
    (line,) = lines_of(records)
    assert f"{provider!r}: the store cannot be used: 'keys'" in line
    async with started(provider).lifespan(Litestar(stores={"keys": store})):
        await provider.refresh()
        assert store.written


@pytest.fixture
def redis_server() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    with listening() as (_, url):
        command = [program("redis-server"), "--port", url.rpartition(":")[2], "--save", ""]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        assert server.stdout and any(b"Ready to accept connections" in line for line in server.stdout)
        yield url.replace("http", "redis"), server
        server.kill()


@pytest.mark.parametrize("kind", ["file", "redis"])
def test_processes_share_a_store(
    kind: str, issuer: Issuer, clock: Clock, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = "" if kind == "file" else request.getfixturevalue("redis_server")[0]
    tokens: list[str] = []

    async def work() -> None:
        store = RedisStore(Redis.from_url(url), handle_client_shutdown=True) if url else FileStore(tmp_path)
        async with store:
            provider = RemoteJWKSet(issuer.url, timeout=30, store=store)
            assert {await answer_to(provider, token) for token in tokens} == {"200"}

    for generation in (1, 2):
        tokens.append(issuer.rotate().token())
        assert exit_codes(lambda: anyio.run(work), processes=4) == [0] * 4
        assert len(issuer.requests) <= 4 * generation
        clock.shift(1)
    issuer.stop()
    assert exit_codes(lambda: anyio.run(work)) == [0]


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGSTOP])
def test_redis_that_fails_fails_no_request(issuer: Issuer, redis_server: Any, clock: Clock, sent: int) -> None:
    async def answer() -> None:
        store = RedisStore(Redis.from_url(redis_server[0]), handle_client_shutdown=True)
        provider = RemoteJWKSet(issuer.url, timeout=30, store=store)
        async with store:
            for _ in range(2):
                assert await answer_to(provider, issuer.token()) == "200"
                assert await answer_to(provider, issuer.rotate().token()) == "200"
                clock.shift(2 * HOUR)
                redis_server[1].send_signal(sent)
        assert provider.status().failures == 0

    anyio.run(answer)
