"""Mixed traffic over two workers of a real server, while the issuer rotates its keys, stalls, fails and vanishes.

Ends by itself. Every answer that is not as it should be is a failure, and any failure is an exit status of 1.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx2
from applications import application
from faulty_issuer import FaultyIssuer

from litestar import Litestar
from litestar.security.jwt import OpenIDProvider

HERE = Path(__file__).parent
WORKERS = 2
CLIENTS = 8
TURN = 5.0  # seconds between two events
# While the issuer does not answer, it may have a new key that fits a token, so the application cannot tell: 503.
EXPECTED = {
    "new": (200,),
    "old": (200,),
    "forged": (401, 503),
    "expired": (401,),
    "unknown": (401, 503),
    "garbage": (401,),
}


def create_app() -> Litestar:
    """Create the application of the workers. Times are short, so that minutes show what otherwise takes days."""
    provider = OpenIDProvider(os.environ["ISSUER"], lifetime=2, timeout=1, max_stale=3600, withdrawn_grace=60)
    return application(key_provider=provider, accepted_audiences=["api"])


class Soak:
    def __init__(self, issuer: FaultyIssuer, url: str) -> None:
        self.issuer = issuer
        self.url = url
        self.answers: Counter[tuple[str, int]] = Counter()
        self.older = self.newer = self.next = issuer.token(expires_in=86_400)
        self.expired = self.next_expired = issuer.token(expires_in=-60)

    def announce(self) -> None:
        """Publish the next key some time before tokens are signed with it, as issuers do.

        Made-up key IDs use up the extra fetches, so the application can need 15 seconds to find a key that comes by surprise.
        """
        self.issuer.rotate()
        self.next, self.next_expired = self.issuer.token(expires_in=86_400), self.issuer.token(expires_in=-60)

    def rotate(self) -> None:
        self.older, self.newer, self.expired = self.newer, self.next, self.next_expired

    def stall(self) -> None:
        self.issuer.delay = 3

    def fail(self) -> None:
        self.issuer.failure = 503

    def token(self) -> tuple[str, str]:
        """Choose the kind of the next token, and create it."""
        kind = random.choice(["new"] * 6 + ["old"] * 3 + ["forged", "expired", "unknown", "garbage"])
        make: dict[str, Callable[[], str]] = {
            "new": lambda: self.newer,
            "old": lambda: self.older,
            "forged": self.issuer.forged_token,
            "expired": lambda: self.expired,
            "unknown": lambda: self.issuer.token(headers={"kid": f"{random.random()}"}),
            "garbage": lambda: f"{random.random()}.x.y",
        }
        return kind, make[kind]()

    async def client(self, until: float) -> None:
        async with httpx2.AsyncClient(timeout=20) as client:
            while time.monotonic() < until:
                kind, token = self.token()
                answer = await client.get(self.url, headers={"Authorization": f"Bearer {token}"})
                self.answers[kind, answer.status_code] += 1

    async def events(self, until: float) -> None:
        """One thing after the other. Keys are only changed while they can be fetched, as nobody could verify with them."""
        trouble = (self.stall, self.fail, self.issuer.vanish)
        turns = [turn for event in trouble for turn in (self.announce, self.rotate, event, self.issuer.recover)]
        number = 0
        while (left := until - time.monotonic()) > 0:
            await asyncio.sleep(min(TURN, left))
            await asyncio.to_thread(turns[number % len(turns)])
            number += 1

    async def run(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        await asyncio.gather(*(self.client(until) for _ in range(CLIENTS)), self.events(until))


def memory_of(pid: int) -> float:
    """Return the memory of the children of a process, in MiB."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    sizes = [Path(f"/proc/{child}/statm").read_text().split()[1] for child in children]
    return sum(map(int, sizes)) * os.sysconf("SC_PAGE_SIZE") / 2**20


async def serve_and_soak(issuer: FaultyIssuer, seconds: float) -> bool:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "--factory", "soak:create_app", "--port", str(port)]
    server = subprocess.Popen(
        [*command, "--workers", str(WORKERS), "--log-level", "error", "--app-dir", str(HERE)],
        env={**os.environ, "ISSUER": issuer.issuer},
    )
    try:
        soak = Soak(issuer, f"http://127.0.0.1:{port}/")
        await until_served(soak.url, issuer)
        await soak.run(2)  # until both workers have answered
        before, soak.answers = memory_of(server.pid), Counter()
        await soak.run(seconds)
        return report(soak, before, memory_of(server.pid))
    finally:
        server.terminate()
        server.wait(20)


async def until_served(url: str, issuer: FaultyIssuer) -> None:
    async with httpx2.AsyncClient() as client:
        for _ in range(100):
            try:
                await client.get(url, headers=issuer.auth_header())
            except httpx2.TransportError:
                await asyncio.sleep(0.2)
            else:
                return
    raise RuntimeError("The server did not start")


def report(soak: Soak, before: float, after: float) -> bool:
    failures = {key: count for key, count in soak.answers.items() if key[1] not in EXPECTED[key[0]]}
    for kind, seen in sorted(soak.answers):
        expected = " or ".join(map(str, EXPECTED[kind]))
        print(f"{kind:<8} expected {expected}, saw {seen}: {soak.answers[kind, seen]}")
    print(f"requests  {soak.answers.total()}")
    print(f"failures  {sum(failures.values())}")
    print(f"fetches   {soak.issuer.requests} that reached the issuer")
    print(f"memory    {before:.1f} MiB at the start, {after:.1f} MiB at the end, of {WORKERS} workers")
    return not failures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120)
    seconds = parser.parse_args().seconds
    with FaultyIssuer(audience="api") as issuer:
        sys.exit(not asyncio.run(serve_and_soak(issuer, seconds)))


if __name__ == "__main__":
    main()
