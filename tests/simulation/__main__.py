"""`python -m tests.simulation SEED` plays one history again and tells it; `--count N` plays N from that seed on."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from tests.simulation.world import play


def main() -> int:
    """Play and print; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seed", type=int)
    parser.add_argument("--count", type=int, default=1)
    given = parser.parse_args()
    met, statuses, kinds, failing = Counter[str](), Counter[str](), Counter[str](), 0
    began, virtual = time.perf_counter(), 0.0
    for seed in range(given.seed, given.seed + given.count):
        ended = play(seed)
        virtual += ended.seconds
        met.update(ended.met)
        statuses.update(str(run.status) for run in ended.story.snapshots.values())
        kinds.update(f"{one.kind} {one.status}" for journal in ended.story.journals.values() for one in journal)
        if ended.violations:
            failing += 1
            told = "\n  ".join([f"python -m tests.simulation {seed}", *ended.violations[:10]])
            sys.stdout.write(f"{told}\n")
            sys.stdout.flush()
    seconds = time.perf_counter() - began
    sys.stdout.write(
        f"{given.count} histories in {seconds:.1f} s, {virtual / 3600:.1f} hours of virtual time; {failing} failed\n"
    )
    for title, counts in (("runs", statuses), ("entries", kinds), ("faults", met)):
        sys.stdout.write(f"{title}: {', '.join(f'{name} {count}' for name, count in sorted(counts.items()))}\n")
    return 1 if failing else 0


if __name__ == "__main__":
    sys.exit(main())
