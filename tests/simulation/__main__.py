"""`python -m tests.simulation SEED` plays one history and tells what is wrong in it; `--count N` plays N from there.

A history that fails is made smaller, and printed as a line for `regressions.toml`. `--without` takes out elements of
the plan; `--log` prints all that happens; `--reach` fails when the histories did not reach what they should.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING

from tests.simulation.batch import Batch, play_batch
from tests.simulation.reach import missing, missing_of_wide, table
from tests.simulation.regressions import command, line_of
from tests.simulation.shrink import failings, shrunk
from tests.simulation.simulated_history import play
from tests.simulation.wide import FIRST

if TYPE_CHECKING:
    from collections.abc import Sequence

SHARE = 50


def main() -> int:
    """Play and print; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seed", type=int)
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--without", default="", help="elements of the plan, separated by semicolons")
    parser.add_argument("--log", action="store_true")
    parser.add_argument("--reach", action="store_true", help="fail when something was not reached")
    parser.add_argument("--as-it-is", action="store_true", help="do not make a failing history smaller")
    parser.add_argument("--stop", type=int, default=10, help="after so many failing histories")
    given = parser.parse_args()
    without = [one for one in given.without.split(";") if one]
    if given.count == 1:
        return _one(given.seed, without, logged=given.log, shrinks=not given.as_it_is)
    return _many(given)


def _one(seed: int, without: Sequence[str], *, logged: bool, shrinks: bool) -> int:
    found = failings(seed, without)
    if logged:
        sys.stdout.writelines(f"{line}\n" for line in play(seed, without, logged=True).log_lines)
    _print(f"{command(seed, without)}: {len(found)} violations", *found)
    if found and shrinks:
        smaller = shrunk(seed, without)
        _print("smaller:", command(seed, smaller), *failings(seed, smaller)[:5], "", line_of(seed, smaller, found[0]))
    return 1 if found else 0


def _many(given: argparse.Namespace) -> int:
    began, whole = time.perf_counter(), Batch()
    end = given.seed + given.count
    shares = [(first, min(SHARE, end - first)) for first in range(given.seed, end, SHARE)]
    with ProcessPoolExecutor(given.jobs) as pool:
        for batch in pool.map(play_batch, *zip(*shares, strict=True)):
            for seed, found in batch.failed.items():
                _print(command(seed), *found[:10])
            whole.add(batch)
            if len(whole.failed) >= given.stop:
                pool.shutdown(wait=False, cancel_futures=True)
                break
    seconds = time.perf_counter() - began
    _print(
        f"{whole.histories:,} histories in {seconds:.1f} s with {given.jobs} processes, {whole.cpu:.1f} s of CPU: "
        f"{whole.histories / seconds:.0f} a second; {whole.runs:,} runs, {whole.looks:,} transactions looked at, "
        f"{whole.virtual / 3600:.2f} hours of virtual time; {len(whole.failed)} failed",
        *table(whole.reached),
    )
    for seed in list(whole.failed)[:1] if not given.as_it_is else []:
        _one(seed, (), logged=False, shrinks=True)
    lacking = []
    if given.reach:
        lacking = missing_of_wide(whole.reached) if given.seed >= FIRST else missing(whole.reached)
    if lacking:
        _print("not reached:", *lacking)
    return 1 if whole.failed or lacking else 0


def _print(*lines: str) -> None:
    sys.stdout.write("\n  ".join(lines) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
