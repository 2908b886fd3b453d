"""Counts what reaches an issuer, and watches the event loop while one hangs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from itertools import islice
from typing import Any

from applications import application, request
from faulty_issuer import FaultyIssuer
from measure import Report
from tokens import with_made_up_ids

from litestar import Litestar
from litestar.security.jwt import RemoteJWKSet

_COUNT_OF_IDS = 10_000
_SECONDS_TO_REFILL = 15  # what the bucket of extra fetches takes for one
_TRIES = 5  # whatever else runs on the machine stalls the event loop too
_TIMEOUT = 0.5


def measure(report: Report) -> None:
    report.heading("Fetches, and the event loop while the issuer hangs")
    with FaultyIssuer(audience="api") as issuer:
        report.limit("fetches for 1,000 concurrent first requests", asyncio.run(first_requests(issuer, 1_000)), 1)
    with FaultyIssuer(audience="api") as issuer:
        fetches, seconds = asyncio.run(made_up_ids(issuer, _COUNT_OF_IDS))
        what = f"fetches for {_COUNT_OF_IDS:,} made-up key IDs in {seconds:.1f} s: the first, 2 more, 1 each 15 s"
        report.limit(what, fetches, 1 + 2 + seconds // _SECONDS_TO_REFILL)
    stalls, idle = [], []
    for _ in range(_TRIES):
        with FaultyIssuer(audience="api") as issuer:
            stalls.append(asyncio.run(longest_stall(issuer)))
        idle.append(asyncio.run(_longest_stall_during(asyncio.sleep(_TIMEOUT))))
    report.note(f"longest stall of an event loop that has nothing to do: {min(idle):.3g} ms")
    report.limit(f"longest stall of the event loop, the best of {_TRIES} times", min(stalls), 10, " ms")


def _application(issuer: FaultyIssuer, timeout: float = 5) -> Litestar:
    return application(key_provider=RemoteJWKSet(issuer.jwks_url, timeout=timeout), accepted_audiences=["api"])


async def first_requests(issuer: FaultyIssuer, count: int) -> int:
    """Send requests at the same time to an application that has no keys yet, and return how often the issuer was asked."""
    app, token = _application(issuer), issuer.token()
    issuer.delay = 0.2
    statuses = await asyncio.gather(*(request(app, token) for _ in range(count)))
    if set(statuses) != {200}:
        raise AssertionError(f"Not all requests succeeded: {set(statuses)}")
    return issuer.requests


async def made_up_ids(issuer: FaultyIssuer, count: int) -> tuple[int, float]:
    """Send tokens that name keys that do not exist. Return how often the issuer was asked, and how many seconds it took."""
    app, start = _application(issuer), time.perf_counter()
    for token in islice(with_made_up_ids(issuer.token()), count):
        if (status := await request(app, token)) != 401:
            raise AssertionError(f"A token with a made-up key ID was answered with {status}")
    return issuer.requests, time.perf_counter() - start


async def longest_stall(issuer: FaultyIssuer) -> float:
    """Return the longest time in milliseconds that the event loop did nothing else while a fetch hung."""
    app, token = _application(issuer, timeout=_TIMEOUT), issuer.token()
    issuer.delay = 30

    async def send() -> None:
        if (status := await request(app, token)) != 503:
            raise AssertionError(f"{status} instead of 503")

    return await _longest_stall_during(send())


async def _longest_stall_during(waiting: Coroutine[Any, Any, None]) -> float:
    task = asyncio.create_task(waiting)
    longest, before = 0.0, time.perf_counter()
    while not task.done():
        await asyncio.sleep(0)
        now = time.perf_counter()
        longest, before = max(longest, now - before), now
    task.result()
    return longest * 1000
