"""Measuring side by side: the machine is as noisy for one as for the other, so that only ratios of best times count."""

from __future__ import annotations

import timeit
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


def best_times(functions: Mapping[str, Callable[[], object]], *, rounds: int, number: int) -> dict[str, float]:
    """Call functions in turn, and return the best time of each in microseconds for a call."""
    best = dict.fromkeys(functions, float("inf"))
    for function in functions.values():
        function()
    for _ in range(rounds):
        for name, function in functions.items():
            best[name] = min(best[name], timeit.timeit(function, number=number) / number * 1e6)
    return best


@dataclass
class Report:
    """What was measured, printed as it comes in."""

    results: dict[str, Any] = field(default_factory=dict)
    fallen_short: list[str] = field(default_factory=list)

    def heading(self, text: str) -> None:
        print(f"\n{text}\n{'-' * len(text)}", flush=True)

    def times(self, group: str, times: Mapping[str, float], *, against: str) -> None:
        """Print times, and what they are of that of a peer."""
        for name, time in times.items():
            ratio = time / times[against]
            self.results[f"{group}: {name}"] = {"microseconds": round(time, 2), "ratio": round(ratio, 3)}
            print(f"  {name:<58} {time:9.2f} µs {ratio:7.2f} x", flush=True)

    def load(self, name: str, requests_per_second: float, p50: float, p99: float) -> None:
        """Print how an application does under load."""
        self.results[f"load: {name}"] = {"requests_per_second": requests_per_second, "p50_ms": p50, "p99_ms": p99}
        print(f"  {name:<58} {requests_per_second:9.0f} /s {p50:7.2f} {p99:7.2f}", flush=True)

    def target(self, what: str, value: float, limit: float, unit: str = "") -> None:
        """Say whether a number is within its limit."""
        passed = value <= limit
        self.results[what] = {"value": round(value, 3), "limit": limit, "pass": passed}
        if not passed:
            self.fallen_short.append(what)
        print(
            f"  {'pass       ' if passed else 'FALLS SHORT'} {what}: {value:.3g}{unit}, limit {limit:g}{unit}",
            flush=True,
        )
