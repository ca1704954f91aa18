"""Measuring by turns: in each round every contender of a case once, so that a slow moment slows all of them.

The raw limit is measured first and last in a round, and the mean of both counts. What is compared is compared within a
round; a ratio is the median of the rounds' ratios.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks.cases import POSTGRES, SQLITE
from benchmarks.child import call_in_child
from benchmarks.peers.installed import PYTHON
from benchmarks.stores import fresh_database, fresh_store, settle

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from benchmarks.cases import Case, Metric
    from benchmarks.peers.installed import Peer


@dataclass(frozen=True, slots=True)
class Contender:
    """A program with its options, run by an interpreter on one of the stores."""

    name: str
    store: str
    program: str
    options: Mapping[str, Any]
    python: str = sys.executable
    is_peer: bool = False

    def measured(self, dsn: str, url: str | None = None) -> dict[str, float]:
        """Its figures, on the store of that URL, or on one that nobody has used."""
        if self.store == POSTGRES:
            settle(dsn)
        if url is not None:
            return self.call(self.program, url)
        own = self.is_peer and self.store == POSTGRES
        with fresh_database(dsn) if own else fresh_store(self.store, dsn) as fresh:
            return self.call(self.program, fresh)

    def call(self, program: str, url: str) -> dict[str, float]:
        """What a program gives with its options and its interpreter."""
        found: dict[str, float] = call_in_child(program, python=self.python, url=url, **self.options)
        return found


@dataclass(slots=True)
class Rounds:
    """The figures of each contender on each store, a list with one entry for each round."""

    found: dict[tuple[str, str], list[dict[str, float]]] = field(default_factory=dict)

    def add(self, contender: Contender, figures: dict[str, float]) -> None:
        """Takes in what a contender reached in the next round."""
        self.found.setdefault((contender.name, contender.store), []).append(figures)

    def values(self, name: str, store: str, key: str) -> list[float]:
        """That figure of a contender, round by round; empty if it has none such."""
        return [figures[key] for figures in self.found.get((name, store), ()) if key in figures]

    def times_as_good(
        self, name: str, other: str, store: str, metric: Metric, *, others_store: str | None = None
    ) -> list[float]:
        """How many times as good as another's a contender's figure was, round by round: above 1 is better."""
        ours, theirs = self.values(name, store, metric.key), self.values(other, others_store or store, metric.key)
        if len(ours) != len(theirs):
            return []
        pairs = zip(ours, theirs, strict=True)
        return [mine / its if metric.more_is_better else its / mine for mine, its in pairs]


OURS, LIMIT = "stepwell", "limit"


def contenders_of(case: Case, size: str, peers: Iterable[Peer]) -> Iterator[Contender]:
    """Ours on each store, and those of these peers that can do the work, on the stores that they can."""
    function = case.program.partition(":")[2]
    for store in case.stores:
        yield Contender(OURS, store, case.program, case.sized(size))
        counts = case.peers_on_sqlite if store == SQLITE else case.peers
        for peer in peers:
            if peer.name in counts:
                peer_runs = 5 if size == "tiny" else counts[peer.name]
                options = {**case.sized(size), "peer_runs": peer_runs}
                program = f"peers.{peer.module}:{function}"
                yield Contender(peer.name, store, program, options, str(PYTHON), is_peer=True)


def limit_of(case: Case, store: str, size: str) -> Contender | None:
    """What stands beside ours in every round, if the case has such."""
    if case.limit is None:
        return None
    return Contender(LIMIT, store, case.limit.program, {**case.sized(size), **case.limit.options})


def measure(case: Case, contenders: Iterable[Contender], size: str, rounds: int, dsn: str) -> Rounds:
    """Every contender in each round, the next round in the opposite order, the limit before and after them."""
    found, order = Rounds(), list(contenders)
    with contextlib.ExitStack() as stack:
        prepared = {}
        for contender in order if case.prepare else ():
            prepared[contender.name, contender.store] = url = stack.enter_context(fresh_store(contender.store, dsn))
            contender.call(str(case.prepare), url)
        for _ in range(min(rounds, case.most_rounds or rounds)):
            for store in case.stores:
                limit = limit_of(case, store, size)
                before = limit.measured(dsn) if limit else {}
                for contender in order:
                    if contender.store == store:
                        found.add(contender, contender.measured(dsn, prepared.get((contender.name, store))))
                if limit:
                    after = limit.measured(dsn)
                    found.add(limit, {key: statistics.mean((before[key], after[key])) for key in before})
            order.reverse()
    return found
