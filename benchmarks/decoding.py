"""Measures the verification of tokens without a request around it."""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import cycle, repeat
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias

import jwt
from measure import Report, Turns, best_times, in_turn
from peers import RAW, node_peers, python_peers
from released import Released
from tokens import SIZES, USUAL_SIZE, distinct_tokens, key_of, token_of

from litestar.security.jwt import IssuerKeyProvider, RemoteJWKSet, Token, _verifier
from litestar.security.jwt.testing import LocalIssuer

Memory: TypeAlias = OrderedDict[bytes, tuple[bytes, Any]]

_PYJWT = "jwt.decode with a PyJWK"
_FIRST, _SEEN = "Token.decode, RemoteJWKSet, first sight", "Token.decode, RemoteJWKSet, seen before"


def with_rs256(
    report: Report,
    issuer: LocalIssuer,
    turns: Turns,
    released: Released,
    node: Path | None,
) -> None:
    """Measure side by side with peers, by the size of the tokens."""
    for size in SIZES:
        tokens = distinct_tokens(issuer, size=size)
        _heading(report, "RS256", size, tokens)
        times = best_times(_verifiers(issuer, "RS256", tokens) | python_peers(issuer, tokens), turns)
        if size == USUAL_SIZE:
            times["released Litestar, Token.decode, static PyJWK"] = released.decoding["Token.decode"]
            times |= {} if node is None else node_peers(node, issuer, tokens, turns)
        report.times(f"RS256, {size}", times, against=_PYJWT)
        if size == USUAL_SIZE:
            report.limit_ratio("decode", times, _FIRST, RAW, 2.2)
            if node is None:
                report.note("NOT RUN     fast-jwt and jose: node or npm is not installed")
            else:
                report.note(
                    "fast-jwt, first sight, is the signature and the parsing in compiled JavaScript. Its cache returns a"
                )
                report.note(
                    "payload by the hash of the token and two times: it asks for no key, and checks no other claim again"
                )


def with_others(report: Report, turns: Turns) -> None:
    """Measure algorithms that take longer to verify."""
    for algorithm in ("ES256", "EdDSA"):
        with LocalIssuer(algorithm=algorithm, audience="api") as issuer:
            tokens = distinct_tokens(issuer)
            _heading(report, algorithm, USUAL_SIZE, tokens)
            times = best_times(_verifiers(issuer, algorithm, tokens), turns)
            report.times(algorithm, times, against=_PYJWT)
            report.limit_ratio(algorithm, times, _SEEN, _PYJWT, 0.25)


def growth(report: Report, issuer: LocalIssuer, turns: Turns) -> None:
    """Measure what must not depend on how much there is. The signature is known, so that all else weighs most."""
    token = issuer.token()
    remote = _warm(RemoteJWKSet(issuer.jwks_url))

    def measure(what: str, providers: Mapping[str, Any]) -> None:
        report.heading(f"Token.decode by the number of {what}, seen before")
        functions = {name: partial(_decode, "RS256", provider, token) for name, provider in providers.items()}
        _report_growth(report, what, best_times(functions, turns))

    measure("keys", {f"{count} keys": _with_keys(issuer, count) for count in (1, 10, 100)})
    measure("issuers", {f"{count:,} issuers": _with_issuers(issuer, remote, count) for count in (1, 10, 1_000)})
    _by_remembered(report, issuer, remote, turns)


def _by_remembered(report: Report, issuer: LocalIssuer, remote: RemoteJWKSet, turns: Turns) -> None:
    """Measure with a memory that is as good as empty, and with one that is full."""
    tokens = [token_of(issuer.token, f"user{n}", size="0.6 kB") for n in range(turns.rounds * turns.number)]
    size, key = _verifier._MEMORY_SIZE, key_of(issuer).key
    full: Memory = OrderedDict((number.to_bytes(256), (b"", key)) for number in range(size))
    of_one: Memory = OrderedDict()

    def measure(what: str, few: Callable[[], Memory], sent: Callable[[], Iterator[str]]) -> None:
        report.heading(f"Token.decode by the number of remembered signatures, {what}")
        memories = {"few remembered": few, f"{size:,} remembered": lambda: full}
        functions = {name: in_turn(partial(_decode, "RS256", remote), sent()) for name in memories}
        before = {name: partial(_remember, memory) for name, memory in memories.items()}
        _report_growth(report, f"signatures, {what}", best_times(functions, turns, before))

    measure("first sight", OrderedDict, lambda: iter(tokens))
    measure("seen before", lambda: of_one, lambda: repeat(tokens[0]))
    _remember(OrderedDict)
    if len(of_one) != 1 or len(full) != size or bytes(256) in full:
        raise AssertionError("Signatures are not remembered where this looks for them")


def _remember(memory: Callable[[], Memory]) -> None:
    setattr(_verifier, "_verified", memory())


def _report_growth(report: Report, what: str, times: Mapping[str, float]) -> None:
    first, *_, last = times
    report.times(f"by {what}", times, against=first)
    report.limit_ratio(f"by {what}", times, last, first, 1.1)


def _verifiers(issuer: LocalIssuer, algorithm: str, tokens: list[str]) -> dict[str, Callable[[], object]]:
    """Make functions that verify the next token, this package and PyJWT."""
    remote, key, coming = _warm(RemoteJWKSet(issuer.jwks_url)), key_of(issuer), cycle(tokens)
    bare = partial(jwt.decode, key=key, algorithms=[algorithm], audience="api")
    return {
        _PYJWT: in_turn(bare, cycle(tokens)),
        "Token.decode, static PyJWK, first sight": in_turn(partial(_decode, algorithm, key), coming),
        _FIRST: in_turn(partial(_decode, algorithm, remote), coming),
        _SEEN: in_turn(partial(_decode, algorithm, remote), repeat(tokens[0])),
    }


def _decode(algorithm: str, secret: Any, token: str) -> Token:
    return Token.decode(token, secret, algorithm, audience=["api"])


def _with_keys(issuer: LocalIssuer, count: int) -> RemoteJWKSet:
    """Make a provider that has so many keys, of which the issuer's is the last."""
    others = [LocalIssuer(algorithm="ES256").jwks["keys"][-1] for _ in range(count - 1)]
    body = json.dumps({"keys": [*others, issuer.jwks["keys"][-1]]}).encode()

    async def fetch(url: str, headers: Mapping[str, str]) -> Any:
        return SimpleNamespace(status_code=200, headers={}, content=body)

    return _warm(RemoteJWKSet("https://issuer.example/jwks", client=fetch))


def _with_issuers(issuer: LocalIssuer, remote: RemoteJWKSet, count: int) -> IssuerKeyProvider:
    others = {f"https://{number}.example": remote for number in range(count - 1)}
    return IssuerKeyProvider({**others, issuer.issuer: remote})


def _warm(provider: RemoteJWKSet) -> RemoteJWKSet:
    asyncio.run(provider.refresh())
    return provider


def _heading(report: Report, algorithm: str, size: str, tokens: list[str]) -> None:
    report.heading(f"{algorithm}, tokens of {size} ({len(tokens[0]):,} characters)")
