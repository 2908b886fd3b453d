from __future__ import annotations

import gc
import json
import logging
import sys
import threading
from contextlib import suppress
from copy import deepcopy
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

import anyio
import pytest
from anyio import to_thread

from litestar.exceptions import ImproperlyConfiguredException
from litestar.security.jwt import KeyNotFoundException, KeysUnavailableException, RemoteJWKSet, UnverifiedToken
from tests.unit.test_security.test_jwt.backends import on_both_libraries

from .asking import APP, Log, answer_to, answers_at_once, ask, asking, forked, leave_in_the_middle, lines_of, until
from .issuer_server import DAY, HOUR, START, STRANGER, Clock, Issuer, Signer, at, bogus, client_of, jwks_of


@pytest.fixture
def provider(issuer: Issuer) -> RemoteJWKSet:
    return RemoteJWKSet(issuer.url, timeout=30)


@pytest.fixture
def warm(provider: RemoteJWKSet) -> RemoteJWKSet:
    """A provider that has fetched the keys once."""
    anyio.run(provider.refresh)
    return provider


def http_date(seconds: float) -> str:
    return format_datetime(at(seconds), usegmt=True)


# Hits, and renewals in the background


@pytest.mark.parametrize("algorithm", ["RS256", "PS512", "ES256", "EdDSA"])
@on_both_libraries
async def test_only_the_first_token_waits(provider: RemoteJWKSet, issuer: Issuer, algorithm: str) -> None:
    issuer.publish(Signer("any", algorithm), Signer("other"))
    assert await answer_to(provider, issuer.token()) == "200"
    assert answers_at_once(provider, issuer.token())
    assert len(issuer.requests) == 1


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
        ({"Date": http_date(-50), "Expires": http_date(850)}, {}, 900),
        ({"Date": http_date(0), "Expires": http_date(900), "Age": "300"}, {}, 600),
        ({"Expires": http_date(900)}, {}, 900),
        ({"Expires": "0"}, {}, 60),
        ({"ETag": 'W/"\xe4\xf6', "Last-Modified": "yesterday"}, {}, 600),
        ({"Cache-Control": "max-age=900"}, {"lifetime": 30}, 30),
        ({"Cache-Control": "max-age=900"}, {"lifetime": timedelta(seconds=30)}, 30),
    ],
)
@on_both_libraries
async def test_answer_is_fresh_as_long_as_it_says(clock: Clock, headers: Any, options: Any, lifetime: float) -> None:
    client = client_of(lambda url: jwks_of(Signer()), **headers)
    provider = RemoteJWKSet("https://issuer.test/keys", client=client, **options)
    for _ in range(2):
        await provider.refresh()
    assert (provider.status().fetched_at, provider.status().expires_at) == (at(0), at(lifetime))


# Misses


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
@on_both_libraries
async def test_new_key_behind_the_same_id(provider: RemoteJWKSet, issuer: Issuer, old: Signer, new: Signer) -> None:
    issuer.publish(old)
    issuer.jwks.headers = {"Cache-Control": "max-age=86400"}
    assert await answer_to(provider, old.token()) == "200"
    issuer.publish(new)
    assert await answer_to(provider, new.token()) == "200"
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
    new, waited = issuer.rotate(), 0
    while await answer_to(warm, new.token()) != "200":
        assert await answer_to(warm, forged) == "401"
        clock.shift(1)
        waited += 1
    assert (waited, len(issuer.requests)) == (15, 4)


def test_100_000_made_up_ids_cost_no_memory(warm: RemoteJWKSet, issuer: Issuer) -> None:
    async def ask_for_each() -> None:
        token = UnverifiedToken(bogus())
        before = sys.getallocatedblocks()
        for number in range(100_000):
            token.kid = f"made-up-{number}"
            with suppress(KeyNotFoundException):
                await warm(token)  # type: ignore[misc]
        gc.collect()
        assert sys.getallocatedblocks() < before + 20_000

    anyio.run(ask_for_each)
    assert (warm.status().misses, len(issuer.requests)) == (100_000, 3)


@on_both_libraries
async def test_fetch_from_before_a_key_was_published_is_repeated(warm: RemoteJWKSet, issuer: Issuer) -> None:
    issuer.jwks.hangs = True
    async with asking(warm, bogus()):
        await until(lambda: len(issuer.requests) == 2)
        async with asking(warm, issuer.rotate().token()) as answers:
            issuer.release.set()
    assert (answers, len(issuer.requests)) == (["200"], 3)


@on_both_libraries
async def test_unknown_key_may_be_new_if_the_fetch_fails(warm: RemoteJWKSet, issuer: Issuer, clock: Clock) -> None:
    token, new = issuer.token(), issuer.rotate()
    issuer.jwks.status = 500
    for _ in range(2):
        assert await answer_to(warm, new.token()) == "503"
    with pytest.raises(KeysUnavailableException):
        await warm.look_again(UnverifiedToken(token))
    assert answers_at_once(warm, token)
    assert len(issuer.requests) == 2
    issuer.jwks.status = 200
    clock.shift(1)
    assert await answer_to(warm, new.token()) == "200"


# One fetch


@on_both_libraries
async def test_first_requests_share_a_fetch_though_one_leaves(provider: RemoteJWKSet, issuer: Issuer) -> None:
    issuer.jwks.hangs = True
    await leave_in_the_middle(provider, issuer)
    async with asking(provider, *[issuer.token()] * 1000) as answers:
        issuer.release.set()
    assert answers == ["200"] * 1000
    assert len(issuer.requests) == 1


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_older_answer_replaces_no_newer_one(provider: RemoteJWKSet, issuer: Issuer, clock: Clock, backend: str) -> None:
    issuer.jwks.hangs = True
    other_loop = threading.Thread(target=anyio.run, args=(provider.refresh,))
    other_loop.start()
    anyio.run(until, lambda: issuer.requests)
    issuer.jwks.hangs = False
    clock.shift(1)
    new = issuer.rotate()
    anyio.run(provider.refresh, backend=backend)
    issuer.release.set()
    other_loop.join()
    assert provider.status().key_ids == (new.kid,)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_one_event_loop_after_the_other(provider: RemoteJWKSet, issuer: Issuer, backend: str) -> None:
    issuer.jwks.hangs = True
    anyio.run(leave_in_the_middle, provider, issuer, backend=backend)
    issuer.jwks.hangs = False
    assert anyio.run(answer_to, provider, issuer.token()) == "200"
    assert anyio.run(answer_to, provider, issuer.rotate().token(), backend="trio") == "200"
    assert provider.status().failures == 0
    gc.collect()


def test_several_event_loops_at_once(provider: RemoteJWKSet, issuer: Issuer) -> None:
    answers: list[str] = []
    issuer.jwks.hangs = True

    def run(backend: str) -> None:
        answers.append(anyio.run(answer_to, provider, issuer.token(), backend=backend))

    threads = [threading.Thread(target=run, args=(backend,)) for backend in ("asyncio", "trio") * 2]
    for thread in threads:
        thread.start()
    anyio.run(until, lambda: len(issuer.requests) == 4)
    issuer.release.set()
    for thread in threads:
        thread.join()
    assert answers == ["200"] * 4


def _answer_in_child(pipe: Any, provider: RemoteJWKSet, *tokens: str) -> None:
    pipe.send([anyio.run(answer_to, provider, token) for token in tokens])


def test_fork_after_load(warm: RemoteJWKSet, issuer: Issuer) -> None:
    with forked(_answer_in_child, warm, issuer.token(), issuer.rotate().token()) as child:
        assert child.recv() == ["200", "200"]


# Outages


@on_both_libraries
async def test_failed_fetch_is_repeated_later_and_later(provider: RemoteJWKSet, issuer: Issuer, clock: Clock) -> None:
    issuer.jwks.status = 503
    for delay in (1, 2, 4, 8, 16, 30, 30):
        asked = len(issuer.requests)
        with pytest.raises(KeysUnavailableException) as caught:
            await ask(provider, issuer.token())
        assert caught.value.detail == "Keys to verify tokens with are unavailable"
        assert caught.value.headers and 0.75 * delay <= int(caught.value.headers["Retry-After"]) <= delay
        clock.shift(0.74 * delay)
        assert await answer_to(provider, issuer.token()) == "503"
        assert len(issuer.requests) == asked + 1
        clock.shift(0.26 * delay + 0.001)
    issuer.jwks.status = 200
    assert await answer_to(provider, issuer.token()) == "200"
    assert provider.status().last_error is None


@pytest.mark.parametrize(("document", "seconds"), [(jwks_of(STRANGER), 0.8 * 600), ([], 0.9), (None, 0.9)])
@on_both_libraries
async def test_fleet_does_not_ask_at_once(clock: Clock, document: Any, seconds: float) -> None:
    asked: list[str] = []

    def document_at(url: str) -> Any:
        asked.append(url)
        return document if document is not None else 1 / 0

    fleet = [RemoteJWKSet("https://issuer.test/keys", client=client_of(document_at)) for _ in range(100)]
    for shift in (0, seconds):
        clock.shift(shift)
        for provider in fleet:
            await answer_to(provider, STRANGER.token())
        await anyio.wait_all_tasks_blocked()
    assert 100 < len(asked) < 200


@pytest.mark.parametrize(("value", "seconds"), [("10", 10), ("100000", 30), ("0", 1), ("soon", 1)])
@on_both_libraries
async def test_retry_after(provider: RemoteJWKSet, issuer: Issuer, clock: Clock, value: str, seconds: float) -> None:
    issuer.jwks.status, issuer.jwks.headers = 503, {"Retry-After": value}
    await answer_to(provider, issuer.token())
    issuer.jwks.status = 200
    for share, answer in ((0, "503"), (0.7, "503"), (0.3, "200")):
        clock.shift(share * seconds)
        assert await answer_to(provider, issuer.token()) == answer


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


@pytest.mark.parametrize(("grace", "elapsed"), [(0, 10), (100, 10), (HOUR, 10), (HOUR, 0), (HOUR, -5)])
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
    assert await answer_to(provider, old) == "401"
    assert "first" not in provider.status().withdrawn_key_ids
    assert "'first'" not in lines_of(records)[-1]


@on_both_libraries
async def test_no_more_than_200_keys_are_kept(provider: RemoteJWKSet, issuer: Issuer, clock: Clock) -> None:
    for generation in range(4):
        clock.shift(1)
        issuer.publish(*(Signer(f"{generation}-{number}") for number in range(100)))
        await provider.refresh()
    assert provider.status().key_ids == tuple(f"3-{number}" for number in range(100))
    assert len(provider.status().withdrawn_key_ids) == 100


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
    skipped = {
        "'enc': not for signatures ('use')": logging.DEBUG,
        "'secret': unsupported 'kty'": logging.WARNING,
        "no key ID: not a JSON object": logging.WARNING,
        "no key ID: 'kid' is not a string": logging.WARNING,
    }
    assert set(provider.status().skipped) == set(skipped)
    logged = {reason: record.levelno for record in records for reason in skipped if reason in record.getMessage()}
    assert logged == skipped
    assert len(records) == len(skipped)


# Options


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        (None, {}, "URL is 'None'"),
        ("", {}, "URL is ''"),
        ("https://issuer.example/<tenant>/keys", {}, "placeholders"),
        ("https://issuer.example/{tenant}/keys", {}, "placeholders"),
        (" https://issuer.example/keys", {}, "placeholders"),
        ("issuer.example/keys", {}, "https"),
        ("ftp://issuer.example/keys", {}, "https"),
        ("https:///keys", {}, "full https URL"),
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
        ("https://issuer.example/", {"headers": {"a ": "c"}}, "'headers'"),
        ("https://issuer.example/", {"headers": {"a": "secret\n"}}, "'headers'"),
        ("https://issuer.example/", {"client": "https://proxy.example"}, "'client' is a str"),
        ("https://issuer.example/", {"store": object()}, "'store' is <object"),
        ("https://issuer.example/", {"store": ""}, "'store' is ''"),
    ],
)
def test_mistakes_are_told_at_construction(url: Any, options: dict[str, Any], message: str) -> None:
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
def test_urls_that_keys_may_come_from(url: str, options: dict[str, Any]) -> None:
    assert repr(RemoteJWKSet(url, **options)) == f"RemoteJWKSet({url.partition('?')[0]!r})"


# Life


@on_both_libraries
async def test_start_fetches_ahead_and_waits_for_nobody(provider: RemoteJWKSet, issuer: Issuer) -> None:
    issuer.jwks.hangs = True
    async with provider.lifespan(APP):
        await until(lambda: issuer.requests)
        async with asking(provider, issuer.token()) as answers:
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


@on_both_libraries
async def test_miss_that_meets_the_end_of_an_application_is_not_refused(warm: RemoteJWKSet, issuer: Issuer) -> None:
    issuer.jwks.status, issuer.jwks.hangs = 500, True
    async with asking(warm, issuer.rotate().token()) as answers:
        async with warm.lifespan(APP):
            await until(lambda: len(issuer.requests) == 2)
        issuer.release.set()
    assert answers == ["503"]


@on_both_libraries
async def test_status_and_identity(warm: RemoteJWKSet, issuer: Issuer) -> None:
    assert await answer_to(warm, bogus()) == "401"
    issuer.jwks.status = 500
    assert await answer_to(warm, bogus()) == "503"
    status = warm.status()
    assert (status.url, status.issuer, status.last_error) == (issuer.url, None, "status 500")
    assert (status.fetches, status.failures, status.misses) == (3, 1, 2)
    assert deepcopy([warm]) == [warm]
