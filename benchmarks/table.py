"""The one table: a line for each figure of a case on each store, its ratios first."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from benchmarks.cases import POSTGRES, SQLITE, STORE_NAMES
from benchmarks.peers.installed import PEERS
from benchmarks.rounds import LIMIT, OURS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.cases import Case, Metric
    from benchmarks.results import Result
    from benchmarks.rounds import Rounds

WIDTH = 120
_WHAT = 34
_RATIO = 20
_PEER = 9


def head(result: Result) -> Iterator[str]:
    """What was measured with what, then the names of the columns."""
    machine = result.machine
    yield (
        f"stepwell {result.commit}, {result.taken_at}, size {result.size}; {machine['cores']} cores, "
        f"{machine['processor']}, CPython {machine['python']}"
    )
    yield (
        f"SQLite {machine['sqlite']}, {machine['postgres']}; a flush of 8 kB takes {machine['flush_milliseconds']} ms; "
        f"load before {machine['load_before']}"
    )
    for peer in PEERS:
        yield f"{peer.title}: {result.peers.get(peer.name, 'missing: not installed (make bench-peers), or left out')}"
    yield "Ratios: how many times as good stepwell is, the median of the rounds; above 1 is better, whatever the unit."
    yield ""
    peers = "".join(f"{peer.title:>{_PEER}}" for peer in PEERS)
    yield f"{'':<{_WHAT}}{'of the limit':>{_RATIO}}{'min-max':>13}{peers}{'stepwell':>11} min-max"


def whole(result: Result) -> Iterator[str]:
    """The whole table of a result."""
    yield from head(result)
    for case, found in result.known_cases():
        yield from lines(case, found, [*result.peers])


def lines(case: Case, found: Rounds, installed: Sequence[str]) -> Iterator[str]:
    """The lines of one case."""
    yield f"{case.name}: {case.title}"
    for store in case.stores:
        for metric in case.metrics:
            values = found.values(OURS, store, metric.key)
            if values:
                yield _line(case, found, store, metric, installed)


def peer_times(found: Rounds, peer: str, store: str, metric: Metric) -> list[float]:
    """How many times as good as a peer ours is: on the same store if it was measured there, else where it was."""
    for others_store in (store, POSTGRES):
        times = found.times_as_good(OURS, peer, store, metric, others_store=others_store)
        if times and not (peer == "dbos" and store == SQLITE and others_store == POSTGRES):
            return times
    return []


def _line(case: Case, found: Rounds, store: str, metric: Metric, installed: Sequence[str]) -> str:
    values = found.values(OURS, store, metric.key)
    times = found.times_as_good(OURS, LIMIT, store, metric)
    limit = f"{statistics.median(times):.2f} of {case.limit.name}" if case.limit and times else ""
    spread = f"{min(times):.2f}-{max(times):.2f}" if len(times) > 1 else ""
    peers = ""
    for peer in PEERS:
        against = peer_times(found, peer.name, store, metric)
        could = peer.name in case.peers or peer.name in case.peers_on_sqlite
        cell = (
            f"{statistics.median(against):,.1f}x"
            if against
            else ""
            if peer.name in installed or not could
            else "missing"
        )
        peers += f"{cell:>{_PEER}}"
    digits = metric.digits
    own = f"{min(values):,.{digits}f}-{max(values):,.{digits}f}" if len(values) > 1 else ""
    what = f"  {STORE_NAMES[store]}, {metric.name or metric.unit}"
    median = f"{statistics.median(values):,.{digits}f}"
    return f"{what:<{_WHAT}}{limit:>{_RATIO}}{spread:>13}{peers}{median:>11} {metric.unit} {own}".rstrip()
