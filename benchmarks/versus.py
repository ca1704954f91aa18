"""This checkout beside another one, in the same rounds: what a change to the hot path brings.

Both run the programs of this checkout's `benchmarks`, each with its own `.venv` and so its own stepwell.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.cases import STORE_NAMES
from benchmarks.child import ROOT
from benchmarks.results import commit_of
from benchmarks.rounds import LIMIT, Contender, Rounds, measure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.cases import Case

NEW, OLD = "this", "other"
HEADING = f"{'case':<34}{'this/other':>10}{'min to max':>14}  {'this':>9} {'other':>9} {'unit':<10}{'of its limit':>13}"


class NoCheckoutError(Exception):
    """The other checkout cannot be measured; the message says what it lacks."""


def python_of(checkout: Path) -> str:
    """The interpreter of a checkout; raises NoCheckoutError if it has none, or one with a stepwell from elsewhere."""
    python = checkout.resolve() / ".venv" / "bin" / "python"
    if not python.exists():
        raise NoCheckoutError(f"{python} does not exist; make it with `make setup` in {checkout}.")
    command = [str(python), "-c", "import stepwell; print(stepwell.__file__)"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    if not Path(found).is_relative_to(checkout.resolve()):
        raise NoCheckoutError(f"{python} imports stepwell from {found or 'nowhere'}, not from {checkout.resolve()}.")
    return str(python)


def versus(checkout: Path, cases: Sequence[Case], size: str, rounds: int, dsn: str) -> Iterator[str]:
    """The lines of the table, case by case."""
    python = python_of(checkout)
    yield f"this: {commit_of(ROOT)}, {ROOT}"
    yield f"other: {commit_of(checkout)}, {checkout.resolve()}"
    yield "this/other: how many times as good this is; above 1 is better, whatever the unit"
    yield ""
    yield HEADING
    for case in cases:
        contenders = [
            Contender(name, store, case.program, case.sized(size), interpreter)
            for store in case.stores
            for name, interpreter in ((NEW, sys.executable), (OLD, python))
        ]
        yield from lines(case, measure(case, contenders, size, rounds, dsn))


def lines(case: Case, found: Rounds) -> Iterator[str]:
    """The lines of one case: its title, then each figure on each store."""
    yield f"{case.name}: {case.title}"
    for store in case.stores:
        for metric in case.metrics:
            times = found.times_as_good(NEW, OLD, store, metric)
            new, old = (statistics.median(found.values(name, store, metric.key)) for name in (NEW, OLD))
            spread = f"{min(times):.2f}-{max(times):.2f}" if len(times) > 1 else ""
            shares = [found.times_as_good(name, LIMIT, store, metric) for name in (NEW, OLD)]
            limit = " ".join(f"{statistics.median(share):.1%}" for share in shares if share)
            yield (
                f"  {STORE_NAMES[store] + ', ' + (metric.name or metric.unit):<32}{statistics.median(times):>9.2f}x"
                f"{spread:>14}  {new:>9,.{metric.digits}f} {old:>9,.{metric.digits}f} {metric.unit:<10}{limit:>13}"
            ).rstrip()
