"""Runs what the tests say of PostgreSQL against each version that is given, and prints a table; exits 1 if any fails.

    python scripts/postgres_versions.py --bin /usr/lib/postgresql/15/bin /tmp/pg16/pginstall/bin

Each folder holds `postgres` and `initdb`; a server of our own is started from it, on a folder and port of its own.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from stepwell.testing.postgres import NoPostgresError, PostgresServer

ROOT = Path(__file__).resolve().parents[1]
TESTS = ("tests/conformance", "tests/integration/test_postgres.py", "tests/api")
COUNTED = re.compile(r"(\d+) (passed|failed|errors?|skipped)\b")
FAILED = re.compile(r"^(?:FAILED|ERROR) (.+)", re.MULTILINE)


class Outcome(NamedTuple):
    """What the tests came to against one server."""

    version: str
    counts: dict[str, int]
    seconds: float
    failed: tuple[str, ...]
    passed: bool


def version_of(folder: Path) -> str:
    """The version of the binaries, as they tell it."""
    told = subprocess.check_output([folder / "postgres", "--version"], text=True)
    return told.split()[2]


def outcome_of(folder: Path, processes: int) -> Outcome:
    """Starts a server from the folder and runs the tests against it."""
    began = time.monotonic()
    with PostgresServer(fsync=False, bin=folder) as server:
        told = {"STEPWELL_TEST_PG": server.dsn, "STEPWELL_TEST_PG_BIN": str(folder)}
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-n", str(processes), "-k", "postgres", *TESTS],
            cwd=ROOT,
            env={**os.environ, **told},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    last = done.stdout.strip().rpartition("\n")[2]
    counts = {word.rstrip("s"): int(number) for number, word in COUNTED.findall(last)}
    failed = tuple(FAILED.findall(done.stdout))
    if done.returncode and not failed:
        print(done.stdout[-2000:], file=sys.stderr)
    return Outcome(version_of(folder), counts, time.monotonic() - began, failed, done.returncode == 0)


def main() -> int:
    """Prints a line for each folder, and the names of what failed."""
    options = argparse.ArgumentParser(description="Run the PostgreSQL tests against several versions of it.")
    options.add_argument("--bin", nargs="+", type=Path, required=True, metavar="FOLDER", dest="folders")
    options.add_argument("--processes", type=int, default=2, metavar="N", help="of pytest (default: 2)")
    given = options.parse_args()
    print(f"{'version':<10} {'passed':>7} {'failed':>7} {'skipped':>8} {'seconds':>8}  folder")
    good = True
    for folder in given.folders:
        try:
            outcome = outcome_of(folder.resolve(), given.processes)
        except NoPostgresError as error:
            print(f"{folder}: {error}", file=sys.stderr)
            good = False
            continue
        counted = outcome.counts
        bad = counted.get("failed", 0) + counted.get("error", 0)
        numbers = f"{counted.get('passed', 0):>7} {bad:>7} {counted.get('skipped', 0):>8} {outcome.seconds:>8.0f}"
        print(f"{outcome.version:<10} {numbers}  {folder}", flush=True)
        for name in outcome.failed:
            print(f"  {name}")
        good = good and outcome.passed
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
