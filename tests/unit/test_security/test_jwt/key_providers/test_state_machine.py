"""Whatever happens in whatever order to an issuer, its key set and those who ask for it, some things always hold."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import time_machine
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from litestar.security.jwt import RemoteJWKSet
from litestar.stores.memory import MemoryStore

from .issuer_server import START, Signer, bogus, fake_client, jwks_of
from .lookups import answer_to

LIFETIME, GRACE, STALE = 100, 50, 200
REFILL, BURST, BACKOFF = 15, 2, 30
SIGNERS = [Signer(f"key-{number}") for number in range(5)]
FORGED = [bogus(f"{kind}-{number}") for kind in ("key", "made-up") for number in range(5)]
TOKENS = [signer.token() for signer in SIGNERS]
signers = st.sampled_from(range(len(SIGNERS)))
Fetches = list[tuple[float, frozenset[int]]]
"""When the issuer was asked, and the keys that it had, none if the fetch failed."""


class KeysOverTime(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.traveller = time_machine.travel(START, tick=False)
        self.clock = self.traveller.start()
        self.runner = asyncio.Runner()
        self.store = MemoryStore()
        self.published = frozenset({0})
        self.reachable = True
        self.fetches: Fetches = []
        self.fetches_known: Fetches = []
        self.refused_since: dict[int, float] = {}
        self.restart()

    def teardown(self) -> None:
        self.runner.close()
        self.traveller.stop()

    def fetch(self, url: str) -> Any:
        self.fetches.append((time.time(), self.published if self.reachable else frozenset()))
        if not self.reachable:
            raise OSError("no network")
        return jwks_of(*(SIGNERS[number] for number in sorted(self.published)))

    def look_up(self, token: str) -> str:
        async def look_up_and_settle() -> str:
            answer = await answer_to(self.provider, token)
            self.fetches_known = list(self.fetches)  # a renewal in the background comes too late for this answer
            for _ in range(30):
                await asyncio.sleep(0)
            return answer

        return self.runner.run(look_up_and_settle())

    @rule()
    def restart(self) -> None:
        url, client = "https://issuer.test/keys", fake_client(self.fetch)
        self.provider = RemoteJWKSet(
            url, lifetime=LIFETIME, withdrawn_grace=GRACE, max_stale=STALE, client=client, store=self.store
        )
        self.restarted_at = time.time()
        self.fetches_before = len(self.fetches)

    @rule(seconds=st.sampled_from([1, 5, 14, 15, 16, 30, 49, 51, 99, 101, 301]))
    def time_passes(self, seconds: int) -> None:
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
        answer = self.look_up(TOKENS[number])
        if answer == "200":
            self.check_windows(number)
            self.refused_since.pop(number, None)
        elif self.reachable and number in self.published:
            # A published key may be refused for one refill of the bucket, or one backoff after an outage.
            longest = BACKOFF if answer == "503" else REFILL
            assert time.time() - self.refused_since.setdefault(number, time.time()) < longest

    def check_windows(self, number: int) -> None:
        listed = [at for at, published in self.fetches_known if number in published]
        newest = max(at for at, published in self.fetches_known if published)
        assert listed, "no answer has listed it"
        assert time.time() < newest + LIFETIME + STALE
        assert max(listed) == newest or time.time() < max(listed) + LIFETIME + GRACE

    @rule(token=st.sampled_from(FORGED))
    def forged_token(self, token: str) -> None:
        assert self.look_up(token) in {"401", "503"}

    @invariant()
    def fetches_are_bounded(self) -> None:
        fetches, elapsed = self.fetches[self.fetches_before :], time.time() - self.restarted_at
        failed = sum(not published for _, published in fetches)
        # Extra ones, renewals (which are due after 70 % at the earliest), and repetitions of failed ones.
        assert len(fetches) <= 1 + BURST + elapsed / REFILL + elapsed / (0.7 * LIFETIME) + 2 * failed

    @invariant()
    def nothing_is_made_up(self) -> None:
        status = self.provider.status()
        known = {f"key-{number}" for _, published in self.fetches for number in published}
        assert set(status.key_ids) | set(status.withdrawn_key_ids) <= known
        assert status.usable == bool(status.key_ids or status.withdrawn_key_ids)


TestKeysOverTime = KeysOverTime.TestCase
TestKeysOverTime.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
