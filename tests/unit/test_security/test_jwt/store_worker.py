"""A process of a fleet that shares a store. Reads tokens from standard input and tells whether it can verify them."""

from __future__ import annotations

import sys
from pathlib import Path

import anyio
import anyio.to_thread

from litestar.exceptions import HTTPException
from litestar.security.jwt.jwks import RemoteJWKSet
from litestar.stores.base import Store
from litestar.stores.file import FileStore
from tests.unit.test_security.test_jwt.remote import verifies


def make_store(place: str) -> Store:
    if not place.startswith("redis:"):
        return FileStore(Path(place))
    from litestar.stores.redis import RedisStore

    return RedisStore.with_client(place)


async def main(url: str, place: str) -> None:
    provider = RemoteJWKSet(url, store=make_store(place), timeout=4)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while token := (await anyio.to_thread.run_sync(sys.stdin.readline)).strip():
        try:
            answer = "verified" if await verifies(provider, token) else "forged"
        except HTTPException as e:
            answer = str(e.status_code)
        while provider._document._running:
            await anyio.sleep(0.01)
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2])
