from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import anyio
import pytest
from time_machine import Traveller

from litestar import Litestar
from litestar.security.jwt.key_providers.jwks import RemoteJWKSet
from litestar.stores.base import Store
from litestar.stores.file import FileStore
from litestar.stores.memory import MemoryStore

from .issuer_server import IssuerServer, Signer, answer_to, answers_at_once, bogus, settled, until
from .store_worker import make_store

pytestmark = pytest.mark.anyio

MINUTE, HOUR, DAY = 60, 3600, 86_400
WORKERS = 4


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return MemoryStore() if request.param == "memory" else FileStore(tmp_path)


class WatchedStore(MemoryStore):
    """A store that tells where it was written to."""

    key = ""

    async def set(self, key: str, value: str | bytes, expires_in: int | timedelta | None = None) -> None:
        await super().set(key, value, expires_in)
        self.key = key


@pytest.fixture
def memory() -> WatchedStore:
    return WatchedStore()


async def no_network(url: str, headers: Mapping[str, str]) -> Any:
    raise OSError("no network")


async def copy_of(store: WatchedStore) -> tuple[str, Any]:
    """Wait for the copy, and return where in the store it is, and what it holds."""
    with anyio.fail_after(20):
        while (data := await store.get(store.key)) is None:
            await anyio.sleep(0.003)
    return store.key, json.loads(data)


async def test_worker_takes_what_another_has_fetched(issuer: IssuerServer, store: Store, clock: Traveller) -> None:
    first, second = (RemoteJWKSet(issuer.url, store=store) for _ in range(2))
    assert await answer_to(first, issuer.token()) == "200"
    await first.refresh()
    await settled(first)
    clock.shift(100)
    assert await answer_to(second, issuer.token()) == "200"
    assert (len(issuer.requests), second.status().fetches) == (2, 0)
    assert second.status().fetched_at == first.status().fetched_at


async def test_workers_wait_for_no_other_though_the_issuer_is_slow(issuer: IssuerServer, memory: WatchedStore) -> None:
    issuer.jwks.hangs = True
    answers = []

    async def request(worker: RemoteJWKSet) -> None:
        answers.append(await answer_to(worker, issuer.token()))

    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            _ = tasks.start_soon(request, RemoteJWKSet(issuer.url, store=memory, timeout=30))
        await until(lambda: len(issuer.requests) == 2)
        issuer.release.set()
    assert answers == ["200", "200"]


async def test_one_worker_renews_the_set_for_all(issuer: IssuerServer, memory: WatchedStore, clock: Traveller) -> None:
    fleet = [RemoteJWKSet(issuer.url, store=memory) for _ in range(4)]
    for renewals in range(1, 5):
        for worker in fleet:
            before = worker.status().fetched_at
            assert await answer_to(worker, issuer.token()) == "200"
            await until(lambda: worker.status().fetched_at != before)
            await settled(worker)
        assert len(issuer.requests) == renewals
        clock.shift(595)


async def test_worker_without_network_keeps_no_other_from_a_rotation(
    issuer: IssuerServer, memory: WatchedStore, clock: Traveller
) -> None:
    healthy = RemoteJWKSet(issuer.url, store=memory)
    isolated = RemoteJWKSet(issuer.url, store=memory, client=no_network)
    assert await answer_to(healthy, issuer.token()) == "200"
    await copy_of(memory)
    assert await answer_to(isolated, issuer.token()) == "200"
    clock.shift(1)
    new = issuer.rotate()
    assert await answer_to(isolated, new.token()) == "503"
    assert await answer_to(healthy, new.token()) == "200"
    await settled(healthy)
    clock.shift(2)
    assert await answer_to(isolated, new.token()) == "200"
    clock.shift(2 * DAY)
    assert await answer_to(isolated, new.token()) == "503"
    assert await answer_to(healthy, new.token()) == "200"


async def test_copy_that_came_while_a_fetch_failed_is_adopted(issuer: IssuerServer, memory: WatchedStore) -> None:
    async def fetch(url: str, headers: Mapping[str, str]) -> Any:
        healthy = RemoteJWKSet(issuer.url, store=memory)
        await healthy.refresh()
        await settled(healthy)
        raise OSError("no network")

    isolated = RemoteJWKSet(issuer.url, store=memory, timeout=30, client=fetch)
    assert await answer_to(isolated, issuer.token()) == "200"
    assert isolated.status().failures == 1


async def test_sets_that_differ_in_headers_are_kept_apart(issuer: IssuerServer, memory: WatchedStore) -> None:
    own = RemoteJWKSet(issuer.url, headers={"X-Tenant": "a"}, store=memory)
    same = RemoteJWKSet(issuer.url, headers={"x-tenant": "a"}, store=memory)
    other = RemoteJWKSet(issuer.url, headers={"X-Tenant": "b"}, store=memory)
    token = issuer.token()
    await answer_to(own, token)
    await copy_of(memory)
    issuer.rotate()
    assert await answer_to(other, token) == "401"
    assert await answer_to(same, token) == "200"


async def test_grace_of_a_withdrawn_key_survives_a_restart(
    issuer: IssuerServer, memory: WatchedStore, clock: Traveller
) -> None:
    old = issuer.token()
    before = RemoteJWKSet(issuer.url, store=memory)
    await answer_to(before, old)
    clock.shift(10)
    issuer.rotate()
    await before.refresh()
    await settled(before)
    clock.shift(600)
    after = RemoteJWKSet(issuer.url, store=memory)
    assert await answer_to(after, old) == "200"
    assert after.status().withdrawn_key_ids == ("first",)
    clock.move_to(1_750_000_000 + 600 + HOUR)
    assert await answer_to(after, old) == "401"
    assert await answer_to(RemoteJWKSet(issuer.url, store=memory), old) == "401"


async def test_store_that_lost_its_content_is_filled_again(
    issuer: IssuerServer, memory: WatchedStore, clock: Traveller
) -> None:
    warm = RemoteJWKSet(issuer.url, store=memory)
    await answer_to(warm, issuer.token())
    await copy_of(memory)
    await memory.delete_all()
    issuer.stop()
    clock.shift(595)
    assert answers_at_once(warm, issuer.token())
    await until(lambda: warm.status().failures)
    await copy_of(memory)
    clock.shift(HOUR)
    assert await answer_to(RemoteJWKSet(issuer.url, store=memory), issuer.token()) == "200"


async def test_restart_in_an_outage_waits_for_nobody(
    issuer: IssuerServer, memory: WatchedStore, clock: Traveller
) -> None:
    await answer_to(RemoteJWKSet(issuer.url, store=memory), issuer.token())
    await copy_of(memory)
    clock.shift(HOUR)
    issuer.jwks.hangs = True
    worker = RemoteJWKSet(issuer.url, store=memory, timeout=30)
    async with worker.lifespan(Litestar()):
        await until(lambda: worker.status().usable)
        assert answers_at_once(worker, issuer.token())


class BrokenStore(MemoryStore):
    """A store that hangs or fails."""

    def __init__(self, error: Exception | None) -> None:
        super().__init__()
        self.error = error

    async def get(self, key: str, renew_for: Any = None) -> bytes | None:
        if self.error is None:
            await anyio.sleep_forever()
        raise self.error or AssertionError

    async def set(self, key: str, value: Any, expires_in: Any = None) -> None:
        await self.get(key)


@pytest.mark.parametrize("error", [None, OSError("gone"), RuntimeError("of another event loop")])
async def test_broken_store_costs_one_log_line(
    issuer: IssuerServer,
    error: Exception | None,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("litestar.security.jwt.key_providers._store._TIMEOUT", 0.05)
    worker = RemoteJWKSet(issuer.url, store=BrokenStore(error))
    assert await answer_to(worker, issuer.token()) == "200"
    assert await answer_to(worker, issuer.rotate().token()) == "200"
    await settled(worker)
    (message,) = caplog.messages
    assert "the store cannot be used" in message


def _hostile(listing: dict[str, Any], **changes: Any) -> bytes:
    return json.dumps([{**listing, **changes}]).encode()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda listing: b"garbage",
        lambda listing: b"\xff" * 100,
        lambda listing: b"[" * 100_000,
        lambda listing: b" " * (1024 * 1024 + 1),
        lambda listing: b"{}",
        lambda listing: _hostile(listing, asked_at=None),
        lambda listing: _hostile(listing, asked_at=1e300, fresh_until=2e300),
        lambda listing: _hostile(listing, fresh_until=1e300),
        lambda listing: _hostile(listing, fresh_until=0),
    ],
)
async def test_garbage_in_the_store_is_ignored_with_a_log_line_and_replaced(
    issuer: IssuerServer,
    memory: WatchedStore,
    clock: Traveller,
    spoil: Callable[[Any], bytes],
    caplog: pytest.LogCaptureFixture,
) -> None:
    await answer_to(RemoteJWKSet(issuer.url, store=memory), issuer.token())
    key, (listing,) = await copy_of(memory)
    await memory.set(key, spoil({**listing, "jwk": Signer("evil").jwk}))
    clock.shift(1)
    worker = RemoteJWKSet(issuer.url, store=memory)
    assert await answer_to(worker, issuer.token()) == "200"
    assert worker.status().key_ids == ("first",)
    await settled(worker)
    assert [message for message in caplog.messages if "the store cannot be used" in message]
    assert (await copy_of(memory))[1][0]["jwk"]["kid"] == "first"


async def test_secret_keys_in_the_store_are_never_used(issuer: IssuerServer, memory: WatchedStore) -> None:
    await answer_to(RemoteJWKSet(issuer.url, store=memory), issuer.token())
    key, (listing,) = await copy_of(memory)
    await memory.set(key, _hostile(listing, jwk={"kty": "oct", "kid": "first", "k": "c2VjcmV0"}))
    worker = RemoteJWKSet(issuer.url, store=memory)
    assert await answer_to(worker, issuer.token()) == "200"
    assert worker.status().fetches == 1


async def test_private_members_never_reach_the_store(issuer: IssuerServer, memory: WatchedStore) -> None:
    issuer.jwks.document["keys"][0] |= {"d": "secret", "x5c": ["long"]}
    await answer_to(RemoteJWKSet(issuer.url, store=memory), issuer.token())
    _, (listing,) = await copy_of(memory)
    assert listing["jwk"].keys() == {"kid", "kty", "crv", "x"}


async def test_copy_of_a_worker_whose_clock_is_ahead(
    issuer: IssuerServer, memory: WatchedStore, clock: Traveller
) -> None:
    await answer_to(RemoteJWKSet(issuer.url, store=memory), issuer.token())
    await copy_of(memory)
    clock.shift(-30)
    worker = RemoteJWKSet(issuer.url, store=memory)
    for _ in range(3):
        assert await answer_to(worker, issuer.token()) == "200"
    assert (worker.status().fetches, len(issuer.requests)) == (0, 1)


async def test_newer_copy_is_not_replaced_by_an_older_answer(
    issuer: IssuerServer, memory: WatchedStore, clock: Traveller
) -> None:
    slow, fast = (RemoteJWKSet(issuer.url, store=memory, timeout=30) for _ in range(2))
    issuer.jwks.hangs = True
    new = Signer("new")
    async with anyio.create_task_group() as tasks:
        _ = tasks.start_soon(slow.refresh)
        await until(lambda: issuer.requests)
        clock.shift(5)
        issuer.jwks.hangs = False
        issuer.publish(new)
        await fast.refresh()
        await settled(fast)
        issuer.release.set()
    await until(lambda: answers_at_once(slow, new.token()))
    await settled(slow)
    assert new.kid in [listing["jwk"]["kid"] for listing in (await copy_of(memory))[1]]


async def test_name_of_a_store_is_looked_up_when_the_application_starts(
    issuer: IssuerServer, memory: WatchedStore, caplog: pytest.LogCaptureFixture
) -> None:
    worker = RemoteJWKSet(issuer.url, store="keys")
    assert await answer_to(worker, issuer.token()) == "200"
    assert "no application has started" in caplog.text
    async with worker.lifespan(Litestar(stores={"keys": memory})):
        await worker.refresh()
        await copy_of(memory)


# Processes, and stores that they really share


@pytest.fixture
def redis_server() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed")
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    arguments = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    server = subprocess.Popen([program, *arguments], stdout=subprocess.DEVNULL)
    try:
        wait_for_port(port)
        yield f"redis://127.0.0.1:{port}", server
    finally:
        server.kill()
        server.wait()


def wait_for_port(port: int) -> None:
    give_up_at = monotonic() + 20
    while True:
        with socket.socket() as probe:
            if not probe.connect_ex(("127.0.0.1", port)):
                return
        assert monotonic() < give_up_at
        sleep(0.02)


@contextmanager
def processes(issuer: IssuerServer, place: str, workers: int) -> Iterator[Callable[[str], list[str]]]:
    """Start workers, and return a function that has all of them verify a token at the same time."""
    command = [sys.executable, str(Path(__file__).with_name("store_worker.py")), issuer.url, place]
    path = os.pathsep.join([str(Path(__file__).parents[5]), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path}
    fleet = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(workers)
    ]

    def verify(token: str) -> list[str]:
        for process in fleet:
            assert process.stdin
            process.stdin.write(f"{token}\n")
            process.stdin.flush()
        return [process.stdout.readline().strip() for process in fleet if process.stdout]

    try:
        assert [process.stdout.readline().strip() for process in fleet if process.stdout] == ["ready"] * workers
        yield verify
    finally:
        for process in fleet:
            process.kill()
            process.communicate()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("kind", ["file", "redis"])
def test_processes_share_a_store_and_restart_in_an_outage(
    issuer: IssuerServer, kind: str, tmp_path: Path, request: pytest.FixtureRequest, anyio_backend: str
) -> None:
    place = str(tmp_path) if kind == "file" else request.getfixturevalue("redis_server")[0]
    with processes(issuer, place, WORKERS) as verify:
        assert verify(issuer.token()) == ["200"] * WORKERS
        assert 1 <= len(issuer.requests) <= WORKERS
        assert verify(issuer.rotate().token()) == ["200"] * WORKERS
        assert len(issuer.requests) <= 2 * WORKERS
    issuer.stop()
    with processes(issuer, place, 1) as verify:
        assert verify(issuer.token()) == ["200"]
        assert verify(bogus()) == ["503"]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("what", ["killed", "hung", "emptied", "garbage"])
async def test_redis_that_fails_under_load_fails_no_request(
    issuer: IssuerServer,
    redis_server: tuple[str, subprocess.Popen[bytes]],
    memory: WatchedStore,
    clock: Traveller,
    what: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("litestar.security.jwt.key_providers._store._TIMEOUT", 0.1)
    place, server = redis_server
    store: Any = make_store(place)
    async with store:
        provider = RemoteJWKSet(issuer.url, store=store)
        for step in range(6):
            if step == 3 and what in {"killed", "hung"}:
                server.send_signal(signal.SIGKILL if what == "killed" else signal.SIGSTOP)
            elif step == 3 and what == "emptied":
                await store.delete_all()
            elif step == 3:
                await RemoteJWKSet(issuer.url, store=memory).refresh()
                await store.set((await copy_of(memory))[0], b"garbage")
            assert await answer_to(provider, issuer.token()) == "200"
            assert await answer_to(provider, issuer.rotate().token()) == "200"
            await settled(provider)
            clock.shift(2 * HOUR)
        assert provider.status().failures == 0


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_store_that_needs_another_event_loop_fails_no_request(
    issuer: IssuerServer, redis_server: tuple[str, subprocess.Popen[bytes]], caplog: pytest.LogCaptureFixture
) -> None:
    provider = RemoteJWKSet(issuer.url, store=make_store(redis_server[0]))
    assert await answer_to(provider, issuer.token()) == "200"
    assert "the store cannot be used" in caplog.text
