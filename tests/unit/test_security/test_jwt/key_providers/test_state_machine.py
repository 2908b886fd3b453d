"""Whatever happens in whatever order to an issuer, its key set and those who ask for it, some things always hold."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import time_machine
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from litestar.security.jwt import RemoteJWKSet
from litestar.stores.memory import MemoryStore

from .asking import answer_to
from .issuer_server import START, Signer, bogus, client_of, jwks_of

LIFETIME, GRACE, STALE = 100, 50, 200
REFILL, BURST, BACKOFF = 15, 2, 30
SIGNERS = [Signer(f"key-{number}") for number in range(5)]
FORGED = [bogus(f"key-{number}") for number in range(5)]
TOKENS = [signer.token() for signer in SIGNERS]
signers = st.sampled_from(range(len(SIGNERS)))


class Fetch(NamedTuple):
    at: float
    published: frozenset[int]
    succeeded: bool


class KeysOverTime(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.traveller = time_machine.travel(START, tick=False)
        self.clock = self.traveller.start()
        self.now = 0.0
        self.runner = asyncio.Runner()
        self.store = MemoryStore()
        self.published: frozenset[int] = frozenset()
        self.reachable = True
        self.fetches: list[Fetch] = []
        self.fetches_known: list[Fetch] = []
        self.refused_since: dict[int, float] = {}
        self.restart()

    def teardown(self) -> None:
        self.runner.close()
        self.traveller.stop()

    def fetch(self, url: str) -> Any:
        self.fetches.append(Fetch(self.now, self.published, self.reachable))
        if not self.reachable:
            raise OSError("no network")
        return jwks_of(*(SIGNERS[number] for number in sorted(self.published)))

    def ask(self, token: str) -> str:
        async def ask_and_settle() -> str:
            answer = await answer_to(self.provider, token)
            self.fetches_known = list(self.fetches)  # a renewal in the background comes too late for this answer
            for _ in range(30):
                await asyncio.sleep(0)
            return answer

        return self.runner.run(ask_and_settle())

    @initialize(first=signers)
    def start(self, first: int) -> None:
        self.published = frozenset({first})

    @rule()
    def restart(self) -> None:
        self.provider = RemoteJWKSet(
            "https://issuer.test/keys",
            lifetime=LIFETIME,
            withdrawn_grace=GRACE,
            max_stale=STALE,
            client=client_of(self.fetch),
            store=self.store,
        )
        self.restarted_at = self.now
        self.fetches_before = len(self.fetches)

    @rule(seconds=st.sampled_from([1, 5, 14, 15, 16, 30, 49, 51, 99, 101, 301]))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds
        self.clock.shift(seconds)

    @rule(keys=st.sets(signers, min_size=1))
    def publish(self, keys: set[int]) -> None:
        self.published = frozenset(keys)
        self.refused_since = {}

    @rule(reachable=st.booleans())
    def network(self, reachable: bool) -> None:
        self.reachable = reachable
        self.refused_since = {}

    @rule(number=signers)
    def token(self, number: int) -> None:
        answer = self.ask(TOKENS[number])
        if answer == "200":
            self.check_windows(number)
            self.refused_since.pop(number, None)
        elif self.reachable and number in self.published:
            # A published key may be refused for one refill of the bucket, or one backoff after an outage.
            longest = BACKOFF if answer == "503" else REFILL
            assert self.now - self.refused_since.setdefault(number, self.now) < longest

    def check_windows(self, number: int) -> None:
        listed = [fetch.at for fetch in self.fetches_known if fetch.succeeded and number in fetch.published]
        newest = max(fetch.at for fetch in self.fetches_known if fetch.succeeded)
        assert listed, "no answer has listed it"
        assert self.now < newest + LIFETIME + STALE
        assert max(listed) == newest or self.now < max(listed) + LIFETIME + GRACE

    @rule(number=signers)
    def forged_token(self, number: int) -> None:
        assert self.ask(FORGED[number]) in {"401", "503"}

    @rule(number=st.integers(0, 9))
    def made_up_token(self, number: int) -> None:
        assert self.ask(bogus(f"made-up-{number}")) in {"401", "503"}

    @invariant()
    def fetches_are_bounded(self) -> None:
        times = [fetch.at for fetch in self.fetches[self.fetches_before :]]
        elapsed = self.now - self.restarted_at
        # Extra ones, renewals (which are due after 70 % at the earliest), and repetitions of failed ones.
        failed = sum(not fetch.succeeded for fetch in self.fetches[self.fetches_before :])
        assert len(times) <= 1 + BURST + elapsed / REFILL + elapsed / (0.7 * LIFETIME) + 2 * failed

    @invariant()
    def nothing_is_made_up(self) -> None:
        status = self.provider.status()
        known = {f"key-{number}" for fetch in self.fetches for number in fetch.published}
        assert set(status.key_ids) | set(status.withdrawn_key_ids) <= known
        assert status.usable == bool(status.key_ids or status.withdrawn_key_ids)


TestKeysOverTime = KeysOverTime.TestCase
TestKeysOverTime.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
