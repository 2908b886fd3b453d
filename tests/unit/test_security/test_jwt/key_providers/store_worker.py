"""A process of a fleet that shares a store. It reads tokens from standard input and says what becomes of them."""

from __future__ import annotations

import sys
from pathlib import Path

import anyio
import anyio.to_thread

from litestar.security.jwt.key_providers.jwks import RemoteJWKSet
from litestar.stores.base import Store
from litestar.stores.file import FileStore
from tests.unit.test_security.test_jwt.key_providers.issuer_server import answer_to, settled


def make_store(place: str) -> Store:
    if not place.startswith("redis:"):
        return FileStore(Path(place))
    from litestar.stores.redis import RedisStore

    return RedisStore.with_client(place)


def say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


async def main(url: str, place: str) -> None:
    provider = RemoteJWKSet(url, timeout=30, store=make_store(place))
    say("ready")
    while token := (await anyio.to_thread.run_sync(sys.stdin.readline)).strip():
        answer = await answer_to(provider, token)
        await settled(provider)
        say(answer)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2])
