from __future__ import annotations

from typing import Any

import anyio
import pytest

from litestar import Litestar
from litestar.security.jwt._documents import CacheOptions, RemoteDocument, Snapshot, parse_json
from litestar.security.jwt.keys import KeysUnavailableError
from litestar.security.jwt.testing import LocalIssuer
from litestar.stores.memory import MemoryStore

from .remote import Clock, until

pytestmark = pytest.mark.anyio


def jwks_uri(body: bytes) -> str:
    return str(parse_json(body)["jwks_uri"])


def discovery_document(issuer: LocalIssuer, **options: Any) -> RemoteDocument[str]:
    return RemoteDocument(issuer.discovery_url, jwks_uri, CacheOptions(), accept="application/json", **options)


async def test_document_of_any_kind_is_kept_and_renewed() -> None:
    clock = Clock()
    with LocalIssuer(algorithm="EdDSA") as issuer:
        document = discovery_document(issuer, clock=clock)
        assert document.usable(clock()) is None
        assert (await document.load()).value == issuer.jwks_url
        assert issuer.requests[0].headers["Accept"] == "application/json"
        issuer.metadata["jwks_uri"] = "https://issuer.test/other"
        clock.advance(500)
        former = await document.load()
        assert former.value == issuer.jwks_url
        assert former is document.snapshot
        await until(lambda: document.snapshot is not former)
        assert (await document.load()).value == "https://issuer.test/other"
        assert len(issuer.requests) == 2


async def test_whoever_wants_to_is_told_of_each_answer() -> None:
    seen: list[Snapshot[str]] = []
    with LocalIssuer(algorithm="EdDSA") as issuer:
        document = discovery_document(issuer, installed=seen.append)
        assert await document.refresh() is seen[0]
        assert await document.refresh() is seen[1]


async def test_documents_of_one_store_are_kept_apart() -> None:
    store = MemoryStore()
    with LocalIssuer(algorithm="EdDSA") as issuer, LocalIssuer(algorithm="EdDSA") as other:
        for _ in range(2):
            assert (await discovery_document(issuer, store=store).load()).value == issuer.jwks_url
            assert (await discovery_document(other, store=store).load()).value == other.jwks_url
        assert len(issuer.requests) == len(other.requests) == 1


async def test_lifespan_ends_what_is_under_way() -> None:
    with LocalIssuer(algorithm="EdDSA") as issuer:
        document = discovery_document(issuer)
        issuer.delay = 30
        async with document.lifespan(Litestar()):
            with anyio.move_on_after(0.05):
                await document.load()
            assert document.is_fetching()
        assert not document.is_fetching()
        issuer.recover()
        issuer.fail_with(404)
        with pytest.raises(KeysUnavailableError):
            await document.load()
