from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from redis.asyncio import Redis as AsyncRedis

from litestar import Litestar
from litestar.security.jwt import IssuerKeyProvider, RemoteJWKSet
from litestar.stores.file import FileStore
from litestar.stores.memory import MemoryStore
from litestar.stores.redis import RedisStore
from tests.unit.test_security.test_jwt.backends import on_both_libraries

from .asking import APP, Log, answer_to, answers_at_once, asking, forked, lines_of, until
from .event_loops import without_waiting
from .issuer_server import DAY, HOUR, START, Clock, Issuer, Signer, bogus, client_of, jwks_of, serving

Redis = tuple[str, subprocess.Popen[bytes]]
Worker = Callable[..., RemoteJWKSet]


class Store(MemoryStore):
    """A store that tells where it was written to, and for how many seconds each time."""

    key = ""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[int | timedelta | None] = []

    async def set(self, key: str, value: str | bytes, expires_in: int | timedelta | None = None) -> None:
        await super().set(key, value, expires_in)
        self.key = key
        self.written.append(expires_in)

    async def copy(self) -> Any:
        """Wait for the copy of a key set, and return what it holds."""
        while (data := await self.get(self.key)) is None:
            await anyio.sleep(0.003)
        return json.loads(data)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def worker(issuer: Issuer, store: Store) -> Worker:
    """Make a worker, which has nothing in its own memory."""
    return lambda **options: RemoteJWKSet(issuer.url, **{"store": store, "timeout": 30, **options})


async def renewed(worker: RemoteJWKSet) -> None:
    """Have a worker ask the issuer, and wait until the answer is in the store."""
    await worker.refresh()
    await anyio.wait_all_tasks_blocked()


@on_both_libraries
async def test_workers_wait_for_no_other_though_the_issuer_is_slow(worker: Worker, issuer: Issuer) -> None:
    issuer.jwks.hangs = True
    async with asking(worker(), issuer.token()) as first, asking(worker(), issuer.token()) as second:
        await until(lambda: len(issuer.requests) == 2)
        issuer.release.set()
    assert first + second == ["200", "200"]


@on_both_libraries
async def test_one_worker_renews_the_set_for_all(worker: Worker, issuer: Issuer, clock: Clock, store: Store) -> None:
    fleet = [worker() for _ in range(4)]
    for renewals in range(1, 4):
        for each in fleet:
            before = each.status().fetched_at
            assert await answer_to(each, issuer.token()) == "200"
            await until(lambda: each.status().fetched_at != before)
            await anyio.wait_all_tasks_blocked()
        assert len({each.status().fetched_at for each in fleet}) == 1
        assert len(issuer.requests) == sum(each.status().fetches for each in fleet) == renewals
        assert store.written == [600 + DAY] * renewals
        clock.shift(595)


@on_both_libraries
async def test_worker_without_network_sees_what_others_fetch(worker: Worker, issuer: Issuer, clock: Clock) -> None:
    async def no_network(url: str, headers: Any) -> Any:
        raise OSError("no network")

    healthy, isolated = worker(), worker(client=no_network)
    await renewed(healthy)
    assert await answer_to(isolated, issuer.token()) == "200"
    clock.shift(1)
    new = issuer.rotate()
    assert await answer_to(isolated, new.token()) == "503"
    assert await answer_to(healthy, new.token()) == "200"
    await anyio.wait_all_tasks_blocked()
    clock.shift(2)
    assert await answer_to(isolated, new.token()) == "200"
    clock.shift(2 * DAY)
    assert await answer_to(isolated, new.token()) == "503"
    assert await answer_to(healthy, new.token()) == "200"


@on_both_libraries
async def test_copy_that_came_while_a_fetch_failed_is_adopted(worker: Worker, issuer: Issuer) -> None:
    async def fetch(url: str, headers: Any) -> Any:
        await renewed(worker())
        raise OSError("no network")

    isolated = worker(client=fetch)
    assert await answer_to(isolated, issuer.token()) == "200"
    assert isolated.status().failures == 1


@on_both_libraries
async def test_sets_that_differ_in_headers_are_kept_apart(worker: Worker, issuer: Issuer) -> None:
    own, same, other = (worker(headers=headers) for headers in ({"X-A": "1"}, {"x-a": "1"}, {"X-A": "2"}))
    await renewed(own)
    token, _ = issuer.token(), issuer.rotate()
    assert [await answer_to(provider, token) for provider in (other, same)] == ["401", "200"]


@on_both_libraries
async def test_grace_of_a_withdrawn_key_survives_a_restart(worker: Worker, issuer: Issuer, clock: Clock) -> None:
    old, before = issuer.token(), worker()
    await renewed(before)
    clock.shift(10)
    issuer.rotate()
    await renewed(before)
    clock.shift(600)
    after = worker()
    assert await answer_to(after, old) == "200"
    assert after.status().withdrawn_key_ids == ("first",)
    clock.move_to(START + 600 + HOUR)
    assert await answer_to(after, old) == "401"
    assert await answer_to(worker(), old) == "401"


@on_both_libraries
async def test_lost_copy_is_written_again(worker: Worker, issuer: Issuer, store: Store, clock: Clock) -> None:
    warm = worker()
    await renewed(warm)
    await store.delete_all()
    issuer.jwks.status = 500
    clock.shift(595)
    assert answers_at_once(warm, issuer.token())
    await until(lambda: warm.status().failures)
    await store.copy()
    clock.shift(HOUR)
    issuer.jwks.hangs = True
    restarted = worker()
    async with restarted.lifespan(APP):
        await until(lambda: restarted.status().usable)
        assert answers_at_once(restarted, issuer.token())


class BrokenStore(MemoryStore):
    """A store that fails, or hangs if it has no error."""

    error: Exception | None

    async def get(self, *args: Any, **kwargs: Any) -> bytes | None:
        if self.error is None:
            await anyio.sleep_forever()
        raise self.error or AssertionError

    set = get  # type: ignore[assignment]


@pytest.mark.parametrize("error", [None, OSError("gone"), RuntimeError("of another event loop")])
@without_waiting
async def test_broken_store_costs_two_seconds_a_fetch(clock: Clock, error: Exception | None, records: Log) -> None:
    signers, store = [Signer("old")], BrokenStore()
    store.error = error
    client = client_of(lambda url: jwks_of(*signers))
    provider = RemoteJWKSet("https://issuer.test/keys", client=client, store=store)
    for _ in range(2):
        started_at = anyio.current_time()
        assert await answer_to(provider, signers[0].token()) == "200"
        assert anyio.current_time() - started_at == (0 if error else 2)
        await anyio.wait_all_tasks_blocked()
        signers[0] = Signer("new")
    (line,) = [line for line in lines_of(records) if "withdrawn" not in line]
    assert "store" in line and type(error or TimeoutError()).__name__ in line and str(error or "") in line


def _copy(jwk: str, asked_at: Any, fresh_until: Any) -> bytes:
    return json.dumps({jwk: [asked_at, fresh_until]}).encode()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda jwk, at: b"garbage",
        lambda jwk, at: b"\xff" * 100,
        lambda jwk, at: b"[" * 100_000,
        lambda jwk, at: b" " * (1024 * 1024 + 1),
        lambda jwk, at: b"[]",
        lambda jwk, at: _copy("[" * 100_000, at, at + 600),
        lambda jwk, at: _copy("not JSON", at, at + 600),
        lambda jwk, at: _copy(jwk, None, at + 600),
        lambda jwk, at: _copy(jwk, 1e300, 2e300),
        lambda jwk, at: _copy(jwk, at, 1e300),
        lambda jwk, at: _copy(jwk, at, at),
    ],
)
@on_both_libraries
async def test_garbage_is_replaced(worker: Worker, store: Store, clock: Clock, spoil: Any, records: Log) -> None:
    await renewed(worker())
    ((asked_at, _),) = (await store.copy()).values()
    await store.set(store.key, spoil(json.dumps(Signer("evil").jwk), asked_at))
    clock.shift(1)
    other = worker()
    await answer_to(other, bogus())
    assert other.status().key_ids == ("first",)
    await anyio.wait_all_tasks_blocked()
    (line,) = lines_of(records)
    assert "the store" in line
    assert [json.loads(jwk)["kid"] for jwk in await store.copy()] == ["first"]


@on_both_libraries
async def test_secrets_are_neither_stored_nor_taken(worker: Worker, issuer: Issuer, store: Store) -> None:
    issuer.jwks.document["keys"][0] |= {"d": "secret", "x5c": ["long"]}
    await renewed(worker())
    ((jwk, times),) = (await store.copy()).items()
    assert json.loads(jwk).keys() == {"kid", "kty", "crv", "x"}
    await store.set(store.key, json.dumps({'{"kty": "oct", "kid": "secret", "k": "c2VjcmV0"}': times, jwk: times}))
    other = worker()
    assert await answer_to(other, issuer.token()) == "200"
    assert (other.status().fetches, other.status().key_ids) == (0, ("first",))


@pytest.mark.parametrize("lifetime", [1, DAY, 2 * DAY])
@on_both_libraries
async def test_copy_of_a_worker_whose_clock_is_ahead(
    worker: Worker, issuer: Issuer, store: Store, clock: Clock, lifetime: float
) -> None:
    await renewed(worker(lifetime=lifetime))
    await store.set(store.key, (await store.get(store.key) or b"").ljust(1024 * 1024))
    clock.shift(-60)
    other = worker(lifetime=lifetime)
    assert [await answer_to(other, issuer.token()) for _ in range(3)] == ["200"] * 3
    assert (other.status().fetches, len(issuer.requests)) == (0, 1)


@on_both_libraries
async def test_newer_copy_is_not_replaced(worker: Worker, issuer: Issuer, store: Store, clock: Clock) -> None:
    slow, new = worker(), Signer("new")
    issuer.jwks.hangs = True
    async with anyio.create_task_group() as tasks:
        _ = tasks.start_soon(slow.refresh)
        await until(lambda: issuer.requests)
        clock.shift(5)
        issuer.jwks.hangs = False
        issuer.publish(new)
        await renewed(worker())
        issuer.release.set()
    await until(lambda: answers_at_once(slow, new.token()))
    await anyio.wait_all_tasks_blocked()
    assert new.kid in [json.loads(jwk)["kid"] for jwk in await store.copy()]


@pytest.mark.parametrize("started", [lambda provider: provider, lambda provider: IssuerKeyProvider({"any": provider})])
@on_both_libraries
async def test_name_of_a_store_is_looked_up_at_the_start(
    worker: Worker, store: Store, records: Log, started: Any
) -> None:
    provider = worker(store="keys")
    await provider.refresh()
    (line,) = lines_of(records)
    assert f"{provider!r}: the store cannot be used: 'keys'" in line
    async with started(provider).lifespan(Litestar(stores={"keys": store})):
        await provider.refresh()
        await store.copy()


# Processes, and stores that they really share


@pytest.fixture
def redis_server() -> Iterator[Redis]:
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed")
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    command = [program, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        while True:
            with socket.socket() as probe:
                if not probe.connect_ex(("127.0.0.1", port)):
                    break
            time.sleep(0.02)
        yield f"redis://127.0.0.1:{port}", server
        server.kill()


def _answer_with_a_store(pipe: Any, url: str, place: str) -> None:
    async def work() -> None:
        store = RedisStore.with_client(place) if place.startswith("redis:") else FileStore(Path(place))
        provider = RemoteJWKSet(url, timeout=30, store=store)
        while True:
            answer = await answer_to(provider, pipe.recv())
            await anyio.wait_all_tasks_blocked()
            pipe.send(answer)

    anyio.run(work)


def _ask_all(workers: list[Any], token: str) -> list[str]:
    for each in workers:
        each.send(token)
    return [each.recv() for each in workers]


@pytest.mark.parametrize("kind", ["file", "redis"])
def test_processes_share_a_store(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    place = str(tmp_path) if kind == "file" else request.getfixturevalue("redis_server")[0]
    with serving() as issuer, ExitStack() as stack:
        workers = [stack.enter_context(forked(_answer_with_a_store, issuer.url, place)) for _ in range(4)]
        assert _ask_all(workers, issuer.token()) == ["200"] * 4
        assert 1 <= len(issuer.requests) <= 4
        assert _ask_all(workers, issuer.rotate().token()) == ["200"] * 4
        assert len(issuer.requests) <= 8
    with forked(_answer_with_a_store, issuer.url, place) as restarted:
        assert _ask_all([restarted], issuer.token()) == ["200"]
        assert _ask_all([restarted], bogus()) == ["503"]


@pytest.mark.parametrize("what", ["killed", "hung", "emptied", "garbage"])
def test_redis_that_fails_fails_no_request(issuer: Issuer, redis_server: Redis, clock: Clock, what: str) -> None:
    place, server = redis_server

    async def answer() -> None:
        redis: Any = AsyncRedis.from_url(place)
        store = RedisStore(redis, handle_client_shutdown=True)
        provider = RemoteJWKSet(issuer.url, timeout=30, store=store)
        async with store:
            for _ in range(2):
                assert await answer_to(provider, issuer.token()) == "200"
                assert await answer_to(provider, issuer.rotate().token()) == "200"
                await anyio.wait_all_tasks_blocked()
                clock.shift(2 * HOUR)
                if what in {"killed", "hung"}:
                    server.send_signal(signal.SIGKILL if what == "killed" else signal.SIGSTOP)
                elif what == "emptied":
                    await store.delete_all()
                else:
                    (key,) = await redis.keys()
                    await redis.set(key, b"garbage")
        assert provider.status().failures == 0

    anyio.run(answer)
