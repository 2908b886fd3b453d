from __future__ import annotations

import asyncio
import gc
import json
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from copy import deepcopy
from dataclasses import FrozenInstanceError, replace
from datetime import timedelta
from inspect import isawaitable
from math import inf, nan
from pathlib import Path
from typing import Any, cast
from unittest.mock import AsyncMock, Mock

import anyio
import httpx2
import pytest
from anyio import to_thread

from litestar.exceptions import ImproperlyConfiguredException
from litestar.security.jwt import KeysUnavailableException, RemoteJWKSet, UnverifiedToken
from tests.unit.test_security.test_jwt.backends import CLAIMS, app_of, backend, on_both_libraries

from .issuer_server import DAY, HOUR, START, STRANGER, Clock, Issuer, Signer, at, bogus, fake_client, jwks_of
from .lookups import APP, Log, answer_to, answers_at_once, exit_codes, lines_of, look_up, looking_up, until


@pytest.fixture
def provider(issuer: Issuer) -> RemoteJWKSet:
    return RemoteJWKSet(issuer.url, timeout=30)


@pytest.fixture
def warm(provider: RemoteJWKSet) -> RemoteJWKSet:
    """A provider that has fetched the keys once."""
    anyio.run(provider.refresh)
    return provider


async def leave_in_the_middle(provider: RemoteJWKSet, issuer: Issuer) -> None:
    """Cancel a request that waits for the issuer."""
    issuer.jwks.hangs = True
    with anyio.CancelScope() as request:
        async with looking_up(provider, issuer.token()):
            await until(lambda: issuer.requests)
            request.cancel()


@on_both_libraries
async def test_due_answer_is_renewed_in_the_background(warm: RemoteJWKSet, issuer: Issuer, clock: Clock) -> None:
    clock.shift(0.69 * 600)
    assert answers_at_once(warm, issuer.token())
    clock.shift(0.22 * 600)
    assert await to_thread.run_sync(answers_at_once, warm, issuer.token())  # where there is no event loop
    assert len(issuer.requests) == 1
    assert answers_at_once(warm, issuer.token())
    await until(lambda: warm.status().expires_at == at(0.91 * 600 + 600))
    assert len(issuer.requests) == 2


@pytest.mark.parametrize(
    ("headers", "options", "lifetime"),
    [
        ({}, {}, 600),
        ({"Cache-Control": "public, max-age=900"}, {}, 900),
        ({"Cache-Control": 'max-age="900"', "Age": "100"}, {}, 800),
        ({"Cache-Control": "max-age=900", "Expires": "0"}, {}, 900),
        ({"Cache-Control": "max-age=5"}, {}, 60),
        ({"Cache-Control": "max-age=99999999999999999999"}, {}, DAY),
        ({"Cache-Control": "x-max-age=900"}, {}, 600),
        ({"Cache-Control": "max-age=900", "Age": "nonsense"}, {}, 900),
        ({"Date": "Sun, 15 Jun 2025 15:05:50 GMT", "Expires": "Sun, 15 Jun 2025 15:20:50 GMT"}, {}, 900),
        ({"Date": "Sun, 15 Jun 2025 15:06:40 GMT", "Expires": "Sun, 15 Jun 2025 15:21:40 GMT", "Age": "300"}, {}, 600),
        ({"Expires": "Sun, 15 Jun 2025 15:21:40 GMT"}, {}, 900),
        ({"Expires": "0"}, {}, 60),
        ({"Expires": "Fri, 31 Dec 10000 23:59:59 GMT"}, {}, 60),
        ({"Cache-Control": "no-store"}, {}, 60),
        ({"Cache-Control": "no-store, max-age=900"}, {}, 60),
        ({"Cache-Control": "no-cache"}, {}, 600),
        ({"Cache-Control": "max-age=900"}, {"lifetime": 30}, 30),
        ({"Cache-Control": "max-age=900"}, {"lifetime": timedelta(seconds=30)}, 30),
    ],
)
@on_both_libraries
async def test_answer_is_fresh_as_long_as_it_says(clock: Clock, headers: Any, options: Any, lifetime: float) -> None:
    client = fake_client(lambda url: jwks_of(Signer()), **headers)
    provider = RemoteJWKSet("https://issuer.test/keys", client=client, **options)
    await provider.refresh()
    assert (provider.status().fetched_at, provider.status().expires_at) == (at(0), at(lifetime))


@pytest.mark.parametrize("kid", ["same", None])
@pytest.mark.parametrize("algorithms", [("EdDSA", "EdDSA"), ("PS256", "ES256")])
@on_both_libraries
async def test_only_a_new_key_is_waited_for_though_its_id_is_known(
    provider: RemoteJWKSet, issuer: Issuer, kid: str | None, algorithms: tuple[str, str]
) -> None:
    old, new = (Signer(kid, algorithm) for algorithm in algorithms)
    for signer in (old, new):
        issuer.publish(signer)
        assert await answer_to(provider, signer.token()) == "200"
        assert answers_at_once(provider, old.token())
    assert len(issuer.requests) == 2


@pytest.mark.parametrize("kid", ["made-up", "first"])
@on_both_libraries
async def test_forged_tokens_delay_a_new_key(warm: RemoteJWKSet, issuer: Issuer, clock: Clock, kid: str) -> None:
    forged = bogus(kid)
    assert await answer_to(warm, forged) == "401"
    assert await answer_to(warm, issuer.rotate().token()) == "200"
    for _ in range(300):
        assert await answer_to(warm, forged) == "401"
    assert len(issuer.requests) == 3
    new = issuer.rotate().token()
    for seconds, answer in ((0, "401"), (14.9, "401"), (0.1, "200")):
        clock.shift(seconds)
        assert [await answer_to(warm, token) for token in (new, forged)] == [answer, "401"]
    assert len(issuer.requests) == 4


@on_both_libraries
async def test_fetch_from_before_a_key_was_published_is_repeated(warm: RemoteJWKSet, issuer: Issuer) -> None:
    issuer.jwks.hangs = True
    async with looking_up(warm, bogus()):
        await until(lambda: len(issuer.requests) == 2)
        async with looking_up(warm, issuer.rotate().token()) as answers:
            issuer.release.set()
    assert (answers, len(issuer.requests)) == (["200"], 3)


@on_both_libraries
async def test_unknown_key_may_be_new_if_the_fetch_fails(warm: RemoteJWKSet, issuer: Issuer, clock: Clock) -> None:
    token, new = issuer.token(), issuer.rotate()
    issuer.jwks.status = 500
    for _ in range(2):
        assert await answer_to(warm, new.token()) == "503"
    with pytest.raises(KeysUnavailableException):
        await warm.refetch(UnverifiedToken(token))
    assert answers_at_once(warm, token)
    status = warm.status()
    assert (status.url, status.issuer, status.last_error) == (issuer.url, None, f"{issuer.url}: status 500")
    assert (status.fetches, status.failures, status.misses, len(issuer.requests)) == (2, 1, 3, 2)
    issuer.jwks.status = 200
    clock.shift(1)
    assert await answer_to(warm, new.token()) == "200"


@on_both_libraries
async def test_first_requests_share_a_fetch_though_one_leaves(provider: RemoteJWKSet, issuer: Issuer) -> None:
    await leave_in_the_middle(provider, issuer)
    copy_for_another_handler = deepcopy(provider)
    async with looking_up(copy_for_another_handler, *[issuer.token()] * 1000) as answers:
        issuer.release.set()
    assert answers == ["200"] * 1000
    assert len(issuer.requests) == 1


def test_older_answer_replaces_no_newer_one(provider: RemoteJWKSet, issuer: Issuer, clock: Clock) -> None:
    issuer.jwks.hangs = True
    with ThreadPoolExecutor(4) as threads:
        older = threads.map(lambda library: anyio.run(provider.refresh, backend=library), ("asyncio", "trio") * 2)
        anyio.run(until, lambda: len(issuer.requests) == 4)
        issuer.jwks.hangs = False
        clock.shift(1)
        new = issuer.rotate()
        anyio.run(provider.refresh)
        issuer.release.set()
        assert list(older) == [None] * 4
    assert provider.status().key_ids == (new.kid,)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_one_event_loop_after_the_other(provider: RemoteJWKSet, issuer: Issuer, backend: str) -> None:
    anyio.run(leave_in_the_middle, provider, issuer, backend=backend)
    issuer.jwks.hangs = False
    assert anyio.run(answer_to, provider, issuer.token()) == "200"
    assert anyio.run(answer_to, provider, issuer.rotate().token(), backend="trio") == "200"
    assert provider.status().failures == 0
    gc.collect()


def test_fork_after_load(warm: RemoteJWKSet, issuer: Issuer) -> None:
    tokens = [issuer.token(), issuer.rotate().token()]

    def work() -> None:
        assert [anyio.run(answer_to, warm, token) for token in tokens] == ["200", "200"]

    assert exit_codes(work) == [0]


@pytest.mark.parametrize(
    ("headers", "delays"),
    [
        ({}, (1, 2, 4, 8, 16, 30, 30)),
        ({"Retry-After": "10"}, (10, 10, 10, 10, 16)),
        ({"Retry-After": "100000"}, (30, 30)),
        ({"Retry-After": "0"}, (1, 2)),
        ({"Retry-After": "soon"}, (1, 2)),
        ({"Retry-After": "Sun, 15 Jun 2025 15:06:50 GMT"}, (10, 2)),
        ({"Retry-After": "Sun, 15 Jun 2025 15:06:00 GMT"}, (1, 2)),
    ],
)
@on_both_libraries
async def test_failed_fetch_is_repeated_later_and_later(
    provider: RemoteJWKSet, issuer: Issuer, clock: Clock, headers: dict[str, str], delays: tuple[int, ...]
) -> None:
    issuer.jwks.status, issuer.jwks.headers = 503, headers
    for fetches, delay in enumerate(delays, 1):
        with pytest.raises(KeysUnavailableException, match=r": Keys to verify tokens with are unavailable$") as caught:
            await look_up(provider, issuer.token())
        assert caught.value.headers and 0.75 * delay <= int(caught.value.headers["Retry-After"]) <= delay
        clock.shift(0.75 * delay)
        assert await answer_to(provider, issuer.token()) == "503"
        assert len(issuer.requests) == fetches
        clock.shift(0.25 * delay)
    issuer.jwks.status = 200
    assert await answer_to(provider, issuer.token()) == "200"
    assert provider.status().last_error is None


@pytest.mark.parametrize(
    ("document", "seconds"), [(lambda url: jwks_of(STRANGER), 0.8 * 600), (lambda url: [], 0.9), (ConnectionError, 0.9)]
)
@on_both_libraries
async def test_fleet_does_not_ask_at_once(clock: Clock, document: Any, seconds: float) -> None:
    fetch_document = Mock(side_effect=document)
    fleet = [RemoteJWKSet("https://issuer.test/keys", client=fake_client(fetch_document)) for _ in range(100)]
    for shift in (0, seconds):
        clock.shift(shift)
        for provider in fleet:
            await answer_to(provider, STRANGER.token())
        await anyio.wait_all_tasks_blocked()
    assert 100 < fetch_document.call_count < 200


@on_both_libraries
async def test_failed_renewals_go_unnoticed(warm: RemoteJWKSet, issuer: Issuer, clock: Clock, records: Log) -> None:
    token = issuer.token()
    issuer.jwks.status = 500
    clock.shift(599)
    for failures in range(1, 7):
        assert answers_at_once(warm, token)
        await until(lambda: warm.status().failures == failures)
        clock.shift(31)
    clock.move_to(START + 600 + DAY - 1)
    assert answers_at_once(warm, token)
    await until(lambda: warm.status().failures == 7)
    assert warm.status().usable
    clock.shift(1)
    assert (warm.status().usable, warm.status().usable_until) == (False, at(600 + DAY))
    assert await answer_to(warm, token) == "503"
    issuer.jwks.status = 200
    clock.shift(31)
    assert await answer_to(warm, token) == "200"
    failed, dropped, found, recovered = lines_of(records)
    assert "failed" in failed and "status 500" in failed and repr(warm) in failed
    assert "keys: none" in dropped and "keys: 'first'" in found and "again" in recovered


@pytest.mark.parametrize(
    ("grace", "elapsed"),
    [
        pytest.param(100, 10, id="short-grace"),
        pytest.param(HOUR, 10, id="long-grace"),
        pytest.param(HOUR, 0, id="within-the-same-moment"),
        pytest.param(HOUR, -5, id="after-the-clock-was-set-back"),
    ],
)
@on_both_libraries
async def test_withdrawn_key_has_a_grace(
    issuer: Issuer, clock: Clock, grace: float, elapsed: float, records: Log
) -> None:
    provider, old = RemoteJWKSet(issuer.url, timeout=30, withdrawn_grace=grace), issuer.token()
    await provider.refresh()
    clock.shift(elapsed)
    new = issuer.rotate()
    await provider.refresh()
    assert (provider.status().key_ids, provider.status().withdrawn_key_ids) == ((new.kid,), ("first",))
    (rotated,) = lines_of(records)
    assert f"keys: {new.kid!r}, withdrawn: 'first'" in rotated
    for _ in range(60):
        clock.shift(1)
        assert answers_at_once(provider, old)
    assert await answer_to(provider, issuer.rotate().token()) == "200"
    assert len(issuer.requests) == 3
    clock.move_to(START + 600 + grace - 1)
    await provider.refresh()
    assert answers_at_once(provider, old)
    clock.shift(1)
    assert "first" not in provider.status().withdrawn_key_ids
    assert await answer_to(provider, old) == "401"
    assert "'first'" not in lines_of(records)[-1]


@on_both_libraries
async def test_no_more_than_200_withdrawn_keys_are_kept(provider: RemoteJWKSet, issuer: Issuer, clock: Clock) -> None:
    for generation in range(4):
        clock.shift(1)
        issuer.publish(*(Signer(f"{generation}-{number}") for number in range(100)))
        await provider.refresh()
    assert provider.status().key_ids == tuple(f"3-{number}" for number in range(100))
    withdrawn = [f"{generation}-{number}" for generation in (2, 1) for number in range(100)]
    assert provider.status().withdrawn_key_ids == tuple(withdrawn)


@pytest.mark.parametrize("seconds", [-1, -3 * DAY])
@on_both_libraries
async def test_clock_that_was_set_back(warm: RemoteJWKSet, issuer: Issuer, clock: Clock, seconds: float) -> None:
    for _ in range(4):
        await answer_to(warm, bogus())
    issuer.jwks.status = 500
    with pytest.raises(KeysUnavailableException):
        await warm.refresh()
    issuer.jwks.status = 200
    for shift in (seconds, 2):
        clock.shift(shift)
        assert answers_at_once(warm, issuer.token())
    assert await answer_to(warm, issuer.rotate().token()) == "200"
    assert (warm.status().failures, warm.status().last_error) == (1, None)


@on_both_libraries
async def test_byte_order_mark_and_odd_keys_are_skipped(provider: RemoteJWKSet, issuer: Issuer, records: Log) -> None:
    good = issuer.signers[0]
    odd = [Signer("enc", use="enc").jwk, {"kid": "secret", "kty": "oct", "k": "x"}, None, good.jwk | {"kid": 1}]
    document = b"\xef\xbb\xbf" + json.dumps({"keys": [*odd, good.jwk | {"use": None}]}).encode()
    issuer.jwks.document = document.ljust(512 * 1024)
    for _ in range(3):
        await provider.refresh()
    assert await answer_to(provider, good.token()) == "200"
    levels = {record.getMessage().partition("skipped, ")[2]: record.levelno for record in records}
    assert levels == {
        "'enc': not for signatures ('use')": logging.DEBUG,
        "'secret': unsupported 'kty'": logging.WARNING,
        "no key ID: not a JSON object": logging.WARNING,
        "no key ID: 'kid' is not a string": logging.WARNING,
    }
    assert (set(provider.status().skipped), len(records)) == (set(levels), 4)


BAD_URLS = """
    https://issuer.example/<tenant>/keys https://issuer.example/{tenant}/keys https://issuer.example/#keys https:///keys
    https://user:secret@issuer.example/ https://issuer.example:0/ https://[::1/ issuer.example/keys ftp://issuer.example/keys
    http://issuer.example/
"""
OPTIONS: dict[str, list[Any]] = {
    "url": [None, "", " https://issuer.example/keys", *BAD_URLS.split()],
    "lifetime": [0],
    "timeout": [-1, 0, "5"],
    "max_stale": [nan, -1, 367 * DAY, True],
    "withdrawn_grace": [inf, timedelta(-1)],
    "distrusted_key_ids": [[1], [""], ""],
    "headers": [{"a ": "c"}, {"a": "secret\nb: c"}, {"a": "\x7f"}, {"a": "é"}, {"a": 5}, {"a": "c", "b": " c"}],
    "client": ["https://proxy.example", httpx2.Client(trust_env=False), httpx2.AsyncClient],
    "store": [object(), ""],
}


@pytest.mark.parametrize("name", OPTIONS)
def test_option_that_is_a_mistake_is_named_at_construction(name: str) -> None:
    for value in OPTIONS[name]:
        with pytest.raises(ImproperlyConfiguredException, match=f"'{name}'(:| is)|The URL is") as caught:
            RemoteJWKSet(**{"url": "https://issuer.example/", name: value})
        assert "secret" not in caught.value.detail


def test_urls_that_keys_may_come_from() -> None:
    assert repr(RemoteJWKSet("http://issuer.example/", allow_http=True)) == "RemoteJWKSet('http://issuer.example/')"
    for url in ("http://localhost/keys", "http://[::1]:8000/keys", "https://issuer.example:8443/keys?p=b2c_1"):
        assert repr(RemoteJWKSet(url)) == f"RemoteJWKSet({url.partition('?')[0]!r})"
    with pytest.raises(ImproperlyConfiguredException, match=r"'https://issuer\.example/'"):
        RemoteJWKSet("https://user:secret@issuer.example/?secret")


@on_both_libraries
async def test_fetch_has_no_context_variables_of_a_request() -> None:
    variable, seen = ContextVar("variable", default="unset"), list[str]()
    variable.set("of a request")

    def document(url: str) -> Any:
        seen.append(variable.get())
        return jwks_of(STRANGER)

    await RemoteJWKSet("https://issuer.test/keys", client=fake_client(document)).refresh()
    assert seen == ["unset"]


@on_both_libraries
async def test_start_fetches_ahead_and_waits_for_nobody(provider: RemoteJWKSet, issuer: Issuer) -> None:
    issuer.jwks.hangs = True
    async with provider.lifespan(APP):
        await until(lambda: issuer.requests)
        async with looking_up(provider, issuer.token()) as answers:
            issuer.release.set()
    assert (answers, len(issuer.requests)) == (["200"], 1)


@on_both_libraries
async def test_start_waits_for_keys_that_are_required(issuer: Issuer) -> None:
    provider = RemoteJWKSet(issuer.url, timeout=30, require_on_startup=True)
    issuer.jwks.status = 500
    with pytest.raises(KeysUnavailableException, match="status 500"):
        async with provider.lifespan(APP):
            pytest.fail("it must not start")
    issuer.jwks.status = 200
    for _ in range(2):
        async with provider.lifespan(APP):
            assert answers_at_once(provider, issuer.token())
    assert len(issuer.requests) == 2


# Event loops that only run during requests


@pytest.mark.parametrize("library", [pytest.param("asyncio", id="asyncio"), pytest.param("trio", id="trio")])
def test_each_request_in_an_event_loop_of_its_own(
    warm: RemoteJWKSet, issuer: Issuer, clock: Clock, library: str
) -> None:
    for _ in range(3):
        clock.shift(601)
        assert anyio.run(answer_to, warm, issuer.token(), backend=library) == "200"
    assert (len(issuer.requests), warm.status().failures) == (4, 0)
    assert warm.status().fetched_at == at(3 * 601)
    new = issuer.rotate()
    assert anyio.run(answer_to, warm, new.token(), backend=library) == "200"


@pytest.mark.parametrize("library", [pytest.param("asyncio", id="asyncio"), pytest.param("trio", id="trio")])
def test_fetch_that_is_lost_with_its_event_loop_is_waited_for(
    warm: RemoteJWKSet, issuer: Issuer, clock: Clock, library: str
) -> None:
    clock.shift(601)
    issuer.jwks.status = 500
    assert anyio.run(answer_to, warm, issuer.token(), backend=library) == "200"
    issuer.jwks.status = 200
    new = issuer.rotate()
    clock.shift(31)
    # After a failure, no request waits. This one answers from memory, and its event loop ends before the fetch does.
    assert anyio.run(answer_to, warm, issuer.token(), backend=library) in {"200", "401"}
    assert anyio.run(answer_to, warm, new.token(), backend=library) == "200"
    assert (warm.status().failures, warm.status().fetched_at) == (1, at(632))


def lambda_function(provider: RemoteJWKSet) -> Callable[[str], int]:
    """Return what AWS Lambda calls: an application behind an adapter, without lifespan events. Time stands still in between."""
    from mangum import Mangum  # it warns of what it deprecates in itself

    adapter = Mangum(cast("Any", app_of(backend(provider))), lifespan="off")
    event = json.loads((Path(__file__).parent / "lambda_event.json").read_text())

    def invoke(token: str) -> int:
        event["headers"]["authorization"] = f"Bearer {token}"
        return int(adapter(event, cast("Any", None))["statusCode"])

    return invoke


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_withdrawn_key_is_refused_on_aws_lambda_and_a_new_one_accepted(issuer: Issuer, clock: Clock) -> None:
    with event_loop_of_the_thread():
        invoke = lambda_function(RemoteJWKSet(issuer.url, lifetime=1, withdrawn_grace=0))
        old = issuer.token(**CLAIMS)
        statuses = [invoke(old)]
        new = issuer.rotate().token(**CLAIMS)
        for _ in range(3):
            clock.shift(1.2)
            statuses += [invoke(old), invoke(new)]
    assert statuses == [200, *[401, 200] * 3]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_deadline_that_passed_while_a_lambda_was_frozen_fails_no_request(issuer: Issuer) -> None:
    with event_loop_of_the_thread() as loop:
        provider = RemoteJWKSet(issuer.url, timeout=0.5)
        invoke = lambda_function(provider)
        issuer.jwks.hangs = True
        loop.run_until_complete(start_and_leave(provider, issuer))
        time.sleep(1.7)
        issuer.jwks.hangs = False
        assert invoke(issuer.token(**CLAIMS)) == 200
    assert (provider.status().failures, provider.status().fetches, len(issuer.requests)) == (0, 1, 2)


async def start_and_leave(provider: RemoteJWKSet, issuer: Issuer) -> None:
    with anyio.CancelScope() as request:
        async with looking_up(provider, issuer.token()):
            await until(lambda: issuer.requests)
            request.cancel()


@contextmanager
def event_loop_of_the_thread() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        yield loop
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(loop.shutdown_default_executor())
        asyncio.set_event_loop(None)
        loop.close()


@on_both_libraries
async def test_request_waits_for_the_renewal_of_an_expired_answer_once(
    warm: RemoteJWKSet, issuer: Issuer, clock: Clock
) -> None:
    old, new = issuer.token(), issuer.rotate()
    clock.shift(601)
    keys = look_up(warm, old)
    assert isawaitable(keys)
    await keys
    assert warm.status().key_ids == (new.kid,)
    issuer.jwks.status = 500
    clock.shift(601)
    assert [await answer_to(warm, new.token()) for _ in range(3)] == ["200"] * 3
    clock.shift(31)
    assert answers_at_once(warm, new.token())  # a fetch has failed, so nobody waits


# Withdrawal and distrust


@on_both_libraries
async def test_withdrawn_key_without_grace_is_refused_at_once(issuer: Issuer) -> None:
    provider, old = RemoteJWKSet(issuer.url, timeout=30, lifetime=DAY, withdrawn_grace=0), issuer.token()
    assert await answer_to(provider, old) == "200"
    new = issuer.rotate()
    await provider.refresh()
    assert provider.status().withdrawn_key_ids == ()
    assert [await answer_to(provider, token) for token in (old, new.token())] == ["401", "200"]


@on_both_libraries
async def test_distrusted_key_is_refused_and_listed_as_skipped(issuer: Issuer) -> None:
    leaked, good = issuer.signers[0], Signer("good")
    issuer.publish(leaked, good)
    alias = leaked.token({"kid": "alias"})
    provider = RemoteJWKSet(issuer.url, timeout=30, distrusted_key_ids=["first"])
    answers = [await answer_to(provider, token) for token in (leaked.token(), alias, good.token())]
    assert answers == ["401", "401", "200"]
    assert provider.status().skipped == ("'first': distrusted",)
    issuer.publish(leaked)
    await provider.refresh()
    assert await answer_to(provider, leaked.token()) == "401"
    assert not provider.status().usable or provider.status().withdrawn_key_ids == ("good",)


@on_both_libraries
async def test_options_cannot_be_changed(provider: RemoteJWKSet, issuer: Issuer) -> None:
    with pytest.raises(FrozenInstanceError):
        provider.url = "http://issuer.example"  # type: ignore[misc]
    other = replace(provider, lifetime=30)
    await other.refresh()
    assert (other.status().usable, provider.status().usable) == (True, False)


# Caches, refreshes and the end of an application


@on_both_libraries
async def test_caches_answer_only_renewals(warm: RemoteJWKSet, issuer: Issuer, clock: Clock) -> None:
    await answer_to(warm, bogus())
    clock.shift(599)
    assert answers_at_once(warm, issuer.token())
    await until(lambda: warm.status().fetched_at == at(599))
    assert [sent.get("cache-control") for sent in issuer.headers] == ["no-cache", "no-cache", None]


@on_both_libraries
async def test_refresh_does_not_make_do_with_the_fetch_under_way(provider: RemoteJWKSet, issuer: Issuer) -> None:
    issuer.jwks.hangs = True
    new, old = Signer("new"), issuer.token()
    async with looking_up(provider, old), anyio.create_task_group() as tasks:
        await until(lambda: issuer.requests)
        issuer.publish(new)
        for _ in range(3):
            _ = tasks.start_soon(provider.refresh)
        await anyio.wait_all_tasks_blocked()
        issuer.release.set()
    assert (provider.status().key_ids, len(issuer.requests)) == ((new.kid,), 2)


@on_both_libraries
async def test_end_of_the_application_ends_its_first_fetch(issuer: Issuer) -> None:
    for _ in range(20):  # at whatever moment
        async with RemoteJWKSet(issuer.url, timeout=30).lifespan(APP):
            await anyio.sleep(0)
    provider = RemoteJWKSet("https://issuer.test/keys", client=(client := AsyncMock(spec=[])))

    async def hang(*_: Any) -> None:
        await anyio.sleep_forever()

    client.side_effect = hang
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks, provider.lifespan(APP):
            _ = tasks.start_soon(expect_unavailable, provider)
            async with provider.lifespan(APP):
                await anyio.wait_all_tasks_blocked()
            await anyio.wait_all_tasks_blocked()
            assert client.await_count == 1  # the other lifespan goes on
    assert (provider.status().failures, provider.status().last_error) == (0, None)
    gc.collect()


async def expect_unavailable(provider: RemoteJWKSet) -> None:
    assert await answer_to(provider, bogus()) == "503"


@on_both_libraries
async def test_client_error_with_odd_attributes_is_a_failed_fetch(clock: Clock) -> None:
    class OddError(Exception):
        retry_after: Any = None

        def __repr__(self) -> str:
            raise ValueError

    client = AsyncMock(spec=[], side_effect=OddError)
    provider = RemoteJWKSet("https://issuer.test/keys", client=client)
    assert [await answer_to(provider, bogus()) for _ in range(9)] == ["503"] * 9
    assert (client.await_count, provider.status().last_error) == (1, "https://issuer.test/keys: OddError")


def test_eager_tasks(issuer: Issuer) -> None:
    # Before Python 3.12, asyncio has none, and this tests its usual tasks.
    factory = getattr(asyncio, "eager_task_factory", None)

    async def work() -> str:
        asyncio.get_running_loop().set_task_factory(factory)
        provider = RemoteJWKSet("https://issuer.test/keys", client=fake_client(lambda url: issuer.jwks.document))
        return await answer_to(provider, issuer.token())

    assert asyncio.run(work()) == "200"
