"""Workers that share what they fetch over a store, and what becomes of them if the store is out of order."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import anyio
import msgspec
import pytest

from litestar import Litestar
from litestar.security.jwt import _http, _stored
from litestar.security.jwt._stored import StoredCopy
from litestar.security.jwt.jwks import RemoteJWKSet
from litestar.security.jwt.keys import KeyNotFoundError, KeysUnavailableError
from litestar.security.jwt.testing import LocalIssuer
from litestar.stores.memory import MemoryStore

from .remote import Clock, answers_at_once, idle, verifies
from .store_worker import make_store

pytestmark = pytest.mark.anyio

MINUTE, HOUR, DAY = 60, 3600, 86_400
WORKERS = 4


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def issuer() -> Iterator[LocalIssuer]:
    with LocalIssuer(algorithm="EdDSA") as issuer:
        yield issuer


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_http, "_BACKOFF", 0.005)
    monkeypatch.setattr(_stored, "_SETTLING", 0.01)


Worker = Callable[..., RemoteJWKSet]


@pytest.fixture
def worker(issuer: LocalIssuer, store: MemoryStore, clock: Clock) -> Worker:
    """Make another worker, that is: a provider of its own that shares the store."""

    def worker(**options: Any) -> RemoteJWKSet:
        return RemoteJWKSet(issuer.jwks_url, **{"store": store, "clock": clock, "timeout": 1, **options})

    return worker


def copy_of(store: MemoryStore) -> tuple[str, StoredCopy]:
    """Return where in a store the copy of a document is, and the copy."""
    ((key, stored),) = store._store.items()
    return key, msgspec.msgpack.decode(stored.data, type=StoredCopy)


# One fetch for all.


async def test_worker_takes_what_another_has_fetched(worker: Worker, issuer: LocalIssuer, clock: Clock) -> None:
    first, second = worker(), worker()
    assert await verifies(first, issuer.token())
    await idle(first)
    clock.advance(100)
    assert await verifies(second, issuer.token())
    assert len(issuer.requests) == 1
    assert second.status().fetched_at == first.status().fetched_at
    assert second.status().fetches == 0


async def test_workers_that_start_at_once_settle_who_fetches(worker: Worker, issuer: LocalIssuer) -> None:
    issuer.delay = 0.1
    verified = []

    async def start(provider: RemoteJWKSet) -> None:
        verified.append(await verifies(provider, issuer.token()))

    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            _ = tasks.start_soon(start, worker())
    assert verified == [True] * 8
    assert len(issuer.requests) == 1


async def test_one_worker_renews_the_set_for_all(worker: Worker, issuer: LocalIssuer, clock: Clock) -> None:
    fleet = [worker() for _ in range(4)]
    for lifetimes in range(1, 5):
        for provider in fleet:
            assert await verifies(provider, issuer.token())
            await idle(provider)
        assert len(issuer.requests) == lifetimes
        clock.advance(500)


async def test_worker_finds_the_key_that_another_has_fetched(worker: Worker, issuer: LocalIssuer, clock: Clock) -> None:
    first, second = worker(), worker()
    for provider in (first, second):
        await verifies(provider, issuer.token())
    issuer.rotate()
    for provider in (first, second):
        clock.advance(1)
        assert await verifies(provider, issuer.token())
        await idle(provider)
    assert len(issuer.requests) == 2


async def test_workers_share_the_cooldown_of_unknown_key_ids(worker: Worker, issuer: LocalIssuer, clock: Clock) -> None:
    fleet = [worker() for _ in range(3)]
    for provider in fleet:
        await verifies(provider, issuer.token())
        await idle(provider)
    for provider in fleet * 2:
        clock.advance(4)
        with pytest.raises(KeyNotFoundError):
            await verifies(provider, issuer.token(headers={"kid": "bogus"}))
        await idle(provider)
    assert len(issuer.requests) == 2
    issuer.rotate()
    clock.advance(10)  # 30 seconds after the first of them
    assert await verifies(fleet[2], issuer.token())
    assert len(issuer.requests) == 3


async def test_refresh_asks_the_provider_itself(worker: Worker, issuer: LocalIssuer, clock: Clock) -> None:
    await worker().refresh()
    clock.advance(1)
    second = worker()
    await second.refresh()
    assert len(issuer.requests) == 2
    clock.advance(1)
    third = worker()
    assert await verifies(third, issuer.token())
    assert third.status().fetched_at == second.status().fetched_at


async def test_copy_is_renewed_without_being_sent_again(worker: Worker, issuer: LocalIssuer, clock: Clock) -> None:
    first = worker()
    assert await verifies(first, issuer.token())
    await idle(first)
    clock.advance(HOUR)
    second = worker()
    assert await verifies(second, issuer.token())
    await idle(second)
    assert "If-None-Match" in issuer.requests[1].headers
    assert not second.status().stale


async def test_older_copy_does_not_replace_what_is_in_memory(
    worker: Worker, issuer: LocalIssuer, store: MemoryStore, clock: Clock
) -> None:
    provider = worker()
    await provider.refresh()
    key, older = copy_of(store)
    clock.advance(10)
    issuer.rotate(keep=0)
    await provider.refresh()
    await store.set(key, msgspec.msgpack.encode(older))
    clock.advance(10)
    with pytest.raises(KeyNotFoundError):
        await verifies(provider, issuer.token(headers={"kid": "bogus"}))
    assert provider.status().key_ids == (issuer.kid,)


# Restarts.


async def test_worker_that_starts_during_an_outage_finds_the_last_good_keys(
    worker: Worker, issuer: LocalIssuer, clock: Clock
) -> None:
    await worker().refresh()
    issuer.fail_with(404)
    clock.advance(HOUR)
    provider = worker()
    assert await verifies(provider, issuer.token())
    await idle(provider)
    assert provider.status().stale
    assert provider.status().last_error == "status 404"
    clock.advance(DAY)
    with pytest.raises(KeysUnavailableError):
        await verifies(worker(), issuer.token())


async def test_worker_that_finds_keys_does_not_wait_for_a_provider_that_hangs(
    worker: Worker, issuer: LocalIssuer, clock: Clock
) -> None:
    await worker().refresh()
    issuer.delay = 30
    clock.advance(HOUR)
    provider = worker(timeout=20)
    started = monotonic()
    async with provider.lifespan(Litestar()):
        assert answers_at_once(provider, issuer.token())
        assert monotonic() - started < 5
        assert provider._document._running


# Other workers that fail.


async def test_worker_does_not_wait_for_long_for_one_that_has_died(
    worker: Worker, issuer: LocalIssuer, store: MemoryStore
) -> None:
    provider = worker()
    await provider.refresh()
    key, _ = copy_of(store)
    await store.delete(key)
    await store.set(f"{key}:claim", b"somebody else", expires_in=60)
    started = monotonic()
    assert await verifies(worker(), issuer.token())
    assert monotonic() - started >= 0.5
    assert len(issuer.requests) == 2


async def test_workers_with_keys_do_not_repeat_what_another_has_tried_in_vain(
    worker: Worker, issuer: LocalIssuer, clock: Clock
) -> None:
    fleet = [worker() for _ in range(3)]
    for provider in fleet:
        await verifies(provider, issuer.token())
        await idle(provider)
    issuer.fail_with(404)
    clock.advance(HOUR)
    for provider in fleet:
        assert answers_at_once(provider, issuer.token())
        await idle(provider)
        assert provider.status().last_error
    assert len(issuer.requests) == 2


async def test_worker_without_keys_tries_even_if_another_has_failed(
    worker: Worker, issuer: LocalIssuer, clock: Clock
) -> None:
    issuer.fail_with(404)
    first = worker()
    with pytest.raises(KeysUnavailableError):
        await verifies(first, issuer.token())
    await idle(first)
    issuer.recover()
    assert await verifies(worker(), issuer.token())


# A store that is out of order.


class BrokenStore(MemoryStore):
    """Fails, or hangs, in all operations or in some."""

    def __init__(self, *operations: str, hangs: bool = False) -> None:
        super().__init__()
        self.operations = operations
        self.hangs = hangs

    async def _maybe_fail(self, operation: str) -> None:
        if operation in self.operations:
            if self.hangs:
                await anyio.sleep(30)
            raise ConnectionError("no store today")

    async def get(self, key: str, renew_for: int | timedelta | None = None) -> bytes | None:
        await self._maybe_fail("get")
        return await super().get(key, renew_for)

    async def set(self, key: str, value: str | bytes, expires_in: int | timedelta | None = None) -> None:
        await self._maybe_fail("set")
        await super().set(key, value, expires_in)

    async def delete(self, key: str) -> None:
        await self._maybe_fail("delete")
        await super().delete(key)


@pytest.mark.parametrize("hangs", [False, True])
@pytest.mark.parametrize("operations", [("get", "set", "delete"), ("get",), ("set",), ("delete",)])
async def test_broken_store_is_done_without(
    worker: Worker, issuer: LocalIssuer, operations: tuple[str, ...], hangs: bool
) -> None:
    store = BrokenStore(*operations, hangs=hangs)
    provider = worker(store=store)
    assert await verifies(provider, issuer.token())
    issuer.rotate()
    assert await verifies(provider, issuer.token())
    await idle(provider)
    assert provider.status().failures == 0
    store.operations = ()
    assert await verifies(worker(store=store), issuer.token())


async def test_broken_store_is_logged_once_until_it_works_again(
    worker: Worker, issuer: LocalIssuer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "litestar.security.jwt")
    store = BrokenStore("get", "set", "delete")
    provider = worker(store=store)
    for _ in range(3):
        await provider.refresh()
    assert caplog.text.count("the store failed, going on without (ConnectionError)") == 1
    assert "no store today" not in caplog.text
    store.operations = ()
    for _ in range(3):
        await provider.refresh()
    assert caplog.text.count("the store works again") == 1
    assert len(issuer.requests) == 6


GARBAGE: dict[str, bytes] = {
    "empty": b"",
    "text": b"garbage",
    "html": b"<html></html>",
    "json": b'{"keys": []}',
    "array": msgspec.msgpack.encode([1, 2, 3]),
    "other-members": msgspec.msgpack.encode({"url": "x"}),
    "deep-nesting": b"\x91" * 200_000,
    "large": b"\x00" * (2 * 1024 * 1024),
}


@pytest.mark.parametrize("content", GARBAGE.values(), ids=GARBAGE)
async def test_garbage_in_the_store_is_ignored_with_one_log_line(
    worker: Worker, issuer: LocalIssuer, store: MemoryStore, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    provider = worker()
    await provider.refresh()
    key, _ = copy_of(store)
    await store.set(key, content)
    provider = worker()
    assert await verifies(provider, issuer.token())
    await idle(provider)
    assert caplog.text.count("it is ignored") == 1
    assert len(issuer.requests) == 2
    assert await verifies(worker(), issuer.token())
    assert len(issuer.requests) == 2


HOSTILE: dict[str, dict[str, Any]] = {
    "other-document": {"url": "https://other.test/jwks"},
    "no-usable-key": {"body": json.dumps({"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "x"}]}).encode()},
    "not-json": {"body": b"garbage"},
    "from-the-future": {"fetched_at": 4_000_000_000.0},
    "no-time": {"fetched_at": float("nan")},
    "endless": {"lifetime": float("inf")},
    "demanded-at-no-time": {"demanded_at": float("nan")},
    "header-injection": {"etag": '"x"\r\nX-Injected: 1'},
    "header-injection-in-date": {"last_modified": "now\r\nX-Injected: 1"},
}


@pytest.mark.parametrize("members", HOSTILE.values(), ids=HOSTILE)
async def test_hostile_copy_is_ignored_with_one_log_line(
    worker: Worker,
    issuer: LocalIssuer,
    store: MemoryStore,
    caplog: pytest.LogCaptureFixture,
    members: dict[str, Any],
) -> None:
    await worker().refresh()
    key, copy = copy_of(store)
    await store.set(key, msgspec.msgpack.encode(msgspec.structs.replace(copy, **members)))
    provider = worker()
    assert await verifies(provider, issuer.token())
    await idle(provider)
    assert caplog.text.count("it is ignored") == 1
    assert len(issuer.requests) == 2
    assert "X-Injected" not in issuer.requests[1].headers
    assert provider.status().key_ids == (issuer.kid,)


async def test_copy_may_not_be_larger_than_a_fetched_document(
    worker: Worker, issuer: LocalIssuer, store: MemoryStore
) -> None:
    await worker().refresh()
    key, copy = copy_of(store)
    for size, fetches in ((512 * 1024, 0), (512 * 1024 + 1, 1)):
        await store.set(key, msgspec.msgpack.encode(msgspec.structs.replace(copy, body=copy.body.ljust(size))))
        provider = worker()
        assert await verifies(provider, issuer.token())
        assert provider.status().fetches == fetches


async def test_copy_is_not_trusted_for_longer_than_a_fetched_document(
    worker: Worker, issuer: LocalIssuer, store: MemoryStore, clock: Clock
) -> None:
    await worker().refresh()
    key, copy = copy_of(store)
    copy = msgspec.structs.replace(copy, lifetime=1e12, demanded_at=1e12, fetched_at=clock.now + 5)
    await store.set(key, msgspec.msgpack.encode(copy))
    provider = worker()
    assert await verifies(provider, issuer.token())
    assert provider.status().fetched_at == datetime.fromtimestamp(clock.now, UTC)
    assert provider.status().expires_at == datetime.fromtimestamp(clock.now + DAY, UTC)
    issuer.rotate()
    assert await verifies(provider, issuer.token())


async def test_secret_keys_in_the_store_are_never_used(worker: Worker, issuer: LocalIssuer, store: MemoryStore) -> None:
    await worker().refresh()
    key, copy = copy_of(store)
    keys = [*issuer.jwks["keys"], {"kty": "oct", "k": "c2VjcmV0", "kid": "secret", "alg": "HS256"}]
    copy = msgspec.structs.replace(copy, body=json.dumps({"keys": keys}).encode())
    await store.set(key, msgspec.msgpack.encode(copy))
    provider = worker()
    assert await verifies(provider, issuer.token())
    assert provider.status().fetches == 0
    assert provider.status().key_ids == (issuer.kid,)


# Stores of an application.


async def test_store_of_the_application_is_found_by_its_name(
    worker: Worker, issuer: LocalIssuer, store: MemoryStore
) -> None:
    app = Litestar(stores={"keys": store})
    for _ in range(2):
        provider = worker(store="keys")
        async with provider.lifespan(app):
            assert answers_at_once(provider, issuer.token())
    assert len(issuer.requests) == 1


async def test_name_of_a_store_means_nothing_without_an_application(worker: Worker, issuer: LocalIssuer) -> None:
    for _ in range(2):
        assert await verifies(worker(store="keys"), issuer.token())
    assert len(issuer.requests) == 2


# Processes, and stores that they really share.


@pytest.fixture
def redis_server() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run a Redis server of our own."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed")
    pytest.importorskip("redis")
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    arguments = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no", "--daemonize", "no"]
    server = subprocess.Popen([program, *arguments], stdout=subprocess.DEVNULL)
    try:
        _wait_for_port(port)
        yield f"redis://127.0.0.1:{port}", server
    finally:
        server.kill()
        server.wait()


def _wait_for_port(port: int) -> None:
    give_up_at = monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            assert monotonic() < give_up_at
            sleep(0.02)
        else:
            return


@pytest.fixture(params=["file", "redis"])
def shared_place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where processes share keys."""
    if request.param == "file":
        return str(tmp_path)
    place, _ = request.getfixturevalue("redis_server")
    return str(place)


@contextmanager
def processes(issuer: LocalIssuer, place: str) -> Iterator[Callable[[str], list[str]]]:
    """Start workers in processes of their own, and give a function that has all of them verify a token at once."""
    root = Path(__file__).parents[4]
    command = [sys.executable, str(Path(__file__).with_name("store_worker.py")), issuer.jwks_url, place]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
    fleet = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=root)
        for _ in range(WORKERS)
    ]

    def answers() -> list[str]:
        return [process.stdout.readline().strip() for process in fleet if process.stdout]

    def verify(token: str) -> list[str]:
        for process in fleet:
            assert process.stdin
            process.stdin.write(f"{token}\n")
        for process in fleet:
            assert process.stdin
            process.stdin.flush()
        return answers()

    try:
        assert answers() == ["ready"] * WORKERS
        yield verify
    finally:
        for process in fleet:
            process.kill()
            process.communicate()


def test_processes_share_one_fetch_and_restart_during_an_outage(issuer: LocalIssuer, shared_place: str) -> None:
    issuer.delay = 0.3
    with processes(issuer, shared_place) as verify:
        assert verify(issuer.token()) == ["verified"] * WORKERS
        assert len(issuer.requests) == 1
        assert verify(issuer.forged_token()) == ["forged"] * WORKERS
        issuer.rotate()
        assert verify(issuer.token()) == ["verified"] * WORKERS
        assert len(issuer.requests) == 2
    issuer.gone()
    with processes(issuer, shared_place) as verify:
        assert verify(issuer.token()) == ["verified"] * WORKERS
        assert verify(issuer.token(headers={"kid": "bogus"})) == ["401"] * WORKERS
    assert len(issuer.requests) == 2


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
async def test_redis_that_dies_under_load_fails_no_request(
    issuer: LocalIssuer, redis_server: tuple[str, subprocess.Popen[bytes]], clock: Clock, how: signal.Signals
) -> None:
    place, server = redis_server
    store = make_store(place)
    async with store:
        provider = RemoteJWKSet(issuer.jwks_url, store=store, timeout=1, clock=clock)
        served, fetches = [0], 0

        async def traffic() -> None:
            while not stop.is_set():
                assert await verifies(provider, issuer.token())
                served[0] += 1
                await anyio.sleep(0)

        stop = anyio.Event()
        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                _ = tasks.start_soon(traffic)
            for step in range(20):
                if step == 8:
                    server.send_signal(how)
                    fetches = provider.status().fetches
                if step in {4, 12, 16}:
                    issuer.rotate()
                clock.advance(500)
                await anyio.sleep(0.1)
            stop.set()
        assert provider.status().failures == 0
        assert provider.status().fetches > fetches + 1 > 1
        assert served[0] > 100
        await idle(provider)


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_store_that_needs_another_event_loop_is_done_without(
    issuer: LocalIssuer, redis_server: tuple[str, subprocess.Popen[bytes]]
) -> None:
    provider = RemoteJWKSet(issuer.jwks_url, store=make_store(redis_server[0]))
    assert await verifies(provider, issuer.token())
