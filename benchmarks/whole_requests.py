"""Measures whole requests in process: routing, the backend and the handler, without a server and a network."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from itertools import cycle, islice, repeat
from typing import Any

from applications import SECRET, Case, application, best_request_times, refusing_handler
from faulty_issuer import FaultyIssuer
from measure import Report, Turns, keep_best
from released import Released
from starlette_peer import starlette_application
from tokens import USUAL_SIZE, distinct_tokens, key_of, token_of, with_made_up_ids, with_secret

from litestar.security.jwt import OpenIDProvider, RemoteJWKSet

_AUDIENCE: dict[str, Any] = {"accepted_audiences": ["api"]}
# So many times it is the turn of the one Litestar, and then of the other.
_PIECES = 5
_STATIC = "released Litestar, static PyJWK"
_BY_HAND = "Starlette and joserfc by hand"


def accepted(
    report: Report, issuer: FaultyIssuer, tokens: list[str], turns: Turns, released: Released
) -> dict[str, float]:
    """Measure requests with good tokens side by side with the released Litestar. Return the times."""
    report.heading(f"Whole requests, in process, RS256, tokens of {USUAL_SIZE}")
    remote, openid = RemoteJWKSet(issuer.jwks_url), OpenIDProvider(issuer.issuer)
    with_remote, with_openid = (application(key_provider=p, **_AUDIENCE) for p in (remote, openid))
    with_key = application(token_secret=key_of(issuer), algorithm="RS256", **_AUDIENCE)
    secret_tokens = [with_secret(token) for token in tokens]
    coming, known = cycle(tokens), repeat(tokens[0])
    cases = {
        "no authentication": Case(application(), cycle(tokens)),
        "HS256": Case(application(token_secret=SECRET, **_AUDIENCE), cycle(secret_tokens)),
        "static PyJWK, first sight": Case(with_key, coming),
        "RemoteJWKSet, first sight": Case(with_remote, coming),
        "RemoteJWKSet, seen before": Case(with_remote, known),
        "OpenIDProvider, first sight": Case(with_openid, coming),
        "OpenIDProvider, seen before": Case(with_openid, known),
        _BY_HAND: Case(starlette_application(issuer.jwks_url, "api"), coming),
    }
    times: dict[str, float] = {}
    piece = Turns(turns.rounds // _PIECES, turns.number)
    for _ in range(_PIECES):
        released.measure(piece)
        keep_best(times, asyncio.run(_times(cases, piece, remote, openid)))
    times |= {f"released Litestar, {name}": time for name, time in released.requests.items()}
    report.times("request", times, against=_STATIC)
    noise = times["no authentication"] / times["released Litestar, no authentication"]
    report.note(f"{noise:.2f} x no authentication, of the same Litestar. If that is not about 1, this run says little")
    report.limit_ratio("request", times, "RemoteJWKSet, first sight", _STATIC, 0.50)
    report.limit_ratio("request", times, "RemoteJWKSet, seen before", _STATIC, 0.33)
    report.limit_ratio("request", times, "RemoteJWKSet, first sight", _BY_HAND, 1.0)
    report.limit_ratio("request", times, "HS256", "released Litestar, HS256", 1.05)
    return times


def refused(report: Report, issuer: FaultyIssuer, turns: Turns, released: Released) -> None:
    """Measure requests that are answered with 401: nobody must make an application work by sending rubbish.

    Litestar takes longer for this answer than for an empty one, whoever gives it. What a refused token costs is compared with
    what a good one costs if the route handler gives the same answer.
    """
    report.heading(f"Requests that are refused, RS256, tokens of {USUAL_SIZE}")
    tokens, remote, good = distinct_tokens(issuer), RemoteJWKSet(issuer.jwks_url), "good token, first sight"
    app = application(key_provider=remote, **_AUDIENCE)
    refusing = application(refusing_handler, key_provider=remote, **_AUDIENCE)
    bad: dict[str, Iterator[str | None]] = {
        "unknown key ID": cycle([*islice(with_made_up_ids(tokens[0]), 1_000)]),
        "other algorithm": repeat(with_secret(tokens[0], kid=issuer.jwks["keys"][-1]["kid"])),
        "malformed": repeat(tokens[0][:-1] + "!"),
        "forged": repeat(token_of(issuer.forged_token)),
        "expired": cycle(distinct_tokens(issuer, expires_in=-60)),
        "no token": repeat(None),
    }
    coming, same_answer = cycle(tokens), f"{good}, 401 by the handler"
    cases = {good: Case(app, coming), same_answer: Case(refusing, coming, expected=401)}
    cases["good token, seen before"] = Case(app, repeat(tokens[0]))
    cases |= {name: Case(app, sent, expected=401) for name, sent in bad.items()}
    times = asyncio.run(_times(cases, turns, remote))
    times |= {f"released Litestar, {name}": time for name, time in released.refusals.items()}
    report.times("refused", times, against=good)
    for name in bad:
        report.limit_ratio("refused", times, name, same_answer, 1.0)


async def _times(cases: Mapping[str, Case], turns: Turns, *providers: RemoteJWKSet) -> dict[str, float]:
    """Measure requests after the providers have fetched their keys."""
    for provider in providers:
        await provider.refresh()
    return await best_request_times(cases, turns)
