"""`python -m benchmarks`: measures and prints; what it can be asked is in arguments.py."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import sys
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from benchmarks import DETAILS, arguments, results, table
from benchmarks.arguments import LOAD_OPTIONS
from benchmarks.capacity import report
from benchmarks.capacity.model import Load, model_of
from benchmarks.cases import POSTGRES, ROUNDS
from benchmarks.compare import SLOWER, compared
from benchmarks.database import connected, database
from benchmarks.figures import heading
from benchmarks.peers.installed import PEERS, peer_versions
from benchmarks.publish import DOCS, published, put
from benchmarks.rounds import contenders_of, measure
from benchmarks.versus import NoCheckoutError, versus

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from benchmarks.cases import Case


def main() -> int:
    """Reads the arguments, measures, prints; the exit status."""
    given = arguments.read(sys.argv[1:])
    try:
        for line in _lines(given):
            print(line, flush=True)
    except (NoCheckoutError, results.ResultError) as error:
        print(error, file=sys.stderr)
        return 2
    return 1 if given.command == "compare" and any(verdict == SLOWER for verdict, _ in _compared(given)) else 0


def _lines(given: argparse.Namespace) -> Iterator[str]:
    match given.command:
        case "compare":
            yield from (line for _, line in _compared(given))
        case "publish":
            for file in published(results.read(given.result or results.newest()), given.to):
                yield f"wrote {file}"
        case "capacity":
            yield from _capacity(given)
        case "versus":
            cases, rounds = arguments.cases(given), given.rounds or ROUNDS[given.size]
            with _server(cases) as dsn:
                yield from versus(given.checkout, cases, given.size, rounds, dsn)
        case _:
            yield from _measured(given)
            for name in getattr(given, "names", ()):
                if name in DETAILS:
                    yield from _detail(name, given)


def _capacity(given: argparse.Namespace) -> Iterator[str]:
    if given.count:
        counts = report.counted(report.TINY if given.tiny else report.SHORT)
        lines = [*report.counts_shown(counts), "", *report.checks_shown(counts)] if given.tiny else []
        if not given.tiny:
            report.save(counts)
            lines = [*report.whole(counts)]
            put(DOCS / "capacity.md", lines)
        yield from lines
    counts = {} if given.tiny else report.saved()
    if given.runs_a_day:
        options = {name: getattr(given, name) for name in LOAD_OPTIONS}
        load = Load(given.runs_a_day, given.steps, **options)
        yield from report.answer_shown(model_of(counts["stores"][given.store]), load, given.store)
    elif not given.count:
        yield from report.whole(counts)


def _compared(given: argparse.Namespace) -> list[tuple[str, str]]:
    return list(compared(results.read(given.old), results.read(given.new)))


def _measured(given: argparse.Namespace) -> Iterator[str]:
    """The table, line by line as it is measured."""
    cases = arguments.cases(given)
    if not cases:
        return
    versions = {} if given.no_peers else peer_versions()
    peers = [peer for peer in PEERS if peer.name in versions]
    with _server(cases) as dsn:
        result = results.begun(given.size, versions, asyncio.run(_version(dsn)))
        yield from table.head(result)
        for case in cases:
            contenders = contenders_of(case, given.size, peers)
            found = measure(case, contenders, given.size, given.rounds or ROUNDS[given.size], dsn)
            result.cases[case.name] = found
            yield from table.lines(case, found, [*versions])
    if given.save or (given.command == "all" and given.size != "tiny"):
        yield f"wrote {result.written(given.folder / results.file_name(result))}"


@contextlib.contextmanager
def _server(cases: list[Case]) -> Iterator[str]:
    """The DSN of a server, or an empty one if all is measured on files."""
    if all(POSTGRES not in case.stores for case in cases):
        yield ""
        return
    with database(shared_buffers="1GB", max_wal_size="4GB") as dsn:
        yield dsn


async def _version(dsn: str) -> str:
    if not dsn:
        return "no PostgreSQL"
    async with connected(dsn) as connection:
        return f"PostgreSQL {await connection.fetchval('SHOW server_version')}"


def _detail(name: str, given: argparse.Namespace) -> Iterator[str]:
    """The lines of a benchmark that has a table of its own."""
    benchmark = importlib.import_module(f"benchmarks.details.{name}")
    size: Any = getattr(benchmark, given.size.upper())
    if given.rounds and "rounds" in {field.name for field in fields(size)}:
        size = replace(size, rounds=given.rounds)
    yield ""
    yield heading(benchmark.TITLE)
    for line in benchmark.measure(size):
        yield line.shown()


if __name__ == "__main__":
    sys.exit(main())
