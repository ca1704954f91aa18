"""Two results beside each other: what became slower, by the ratio to the limit that was measured beside each.

Machines and moments differ, so what is compared is each figure as a share of the limit in its own rounds; where there
is no limit (memory, recovery), the figure itself. A change counts when it is larger than a tenth, and the ranges of the
rounds do not overlap.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from benchmarks.cases import STORE_NAMES
from benchmarks.rounds import LIMIT, OURS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.cases import Metric
    from benchmarks.results import Result
    from benchmarks.rounds import Rounds

SLOWER, FASTER, SAME, NOISE = "SLOWER", "faster", "same", "noise"
TENTH = 0.1


def compared(old: Result, new: Result) -> Iterator[tuple[str, str]]:
    """A verdict and a line for each figure that both have."""
    before = dict(old.cases)
    for case, found in new.known_cases():
        if case.name not in before:
            continue
        for store in case.stores:
            for metric in case.metrics:
                shares = [goodness(rounds, store, metric) for rounds in (before[case.name], found)]
                if all(shares):
                    verdict = _verdict(*shares)
                    first, second = (statistics.median(share) for share in shares)
                    what = f"{case.name}, {STORE_NAMES[store]}, {metric.name or metric.unit}"
                    of = case.limit.name if case.limit and found.values(LIMIT, store, metric.key) else "itself"
                    yield (
                        verdict,
                        f"{verdict:<7}{what:<52}{second / first:>7.2f}x   {_shown(first, second, metric, of)}",
                    )


def goodness(found: Rounds, store: str, metric: Metric) -> list[float]:
    """The share of the limit round by round, or the figure itself, turned so that more is better."""
    times = found.times_as_good(OURS, LIMIT, store, metric)
    if times:
        return times
    values = found.values(OURS, store, metric.key)
    return values if metric.more_is_better else [1 / value for value in values if value]


def _verdict(old: list[float], new: list[float]) -> str:
    ratio = statistics.median(new) / statistics.median(old)
    if abs(ratio - 1) <= TENTH:
        return SAME
    if min(len(old), len(new)) > 1 and min(new) <= max(old) and min(old) <= max(new):
        return NOISE
    return FASTER if ratio > 1 else SLOWER


def _shown(first: float, second: float, metric: Metric, of: str) -> str:
    if of != "itself":
        return f"{first:.3f} -> {second:.3f} of the {of}"
    if not metric.more_is_better:
        first, second = 1 / first, 1 / second
    return f"{first:,.{metric.digits}f} -> {second:,.{metric.digits}f} {metric.unit}, no limit beside it"
