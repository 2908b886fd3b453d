"""Measures the verification of tokens without a request around it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import cycle, repeat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jwt
from applications import retrieve_user
from measure import Report, Turns, best_times, in_turn
from peers import RAW, node_peers, python_peers
from released import Released
from tokens import SIZES, USUAL_SIZE, distinct_tokens, key_of, token_of

from litestar.security.jwt import IssuerKeyProvider, JWTAuth, RemoteJWKSet, Token, signature_memory
from litestar.security.jwt.testing import LocalIssuer

_PYJWT = "jwt.decode with a PyJWK"
_FIRST = "Token.decode, RemoteJWKSet"


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
            report.limit_ratio("decode", times, _FIRST, RAW, 1.8)
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


def growth(report: Report, issuer: LocalIssuer, turns: Turns) -> None:
    """Measure what must not depend on how much there is."""
    token = issuer.token()
    remote = _warm(RemoteJWKSet(issuer.jwks_url))

    def measure(what: str, providers: Mapping[str, Any]) -> None:
        report.heading(f"Token.decode by the number of {what}")
        functions = {name: partial(_decode, "RS256", provider, token) for name, provider in providers.items()}
        _report_growth(report, what, best_times(functions, turns))

    measure("keys", {f"{count} keys": _with_keys(issuer, count) for count in (1, 10, 100)})
    measure("issuers", {f"{count:,} issuers": _with_issuers(issuer, remote, count) for count in (1, 10, 1_000)})
    _by_remembered(report, issuer, remote, turns)


def _by_remembered(report: Report, issuer: LocalIssuer, remote: RemoteJWKSet, turns: Turns) -> None:
    """Measure a backend with a memory that is as good as empty, and with one that is full."""
    tokens = [token_of(issuer.token, f"user{n}", size="0.6 kB") for n in range(turns.rounds * turns.number + 1)]
    filling = [token_of(issuer.token, f"other{n}", size="0.6 kB") for n in range(1_024)]
    auth = JWTAuth[str, Token](retrieve_user_handler=retrieve_user, key_provider=remote, accepted_audiences=["api"])
    verifier, loop = auth.create_verifier(), asyncio.new_event_loop()

    def verify(token: str) -> Any:
        return loop.run_until_complete(verifier.verify(token))

    def remember(remembered: list[str]) -> None:
        signature_memory._verified.clear()
        for token in remembered:
            verify(token)

    def measure(what: str, sent: Callable[[], Iterator[str]]) -> None:
        report.heading(f"A backend by the number of remembered signatures, {what}")
        given = {"few remembered": tokens[:1], f"{len(filling):,} remembered": [*filling[1:], tokens[0]]}
        functions = {name: in_turn(verify, sent()) for name in given}
        before = {name: partial(remember, remembered) for name, remembered in given.items()}
        _report_growth(report, f"signatures, {what}", best_times(functions, turns, before))

    # Filling the memory takes much longer than what is measured.
    turns = Turns(min(turns.rounds, 20), turns.number)
    measure("first sight", lambda: iter(tokens[1:]))
    measure("seen before", lambda: repeat(tokens[0]))
    loop.close()


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
        "Token.decode, static PyJWK": in_turn(partial(_decode, algorithm, key), coming),
        _FIRST: in_turn(partial(_decode, algorithm, remote), coming),
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
