"""The words of `python -m benchmarks`."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from benchmarks import DETAILS
from benchmarks.capacity.model import Load
from benchmarks.cases import CASES, CASES_BY_NAME, POSTGRES, SIZES, STORES, Case
from benchmarks.publish import DOCS
from benchmarks.results import FOLDER

LOAD_OPTIONS = {
    "peak": "how many times the mean the busiest hour is",
    "handler_seconds": "how long a handler takes",
    "handler_micros": "microseconds of the worker's CPU that a handler takes",
    "result_bytes": "bytes of a step's result as JSON",
    "keep_days": "how long runs are kept",
    "concurrency": "handlers at once in a worker",
    "busy_share": "how busy a worker may be at the peak",
}


def parser() -> argparse.ArgumentParser:
    """Every command and option; a case by its name is `run NAME`."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures stepwell beside the raw limit of its database and beside its peers.",
        epilog=f"A command may be the names of cases: {', '.join(CASES_BY_NAME)}; or of details, which are not part of "
        f"`all`: {', '.join(DETAILS)}.",
    )
    commands = made.add_subparsers(dest="command", required=True)
    _measuring(commands.add_parser("all", help="every case, in one table, saved as JSON; the default"))
    run = commands.add_parser("run", help="some cases or details (the word may be left out)")
    run.add_argument("names", nargs="+", choices=[*CASES_BY_NAME, *DETAILS], metavar="NAME")
    _measuring(run)
    versus = commands.add_parser("versus", help="this checkout beside another one, in the same rounds")
    versus.add_argument("checkout", type=Path, help="the other checkout, with a .venv of its own (make setup)")
    versus.add_argument("names", nargs="+", choices=list(CASES_BY_NAME), metavar="CASE")
    _measuring(versus)
    compare = commands.add_parser("compare", help="what became slower from one result to another")
    compare.add_argument("old", type=Path)
    compare.add_argument("new", type=Path)
    _capacity(commands.add_parser("capacity", help="what a step costs, how many workers a load needs"))
    publish = commands.add_parser("publish", help="put a result into docs/benchmarks.md and docs/benchmarks.svg")
    publish.add_argument("result", type=Path, nargs="?", help="the newest in benchmarks/results by default")
    publish.add_argument("--to", type=Path, default=DOCS, help="another folder than docs")
    return made


def read(words: list[str]) -> argparse.Namespace:
    """What was asked for; `all` without a word, `run` before the name of a case."""
    if not words or (words[0].startswith("-") and words[0] not in {"-h", "--help"}):
        words = ["all", *words]
    elif words[0] in CASES_BY_NAME or words[0] in DETAILS:
        words = ["run", *words]
    given = parser().parse_args(words)
    if "size" in given:
        given.size = given.size or "short"
    return given


def cases(given: argparse.Namespace) -> list[Case]:
    """The cases that were asked for, on the stores that were."""
    names = given.names if "names" in given else [case.name for case in CASES]
    found = [CASES_BY_NAME[name] for name in names if name in CASES_BY_NAME]
    if given.store:
        found = [replace(case, stores=(given.store,)) for case in found if given.store in case.stores]
    return found


def _capacity(command: argparse.ArgumentParser) -> None:
    command.add_argument("--count", action="store_true", help="count again, and put it all into docs/capacity.md")
    command.add_argument("--tiny", action="store_true", help="with --count: only to see that it works; keeps nothing")
    command.add_argument("--runs-a-day", type=float, help="the load to answer for")
    command.add_argument("--steps", type=float, default=10, help="steps a run; 10 by default")
    command.add_argument("--store", choices=STORES, default=POSTGRES)
    load = Load(1, 1)
    for name, what in LOAD_OPTIONS.items():
        default = getattr(load, name)
        command.add_argument(f"--{name.replace('_', '-')}", type=float, default=default, help=f"{what}; {default:g}")


def _measuring(command: argparse.ArgumentParser) -> None:
    sizes = command.add_mutually_exclusive_group()
    sizes.add_argument("--size", choices=SIZES, help='how much is measured; "short" by default')
    sizes.add_argument("--full", action="store_const", const="full", dest="size", help="more rounds, larger loads")
    sizes.add_argument("--tiny", action="store_const", const="tiny", dest="size", help="only to see that it works")
    command.add_argument("--rounds", type=_positive, help="how many rounds")
    command.add_argument("--store", choices=STORES, help="one of the stores alone")
    command.add_argument("--save", action="store_true", help="write the result as JSON, as `all` does")
    command.add_argument("--folder", type=Path, default=FOLDER, help="where to; benchmarks/results by default")
    command.add_argument("--no-peers", action="store_true", help="stepwell and the limits alone")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be an integer >= 1, got {number}")
    return number
