from __future__ import annotations

import asyncio
import gc
import json
import logging
import multiprocessing
import socket
import ssl
import sys
import threading
import tracemalloc
import warnings
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import httpx
import httpx2
import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from time_machine import Traveller

from litestar import Litestar
from litestar.exceptions import ImproperlyConfiguredException, MissingDependencyException
from litestar.security.jwt.key_providers.jwks import RemoteJWKSet
from litestar.security.jwt.keys import KeysUnavailableException
from litestar.security.jwt.unverified import UnverifiedToken

from .issuer_server import IssuerServer, Signer, answer_to, answers_at_once, ask, bogus, until

pytestmark = pytest.mark.anyio

MINUTE, HOUR, DAY = 60, 3600, 86_400


@pytest.fixture
def provider(issuer: IssuerServer, clock: Traveller) -> RemoteJWKSet:
    return RemoteJWKSet(issuer.url, timeout=30)


def http_date(seconds: float) -> str:
    return format_datetime(datetime.fromtimestamp(1_750_000_000 + seconds, UTC), usegmt=True)


# Hits, and renewals in the background


async def test_first_token_waits_for_the_keys_and_later_ones_do_not(
    provider: RemoteJWKSet, issuer: IssuerServer
) -> None:
    assert await answer_to(provider, issuer.token()) == "200"
    assert answers_at_once(provider, issuer.token())
    assert len(issuer.requests) == 1


@pytest.mark.parametrize("algorithm", ["RS256", "PS512", "ES256", "EdDSA"])
async def test_keys_of_every_kind_are_found(issuer: IssuerServer, algorithm: str) -> None:
    issuer.publish(Signer("any", algorithm), Signer("other"))
    assert await answer_to(RemoteJWKSet(issuer.url), issuer.token()) == "200"


async def test_due_answer_is_renewed_in_the_background(
    provider: RemoteJWKSet, issuer: IssuerServer, clock: Traveller
) -> None:
    await answer_to(provider, issuer.token())
    clock.shift(0.69 * 600)
    assert answers_at_once(provider, issuer.token())
    clock.shift(0.22 * 600)
    assert answers_at_once(provider, issuer.token())
    expected = datetime.fromtimestamp(1_750_000_000 + 0.91 * 600 + 600, UTC)
    await until(lambda: provider.status().expires_at == expected)


async def test_unchanged_keys_stay_the_same_objects(provider: RemoteJWKSet, issuer: IssuerServer) -> None:
    before = await ask(provider, issuer.token())
    await provider.refresh()
    assert ask(provider, issuer.token()).keys[0] is before.keys[0]


@pytest.mark.parametrize(
    ("headers", "lifetime"),
    [
        ({}, 600),
        ({"Cache-Control": "public, max-age=900"}, 900),
        ({"Cache-Control": 'max-age="900"', "Age": "100"}, 800),
        ({"Cache-Control": "max-age=900", "Expires": "0"}, 900),
        ({"Cache-Control": "max-age=5"}, 60),
        ({"Cache-Control": "max-age=99999999999999999999"}, DAY),
        ({"Cache-Control": "x-max-age=900"}, 600),
        ({"Cache-Control": "max-age=900", "Age": "nonsense"}, 900),
        ({"Date": http_date(-50), "Expires": http_date(850)}, 900),
        ({"Date": http_date(0), "Expires": http_date(900), "Age": "300"}, 600),
        ({"Expires": http_date(900)}, None),
        ({"Expires": "0"}, 60),
        ({"ETag": '"\xfc'}, 600),
    ],
)
async def test_answer_is_fresh_for_as_long_as_it_says(
    issuer: IssuerServer, clock: Traveller, headers: dict[str, str], lifetime: float | None
) -> None:
    content = json.dumps(issuer.jwks.document).encode()

    async def fetch(url: str, _: Mapping[str, str]) -> Any:
        return SimpleNamespace(status_code=200, headers=headers, content=content)

    provider = RemoteJWKSet(issuer.url, client=fetch)
    await provider.refresh()
    status = provider.status()
    assert status.fetched_at and status.expires_at
    assert (status.expires_at - status.fetched_at).total_seconds() == (lifetime or 900)


@pytest.mark.parametrize("lifetime", [30, timedelta(seconds=30)])
async def test_lifetime_overrides_what_the_answer_says(issuer: IssuerServer, clock: Traveller, lifetime: Any) -> None:
    issuer.jwks.headers = {"Cache-Control": "max-age=900"}
    provider = RemoteJWKSet(issuer.url, lifetime=lifetime)
    await provider.refresh()
    assert provider.status().expires_at == datetime.fromtimestamp(1_750_000_030, UTC)


async def test_answer_with_an_odd_entity_tag_is_renewed(
    provider: RemoteJWKSet, issuer: IssuerServer, clock: Traveller
) -> None:
    issuer.jwks.headers = {"ETag": 'W/"\xe4\xf6', "Last-Modified": "yesterday"}
    for fetches in (1, 2, 3):
        await provider.refresh()
        assert (provider.status().fetches, provider.status().failures) == (fetches, 0)


# Misses


async def test_new_key_is_found_at_once(provider: RemoteJWKSet, issuer: IssuerServer) -> None:
    await answer_to(provider, issuer.token())
    for _ in range(2):
        assert await answer_to(provider, issuer.rotate().token()) == "200"
    assert len(issuer.requests) == 3


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (Signer("same"), Signer("same")),
        (Signer("same", "RS256"), Signer("same", "ES256")),
        (Signer(None), Signer(None)),
        (Signer(None, "RS256"), Signer(None, "ES256")),
    ],
    ids=["same kid", "same kid, other kind", "no kid", "no kid, other kind"],
)
async def test_new_key_that_its_id_does_not_tell_from_the_old_one(
    provider: RemoteJWKSet, issuer: IssuerServer, old: Signer, new: Signer
) -> None:
    issuer.publish(old)
    issuer.jwks.headers = {"Cache-Control": "max-age=86400"}
    assert await answer_to(provider, old.token()) == "200"
    issuer.publish(new)
    assert await answer_to(provider, new.token()) == "200"
    assert answers_at_once(provider, old.token())
    assert len(issuer.requests) == 2


async def test_forged_signature_finds_nothing_new(provider: RemoteJWKSet, issuer: IssuerServer) -> None:
    await answer_to(provider, issuer.token())
    forged = bogus("first")
    for _ in range(5):
        assert await provider.look_again(UnverifiedToken(forged)) is None
    assert len(issuer.requests) == 3


async def test_made_up_ids_delay_a_new_key_by_no_more_than_the_refill(
    provider: RemoteJWKSet, issuer: IssuerServer, clock: Traveller
) -> None:
    await answer_to(provider, issuer.token())
    assert await answer_to(provider, bogus()) == "401"
    assert await answer_to(provider, issuer.rotate().token()) == "200"
    for number in range(300):
        assert await answer_to(provider, bogus(f"made-up-{number}")) == "401"
    assert len(issuer.requests) == 3
    new = issuer.rotate()
    waited = 0
    while await answer_to(provider, new.token()) != "200":
        assert await answer_to(provider, bogus()) == "401"
        clock.shift(1)
        waited += 1
    assert waited <= 15
    assert len(issuer.requests) == 4


async def test_made_up_ids_cost_a_bounded_number_of_fetches(
    provider: RemoteJWKSet, issuer: IssuerServer, clock: Traveller
) -> None:
    await answer_to(provider, issuer.token())
    for _ in range(150):
        clock.shift(1)
        await answer_to(provider, bogus())
    assert len(issuer.requests) == 1 + 2 + 9


async def test_withdrawn_key_asks_for_nothing(provider: RemoteJWKSet, issuer: IssuerServer, clock: Traveller) -> None:
    old = issuer.signers[0]
    await answer_to(provider, old.token())
    issuer.rotate()
    await provider.refresh()
    for _ in range(60):
        clock.shift(1)
        assert answers_at_once(provider, old.token())
    assert await answer_to(provider, issuer.rotate().token()) == "200"
    assert len(issuer.requests) == 3


async def test_token_that_meets_a_fetch_from_before_its_key_was_published_asks_once_more(
    provider: RemoteJWKSet, issuer: IssuerServer
) -> None:
    answers: list[str] = []

    async def request(token: str) -> None:
        answers.append(await answer_to(provider, token))

    await answer_to(provider, issuer.token())
    issuer.jwks.hangs = True
    async with anyio.create_task_group() as tasks:
        _ = tasks.start_soon(provider.refresh)
        await until(lambda: len(issuer.requests) == 2)
        _ = tasks.start_soon(request, issuer.rotate().token())
        await anyio.wait_all_tasks_blocked()
        issuer.release.set()
    assert answers == ["200"]
    assert len(issuer.requests) == 3


async def test_unknown_key_cannot_be_told_from_a_new_one_while_the_fetch_fails(
    provider: RemoteJWKSet, issuer: IssuerServer, clock: Traveller
) -> None:
    token = issuer.token()
    await answer_to(provider, token)
    issuer.jwks.status = 500
    new = issuer.rotate()
    assert await answer_to(provider, new.token()) == "503"
    assert await answer_to(provider, new.token()) == "503"
    with pytest.raises(KeysUnavailableException):
        await provider.look_again(UnverifiedToken(token))
    assert len(issuer.requests) == 2
    assert answers_at_once(provider, token)
    issuer.jwks.status = 200
    clock.shift(1)
    assert await answer_to(provider, new.token()) == "200"


# One fetch


async def test_a_thousand_first_requests_share_one_fetch_though_the_first_one_leaves(
    provider: RemoteJWKSet, issuer: IssuerServer
) -> None:
    token, answers, first = issuer.token(), list[str](), anyio.CancelScope()
    issuer.jwks.hangs = True

    async def request(scope: anyio.CancelScope) -> None:
        with scope:
            answers.append(await answer_to(provider, token))

    async with anyio.create_task_group() as tasks:
        _ = tasks.start_soon(request, first)
        await until(lambda: issuer.requests)
        first.cancel()
        for _ in range(1000):
            _ = tasks.start_soon(request, anyio.CancelScope())
        await anyio.wait_all_tasks_blocked()
        issuer.release.set()
    assert answers == ["200"] * 1000
    assert len(issuer.requests) == 1


async def test_older_answer_never_replaces_a_newer_one(clock: Traveller) -> None:
    old, new = Signer("old"), Signer("new")
    answers = {0: old, 1: new}
    asked: list[threading.Event] = []

    async def fetch(url: str, headers: Mapping[str, str]) -> Any:
        number, release = len(asked), threading.Event()
        asked.append(release)
        await anyio.to_thread.run_sync(release.wait)
        return SimpleNamespace(
            status_code=200, headers={}, content=json.dumps({"keys": [answers[number].jwk]}).encode()
        )

    provider = RemoteJWKSet("https://issuer.test/keys", timeout=30, client=fetch)
    other_loop = threading.Thread(target=lambda: anyio.run(provider.refresh))
    other_loop.start()
    await until(lambda: len(asked) == 1)
    clock.shift(1)
    async with anyio.create_task_group() as tasks:
        _ = tasks.start_soon(provider.refresh)
        await until(lambda: len(asked) == 2)
        asked[1].set()
    asked[0].set()
    other_loop.join()
    assert provider.status().key_ids == ("new",)


@pytest.mark.parametrize("run", [asyncio.run, trio.run])
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
def test_one_provider_serves_one_event_loop_after_the_other(
    issuer: IssuerServer, clock: Traveller, run: Callable[..., Any], anyio_backend: str
) -> None:
    provider = RemoteJWKSet(issuer.url, timeout=30)
    issuer.jwks.hangs = True

    async def leave_in_the_middle() -> None:
        async with anyio.create_task_group() as tasks:
            _ = tasks.start_soon(answer_to, provider, issuer.token())
            await until(lambda: issuer.requests)
            tasks.cancel_scope.cancel()

    run(leave_in_the_middle) if run is trio.run else run(leave_in_the_middle())
    issuer.jwks.hangs = False
    assert anyio.run(answer_to, provider, issuer.token()) == "200"
    assert anyio.run(answer_to, provider, issuer.rotate().token(), backend="trio") == "200"
    assert provider.status().failures == 0
    gc.collect()


async def test_several_event_loops_at_once(provider: RemoteJWKSet, issuer: IssuerServer) -> None:
    answers: list[str] = []
    issuer.jwks.hangs = True

    def run(backend: str) -> None:
        answers.append(anyio.run(answer_to, provider, issuer.token(), backend=backend))

    threads = [threading.Thread(target=run, args=(backend,)) for backend in ("asyncio", "trio") * 2]
    for thread in threads:
        thread.start()
    await until(lambda: len(issuer.requests) == 4)
    issuer.release.set()
    for thread in threads:
        await anyio.to_thread.run_sync(thread.join)
    assert answers == ["200"] * 4


def _verify_in_child(provider: RemoteJWKSet, tokens: list[str], pipe: Any) -> None:
    pipe.send([anyio.run(answer_to, provider, token) for token in tokens])


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
def test_fork_after_load(issuer: IssuerServer, anyio_backend: str) -> None:
    provider = RemoteJWKSet(issuer.url)
    first = issuer.token()
    assert anyio.run(answer_to, provider, first) == "200"
    tokens = [first, issuer.rotate().token()]
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=_verify_in_child, args=(provider, tokens, theirs))
    child.start()
    assert ours.poll(60) and ours.recv() == ["200", "200"]
    child.join()


async def test_made_up_ids_cost_no_memory(provider: RemoteJWKSet, issuer: IssuerServer) -> None:
    await answer_to(provider, issuer.token())
    tokens = [UnverifiedToken(bogus(f"made-up-{number}")) for number in range(50)]

    tracemalloc.start()
    try:
        before = tracemalloc.take_snapshot()
        for token in tokens:
            await answer_to(provider, token.encoded)
        grown = sum(s.size_diff for s in tracemalloc.take_snapshot().compare_to(before, "filename") if s.size_diff > 0)
    finally:
        tracemalloc.stop()
    assert grown < 2_000_000
    assert len(issuer.requests) == 3


# Outages and faults


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"status": 500}, "status 500"),
        ({"status": 404}, "status 404"),
        ({"status": 204, "body": b""}, "status 204"),
        ({"status": 302, "headers": {"Location": "/elsewhere"}}, "redirects are not followed"),
        ({"headers": {"Content-Encoding": "gzip"}}, "content coding"),
        ({"body": b" " * (512 * 1024 + 1)}, "524,288"),
        ({"body": b"<html>"}, "not JSON"),
        ({"body": b"[" * 100_000}, "not JSON"),
        ({"body": b"\xff"}, "not JSON"),
        ({"document": []}, "not a JWK Set"),
        ({"document": {"keys": {}}}, "not a JWK Set"),
        ({"document": {"keys": []}}, "no usable key in the answer"),
        ({"document": {"keys": [1, {"kid": "enc", "kty": "oct"}]}}, "'enc': unsupported 'kty'"),
        ({"document": {"keys": [1] * 101}}, "101 keys"),
        ({"length": 10_000}, "Error"),
        ({"hangs": True}, ""),
        ({"drips": True}, ""),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_bad_answer_is_a_failed_fetch_and_never_replaces_good_keys(
    issuer: IssuerServer, clock: Traveller, fault: dict[str, Any], reason: str
) -> None:
    good, token = issuer.jwks, issuer.token()
    # An answer that never ends takes until the deadline, which on a busy machine may be too early for good answers as well.
    provider = RemoteJWKSet(issuer.url, timeout=30 if reason else 1)
    bad = replace(good, **fault)
    issuer.answers["/jwks"] = bad
    assert await answer_to(provider, token) == "503"
    last_error = provider.status().last_error
    assert last_error and reason in last_error
    assert (provider.status().usable, provider.status().fetched_at) == (False, None)
    issuer.answers["/jwks"] = good
    clock.shift(1)
    while (answer := await answer_to(provider, token)) != "200" and not reason:
        clock.shift(MINUTE)
    assert answer == "200"
    issuer.answers["/jwks"] = bad
    failures = provider.status().failures
    with pytest.raises(KeysUnavailableException):
        await provider.refresh()
    assert answers_at_once(provider, token)
    assert (provider.status().usable, provider.status().failures) == (True, failures + 1)


async def test_deadline_is_named(issuer: IssuerServer) -> None:
    async def fetch(url: str, headers: Mapping[str, str]) -> Any:
        await anyio.sleep_forever()

    provider = RemoteJWKSet(issuer.url, timeout=0.1, client=fetch)
    assert await answer_to(provider, issuer.token()) == "503"
    assert provider.status().last_error == "no complete answer within 0.1 s"


async def test_server_that_never_speaks_tls_is_left_in_time(issuer: IssuerServer) -> None:
    # On a busy machine, the deadline of the fetch may come before the client's own, which ends connections properly.
    error = ""
    for timeout in (0.6, 5, 30):
        with warnings.catch_warnings(record=True, action="always") as caught:
            with socket.create_server(("127.0.0.1", 0)) as silent:
                provider = RemoteJWKSet(f"https://127.0.0.1:{silent.getsockname()[1]}/", timeout=timeout)
                assert await answer_to(provider, issuer.token()) == "503"
            gc.collect()
        error = str(provider.status().last_error)
        if "ConnectTimeout" in error:
            assert [str(w.message) for w in caught if w.category is ResourceWarning] == []
            return
    pytest.fail(error)


async def test_server_that_is_not_there(issuer: IssuerServer) -> None:
    issuer.stop()
    provider = RemoteJWKSet(f"{issuer.url}?code=secret")
    assert await answer_to(provider, issuer.token()) == "503"
    assert "ConnectError" in str(provider.status().last_error)
    assert "secret" not in f"{provider.status()}{provider!r}"


async def test_failed_fetch_is_repeated_after_1_2_4_seconds_and_so_on(
    provider: RemoteJWKSet, issuer: IssuerServer, clock: Traveller
) -> None:
    issuer.jwks.status = 503
    for delay in (1, 2, 4, 8, 16, 30, 30):
        asked = len(issuer.requests)
        assert await answer_to(provider, issuer.token()) == "503"
        clock.shift(0.74 * delay)
        with pytest.raises(KeysUnavailableException) as caught:
            await ask(provider, issuer.token())
        assert caught.value.headers and 1 <= int(caught.value.headers["Retry-After"]) <= delay
        assert len(issuer.requests) == asked + 1
        clock.shift(0.26 * delay + 0.001)
    issuer.jwks.status = 200
    assert await answer_to(provider, issuer.token()) == "200"
    assert provider.status().last_error is None


@pytest.mark.parametrize(
    ("value", "seconds"), [("10", 10), (http_date(10), 10), ("100000", 30), ("0", 1), ("soon", 1), (http_date(-5), 1)]
)
async def test_retry_after_of_the_issuer_is_respected_up_to_a_limit(
    provider: RemoteJWKSet, issuer: IssuerServer, clock: Traveller, value: str, seconds: float
) -> None:
    issuer.jwks.status, issuer.jwks.headers = 503, {"Retry-After": value}
    await answer_to(provider, issuer.token())
    issuer.jwks.status = 200
    clock.shift(0.7 * seconds)
    assert await answer_to(provider, issuer.token()) == "503"
    clock.shift(0.3 * seconds + 0.001)
    assert await answer_to(provider, issuer.token()) == "200"


async def test_failed_renewal_is_not_seen_by_requests_until_keys_are_too_old(
    provider: RemoteJWKSet, issuer: IssuerServer, clock: Traveller, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    token = issuer.token()
    await answer_to(provider, token)
    issuer.jwks.status = 500
    clock.shift(599)
    for failures in range(1, 7):
        assert answers_at_once(provider, token)
        await until(lambda: provider.status().failures == failures)
        clock.shift(31)
    clock.move_to(1_750_000_000 + 600 + DAY - 1)
    assert answers_at_once(provider, token)
    await until(lambda: provider.status().failures == 7)
    assert provider.status().usable
    clock.shift(1)
    assert not provider.status().usable
    assert provider.status().usable_until == datetime.fromtimestamp(1_750_000_000 + 600 + DAY, UTC)
    assert await answer_to(provider, token) == "503"
    issuer.jwks.status = 200
    clock.shift(31)
    assert await answer_to(provider, token) == "200"
    assert [
        record.message.partition(": ")[2] for record in caplog.records if record.name == "litestar.security.jwt"
    ] == [
        "fetching keys failed (status 500)",
        "keys are no longer accepted: 'first'",
        "fetching keys works again",
    ]


@pytest.mark.parametrize("grace", [0, 100, HOUR])
async def test_withdrawn_key_is_accepted_until_its_grace_is_over(
    issuer: IssuerServer, clock: Traveller, grace: float, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    provider = RemoteJWKSet(issuer.url, withdrawn_grace=grace, max_stale=DAY)
    old = issuer.token()
    await answer_to(provider, old)
    clock.shift(10)
    new = issuer.rotate()
    await provider.refresh()
    assert (provider.status().key_ids, provider.status().withdrawn_key_ids) == ((new.kid,), ("first",))
    clock.move_to(1_750_000_000 + 600 + grace - 1)
    assert answers_at_once(provider, old)
    clock.shift(1)
    assert await answer_to(provider, old) == "401"
    assert await answer_to(provider, new.token()) == "200"
    assert provider.status().withdrawn_key_ids == ()
    messages = [
        record.message.partition(": ")[2] for record in caplog.records if record.name == "litestar.security.jwt"
    ]
    assert messages == [
        f"keys were rotated, new: {new.kid!r}, withdrawn: 'first'",
        "keys are no longer accepted: 'first'",
    ]


async def test_no_more_than_200_keys_are_kept(provider: RemoteJWKSet, issuer: IssuerServer, clock: Traveller) -> None:
    for generation in range(4):
        clock.shift(1)
        issuer.publish(*(Signer(f"{generation}-{number}") for number in range(80)))
        await provider.refresh()
    status = provider.status()
    assert (len(status.key_ids), len(status.withdrawn_key_ids)) == (80, 120)
    assert status.key_ids == tuple(f"3-{number}" for number in range(80))


@pytest.mark.parametrize("seconds", [-1, -3 * DAY])
async def test_clock_that_was_set_back_stops_nothing(
    provider: RemoteJWKSet, issuer: IssuerServer, clock: Traveller, seconds: float
) -> None:
    token = issuer.token()
    for _ in range(4):
        await answer_to(provider, bogus())
    issuer.jwks.status = 500
    with pytest.raises(KeysUnavailableException):
        await provider.refresh()
    issuer.jwks.status = 200
    clock.shift(seconds)
    assert answers_at_once(provider, token)
    clock.shift(2)
    assert answers_at_once(provider, token)
    assert await answer_to(provider, issuer.rotate().token()) == "200"
    assert (provider.status().failures, provider.status().last_error) == (1, None)


# What an answer may have in it


async def test_byte_order_mark_is_skipped(provider: RemoteJWKSet, issuer: IssuerServer) -> None:
    issuer.jwks.body = b"\xef\xbb\xbf" + json.dumps(issuer.jwks.document).encode()
    assert await answer_to(provider, issuer.token()) == "200"


async def test_unusable_keys_are_skipped_and_named_once(
    provider: RemoteJWKSet, issuer: IssuerServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "litestar.security.jwt")
    good = issuer.signers[0]
    odd = [Signer("enc", use="enc").jwk, {"kid": "secret", "kty": "oct", "k": "x"}, {"kty": "EC"}, None, {"kid": 1}]
    odd += [good.jwk | members for members in ({"kid": 1}, {"alg": 1}, {"issuer": 1}, {"alg": "HS256"})]
    issuer.jwks.document = {"keys": [*odd, good.jwk | {"use": None}]}
    for _ in range(3):
        await provider.refresh()
    assert await answer_to(provider, good.token()) == "200"
    skipped = {
        "'enc': not for signatures ('use')": logging.DEBUG,
        "'secret': unsupported 'kty'": logging.WARNING,
        "no key ID: invalid key material": logging.WARNING,
        "no key ID: not a JSON object": logging.WARNING,
        "no key ID: unsupported 'kty'": logging.WARNING,
        "no key ID: 'kid' is not a string": logging.WARNING,
        "'first': 'alg' is not a string": logging.WARNING,
        "'first': 'issuer' is not a string": logging.WARNING,
        "'first': 'alg' is unsupported or does not fit the key": logging.WARNING,
    }
    assert set(provider.status().skipped) == set(skipped)
    logged = {r.message.partition("skipped, ")[2]: r.levelno for r in caplog.records if "skipped" in r.message}
    assert logged == skipped
    assert len([r for r in caplog.records if "skipped" in r.message]) == len(skipped)


# Options


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        (None, {}, "'url' is 'None'"),
        ("", {}, "'url' is ''"),
        ("https://issuer.example/<tenant>/keys", {}, "placeholders"),
        ("https://issuer.example/{tenant}/keys", {}, "placeholders"),
        (" https://issuer.example/keys", {}, "placeholders"),
        ("issuer.example/keys", {}, "https"),
        ("ftp://issuer.example/keys", {}, "https"),
        ("https:///keys", {}, "full https URL"),
        ("https://issuer.example:99999/", {}, "full https URL"),
        ("https://issuer.example:0/", {}, "full https URL"),
        ("https://[::1/", {}, "full https URL"),
        ("https://user:secret@issuer.example/", {}, "credentials"),
        ("https://issuer.example/#keys", {}, "fragment"),
        ("http://issuer.example/keys", {}, "allow_http=True"),
        ("https://issuer.example/", {"lifetime": 0}, "'lifetime' is 0"),
        ("https://issuer.example/", {"timeout": -1}, "'timeout' is -1"),
        ("https://issuer.example/", {"timeout": 0}, "'timeout' is 0"),
        ("https://issuer.example/", {"timeout": "5"}, "'timeout' is '5'"),
        ("https://issuer.example/", {"max_stale": float("nan")}, "'max_stale' is nan"),
        ("https://issuer.example/", {"withdrawn_grace": float("inf")}, "'withdrawn_grace' is inf"),
        ("https://issuer.example/", {"withdrawn_grace": timedelta(-1)}, "'withdrawn_grace' is"),
        ("https://issuer.example/", {"headers": {"a b": "c"}}, "'headers'"),
        ("https://issuer.example/", {"headers": {"a": "secret\n"}}, "'headers'"),
        ("https://issuer.example/", {"client": httpx.Client()}, "synchronous Client"),
        ("https://issuer.example/", {"client": httpx2.Client()}, "synchronous Client"),
        ("https://issuer.example/", {"client": "https://proxy.example"}, "'client' is a str"),
        ("https://issuer.example/", {"store": object()}, "'store' is <object"),
        ("https://issuer.example/", {"store": ""}, "'store' is ''"),
    ],
)
async def test_mistakes_are_told_at_construction(url: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ImproperlyConfiguredException) as caught:
        RemoteJWKSet(url, **options)
    assert message in caught.value.detail
    assert "secret" not in caught.value.detail


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("http://localhost/keys", {}),
        ("http://[::1]:8000/keys", {}),
        ("http://keys.internal/", {"allow_http": True}),
        ("https://issuer.example:8443/keys?p=b2c_1", {"timeout": timedelta(seconds=2)}),
    ],
)
async def test_urls_that_keys_may_come_from(url: str, options: dict[str, Any]) -> None:
    assert repr(RemoteJWKSet(url, **options)) == f"RemoteJWKSet({url.partition('?')[0]!r})"


async def test_header_fields_are_sent(issuer: IssuerServer) -> None:
    await RemoteJWKSet(issuer.url, headers={"X-Api-Key": "abc", "Accept-Encoding": "br"}).refresh()
    (sent,) = issuer.headers
    assert (sent["x-api-key"], sent["accept-encoding"]) == ("abc", "identity")


@pytest.mark.parametrize("library", [httpx, httpx2])
async def test_clients_of_the_application_are_used_and_not_closed(issuer: IssuerServer, library: Any) -> None:
    async with library.AsyncClient(headers={"x-mine": "yes"}, follow_redirects=True) as client:
        provider = RemoteJWKSet(issuer.url, client=client)
        async with provider.lifespan(Litestar()):
            assert await answer_to(provider, issuer.token()) == "200"
        assert not client.is_closed
        issuer.jwks.status, issuer.jwks.headers = 302, {"Location": "/elsewhere"}
        with pytest.raises(KeysUnavailableException):
            await provider.refresh()
    assert issuer.headers[0]["x-mine"] == "yes"


@pytest.mark.parametrize("response", [None, SimpleNamespace(status_code=200, headers={}, content=None), KeyError("?")])
async def test_function_that_returns_nonsense_is_a_failed_fetch(issuer: IssuerServer, response: Any) -> None:
    async def fetch(url: str, headers: Mapping[str, str]) -> Any:
        if isinstance(response, Exception):
            raise response
        return response

    provider = RemoteJWKSet(issuer.url, client=fetch)
    assert await answer_to(provider, issuer.token()) == "503"
    assert "Error" in str(provider.status().last_error)


@pytest.mark.parametrize(("installed", "used"), [({"httpx", "httpx2"}, "httpx2"), ({"httpx"}, "httpx")])
async def test_httpx2_is_preferred(
    issuer: IssuerServer, monkeypatch: pytest.MonkeyPatch, installed: set[str], used: str
) -> None:
    hide_libraries(monkeypatch, installed)
    assert await answer_to(RemoteJWKSet(issuer.url), issuer.token()) == "200"
    assert issuer.headers[0]["user-agent"].startswith(f"python-{used}/")


async def test_missing_library_is_told_at_construction(monkeypatch: pytest.MonkeyPatch) -> None:
    hide_libraries(monkeypatch, set())
    with pytest.raises(MissingDependencyException, match=r"litestar\[jwks\]"):
        RemoteJWKSet("https://issuer.example/keys")


def hide_libraries(monkeypatch: pytest.MonkeyPatch, installed: set[str]) -> None:
    for name in {"httpx", "httpx2"} - installed:
        monkeypatch.setitem(sys.modules, name, None)


async def test_loopback_is_never_reached_through_a_proxy(issuer: IssuerServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert await answer_to(RemoteJWKSet(issuer.url), issuer.token()) == "200"


async def test_proxy_of_the_environment_is_used_for_other_hosts(
    issuer: IssuerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, issuer.issuer)
    issuer.answers["http://issuer.test/jwks"] = issuer.jwks
    provider = RemoteJWKSet("http://issuer.test/jwks", allow_http=True)
    assert await answer_to(provider, issuer.token()) == "200"
    assert issuer.requests == ["http://issuer.test/jwks"]


async def test_renewed_ca_file_is_read(
    issuer: IssuerServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Traveller
) -> None:
    old, new = (certificate(tmp_path / name) for name in ("old.pem", "new.pem"))
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes(old.read_bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(ca_file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(new)
    issuer.stop()
    issuer.start()
    assert issuer._server
    issuer._server.socket = context.wrap_socket(issuer._server.socket, server_side=True)
    provider = RemoteJWKSet(issuer.url.replace("http://", "https://"))
    assert await answer_to(provider, issuer.token()) == "503"
    assert "certificate verify failed" in str(provider.status().last_error).lower()
    ca_file.write_bytes(new.read_bytes())
    clock.shift(1)
    assert await answer_to(provider, issuer.token()) == "200"


def certificate(path: Path) -> Path:
    """Write a certificate for the loopback interface, with its key, that is signed with this key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, path.stem)])
    built = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2099, 1, 1, tzinfo=UTC))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + built.public_bytes(serialization.Encoding.PEM))
    return path


# Life


async def test_start_fetches_ahead_and_waits_for_nobody(issuer: IssuerServer) -> None:
    issuer.jwks.hangs = True
    provider = RemoteJWKSet(issuer.url, timeout=30)
    token, answers = issuer.token(), list[str]()

    async def request() -> None:
        answers.append(await answer_to(provider, token))

    async with provider.lifespan(Litestar()), anyio.create_task_group() as tasks:
        await until(lambda: issuer.requests)
        _ = tasks.start_soon(request)
        await anyio.wait_all_tasks_blocked()
        issuer.release.set()
    assert answers == ["200"]
    assert len(issuer.requests) == 1


async def test_start_waits_for_keys_that_are_required(issuer: IssuerServer, clock: Traveller) -> None:
    provider = RemoteJWKSet(issuer.url, require_on_startup=True)
    issuer.jwks.status = 500
    with pytest.raises(KeysUnavailableException, match="status 500"):
        async with provider.lifespan(Litestar()):
            pytest.fail("it must not start")
    issuer.jwks.status = 200
    for _ in range(2):
        async with provider.lifespan(Litestar()):
            assert answers_at_once(provider, issuer.token())
    assert len(issuer.requests) == 2


async def test_end_of_the_last_application_ends_its_fetch(issuer: IssuerServer) -> None:
    issuer.jwks.hangs = True
    provider = RemoteJWKSet(issuer.url, timeout=30)
    answers: list[str] = []

    async def request() -> None:
        answers.append(await answer_to(provider, issuer.token()))

    async with anyio.create_task_group() as tasks:
        async with provider.lifespan(Litestar()):
            async with provider.lifespan(Litestar()):
                await until(lambda: issuer.requests)
                _ = tasks.start_soon(request)
                await anyio.wait_all_tasks_blocked()
            await anyio.wait_all_tasks_blocked()
            assert (answers, len(issuer.requests)) == ([], 1)
            issuer.jwks.hangs = False
    # The request belongs to nobody that has ended, so it asks again.
    assert (answers, len(issuer.requests)) == (["200"], 2)


async def test_miss_that_meets_the_end_of_an_application_is_not_refused(issuer: IssuerServer) -> None:
    provider = RemoteJWKSet(issuer.url, timeout=30)
    answers: list[str] = []
    async with anyio.create_task_group() as tasks:
        async with provider.lifespan(Litestar()):
            await answer_to(provider, issuer.token())
            issuer.jwks.hangs = True
            new = issuer.rotate().token()

            async def request() -> None:
                answers.append(await answer_to(provider, new))

            _ = tasks.start_soon(request)
            await until(lambda: len(issuer.requests) == 2)
        await until(lambda: answers)
    assert answers == ["503"]


async def test_keys_in_memory_serve_where_there_is_no_event_loop(
    provider: RemoteJWKSet, issuer: IssuerServer, clock: Traveller
) -> None:
    await answer_to(provider, issuer.token())
    clock.shift(599)
    assert await anyio.to_thread.run_sync(answers_at_once, provider, issuer.token())
    assert len(issuer.requests) == 1


async def test_copies_are_the_same_provider(provider: RemoteJWKSet) -> None:
    assert deepcopy([provider]) == [provider]
    assert provider.issuers == ()


async def test_status_counts(provider: RemoteJWKSet, issuer: IssuerServer) -> None:
    await answer_to(provider, issuer.token())
    await answer_to(provider, issuer.token())
    await answer_to(provider, bogus())
    issuer.jwks.status = 500
    await answer_to(provider, bogus())
    status = provider.status()
    assert (status.url, status.issuer) == (issuer.url, None)
    assert (status.fetches, status.failures, status.misses) == (3, 1, 3)
