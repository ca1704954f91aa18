"""`python -m tests.simulation.digests FIRST COUNT` prints a digest of all that happens in each of these histories.

The same seed gives the same digest in every process, on every machine and Python; `digests.toml` keeps some, which
change only when the engine or the generator does: then `--write` writes them anew.
"""

from __future__ import annotations

import hashlib
import sys
import tomllib
from pathlib import Path

from tests.simulation.simulated_history import play

FILE = Path(__file__).with_name("digests.toml")


def trace_digest(seed: int) -> str:
    """A digest of every call, every transaction's change and its instant in the history of this seed."""
    ended = play(seed, logged=True)
    told = hashlib.blake2b(digest_size=8)
    for line in ended.log_lines:
        told.update(line.encode())
    told.update(repr((ended.seconds, sorted(ended.met.items()), ended.violations)).encode())
    return told.hexdigest()


def main() -> None:
    """Print them, or write those of the kept seeds anew."""
    if sys.argv[1:] == ["--write"]:
        kept = [int(seed) for seed in tomllib.loads(FILE.read_text(encoding="utf-8"))["digests"]]
        lines = [f'{seed} = "{trace_digest(seed)}"\n' for seed in kept]
        FILE.write_text(
            "".join(["# Seeds, and the digests of all that happens in them.\n[digests]\n", *lines]), encoding="utf-8"
        )
        return
    first, count = (int(one) for one in sys.argv[1:])
    sys.stdout.writelines(f"{seed} {trace_digest(seed)}\n" for seed in range(first, first + count))


if __name__ == "__main__":
    main()
