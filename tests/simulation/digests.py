"""`python -m tests.simulation.digests FIRST COUNT` prints a digest of all that happens in each of these histories.

The same seed gives the same digest in every process, on every machine; `digests.toml` keeps some.
"""

from __future__ import annotations

import hashlib
import sys

from tests.simulation.world import play


def trace_digest(seed: int) -> str:
    """A digest of every call, every transaction's change and its instant in the history of this seed."""
    ended = play(seed, traced=True)
    told = hashlib.blake2b(digest_size=8)
    for line in ended.trace:
        told.update(line.encode())
    told.update(repr((ended.seconds, sorted(ended.met.items()), ended.violations)).encode())
    return told.hexdigest()


def main() -> None:
    """Print them."""
    first, count = (int(one) for one in sys.argv[1:])
    sys.stdout.writelines(f"{seed} {trace_digest(seed)}\n" for seed in range(first, first + count))


if __name__ == "__main__":
    main()
