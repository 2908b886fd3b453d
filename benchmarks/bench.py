"""Measures this package side by side with what there is today, and says whether it keeps to its limits.

All ratios are of best times in this run. The released Litestar is installed in an environment of its own, and takes turns with
this package. A token is seen for the first time if nobody remembers its signature: there are so many that each has been forgotten
before it comes again.
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

import chart
import decoding
import fetching
import imports
import whole_requests
from environments import node_packages, released_litestar
from faulty_issuer import FaultyIssuer
from measure import Report, Turns
from released import Released
from tokens import distinct_tokens, token_of, with_secret


def measure(report: Report, *, quick: bool) -> dict[str, float]:
    """Measure everything. Return the times of whole requests."""
    turns = Turns(rounds=15, number=10) if quick else Turns(rounds=150, number=15)
    python, node = released_litestar(), node_packages()
    with FaultyIssuer(audience="api") as issuer:
        tokens = distinct_tokens(issuer)
        released = Released(
            python,
            jwks_url=issuer.jwks_url,
            jwk=issuer.jwks["keys"][-1],
            tokens=tokens,
            secret_tokens=[with_secret(token) for token in tokens],
            forged_token=token_of(issuer.forged_token),
        )
        request_times = whole_requests.accepted(report, issuer, tokens, turns, released)
        whole_requests.refused(report, issuer, turns, released)
        decoding.with_rs256(report, issuer, turns, released, node)
        decoding.with_others(report, turns)
        decoding.growth(report, issuer, turns)
    fetching.measure(report)
    imports.measure(report, python, rounds=4 if quick else 15)
    return request_times


def draw(path: Path, times: dict[str, float]) -> None:
    """Draw the times of whole requests, those of this package in a colour of their own."""
    ours = {
        "RemoteJWKSet, seen before": "RemoteJWKSet, token seen before",
        "RemoteJWKSet, first sight": "RemoteJWKSet, new token",
        "OpenIDProvider, first sight": "OpenIDProvider, new token",
    }
    others = {
        "no authentication": "No authentication",
        "released Litestar, HS256": "Litestar 2.25, shared secret (HS256)",
        "released Litestar, static PyJWK": "Litestar 2.25, one key that never changes",
        "released Litestar, PyJWKClient in a middleware": "Litestar 2.25, PyJWKClient in a middleware",
    }
    labels = ours | others
    drawn = {labels[name]: times[name] for name in sorted(labels, key=lambda name: times[name])}
    chart.draw(path, "Time of a request with an RS256 token", drawn, ours=set(ours.values()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="measure for a few seconds only, which is not precise")
    parser.add_argument("--json", type=Path, help="write the results to a file")
    parser.add_argument("--svg", type=Path, help="draw the times of whole requests into a file")
    arguments = parser.parse_args()
    logging.disable()
    report = Report()
    request_times = measure(report, quick=arguments.quick)
    if arguments.json:
        arguments.json.write_text(json.dumps(report.results, indent=2))
    if arguments.svg:
        draw(arguments.svg, request_times)
    print(f"\n{len(report.fallen_short)} limits are fallen short of{':' if report.fallen_short else '.'}")
    for line in report.fallen_short:
        print(f"  {line}")


if __name__ == "__main__":
    main()
