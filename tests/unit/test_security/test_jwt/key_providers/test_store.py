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
from litestar.stores.registry import StoreRegistry
from tests.unit.test_security.test_jwt.backends import on_both_libraries
from tests.unit.test_security.test_jwt.node_packages import listening, program

from .event_loops import without_waiting
from .issuer_server import DAY, HOUR, START, Clock, Issuer, Signer, bogus, fake_client, jwks_of
from .lookups import APP, Log, answer_to, answers_at_once, exit_codes, lines_of, looking_up, until

Worker = Callable[..., RemoteJWKSet]


class Recorder(Store):
    """A store that tells what was written to it, where, and for how many seconds each time."""

    def __init__(self) -> None:
        self._memory = MemoryStore()
        self.key, self.value = "", b""
        self.written: tuple[Any, ...] = ()
        self.reads = 0

    async def set(self, key: str, value: Any, expires_in: Any = None) -> None:
        await self._memory.set(key, value, expires_in)
        self.key, self.value = key, value
        self.written += (expires_in,)

    async def get(self, key: str, renew_for: Any = None) -> bytes | None:
        self.reads += 1
        return await self._memory.get(key)

    async def delete_all(self) -> None:
        await self._memory.delete_all()

    async def delete(self, key: str) -> None: ...

    async def exists(self, key: str) -> bool: ...  # type: ignore[empty-body]

    async def expires_in(self, key: str) -> int | None: ...


@pytest.fixture
def store() -> Recorder:
    return Recorder()


@pytest.fixture
def worker(issuer: Issuer, store: Recorder) -> Worker:
    """Make a worker, which has nothing in its own memory."""
    return lambda **options: RemoteJWKSet(issuer.url, **{"store": store, "timeout": 30, **options})


@on_both_libraries
async def test_one_worker_renews_the_set_for_all(worker: Worker, issuer: Issuer, clock: Clock, store: Recorder) -> None:
    fetch_document = Mock(return_value=issuer.jwks.document)
    fleet = [worker(client=fake_client(fetch_document)) for _ in range(4)]
    for renewals in range(1, 4):
        for each in fleet:
            assert await answer_to(each, issuer.token()) == "200"
            await anyio.wait_all_tasks_blocked()
        assert len({each.status().fetched_at for each in fleet}) == 1
        assert fetch_document.call_count == sum(each.status().fetches for each in fleet) == renewals
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
    isolated = worker(client=fake_client(lambda url: worker().refresh()))  # which returns no JWK Set
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
async def test_lost_copy_is_written_again(worker: Worker, issuer: Issuer, store: Recorder, clock: Clock) -> None:
    warm = worker()
    await warm.refresh()
    await store.delete_all()
    clock.shift(595)
    issuer.jwks.status = 500
    assert answers_at_once(warm, issuer.token())
    await until(lambda: len(store.written) == 2)
    restarted = worker()
    async with restarted.lifespan(APP):
        await until(lambda: restarted.status().usable)
        assert answers_at_once(restarted, issuer.token())


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(None, id="hangs"),
        pytest.param(OSError("gone"), id="os-error"),
        pytest.param(RuntimeError("of another event loop"), id="other-error"),
    ],
)
@without_waiting
async def test_broken_store_costs_a_second_a_fetch(clock: Clock, error: Exception | None, records: Log) -> None:
    async def break_or_hang(*args: Any, **options: Any) -> None:
        if error:
            raise error
        await anyio.sleep_forever()

    signers, store = [Signer("old")], AsyncMock(spec=Store, get=break_or_hang, set=break_or_hang)
    client = fake_client(lambda url: jwks_of(*signers))
    provider = RemoteJWKSet("https://issuer.test/keys", client=client, store=store)
    for _ in range(2):
        started_at = anyio.current_time()
        assert await answer_to(provider, signers[0].token()) == "200"
        assert anyio.current_time() - started_at == (0 if error else 1)
        signers[0] = Signer("new")
    (line,) = [line for line in lines_of(records) if "withdrawn" not in line]
    assert "store" in line and type(error or TimeoutError()).__name__ in line and str(error or "") in line


@without_waiting
async def test_store_that_breaks_again_is_told_again(records: Log) -> None:
    store = AsyncMock(spec=Store)
    store.get.side_effect = [OSError("first"), None, None, OSError("second"), None, None]
    provider = RemoteJWKSet("https://issuer.test/keys", client=fake_client(lambda url: jwks_of(Signer())), store=store)
    for _ in range(2):
        await provider.refresh()
    first, recovered, second, third = [line for line in lines_of(records) if "the store" in line]
    assert "first" in first and "second" in second
    assert "works again" in recovered and "works again" in third


@on_both_libraries
async def test_copy_is_kept_for_a_second_at_least(worker: Worker, store: Recorder) -> None:
    await worker(lifetime=0.5, max_stale=0).refresh()
    assert store.written == (1,)


EVIL = Signer("evil").jwk


def copy_of(*keys: Any, requested_at: Any = START, fresh_until: Any = START + 600, withdrawn: Any = ()) -> bytes:
    """Return a copy as workers write it. Other releases and other programs may write anything."""
    return json.dumps([requested_at, fresh_until, keys, withdrawn]).encode()


@pytest.mark.parametrize(
    "copy",
    [
        pytest.param(b"garbage", id="not-json"),
        pytest.param(b"\xff" * 100, id="not-text"),
        pytest.param(b"[" * 100_000, id="nested-deeply"),
        pytest.param(b"[]", id="empty"),
        pytest.param(copy_of(), id="no-keys"),
        pytest.param(copy_of(EVIL).ljust(2 * 1024 * 1024 + 1), id="too-large"),
        pytest.param(copy_of(EVIL, requested_at=None), id="no-time"),
        pytest.param(copy_of(EVIL, requested_at=True), id="time-of-another-type"),
        pytest.param(copy_of(EVIL, requested_at=START + 62), id="from-the-future"),
        pytest.param(copy_of(EVIL, fresh_until=1e300), id="fresh-for-ever"),
        pytest.param(copy_of(EVIL, fresh_until=START), id="never-fresh"),
        pytest.param(copy_of(EVIL | {"kid": 1}), id="key-of-another-type"),
        pytest.param(copy_of({"kty": "oct", "kid": "secret", "k": "c2VjcmV0"}), id="a-secret"),
        pytest.param(copy_of(EVIL, withdrawn=[(EVIL, START + 1, START + 9)]), id="withdrawn-key-from-the-future"),
        pytest.param(copy_of(EVIL, withdrawn=[(EVIL, START, 1e300)]), id="withdrawn-key-fresh-for-ever"),
    ],
)
@on_both_libraries
async def test_garbage_is_replaced(worker: Worker, store: Recorder, clock: Clock, copy: Any, records: Log) -> None:
    await worker().refresh()
    await store.set(store.key, copy)
    clock.shift(1)
    other = worker()
    await answer_to(other, bogus())
    await until(lambda: len(store.written) == 3)
    assert other.status().key_ids == ("first",)
    broken, recovered = lines_of(records)
    assert "the store Recorder cannot be used" in broken and "the store Recorder works again" in recovered
    assert [jwk["kid"] for jwk in json.loads(store.value)[2]] == ["first"]


@on_both_libraries
async def test_secrets_are_neither_stored_nor_taken(worker: Worker, issuer: Issuer, store: Recorder) -> None:
    issuer.jwks.document["keys"][0] |= {"d": "secret", "x5c": ["long"]}
    await worker().refresh()
    await until(lambda: store.written)
    requested_at, fresh_until, (jwk,), _ = json.loads(store.value)
    assert jwk.keys() == {"kid", "kty", "crv", "x"}
    secret = {"kty": "oct", "kid": "secret", "k": "c2VjcmV0"}
    await store.set(store.key, copy_of(secret, jwk, requested_at=requested_at, fresh_until=fresh_until))
    other = worker()
    assert await answer_to(other, issuer.token()) == "200"
    assert (other.status().fetches, other.status().key_ids) == (0, ("first",))


@pytest.mark.parametrize("lifetime", [1, DAY, 2 * DAY])
@on_both_libraries
async def test_copy_of_a_worker_whose_clock_is_ahead(
    worker: Worker, issuer: Issuer, store: Recorder, clock: Clock, lifetime: float
) -> None:
    await worker(lifetime=lifetime).refresh()
    await until(lambda: store.written)
    await store.set(store.key, store.value.ljust(2 * 1024 * 1024))
    clock.shift(-60)
    other = worker(lifetime=lifetime)
    assert [await answer_to(other, issuer.token()) for _ in range(3)] == ["200"] * 3
    assert (other.status().fetches, len(issuer.requests)) == (0, 1)


@on_both_libraries
async def test_newer_copy_is_not_replaced(worker: Worker, issuer: Issuer, store: Recorder, clock: Clock) -> None:
    slow, new = worker(), Signer("new")
    issuer.jwks.hangs = True
    async with looking_up(slow, issuer.token()):
        await until(lambda: issuer.requests)
        clock.shift(5)
        issuer.jwks.hangs = False
        issuer.publish(new)
        await worker().refresh()
        issuer.release.set()
    assert answers_at_once(slow, new.token())
    assert new.kid in [jwk["kid"] for jwk in json.loads(store.value)[2]]


@pytest.mark.parametrize("started", [lambda provider: provider, lambda provider: IssuerKeyProvider({"any": provider})])
@on_both_libraries
async def test_name_of_a_store_is_looked_up_at_the_start(
    worker: Worker, store: Recorder, records: Log, started: Any
) -> None:
    provider = worker(store="keys")
    await provider.refresh()
    (line,) = lines_of(records)
    assert f"{provider!r}: the store 'keys' cannot be used" in line and "Pass the store itself" in line
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
            await anyio.sleep(0.2)  # the copy is written after the answer

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


# Each row is something that operators have met


@on_both_libraries
async def test_copy_of_an_old_worker_brings_no_withdrawn_key_back(
    worker: Worker, issuer: Issuer, store: Recorder, clock: Clock
) -> None:
    old_worker, leaked = worker(lifetime=DAY), issuer.token()
    await old_worker.refresh()
    clock.shift(5)
    issuer.rotate()
    restarted = worker(lifetime=60, withdrawn_grace=0)
    await restarted.refresh()
    assert await answer_to(restarted, leaked) == "401"
    clock.shift(1)
    await store.delete_all()
    await old_worker.refresh()  # which writes that it still accepts the key
    assert json.loads(store.value)[3]
    for _ in range(3):
        clock.shift(61)
        assert await answer_to(restarted, leaked) == "401"
    assert await answer_to(worker(withdrawn_grace=0), leaked) == "401"


@on_both_libraries
async def test_distrusted_key_is_not_taken_from_a_copy(worker: Worker, issuer: Issuer) -> None:
    await worker().refresh()
    careful = worker(distrusted_key_ids=["first"])
    assert await answer_to(careful, issuer.token()) == "401"
    assert await answer_to(worker(), issuer.token()) == "200"


@on_both_libraries
async def test_miss_without_a_fetch_reads_the_store_once_a_second(
    worker: Worker, issuer: Issuer, clock: Clock, store: Recorder
) -> None:
    exhausted, other = worker(), worker()
    await exhausted.refresh()
    for _ in range(3):
        assert await answer_to(exhausted, bogus()) == "401"
    clock.shift(1)
    new = issuer.rotate().token()
    await other.refresh()
    reads = store.reads
    requests = len(issuer.requests)
    async with looking_up(exhausted, *[new] * 100, *[bogus()] * 100) as answers:
        pass
    assert (answers.count("200"), len(issuer.requests), store.reads) == (100, requests, reads + 1)
    for _ in range(50):
        assert await answer_to(exhausted, bogus()) == "401"
    assert store.reads == reads + 1
    clock.shift(1)
    assert await answer_to(exhausted, bogus()) == "401"
    assert store.reads == reads + 2


@pytest.mark.parametrize(
    "ends_first", [pytest.param(0, id="first-ends-first"), pytest.param(1, id="second-ends-first")]
)
@on_both_libraries
async def test_each_application_has_its_own_store_of_a_name(worker: Worker, issuer: Issuer, ends_first: int) -> None:
    stores = [Recorder(), Recorder()]
    provider = worker(store="keys")
    lifespans = [provider.lifespan(Mock(stores={"keys": store})) for store in stores]
    for lifespan in lifespans:
        await lifespan.__aenter__()
    await provider.refresh()
    assert all(store.written for store in stores)
    await lifespans.pop(ends_first).__aexit__(None, None, None)
    before = [len(store.written) for store in stores]
    issuer.rotate()
    await provider.refresh()
    assert len(stores[ends_first].written) == before[ends_first]
    await lifespans.pop().__aexit__(None, None, None)
    await provider.refresh()
    assert provider.status().failures == 0


@on_both_libraries
async def test_memory_store_that_a_name_stands_for_is_warned_of_once(worker: Worker, records: Log) -> None:
    provider = worker(store="keys")
    async with provider.lifespan(Mock(stores=StoreRegistry())):
        for _ in range(2):
            await provider.refresh()
    (line,) = lines_of(records)
    assert "the store MemoryStore shares no keys with other workers" in line


@without_waiting
async def test_keys_are_used_before_the_copy_is_written(worker: Worker) -> None:
    signer = Signer()

    async def hang(*args: Any, **options: Any) -> None:
        await anyio.sleep_forever()

    store = AsyncMock(spec=Store, get=AsyncMock(return_value=None), set=hang)
    provider = worker(client=fake_client(lambda url: jwks_of(signer)), store=store)
    started_at = anyio.current_time()
    assert await answer_to(provider, signer.token()) == "200"
    assert anyio.current_time() == started_at
    await provider.refresh()
    assert anyio.current_time() - started_at == pytest.approx(1)  # refreshing ends when the copy is written
