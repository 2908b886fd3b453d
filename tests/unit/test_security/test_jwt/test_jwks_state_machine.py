"""Whatever happens in whatever order to a provider and to those who ask it, some things are always so."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple

import jwt
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from litestar.security.jwt.jwks import RemoteJWKSet
from litestar.security.jwt.keys import KeyNotFoundError, KeysUnavailableError
from litestar.security.jwt.testing import LocalIssuer

from .remote import Clock, idle, verifies

LIFETIME, MIN_LIFETIME, AHEAD, COOLDOWN, GRACE, STALE, MAX_KEYS = 100, 60, 0.8, 30, 50, 200, 5
MAX_AGES = (None, 0, 70, 150)


class Signer(NamedTuple):
    """A key of the issuer, and tokens that name it."""

    jwk: dict[str, Any]
    token: str
    nameless: str
    forged: str


def make_signer() -> Signer:
    issuer = LocalIssuer(algorithm="EdDSA")
    (jwk,) = issuer.jwks["keys"]
    return Signer(jwk, issuer.token(), issuer.token(headers={"kid": None}), issuer.forged_token())


SIGNERS = [make_signer() for _ in range(8)]
STRANGER = make_signer()
signers = st.sampled_from(range(len(SIGNERS)))


class Fetch(NamedTuple):
    at: float
    published: frozenset[int]
    succeeded: bool


class Request(NamedTuple):
    signer: int
    at: float
    result: asyncio.Task[str]


class KeysOverTime(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = Clock()
        self.provider = RemoteJWKSet(
            "https://issuer.test/jwks",
            lifetime=LIFETIME,
            min_lifetime=MIN_LIFETIME,
            refresh_ahead=AHEAD,
            cooldown=COOLDOWN,
            withdrawn_grace=GRACE,
            max_stale=STALE,
            max_keys=MAX_KEYS,
            client=self.fetch,
            clock=self.clock,
        )
        self.reachable = True
        self.max_age: int | None = None
        self.published_since: dict[int, float] = {}
        self.withdrawn_at: dict[int, float] = {}
        self.fetches: list[Fetch] = []
        self.held: asyncio.Event | None = None
        self.held_for = 4
        self.pending: list[Request] = []

    def teardown(self) -> None:
        if self.held is not None:
            self.release()
        self.runner.close()
        super().teardown()

    async def fetch(self, url: str, headers: Mapping[str, str]) -> Any:
        """Answer as the provider does at this moment, though the answer may take its time."""
        jwks = {"keys": [SIGNERS[signer].jwk for signer in self.published_since]}
        caching = {} if self.max_age is None else {"Cache-Control": f"max-age={self.max_age}"}
        self.fetches.append(Fetch(self.clock.now, frozenset(self.published_since), self.reachable))
        status = 200 if self.reachable else 404
        if self.held is not None:
            await self.held.wait()
        return SimpleNamespace(status_code=status, headers=caching, content=json.dumps(jwks).encode())

    async def request(self, token: str) -> str:
        try:
            return "verified" if await verifies(self.provider, token) else "forged"
        except KeyNotFoundError:
            return "unknown"
        except KeysUnavailableError:
            return "unavailable"

    def ask(self, token: str) -> str:
        """Return what a request sees, once all is quiet again."""

        async def ask_and_settle() -> str:
            result = await self.request(token)
            await idle(self.provider)
            return result

        return self.runner.run(ask_and_settle())

    def check(self, signer: int, result: str, asked_at: float) -> None:
        if result == "verified":
            self.check_windows(signer)
        elif signer in self.published_since and self.published_since[signer] <= asked_at and self.reachable:
            # It cannot be seen for one cooldown after a question that it was not part of the answer to.
            recent = [fetch for fetch in self.fetches if fetch.at > asked_at - COOLDOWN]
            assert any(not fetch.succeeded or signer not in fetch.published for fetch in recent), result

    def check_windows(self, signer: int) -> None:
        assert signer in self.published_since or signer in self.withdrawn_at
        if signer not in self.published_since:
            longest = max(LIFETIME, *filter(None, MAX_AGES)) + STALE + GRACE
            assert self.clock.now - self.withdrawn_at[signer] <= longest

    @initialize(signer=signers)
    def start(self, signer: int) -> None:
        self.published_since[signer] = self.clock.now

    @precondition(lambda self: self.held is None)
    @rule(seconds=st.sampled_from([1, 5, 29, 30, 31, 49, 50, 80, 99, 100, 200, 301, 1000]))
    def time_passes(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule(signer=signers)
    def publish(self, signer: int) -> None:
        if len(self.published_since) < MAX_KEYS:
            self.published_since.setdefault(signer, self.clock.now)
            self.withdrawn_at.pop(signer, None)

    @rule(signer=signers)
    def withdraw(self, signer: int) -> None:
        if signer in self.published_since and len(self.published_since) > 1:
            del self.published_since[signer]
            self.withdrawn_at[signer] = self.clock.now

    @rule(signer=signers)
    def rotate(self, signer: int) -> None:
        for other in self.published_since.keys() - {signer}:
            self.withdrawn_at[other] = self.clock.now
        self.published_since = {signer: self.published_since.get(signer, self.clock.now)}
        self.withdrawn_at.pop(signer, None)

    @rule()
    def outage(self) -> None:
        self.reachable = False

    @rule()
    def recovery(self) -> None:
        self.reachable = True

    @rule(max_age=st.sampled_from(MAX_AGES))
    def cache_control(self, max_age: int | None) -> None:
        self.max_age = max_age

    @precondition(lambda self: self.held is None)
    @rule(signer=signers)
    def token(self, signer: int) -> None:
        self.check(signer, self.ask(SIGNERS[signer].token), self.clock.now)

    @precondition(lambda self: self.held is None)
    @rule(signer=signers)
    def token_without_key_id(self, signer: int) -> None:
        # The token does not say which key it needs, so nobody asks for that key: only what it is verified with matters.
        if self.ask(SIGNERS[signer].nameless) == "verified":
            self.check_windows(signer)

    @precondition(lambda self: self.held is None)
    @rule(signer=signers)
    def forged_token(self, signer: int) -> None:
        assert self.ask(SIGNERS[signer].forged) != "verified"

    @precondition(lambda self: self.held is None)
    @rule()
    def bogus_token(self) -> None:
        assert self.ask(STRANGER.token) in {"unknown", "unavailable"}

    @precondition(lambda self: self.held is None)
    @rule()
    def provider_becomes_slow(self) -> None:
        self.held, self.held_for = asyncio.Event(), 0

    @precondition(lambda self: self.held is not None and len(self.pending) < 20)
    @rule(signer=signers)
    def token_meanwhile(self, signer: int) -> None:
        async def ask() -> None:
            task = asyncio.create_task(self.request(SIGNERS[signer].token))
            for _ in range(5):
                await asyncio.sleep(0)
            self.pending.append(Request(signer, self.clock.now, task))

        self.runner.run(ask())

    @precondition(lambda self: bool(self.pending))
    @rule(index=st.integers(0, 19))
    def client_leaves(self, index: int) -> None:
        request = self.pending.pop(index % len(self.pending))

        async def cancel() -> None:
            request.result.cancel()
            await asyncio.wait([request.result])

        self.runner.run(cancel())

    @precondition(lambda self: self.held_for < 4)  # a fetch has five seconds
    @rule()
    def a_second_passes_meanwhile(self) -> None:
        self.clock.advance(1)
        self.held_for += 1

    @precondition(lambda self: self.held is not None)
    @rule()
    def release(self) -> None:
        """The provider answers, what it would have answered when it was asked."""
        assert self.held is not None
        held, self.held, self.held_for = self.held, None, 4
        pending, self.pending = self.pending, []

        async def settle() -> list[str]:
            held.set()
            results = [await request.result for request in pending]
            await idle(self.provider)
            return results

        for request, result in zip(pending, self.runner.run(settle()), strict=True):
            if request.signer in self.published_since:
                self.check(request.signer, result, request.at)

    @invariant()
    def provider_is_not_asked_more_often_than_documented(self) -> None:
        # In one cooldown: one fetch for what is missing or after a failure, and one because it is time.
        times = [fetch.at for fetch in self.fetches]
        assert all(later - earlier >= COOLDOWN for earlier, later in zip(times, times[2:], strict=False))

    @invariant()
    def memory_is_bounded(self) -> None:
        assert len(self.provider._withdrawn) <= MAX_KEYS
        assert len(self.provider._view.keys._selected) <= 2 * len(SIGNERS)
        assert len(self.provider._document._running) <= 1

    @invariant()
    def nothing_is_made_up(self) -> None:
        known = {SIGNERS[signer].jwk["kid"] for signer in self.published_since.keys() | self.withdrawn_at.keys()}
        status = self.provider.status()
        assert set(status.key_ids) | set(status.withdrawn_key_ids) <= known


def test_signatures_of_the_model_are_what_they_claim() -> None:
    for signer in SIGNERS:
        key = jwt.PyJWK(signer.jwk)
        assert jwt.decode(signer.token, key, ["EdDSA"])
        assert jwt.decode(signer.nameless, key, ["EdDSA"])


TestKeysOverTime = KeysOverTime.TestCase
TestKeysOverTime.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
