"""What `import stepwell` costs beside the import of what it cannot do without, in fresh interpreters by turns."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.child import ROOT
from benchmarks.figures import Figure, Line, ratios

if TYPE_CHECKING:
    from collections.abc import Iterator

TITLE = "start_up: imports in a fresh interpreter"
OURS = "stepwell"
NEEDED = "asyncio, sqlite3, msgspec"
PROGRAM = """
import sys, time
wall, cpu = time.perf_counter(), time.process_time()
import {}
print(time.perf_counter() - wall, time.process_time() - cpu)
import threading
sys.exit(threading.active_count() != 1)
"""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured: one interpreter for each import in each round."""

    rounds: int


TINY = Size(rounds=1)
SHORT = Size(rounds=15)
FULL = Size(rounds=51)


def measure(size: Size) -> Iterator[Line]:
    """Milliseconds of both imports, and ours as a multiple of the other."""
    ours, needed = [], []
    with tempfile.TemporaryDirectory(prefix="stepwell-bytecode-") as bytecode:
        for names in (OURS, NEEDED):
            import_seconds(names, bytecode)  # compiles it, once for all rounds
        for _ in range(size.rounds):
            ours.append(import_seconds(OURS, bytecode))
            needed.append(import_seconds(NEEDED, bytecode))
    yield Figure(f"import {OURS}", [1000 * wall for wall, _ in ours], "ms", 1)
    yield Figure(f"import {NEEDED}", [1000 * wall for wall, _ in needed], "ms", 1)
    yield Figure("  ratio", ratios((wall for wall, _ in ours), (wall for wall, _ in needed)), "times", 2)
    yield Figure("  ratio of CPU time", ratios((cpu for _, cpu in ours), (cpu for _, cpu in needed)), "times", 2)


def import_seconds(names: str, bytecode: str) -> tuple[float, float]:
    """Wall and CPU seconds of the import; raises CalledProcessError if it fails or starts a thread.

    Compiled modules are kept in the folder `bytecode`, whatever the environment says of them.
    """
    command = [sys.executable, "-c", PROGRAM.format(names)]
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": bytecode, "PYTHONDONTWRITEBYTECODE": ""}
    ended = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    wall, cpu = ended.stdout.split()
    return float(wall), float(cpu)
