from __future__ import annotations

import asyncio
import gc
import json
import logging
import threading
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from copy import deepcopy
from datetime import UTC, datetime
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import anyio
import anyio.to_thread
import httpx
import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import OKPAlgorithm, RSAAlgorithm
from jwt.utils import base64url_encode

from litestar import Litestar, get
from litestar.exceptions import ImproperlyConfiguredException, MissingDependencyException
from litestar.security.jwt import _http
from litestar.security.jwt.jwks import RemoteJWKSet
from litestar.security.jwt.keys import KeyNotFoundError, KeyProvider, KeysUnavailableError
from litestar.security.jwt.testing import LocalIssuer
from litestar.security.jwt.token import Token
from litestar.testing import TestClient

from .remote import Clock, answers_at_once, ask, idle, is_verified, numbered, responds, until, verifies

pytestmark = pytest.mark.anyio

MINUTE, HOUR, DAY = 60, 3600, 86_400


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def issuer() -> Iterator[LocalIssuer]:
    with LocalIssuer(algorithm="EdDSA") as issuer:
        yield issuer


@pytest.fixture
def provider(issuer: LocalIssuer, clock: Clock) -> RemoteJWKSet:
    return RemoteJWKSet(issuer.jwks_url, clock=clock)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry sooner than in earnest."""
    monkeypatch.setattr(_http, "_BACKOFF", 0.005)


def bogus_token(issuer: LocalIssuer, kid: str = "bogus") -> str:
    return issuer.token(headers={"kid": kid})


# The first fetch, and what is in memory.


async def test_first_token_waits_for_the_set_and_further_ones_do_not(
    provider: RemoteJWKSet, issuer: LocalIssuer
) -> None:
    assert isinstance(provider, KeyProvider)
    assert not issuer.requests
    assert await verifies(provider, issuer.token())
    assert answers_at_once(provider, issuer.token())
    assert len(issuer.requests) == 1


async def test_forged_token_gets_the_key_it_names_and_fails_with_it(
    provider: RemoteJWKSet, issuer: LocalIssuer
) -> None:
    assert not await verifies(provider, issuer.forged_token())


async def test_token_without_key_id_gets_every_key_that_fits(provider: RemoteJWKSet, issuer: LocalIssuer) -> None:
    first = issuer.token(headers={"kid": None})
    issuer.rotate()
    assert await verifies(provider, first)
    assert answers_at_once(provider, issuer.token(headers={"kid": None}))


async def test_token_of_an_algorithm_that_its_key_is_not_for_is_refused_at_once(
    provider: RemoteJWKSet, issuer: LocalIssuer
) -> None:
    await provider.refresh()
    with LocalIssuer(algorithm="ES256") as other:
        for headers in ({"kid": issuer.kid}, {"kid": None}):
            with pytest.raises(KeyNotFoundError):
                ask(provider, other.token(headers=headers))
    assert len(issuer.requests) == 1


async def test_decode_takes_a_provider_that_has_keys_and_names_the_other_way_if_it_has_none(
    provider: RemoteJWKSet, issuer: LocalIssuer
) -> None:
    with pytest.raises(ImproperlyConfiguredException, match="await"):
        Token.decode(issuer.token(), provider, "EdDSA")
    await provider.refresh()
    assert Token.decode(issuer.token("alice"), provider, "EdDSA").sub == "alice"


async def test_stale_keys_serve_where_there_is_no_event_loop(
    provider: RemoteJWKSet, issuer: LocalIssuer, clock: Clock
) -> None:
    await provider.refresh()
    clock.advance(HOUR)
    assert await anyio.to_thread.run_sync(answers_at_once, provider, issuer.token())
    with pytest.raises(ImproperlyConfiguredException):
        await anyio.to_thread.run_sync(Token.decode, bogus_token(issuer), provider, "EdDSA")
    issuer.withdraw(issuer.kid)
    issuer.publish()
    await provider.refresh()
    token = issuer.token()
    assert await anyio.to_thread.run_sync(answers_at_once, provider, token)
    assert len(issuer.requests) == 2


# Freshness.


@pytest.mark.parametrize(
    ("headers", "lifetime"),
    [
        ({}, 10 * MINUTE),
        ({"Cache-Control": "max-age=900"}, 900),
        ({"Cache-Control": 'public, MAX-AGE="900", must-revalidate'}, 900),
        ({"Cache-Control": "s-maxage=5"}, 10 * MINUTE),
        ({"Cache-Control": "max-age=900", "Age": "300"}, 600),
        ({"Cache-Control": "max-age=900", "Age": "soon"}, 900),
        ({"Cache-Control": "max-age=900", "Age": "5000"}, MINUTE),
        ({"Cache-Control": "max-age=900", "Expires": "0"}, 900),
        ({"Cache-Control": "max-age=0"}, MINUTE),
        ({"Cache-Control": "max-age=-1"}, MINUTE),
        ({"Cache-Control": "max-age=forever"}, MINUTE),
        ({"Cache-Control": f"max-age={'9' * 5000}"}, DAY),
        ({"Cache-Control": "no-store, max-age=900"}, MINUTE),
        ({"Cache-Control": "no-cache"}, MINUTE),
        ({"Cache-Control": 'no-cache="Set-Cookie", max-age=900'}, 900),
        ({"Expires": formatdate(1_750_000_900, usegmt=True)}, 900),
        ({"Expires": formatdate(1_850_000_900, usegmt=True), "Date": formatdate(1_850_000_000, usegmt=True)}, 900),
        ({"Expires": formatdate(1_650_000_000, usegmt=True)}, MINUTE),
        ({"Expires": "0"}, MINUTE),
        ({"Expires": "Mon, 99 Foo 99999 99:99:99"}, MINUTE),
    ],
)
async def test_answer_is_fresh_for_as_long_as_it_says_within_limits(
    clock: Clock, headers: dict[str, str], lifetime: int
) -> None:
    with LocalIssuer(algorithm="EdDSA") as issuer:

        async def fetch(url: str, sent: Mapping[str, str]) -> Any:
            return SimpleNamespace(status_code=200, headers=headers, content=json.dumps(issuer.jwks).encode())

        provider = RemoteJWKSet(issuer.jwks_url, client=fetch, clock=clock)
        await provider.refresh()
    status = provider.status()
    assert status.fetched_at == datetime.fromtimestamp(clock.now, UTC)
    assert status.expires_at == datetime.fromtimestamp(clock.now + lifetime, UTC)
    clock.advance(lifetime - 1)
    assert not provider.status().stale
    clock.advance(1)
    assert provider.status().stale


async def test_lifetimes_are_options(issuer: LocalIssuer, clock: Clock) -> None:
    provider = RemoteJWKSet(issuer.jwks_url, lifetime=20, min_lifetime=10, max_lifetime=30, clock=clock)
    for cache_control, lifetime in ((None, 20), ("max-age=1", 10), ("max-age=99", 30)):
        issuer.cache_control = cache_control
        await provider.refresh()
        status = provider.status()
        assert status.expires_at and status.fetched_at
        assert (status.expires_at - status.fetched_at).total_seconds() == lifetime


async def test_unchanged_set_is_renewed_without_being_sent_again(
    provider: RemoteJWKSet, issuer: LocalIssuer, clock: Clock
) -> None:
    issuer.cache_control = "max-age=900"
    keys = await ask(provider, issuer.token())
    issuer.cache_control = None
    clock.advance(100)
    await provider.refresh()
    assert "If-None-Match" in issuer.requests[1].headers
    status = provider.status()
    assert status.fetched_at == datetime.fromtimestamp(clock.now, UTC)
    assert status.expires_at == datetime.fromtimestamp(clock.now + 900, UTC)
    issuer.cache_control = "max-age=300"
    await provider.refresh()
    assert provider.status().expires_at == datetime.fromtimestamp(clock.now + 300, UTC)
    assert ask(provider, issuer.token()) is keys


async def test_date_of_last_change_makes_requests_conditional(provider: RemoteJWKSet, issuer: LocalIssuer) -> None:
    changed = formatdate(1_700_000_000, usegmt=True)
    issuer.responder = responds(issuer, {"Last-Modified": changed})
    await provider.refresh()
    await provider.refresh()
    assert "If-Modified-Since" not in issuer.requests[0].headers
    assert issuer.requests[1].headers["If-Modified-Since"] == changed
    assert "If-None-Match" not in issuer.requests[1].headers


async def test_not_modified_is_no_answer_to_a_question_without_condition(
    provider: RemoteJWKSet, issuer: LocalIssuer
) -> None:
    issuer.fail_with(304)
    with pytest.raises(KeysUnavailableError):
        await provider.refresh()
    assert "304" in (provider.status().last_error or "")


async def test_keys_are_bound_to_the_same_objects_as_long_as_they_do_not_change(
    provider: RemoteJWKSet, issuer: LocalIssuer
) -> None:
    token = issuer.token()
    (key,) = await ask(provider, token)
    issuer.publish()
    await provider.refresh()
    assert len(provider.status().key_ids) == 2
    assert ask(provider, token)[0] is key


# Refresh ahead.


async def test_set_is_renewed_in_the_background_before_it_expires(
    provider: RemoteJWKSet, issuer: LocalIssuer, clock: Clock
) -> None:
    await provider.refresh()
    clock.advance(479)
    assert answers_at_once(provider, issuer.token())
    await idle(provider)
    assert len(issuer.requests) == 1
    clock.advance(1)
    issuer.delay = 0.1
    for _ in range(10):
        assert answers_at_once(provider, issuer.token())
        await anyio.sleep(0)
    await idle(provider)
    assert len(issuer.requests) == 2
    assert provider.status().fetched_at == datetime.fromtimestamp(clock.now, UTC)


async def test_expired_set_serves_while_it_is_renewed(
    provider: RemoteJWKSet, issuer: LocalIssuer, clock: Clock
) -> None:
    await provider.refresh()
    clock.advance(2 * HOUR)
    assert provider.status().stale
    assert answers_at_once(provider, issuer.token())
    await idle(provider)
    assert not provider.status().stale


# Single flight.


@pytest.mark.parametrize("requests", [1000])
async def test_concurrent_first_requests_share_one_fetch(
    provider: RemoteJWKSet, issuer: LocalIssuer, requests: int
) -> None:
    issuer.delay = 0.05
    token, verified = issuer.token(), []

    async def request() -> None:
        verified.append(await verifies(provider, token))

    async with anyio.create_task_group() as tasks:
        for _ in range(requests):
            _ = tasks.start_soon(request)
    assert verified == [True] * requests
    assert len(issuer.requests) == 1


async def test_cancelled_request_does_not_cancel_the_fetch_of_others(
    provider: RemoteJWKSet, issuer: LocalIssuer
) -> None:
    issuer.delay = 0.1
    verified = []

    async def request() -> None:
        verified.append(await verifies(provider, issuer.token()))

    async with anyio.create_task_group() as tasks:
        with anyio.move_on_after(0.03) as scope:
            await verifies(provider, issuer.token())
        assert scope.cancelled_caught
        _ = tasks.start_soon(request)
    assert verified == [True]
    assert len(issuer.requests) == 1


async def test_fetch_goes_on_when_all_who_waited_have_left(provider: RemoteJWKSet, issuer: LocalIssuer) -> None:
    issuer.delay = 0.05
    with anyio.move_on_after(0.01):
        await verifies(provider, issuer.token())
    await idle(provider)
    assert answers_at_once(provider, issuer.token())


async def test_fetch_belongs_to_no_request(issuer: LocalIssuer) -> None:
    user = ContextVar("user", default="nobody")
    seen = []

    async def fetch(url: str, headers: Mapping[str, str]) -> Any:
        seen.append(user.get())
        return SimpleNamespace(status_code=200, headers={}, content=json.dumps(issuer.jwks).encode())

    user.set("alice")
    assert await verifies(RemoteJWKSet(issuer.jwks_url, client=fetch), issuer.token())
    assert seen == ["nobody"]


async def test_fetch_does_not_queue_for_the_threads_of_synchronous_handlers(
    provider: RemoteJWKSet, issuer: LocalIssuer
) -> None:
    limiter = anyio.to_thread.current_default_thread_limiter()
    tokens = [object() for _ in range(int(limiter.available_tokens))]
    for token in tokens:
        limiter.acquire_on_behalf_of_nowait(token)
    try:
        assert await verifies(provider, issuer.token())
    finally:
        for token in tokens:
            limiter.release_on_behalf_of(token)


async def test_older_answer_never_replaces_newer_keys(issuer: LocalIssuer, clock: Clock) -> None:
    former = json.dumps(issuer.jwks).encode()
    asked, go_on = threading.Event(), threading.Event()

    async def fetch_slowly(url: str, headers: Mapping[str, str]) -> Any:
        if asked.is_set():
            return SimpleNamespace(status_code=200, headers={}, content=json.dumps(issuer.jwks).encode())
        asked.set()
        await anyio.to_thread.run_sync(go_on.wait)
        return SimpleNamespace(status_code=200, headers={}, content=former)

    provider = RemoteJWKSet(issuer.jwks_url, client=fetch_slowly, clock=clock)
    thread = threading.Thread(target=anyio.run, args=(provider.refresh,))
    thread.start()
    await anyio.to_thread.run_sync(asked.wait)
    issuer.rotate(keep=0)
    clock.advance(1)
    await provider.refresh()
    assert answers_at_once(provider, issuer.token())
    newer = provider.status()
    go_on.set()
    await anyio.to_thread.run_sync(thread.join)
    assert provider.status().key_ids == newer.key_ids
    assert provider.status().fetched_at == newer.fetched_at
    assert provider.status().fetches == 2


# Unknown key IDs.


async def test_first_token_after_a_rotation_is_verified(
    provider: RemoteJWKSet, issuer: LocalIssuer, clock: Clock
) -> None:
    await provider.refresh()
    issuer.rotate()
    assert await verifies(provider, issuer.token())
    clock.advance(30)
    issuer.rotate()
    assert await verifies(provider, issuer.token())
    assert len(issuer.requests) == 3


async def test_unknown_key_id_asks_once_per_cooldown(provider: RemoteJWKSet, issuer: LocalIssuer, clock: Clock) -> None:
    await provider.refresh()
    for seconds, fetches in ((0, 2), (0, 2), (29, 2), (1, 3), (29, 3), (1, 4)):
        clock.advance(seconds)
        with pytest.raises(KeyNotFoundError):
            await verifies(provider, bogus_token(issuer))
        assert len(issuer.requests) == fetches


async def test_unknown_key_id_on_a_cold_start_costs_one_fetch(provider: RemoteJWKSet, issuer: LocalIssuer) -> None:
    with pytest.raises(KeyNotFoundError):
        await verifies(provider, bogus_token(issuer))
    assert len(issuer.requests) == 1


async def test_unknown_key_id_of_a_stale_set_costs_one_fetch(
    provider: RemoteJWKSet, issuer: LocalIssuer, clock: Clock
) -> None:
    await provider.refresh()
    clock.advance(HOUR)
    with pytest.raises(KeyNotFoundError):
        await verifies(provider, bogus_token(issuer))
    assert len(issuer.requests) == 2


async def test_bogus_key_id_does_not_bar_the_next_refetch(
    provider: RemoteJWKSet, issuer: LocalIssuer, clock: Clock
) -> None:
    await provider.refresh()
    with pytest.raises(KeyNotFoundError):
        await verifies(provider, bogus_token(issuer))
    issuer.rotate()
    with pytest.raises(KeyNotFoundError):
        await verifies(provider, issuer.token())
    clock.advance(30)
    assert await verifies(provider, issuer.token())


async def test_unknown_key_id_that_is_published_later_is_found(
    provider: RemoteJWKSet, issuer: LocalIssuer, clock: Clock
) -> None:
    await provider.refresh()
    ahead = LocalIssuer(algorithm="EdDSA")
    with pytest.raises(KeyNotFoundError):
        await verifies(provider, ahead.token())
    issuer.publish(jwt.PyJWK({**_private_jwk(ahead), "kid": ahead.kid}))
    clock.advance(30)
    assert await verifies(provider, ahead.token())


def _private_jwk(issuer: LocalIssuer) -> dict[str, Any]:
    return json.loads(OKPAlgorithm.to_jwk(issuer.private_key))  # type: ignore[arg-type, no-any-return]


async def test_tokens_that_meet_a_refetch_wait_for_it(provider: RemoteJWKSet, issuer: LocalIssuer) -> None:
    await provider.refresh()
    issuer.rotate()
    issuer.delay = 0.05
    verified = []

    async def request() -> None:
        verified.append(await verifies(provider, issuer.token()))

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            _ = tasks.start_soon(request)
            await anyio.sleep(0.002)
    assert verified == [True] * 20
    assert len(issuer.requests) == 2


async def test_token_that_meets_a_fetch_begun_before_its_key_was_published_asks_again(
    provider: RemoteJWKSet, issuer: LocalIssuer, clock: Clock
) -> None:
    await provider.refresh()
    former = responds(issuer, body=json.dumps(issuer.jwks).encode())
    reached, go_on = threading.Event(), threading.Event()

    def answer_late(handler: BaseHTTPRequestHandler) -> None:
        issuer.responder = None
        reached.set()
        go_on.wait(5)
        former(handler)

    issuer.responder = answer_late
    clock.advance(500)
    assert answers_at_once(provider, issuer.token())
    await anyio.to_thread.run_sync(reached.wait)
    issuer.rotate()
    pending = ask(provider, issuer.token())
    async with anyio.create_task_group() as tasks:
        _ = tasks.start_soon(anyio.to_thread.run_sync, go_on.set)
        assert is_verified(issuer.token(), await pending)
    assert len(issuer.requests) == 3


async def test_refetch_does_not_delay_tokens_with_a_known_key(provider: RemoteJWKSet, issuer: LocalIssuer) -> None:
    await provider.refresh()
    issuer.delay = 0.1
    async with anyio.create_task_group() as tasks:

        async def bogus() -> None:
            with pytest.raises(KeyNotFoundError):
                await verifies(provider, bogus_token(issuer))

        _ = tasks.start_soon(bogus)
        await until(lambda: len(issuer.requests) == 2)
        assert answers_at_once(provider, issuer.token())


async def test_id_that_was_looked_for_in_vain_does_not_wait_for_a_scheduled_refresh(
    provider: RemoteJWKSet, issuer: LocalIssuer, clock: Clock
) -> None:
    await provider.refresh()
    clock.advance(475)
    with pytest.raises(KeyNotFoundError):
        await verifies(provider, bogus_token(issuer))
    clock.advance(25)
    issuer.delay = 0.1
    # The refetch has renewed the set, so what is under way next is asked for by hand.
    async with anyio.create_task_group() as tasks:
        _ = tasks.start_soon(provider.refresh)
        await until(lambda: len(issuer.requests) == 3)
        with pytest.raises(KeyNotFoundError):
            ask(provider, bogus_token(issuer))
        pending = ask(provider, bogus_token(issuer, "another"))
        with pytest.raises(KeyNotFoundError):
            await pending


async def test_failed_refetch_starts_the_cooldown(provider: RemoteJWKSet, issuer: LocalIssuer, clock: Clock) -> None:
    await provider.refresh()
    issuer.fail_with(404)
    for _ in range(3):
        with pytest.raises(KeyNotFoundError):
            await verifies(provider, bogus_token(issuer))
    assert len(issuer.requests) == 2
    issuer.recover()
    issuer.rotate()
    clock.advance(30)
    assert await verifies(provider, issuer.token())


async def test_memory_of_unknown_ids_is_bounded_and_good_tokens_are_served_meanwhile(
    provider: RemoteJWKSet, issuer: LocalIssuer, clock: Clock
) -> None:
    await provider.refresh()
    good, kids = issuer.token(), numbered()
    template = issuer.token()
    for number in range(10_000):
        clock.advance(0.01)
        token = bogus_token(issuer, next(kids)) if number % 100 == 0 else _renamed(template, next(kids))
        with pytest.raises(KeyNotFoundError):
            await verifies(provider, token)
        assert isinstance(ask(provider, good), tuple)
    # 100 seconds have passed: the first fetch, and one at 0, 30, 60 and 90 seconds.
    assert len(issuer.requests) <= 5
    assert len(provider._missed) <= 1024
    assert len(provider._view.keys._selected) == 1


def _renamed(token: str, kid: str) -> str:
    header = json.dumps({"alg": "EdDSA", "kid": kid}).encode()
    return ".".join([base64url_encode(header).decode(), *token.split(".")[1:]])


async def test_ids_that_many_requests_looked_for_at_once_are_remembered_up_to_a_limit(
    provider: RemoteJWKSet, issuer: LocalIssuer
) -> None:
    await provider.refresh()
    issuer.delay = 0.3
    template, refused = issuer.token(), []

    async def request(kid: str) -> None:
        with pytest.raises(KeyNotFoundError):
            await verifies(provider, _renamed(template, kid))
        refused.append(kid)

    async with anyio.create_task_group() as tasks:
        for _, kid in zip(range(1100), numbered(), strict=False):
            _ = tasks.start_soon(request, kid)
    assert len(refused) == 1100
    assert len(issuer.requests) == 2
    assert len(provider._missed) == 1024
    await provider.refresh()
    assert not provider._missed


# Withdrawn keys.


async def test_withdrawn_key_verifies_until_its_grace_is_over(
    provider: RemoteJWKSet, issuer: LocalIssuer, clock: Clock
) -> None:
    former, kid = issuer.token(), issuer.kid
    await provider.refresh()
    issuer.rotate(keep=0)
    await provider.refresh()
    assert provider.status().key_ids == (issuer.kid,)
    assert provider.status().withdrawn_key_ids == (kid,)
    clock.advance(HOUR - 1)
    assert answers_at_once(provider, former)
    await idle(provider)
    clock.advance(1)
    assert provider.status().withdrawn_key_ids == ()
    with pytest.raises(KeyNotFoundError):
        await verifies(provider, former)
    assert await verifies(provider, issuer.token())


async def test_grace_of_a_withdrawn_key_ends_in_a_fresh_set(issuer: LocalIssuer, clock: Clock) -> None:
    provider = RemoteJWKSet(issuer.jwks_url, withdrawn_grace=100, clock=clock)
    former = issuer.token(headers={"kid": None})
    await provider.refresh()
    issuer.rotate(keep=0)
    await provider.refresh()
    assert answers_at_once(provider, former)
    clock.advance(100)
    assert not answers_at_once(provider, former)
    assert len(issuer.requests) == 2


async def test_without_grace_a_withdrawn_key_is_refused_at_once(issuer: LocalIssuer, clock: Clock) -> None:
    provider = RemoteJWKSet(issuer.jwks_url, withdrawn_grace=0, clock=clock)
    former = issuer.token()
    await provider.refresh()
    issuer.rotate(keep=0)
    await provider.refresh()
    with pytest.raises(KeyNotFoundError):
        await verifies(provider, former)
    assert provider.status().withdrawn_key_ids == ()


async def test_grace_does_not_bring_back_keys_that_had_become_too_old(
    provider: RemoteJWKSet, issuer: LocalIssuer, clock: Clock
) -> None:
    former = issuer.token()
    await provider.refresh()
    issuer.rotate(keep=0)
    clock.advance(DAY + 10 * MINUTE)
    with pytest.raises(KeyNotFoundError):
        await verifies(provider, former)
    assert provider.status().withdrawn_key_ids == ()


async def test_use_of_a_withdrawn_key_asks_for_the_set_once_per_cooldown(
    provider: RemoteJWKSet, issuer: LocalIssuer, clock: Clock
) -> None:
    former = issuer.token()
    await provider.refresh()
    issuer.rotate(keep=0)
    await provider.refresh()
    for seconds, fetches in ((0, 3), (0, 3), (29, 3), (1, 4)):
        clock.advance(seconds)
        assert answers_at_once(provider, former)
        assert answers_at_once(provider, former)
        await idle(provider)
        assert len(issuer.requests) == fetches


async def test_key_that_vanishes_and_returns_is_the_same_and_no_longer_withdrawn(
    provider: RemoteJWKSet, issuer: LocalIssuer, clock: Clock
) -> None:
    token, kid = issuer.token(), issuer.kid
    (key,) = await ask(provider, token)
    issuer.publish()
    issuer.withdraw(kid)
    await provider.refresh()
    assert provider.status().withdrawn_key_ids == (kid,)
    assert ask(provider, token)[0] is key
    await idle(provider)
    issuer.publish(kid)
    await provider.refresh()
    assert provider.status().withdrawn_key_ids == ()
    assert ask(provider, token)[0] is key
    clock.advance(2 * HOUR)
    assert answers_at_once(provider, token)


async def test_key_that_takes_over_the_id_of_another_does_not_push_it_out(
    provider: RemoteJWKSet, issuer: LocalIssuer
) -> None:
    former = issuer.token(headers={"kid": "the-key"})
    jwk = issuer.jwks["keys"][0]
    issuer.serve_jwks({"keys": [{**jwk, "kid": "the-key"}]})
    await provider.refresh()
    issuer.rotate(keep=0)
    issuer.serve_jwks({"keys": [{**issuer.jwks["keys"][0], "kid": "the-key"}]})
    await provider.refresh()
    assert answers_at_once(provider, former)
    assert answers_at_once(provider, issuer.token(headers={"kid": "the-key"}))
    assert not provider._document.is_fetching()
    assert len(issuer.requests) == 2


async def test_no_more_withdrawn_keys_are_kept_than_a_set_may_have(issuer: LocalIssuer, clock: Clock) -> None:
    provider = RemoteJWKSet(issuer.jwks_url, max_keys=3, clock=clock)
    kids = []
    for _ in range(6):
        kids.append(issuer.kid)
        await provider.refresh()
        issuer.rotate(keep=0)
    assert provider.status().withdrawn_key_ids == tuple(kids[2:5])


# Outages.


async def test_keys_outlive_an_outage_and_the_end_of_their_freshness(
    provider: RemoteJWKSet, issuer: LocalIssuer, clock: Clock
) -> None:
    await provider.refresh()
    issuer.gone()
    for _ in range(12):
        clock.advance(2 * HOUR)
        assert answers_at_once(provider, issuer.token())
        await idle(provider)
        assert provider.status().last_error
        assert provider.status().key_ids == (issuer.kid,)
    clock.advance(10 * MINUTE)
    with pytest.raises(KeysUnavailableError):
        await verifies(provider, issuer.token())
    issuer.back()
    clock.advance(30)
    assert await verifies(provider, issuer.token())
    assert provider.status().last_error is None


async def test_provider_that_is_down_is_asked_once_per_cooldown(
    provider: RemoteJWKSet, issuer: LocalIssuer, clock: Clock
) -> None:
    await provider.refresh()
    issuer.fail_with(404)
    clock.advance(HOUR)
    for _ in range(100):
        assert answers_at_once(provider, issuer.token())
        await idle(provider)
        clock.advance(1)
    assert len(issuer.requests) == 1 + 4
    assert provider.status().failures == 4


async def test_without_outage_window_expired_keys_do_not_serve(issuer: LocalIssuer, clock: Clock) -> None:
    provider = RemoteJWKSet(issuer.jwks_url, max_stale=0, clock=clock)
    await provider.refresh()
    clock.advance(599)
    assert answers_at_once(provider, issuer.token())
    await idle(provider)
    issuer.fail_with(404)
    clock.advance(600)
    with pytest.raises(KeysUnavailableError):
        await verifies(provider, issuer.token())


async def test_without_any_keys_clients_are_told_when_to_come_back(
    provider: RemoteJWKSet, issuer: LocalIssuer, clock: Clock
) -> None:
    issuer.fail_with(404)
    for seconds, retry_after in ((0, "30"), (12, "18"), (17.5, "1")):
        clock.advance(seconds)
        with pytest.raises(KeysUnavailableError) as unavailable:
            await verifies(provider, issuer.token())
        assert unavailable.value.status_code == 503
        assert unavailable.value.headers == {"Retry-After": retry_after}
    assert len(issuer.requests) == 1
    issuer.recover()
    clock.advance(0.5)
    assert await verifies(provider, issuer.token())


@pytest.mark.parametrize(
    ("status", "headers", "attempts"),
    [
        (500, {}, 3),
        (503, {"Retry-After": "0"}, 3),
        (503, {"Retry-After": "60"}, 1),
        (503, {"Retry-After": formatdate(4_000_000_000, usegmt=True)}, 1),
        (503, {"Retry-After": formatdate(1_000_000_000, usegmt=True)}, 3),
        (429, {"Retry-After": "later"}, 3),
        (400, {}, 1),
        (204, {}, 1),
    ],
)
async def test_errors_that_may_pass_are_retried_within_the_deadline(
    provider: RemoteJWKSet, issuer: LocalIssuer, status: int, headers: dict[str, str], attempts: int
) -> None:
    issuer.fail_with(status, headers)
    with pytest.raises(KeysUnavailableError):
        await provider.refresh()
    assert len(issuer.requests) == attempts
    assert str(status) in (provider.status().last_error or "")
    assert (provider.status().fetches, provider.status().failures) == (1, 1)


async def test_retry_that_succeeds_is_no_failure(provider: RemoteJWKSet, issuer: LocalIssuer) -> None:
    def fail_once(handler: BaseHTTPRequestHandler) -> None:
        issuer.responder = None
        responds(issuer, status=503)(handler)

    issuer.responder = fail_once
    assert await verifies(provider, issuer.token())
    assert (provider.status().fetches, provider.status().failures) == (1, 0)


async def test_retry_that_would_come_too_late_is_left_out(issuer: LocalIssuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_http, "_BACKOFF", 10)
    issuer.fail_with(503)
    with pytest.raises(KeysUnavailableError):
        await RemoteJWKSet(issuer.jwks_url, timeout=2).refresh()
    assert len(issuer.requests) == 1


# Clock jumps.


@pytest.mark.parametrize("jump", [-HOUR, -365 * DAY])
async def test_clock_that_was_set_back_freezes_nothing(
    provider: RemoteJWKSet, issuer: LocalIssuer, clock: Clock, jump: int
) -> None:
    former = issuer.token()
    await provider.refresh()
    with pytest.raises(KeyNotFoundError):
        await verifies(provider, bogus_token(issuer))
    issuer.rotate(keep=0)
    await provider.refresh()
    clock.advance(jump)
    assert provider.status().stale
    assert answers_at_once(provider, issuer.token())
    await idle(provider)
    assert not provider.status().stale
    assert provider.status().fetched_at == datetime.fromtimestamp(clock.now, UTC)
    assert answers_at_once(provider, former)
    issuer.rotate()
    assert await verifies(provider, issuer.token())
    clock.advance(HOUR)
    await idle(provider)
    with pytest.raises(KeyNotFoundError):
        await verifies(provider, former)


async def test_clock_that_was_set_back_during_an_outage_does_not_prolong_it_without_end(
    provider: RemoteJWKSet, issuer: LocalIssuer, clock: Clock
) -> None:
    await provider.refresh()
    issuer.fail_with(404)
    clock.advance(-365 * DAY)
    assert answers_at_once(provider, issuer.token())
    await idle(provider)
    clock.advance(DAY)
    with pytest.raises(KeysUnavailableError):
        await verifies(provider, issuer.token())


async def test_clock_that_leaps_ahead_makes_requests_wait_once(
    provider: RemoteJWKSet, issuer: LocalIssuer, clock: Clock
) -> None:
    await provider.refresh()
    clock.advance(365 * DAY)
    assert await verifies(provider, issuer.token())
    assert answers_at_once(provider, issuer.token())
    assert len(issuer.requests) == 2


# Strange key sets.


async def test_strange_keys_are_skipped_with_one_line_until_they_change(
    provider: RemoteJWKSet, issuer: LocalIssuer, caplog: pytest.LogCaptureFixture
) -> None:
    (good,) = issuer.jwks["keys"]
    weak = json.loads(RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 1024).public_key()))
    strange = [
        {"kty": "oct", "k": "c2VjcmV0"},
        {**good, "use": "enc"},
        {**good, "kid": 1},
        {**good, "crv": "X25519"},
        {**good, "x": None},
        {"kty": "quantum"},
        weak,
        None,
        "key",
        [],
    ]
    issuer.serve_jwks({"keys": [*strange, good]})
    with caplog.at_level(logging.WARNING, "litestar.security.jwt"):
        await provider.refresh()
        issuer.serve_jwks({"keys": [*strange, good], "changed": True})
        await provider.refresh()
        assert len(caplog.records) == 1
        issuer.serve_jwks({"keys": [*strange[1:], good]})
        await provider.refresh()
        assert len(caplog.records) == 2
    assert answers_at_once(provider, issuer.token())
    assert provider.status().key_ids == (issuer.kid,)
    assert len(provider.status().skipped) == len(strange) - 1


@pytest.mark.parametrize(
    "document",
    [
        {"keys": []},
        {"keys": [{"kty": "oct", "k": "c2VjcmV0"}]},
        {"keys": {}},
        {},
        b"[]",
        b"null",
        b"",
        b"<html></html>",
    ],
    ids=repr,
)
async def test_answer_without_a_usable_key_never_replaces_good_keys(
    provider: RemoteJWKSet, issuer: LocalIssuer, clock: Clock, document: Any
) -> None:
    await provider.refresh()
    issuer.serve_jwks(document)
    with pytest.raises(KeysUnavailableError):
        await provider.refresh()
    assert provider.status().failures == 1
    clock.advance(HOUR)
    assert answers_at_once(provider, issuer.token())


async def test_private_members_of_published_keys_are_dropped(provider: RemoteJWKSet, issuer: LocalIssuer) -> None:
    issuer.serve_jwks({"keys": [{**_private_jwk(issuer), "kid": issuer.kid}]})
    (key,) = await ask(provider, issuer.token())
    assert is_verified(issuer.token(), (key,))
    assert "d" not in key._jwk_data


async def test_key_that_is_listed_twice_is_tried_once(provider: RemoteJWKSet, issuer: LocalIssuer) -> None:
    issuer.serve_jwks({"keys": issuer.jwks["keys"] * 2})
    assert len(await ask(provider, issuer.token())) == 1


async def test_set_with_too_many_keys_is_refused(issuer: LocalIssuer) -> None:
    issuer.publish()
    with pytest.raises(KeysUnavailableError):
        await RemoteJWKSet(issuer.jwks_url, max_keys=1).refresh()
    await RemoteJWKSet(issuer.jwks_url, max_keys=2).refresh()


# Options.


@pytest.mark.parametrize(
    "options",
    [
        {"lifetime": 59},
        {"lifetime": 86_401},
        {"lifetime": float("nan")},
        {"min_lifetime": 0},
        {"min_lifetime": 700},
        {"max_lifetime": float("inf")},
        {"refresh_ahead": 0},
        {"refresh_ahead": 1.1},
        {"cooldown": 0},
        {"timeout": 0},
        {"timeout": -1},
        {"withdrawn_grace": -1},
        {"withdrawn_grace": float("inf")},
        {"max_stale": -1},
        {"max_body_size": 0},
        {"max_keys": 0},
        {"headers": {"X-Name": "a\r\nX-Other: b"}},
        {"headers": {"X Name": "a"}},
        {"headers": {"X-Name": b"a"}},
        {"headers": "X-Name: a"},
        {"client": "httpx"},
        {"store": {}},
    ],
    ids=repr,
)
async def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ImproperlyConfiguredException):
        RemoteJWKSet("https://issuer.test/jwks", **options)


@pytest.mark.parametrize(
    "url",
    [
        "http://issuer.test/jwks",
        "http://10.0.0.1/jwks",
        "http://127.0.0.1.issuer.test/jwks",
        "http://127.0.0.1\\@issuer.test/jwks",
        "https://user:password@issuer.test/jwks",
        "https://user@issuer.test/jwks",
        "https://@issuer.test/jwks",
        "ftp://issuer.test/jwks",
        "file:///etc/passwd",
        "//issuer.test/jwks",
        "https://",
        "https:///jwks",
        "https://issuer.test:99999/jwks",
        "https://issuer.test:x/jwks",
        "https://[::1/jwks",
        "https://issuer.test/jwks#key",
        "https://issuer.test/ jwks",
        "https://issuer.test/jwks\n",
        "https://ïssuer.test/jwks",
        "",
        None,
    ],
)
async def test_urls_that_keys_must_not_come_from_are_refused(url: Any) -> None:
    with pytest.raises(ImproperlyConfiguredException):
        RemoteJWKSet(url)


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("https://issuer.test/jwks", {}),
        ("https://issuer.test:8443/jwks?p=policy", {}),
        ("http://localhost/jwks", {}),
        ("http://127.0.0.2:8000/jwks", {}),
        ("http://[::1]:8000/jwks", {}),
        ("http://issuer.test/jwks", {"allow_http": True}),
    ],
)
async def test_urls_that_keys_may_come_from(url: str, options: dict[str, Any]) -> None:
    assert RemoteJWKSet(url, **options).status().url == url.partition("?")[0]


async def test_missing_http_client_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_http, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyException, match="httpx2"):
        RemoteJWKSet("https://issuer.test/jwks")
    RemoteJWKSet("https://issuer.test/jwks", client=httpx2.AsyncClient())


async def test_httpx_serves_where_httpx2_is_not_installed(
    provider: RemoteJWKSet, issuer: LocalIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_http, "find_spec", lambda name: None if name == "httpx2" else find_spec(name))
    assert await verifies(provider, issuer.token())
    assert issuer.requests[0].headers["User-Agent"].startswith("python-httpx/")


async def test_header_fields_are_sent(issuer: LocalIssuer) -> None:
    await RemoteJWKSet(issuer.jwks_url, headers={"X-Api-Key": "secret", "Accept": "*/*"}).refresh()
    assert issuer.requests[0].headers["X-Api-Key"] == "secret"
    assert issuer.requests[0].headers["Accept"] == "*/*"
    assert issuer.requests[0].headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("package", [httpx, httpx2], ids=["httpx", "httpx2"])
async def test_callers_client_is_used_and_not_closed(issuer: LocalIssuer, package: Any) -> None:
    async with package.AsyncClient(headers={"X-Client": "mine"}, follow_redirects=True) as client:
        provider = RemoteJWKSet(issuer.jwks_url, client=client)
        async with provider.lifespan(Litestar()):
            assert answers_at_once(provider, issuer.token())
        assert issuer.requests[0].headers["X-Client"] == "mine"
        assert not client.is_closed
        issuer.fail_with(302, {"Location": f"{issuer.url}/elsewhere"})
        with pytest.raises(KeysUnavailableError):
            await provider.refresh()
        assert len(issuer.requests) == 2


async def test_callers_function_is_used(issuer: LocalIssuer) -> None:
    calls = []

    async def fetch(url: str, headers: Mapping[str, str]) -> Any:
        calls.append((url, headers))
        response = SimpleNamespace(status_code=200, headers={"ETAG": '"1"'}, content=json.dumps(issuer.jwks).encode())
        return response if len(calls) == 1 else SimpleNamespace(status_code=304, headers={}, content=b"")

    provider = RemoteJWKSet("https://issuer.test/jwks", client=fetch, headers={"X-Name": "value"})
    assert await verifies(provider, issuer.token())
    await provider.refresh()
    assert [url for url, _ in calls] == ["https://issuer.test/jwks"] * 2
    assert calls[0][1]["X-Name"] == "value"
    assert calls[1][1]["If-None-Match"] == '"1"'


@pytest.mark.parametrize(
    "response",
    [
        None,
        SimpleNamespace(status_code=200, headers={}, content=b"x" * 2000),
        SimpleNamespace(status_code=302, headers={"Location": "https://issuer.test"}, content=b""),
        SimpleNamespace(status_code=200, headers={"Cache-Control": 5}, content=b"{}"),
        SimpleNamespace(status_code=200, headers=None, content=b"{}"),
    ],
    ids=["none", "large", "redirect", "field", "no-fields"],
)
async def test_whatever_a_callers_function_returns_is_checked(response: Any) -> None:
    async def fetch(url: str, headers: Mapping[str, str]) -> Any:
        return response

    provider = RemoteJWKSet("https://issuer.test/jwks", client=fetch, max_body_size=1000)
    with pytest.raises(KeysUnavailableError):
        await provider.refresh()
    assert provider.status().failures == 1
    await idle(provider)


# Applications.


async def test_lifespan_fetches_ahead(provider: RemoteJWKSet, issuer: LocalIssuer) -> None:
    async with provider.lifespan(Litestar()):
        assert answers_at_once(provider, issuer.token())


async def test_lifespan_without_prefetch_fetches_nothing(issuer: LocalIssuer) -> None:
    provider = RemoteJWKSet(issuer.jwks_url, prefetch=False)
    async with provider.lifespan(Litestar()):
        assert not issuer.requests
        assert await verifies(provider, issuer.token())


async def test_application_starts_without_keys_unless_they_are_required(
    issuer: LocalIssuer, caplog: pytest.LogCaptureFixture
) -> None:
    issuer.fail_with(404)
    async with RemoteJWKSet(issuer.jwks_url).lifespan(Litestar()):
        assert "404" in caplog.text
    for prefetch in (True, False):
        provider = RemoteJWKSet(issuer.jwks_url, prefetch=prefetch, require_on_startup=True)
        with pytest.raises(KeysUnavailableError):
            async with provider.lifespan(Litestar()):
                raise AssertionError


async def test_end_of_an_application_ends_its_fetches(provider: RemoteJWKSet, issuer: LocalIssuer) -> None:
    async with provider.lifespan(Litestar()):
        issuer.delay = 30
        async with provider.lifespan(Litestar()):
            with anyio.move_on_after(0.01):
                await provider.refresh()
        assert provider._document._running
        waiting = []

        async def wait() -> None:
            with pytest.raises(KeysUnavailableError):
                await provider.refresh()
            waiting.append(False)

        tasks = anyio.create_task_group()
        await tasks.__aenter__()
        _ = tasks.start_soon(wait)
        await anyio.sleep(0.01)
    assert not provider._document._running
    await tasks.__aexit__(None, None, None)
    assert waiting == [False]
    issuer.recover()
    assert await verifies(provider, issuer.token())


async def test_end_of_an_application_during_its_first_fetch_leaves_nobody_waiting(
    provider: RemoteJWKSet, issuer: LocalIssuer
) -> None:
    issuer.delay = 30
    async with anyio.create_task_group() as tasks:

        async def wait() -> None:
            with pytest.raises(KeysUnavailableError):
                await verifies(provider, issuer.token())

        provider = RemoteJWKSet(issuer.jwks_url, prefetch=False)
        async with provider.lifespan(Litestar()):
            _ = tasks.start_soon(wait)
            await until(lambda: bool(issuer.requests))


def test_one_provider_serves_one_event_loop_after_the_other(issuer: LocalIssuer, clock: Clock) -> None:
    provider = RemoteJWKSet(issuer.jwks_url, clock=clock)

    async def leave_a_refresh_behind() -> None:
        assert await verifies(provider, issuer.token())
        clock.advance(HOUR)
        issuer.delay = 30
        assert answers_at_once(provider, issuer.token())
        await until(lambda: len(issuer.requests) % 2 == 0)

    for _ in range(3):
        for backend in ("asyncio", "trio"):
            issuer.recover()
            clock.advance(7 * DAY)
            anyio.run(leave_a_refresh_behind, backend=backend)
            assert not provider._document._running


def test_fetch_that_was_left_behind_in_one_event_loop_is_not_waited_for_in_another(
    provider: RemoteJWKSet, issuer: LocalIssuer, clock: Clock
) -> None:
    asyncio.run(provider.refresh())
    clock.advance(HOUR)

    async def start_and_leave() -> None:
        assert answers_at_once(provider, issuer.token())

    asyncio.run(start_and_leave())
    asyncio.run(provider.refresh())
    assert not provider._document._running
    assert len(issuer.requests) == 2


def test_test_client_leaves_no_noise_behind(
    issuer: LocalIssuer, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    provider = RemoteJWKSet(issuer.jwks_url, min_lifetime=0.001, lifetime=0.001)

    @get("/")
    async def handler() -> bool:
        issuer.delay = 30
        return answers_at_once(provider, issuer.token())

    @get("/slow")
    async def slow() -> None:
        await provider.refresh()

    for lifespan in ([provider.lifespan], []):
        for backend in ("asyncio", "trio"):
            issuer.recover()
            anyio.run(provider.refresh)
            app = Litestar([handler, slow], lifespan=lifespan)
            with TestClient(app, backend=backend) as client:
                assert client.get("/").json() is True
    gc.collect()
    assert not capfd.readouterr().err
    # Litestar itself still calls what it has deprecated.
    assert not [warning for warning in recwarn if not issubclass(warning.category, DeprecationWarning)]


async def test_handlers_that_litestar_copies_share_one_provider(provider: RemoteJWKSet) -> None:
    assert deepcopy({"key_provider": provider})["key_provider"] is provider


# What can be seen from outside.


async def test_status_tells_what_is_known(provider: RemoteJWKSet, issuer: LocalIssuer, clock: Clock) -> None:
    status = provider.status()
    assert (status.url, status.key_ids, status.fetched_at, status.expires_at) == (issuer.jwks_url, (), None, None)
    assert not status.stale
    await provider.refresh()
    issuer.fail_with(404)
    with pytest.raises(KeysUnavailableError):
        await provider.refresh()
    status = provider.status()
    assert status.key_ids == (issuer.kid,)
    assert status.last_error == "status 404"
    assert (status.fetches, status.failures) == (2, 1)
    with pytest.raises(AttributeError):
        status.stale = True  # type: ignore[misc]


async def test_refresh_joins_what_is_under_way(provider: RemoteJWKSet, issuer: LocalIssuer) -> None:
    issuer.delay = 0.05
    async with anyio.create_task_group() as tasks:
        _ = tasks.start_soon(provider.refresh)
        _ = tasks.start_soon(provider.refresh)
    assert len(issuer.requests) == 1


async def test_secrets_and_tokens_stay_out_of_logs_and_representations(
    issuer: LocalIssuer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "litestar.security.jwt")
    provider = RemoteJWKSet(f"{issuer.jwks_url}?code=secret", headers={"X-Api-Key": "secret"}, clock=clock)
    await provider.refresh()
    with pytest.raises(KeyNotFoundError) as refused:
        await verifies(provider, bogus_token(issuer, "secret-kid"))
    issuer.fail_with(404)
    with pytest.raises(KeysUnavailableError) as unavailable:
        await provider.refresh()
    assert caplog.records
    for text in (caplog.text, repr(provider), repr(provider.status()), repr(refused.value), repr(unavailable.value)):
        assert "secret" not in text


async def test_key_ids_may_be_any_string(issuer: LocalIssuer, clock: Clock) -> None:
    provider = RemoteJWKSet(issuer.jwks_url, clock=clock)
    await provider.refresh()
    for kid in ("", "\ud800", "\x00", "x" * 5000, "../../etc/passwd", "None"):
        clock.advance(30)
        with pytest.raises(KeyNotFoundError):
            await verifies(provider, _renamed(issuer.token(), kid))


async def test_keys_of_every_kind_are_found(clock: Clock) -> None:
    for algorithm in ("RS256", "PS512", "ES256", "ES512", "EdDSA"):
        with LocalIssuer(algorithm=algorithm, declare_alg=False) as issuer:
            assert await verifies(RemoteJWKSet(issuer.jwks_url, clock=clock), issuer.token())
