"""Measuring side by side: the machine is as noisy for one as for the other, so that only ratios of best times count."""

from __future__ import annotations

import timeit
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Turns(NamedTuple):
    """How often to measure. Short turns are the least likely to be interrupted."""

    rounds: int
    """How many times to go round all that is measured side by side."""
    number: int
    """How many times to do each of it in a round."""


def best_times(
    functions: Mapping[str, Callable[[], object]],
    turns: Turns,
    before: Mapping[str, Callable[[], object]] | None = None,
) -> dict[str, float]:
    """Call functions in turn, and return the best time of each in microseconds for a call.

    Args:
        functions: By name, what to measure.
        turns: How often to call each.
        before: By the same names, what has to be called before each round. It is not measured.
    """
    best = dict.fromkeys(functions, float("inf"))
    for _ in range(turns.rounds):
        for name, function in functions.items():
            setup = (before or {}).get(name, "pass")
            best[name] = min(best[name], timeit.timeit(function, setup, number=turns.number) / turns.number * 1e6)
    return best


def keep_best(best: dict[str, float], times: Mapping[str, float]) -> None:
    """Replace times by better ones."""
    best |= {name: min(time, best.get(name, time)) for name, time in times.items()}


def in_turn(function: Callable[[Any], object], arguments: Iterator[Any]) -> Callable[[], object]:
    """Make a function that takes the next argument each time."""
    return lambda: function(next(arguments))


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

    def note(self, text: str) -> None:
        print(f"  {text}", flush=True)

    def limit(self, what: str, value: float, limit: float, unit: str = "") -> None:
        """Say whether a number is within its limit."""
        passed = value <= limit
        line = f"{'PASS       ' if passed else 'FALLS SHORT'} {what}: {value:.3g}{unit}, limit {limit:g}{unit}"
        self.results[what] = {"value": round(value, 3), "limit": limit, "pass": passed}
        if not passed:
            self.fallen_short.append(line)
        print(f"  {line}", flush=True)

    def limit_ratio(self, group: str, times: Mapping[str, float], one: str, other: str, limit: float) -> None:
        """Say whether one time, as a part of another, is within its limit."""
        self.limit(f"{group}: {one}, of {other}", times[one] / times[other], limit, " x")
