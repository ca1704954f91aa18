"""`python -m benchmarks [NAME …]`: measures, and prints one table; its arguments and nothing else live here."""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sqlite3
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from benchmarks import NAMES
from benchmarks.cases import CASES_BY_NAME, ROUNDS, SIZES, STORES
from benchmarks.database import database
from benchmarks.figures import heading
from benchmarks.versus import NoCheckoutError, versus


def main() -> int:
    """Reads the arguments, measures, prints; the exit status."""
    if sys.argv[1:2] == ["versus"]:
        return _versus(sys.argv[2:])
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures stepwell beside the raw limit of its database. The short form by default.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which of {', '.join(NAMES)}; all by default")
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--full", action="store_const", const="FULL", dest="size", help="more rounds, larger loads")
    sizes.add_argument("--tiny", action="store_const", const="TINY", dest="size", help="only to see that it works")
    parser.add_argument("--rounds", type=_positive, help="how many rounds, where there are rounds")
    parser.add_argument("--runs", type=_positive, help="how many runs a round, where there are runs")
    given = parser.parse_args()
    unknown = [name for name in given.names if name not in NAMES]
    if unknown:
        parser.error(f'no benchmark "{unknown[0]}"; known: {", ".join(NAMES)}')
    print(f"{os.cpu_count()} cores, CPython {platform.python_version()}, SQLite {sqlite3.sqlite_version}")
    for name in given.names or NAMES:
        benchmark = importlib.import_module(f"benchmarks.{name}")
        size = _resized(getattr(benchmark, given.size or "SHORT"), {"rounds": given.rounds, "runs": given.runs})
        print(f"\n{heading(benchmark.TITLE)}", flush=True)
        for line in benchmark.measure(size):
            print(line.shown(), flush=True)
    return 0


def _versus(words: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks versus", description="Measures this checkout beside another one, in the same rounds."
    )
    parser.add_argument("checkout", type=Path, help="the other checkout, with a .venv of its own (make setup)")
    parser.add_argument("names", nargs="+", metavar="CASE", help=f"which of {', '.join(CASES_BY_NAME)}")
    parser.add_argument("--rounds", type=_positive)
    parser.add_argument("--size", choices=SIZES, default="short")
    parser.add_argument("--store", choices=STORES, help="one of the stores alone")
    given = parser.parse_args(words)
    unknown = [name for name in given.names if name not in CASES_BY_NAME]
    if unknown:
        parser.error(f'no case "{unknown[0]}"; known: {", ".join(CASES_BY_NAME)}')
    cases = [CASES_BY_NAME[name] for name in given.names]
    if given.store:
        cases = [replace(case, stores=(given.store,)) for case in cases if given.store in case.stores]
    try:
        with database() as dsn:
            for line in versus(given.checkout, cases, given.size, given.rounds or ROUNDS[given.size], dsn):
                print(line, flush=True)
    except NoCheckoutError as error:
        parser.error(str(error))
    return 0


def _resized(size: Any, wanted: dict[str, int | None]) -> Any:
    """The size with what was asked for, as far as it knows of it."""
    known = {field.name for field in fields(size)}
    return replace(size, **{name: value for name, value in wanted.items() if value is not None and name in known})


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"a number from 1, not {number}")
    return number


if __name__ == "__main__":
    sys.exit(main())
