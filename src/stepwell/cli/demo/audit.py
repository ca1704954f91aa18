"""The demo's workflows and their handlers: one run audits one package, a child hashes a large one, a last run collects.

Handlers are plain functions on threads. Each may run again after a crash, so each writes files whole or not at all.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from stepwell import Abort, Context, Durable, Workflow, durable
from stepwell.cli.demo.handlers_log import HandlersLog
from stepwell.cli.demo.packages import Package
from stepwell.cli.demo.tally import BAD, Row, Tally, recorded_rows, tally_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stepwell.cli.demo.script import Place, Script

SIGNAL = "signoff"
"""The signal a run with a bad verdict waits for, if the demo is interactive; its data: `{"accepted": bool}`."""

_AT_ONCE_FILES = 40
_IN_CHILD_FILES = 200
_CHUNK_FILES = 100
_CHUNK_BYTES = 4 << 20
_PERSON_ANSWERS_WITHIN = timedelta(hours=1)
_MOST_CHUNKS = 1_000_000


def open_app(place: Place, script: Script) -> Durable:
    """The demo's app, for the workers and for the one who starts and watches them.

    A run may be hit by every kill and must not be given up for it, so more crashes are allowed than kills are made.
    """
    return Durable(script.store(place), workflows=workflows(place), max_crashes=script.kills + 5, lease=script.lease)


def workflows(place: Place) -> tuple[Workflow, Workflow, Workflow]:
    """The three workflows `audit`, `hash` and `collect`, which leave their files in `place`."""
    desk = _Desk(place, HandlersLog(place.log))
    hashing = durable("hash").loop(
        "chunks",
        desk.hash_chunk,
        max_iterations=_MOST_CHUNKS,
        map_input=lambda ctx: {"chunks": ctx.input["chunks"], "tally": Tally().as_json()},
        until=lambda done, _iteration: not done["chunks"],
        feedback=lambda done: done,
    )
    audit = (
        durable("audit")
        .step("record", desk.read_record)
        .parallel(
            "at_once",
            {"code": desk.hash_part, "data": desk.hash_part, "metadata": desk.hash_part},
            when=lambda ctx: 0 < ctx.results["record"]["files"] <= _AT_ONCE_FILES,
        )
        .loop(
            "chunks",
            desk.hash_chunk,
            when=lambda ctx: _AT_ONCE_FILES < ctx.results["record"]["files"] <= _IN_CHILD_FILES,
            max_iterations=_MOST_CHUNKS,
            map_input=lambda ctx: {"chunks": ctx.results["record"]["chunks"], "tally": Tally().as_json()},
            until=lambda done, _iteration: not done["chunks"],
            feedback=lambda done: done,
        )
        .child_workflow(
            "apart",
            hashing,
            when=lambda ctx: ctx.results["record"]["files"] > _IN_CHILD_FILES,
            map_input=lambda ctx: {"package": ctx.input["package"], "chunks": ctx.results["record"]["chunks"]},
        )
        .step("report", desk.write_report, compensate=desk.withdraw_report)
        .wait_for_signal(
            "signoff",
            SIGNAL,
            timeout=_PERSON_ANSWERS_WITHIN,
            default={"accepted": False},
            when=lambda ctx: ctx.input["interactive"] and ctx.results["report"]["verdict"] in BAD,
        )
        .step("stand", desk.let_stand)
    )
    collect = durable("collect").step("gather", desk.gather).step("publish", desk.publish)
    return audit, hashing, collect


class _Desk:
    """The handlers: each one logs that it begins and that it ends."""

    def __init__(self, place: Place, log: HandlersLog) -> None:
        self._place = place
        self._log = log

    def read_record(self, ctx: Context) -> dict[str, Any]:
        """Reads the package's RECORD, and cuts it into chunks of files that are about as much work."""
        package = Package.from_json(ctx.input["package"])
        with self._log.handling(ctx, package.title):
            rows = recorded_rows(package.metadata)
            return {"files": len(rows), "chunks": _chunks(rows)}

    def hash_part(self, ctx: Context) -> dict[str, Any]:
        """Hashes one kind of a small package's files: the kind that the entry is named for."""
        package = Package.from_json(ctx.input["package"])
        with self._log.handling(ctx, package.title) as work:
            rows = [row for row in recorded_rows(package.metadata) if _part(row) == ctx.step]
            tally = tally_of(package.folder, rows)
            work.files, work.bytes = tally.files, tally.bytes
            return tally.as_json()

    def hash_chunk(self, state: dict[str, Any], ctx: Context) -> dict[str, Any]:
        """Hashes the first of the chunks that are left, and adds it to the tally so far."""
        package = Package.from_json(ctx.input["package"])
        with self._log.handling(ctx, package.title) as work:
            (start, stop), *left = state["chunks"]
            tally = tally_of(package.folder, recorded_rows(package.metadata)[start:stop])
            work.files, work.bytes = tally.files, tally.bytes
            return {"chunks": left, "tally": (Tally.from_json(state["tally"]) + tally).as_json()}

    def write_report(self, ctx: Context) -> dict[str, Any]:
        """Writes the verdict on the package into its report."""
        package = Package.from_json(ctx.input["package"])
        with self._log.handling(ctx, package.title):
            tally = _whole_tally(ctx)
            report = {"package": package.as_json(), "verdict": tally.verdict, **tally.as_json()}
            _write(self._place.report(ctx.input["key"]), report)
            return report

    def withdraw_report(self, ctx: Context) -> None:
        """Takes the report back; done twice, it is taken back once."""
        package = Package.from_json(ctx.input["package"])
        with self._log.handling(ctx, package.title, "undo"):
            withdrawn = self._place.report(ctx.input["key"], withdrawn=True)
            withdrawn.parent.mkdir(exist_ok=True)
            try:
                self._place.report(ctx.input["key"]).replace(withdrawn)
            except FileNotFoundError:
                if not withdrawn.exists():
                    raise

    def let_stand(self, ctx: Context) -> bool:
        """Lets a good report stand, or one that a person has accepted; gives up on any other."""
        package = Package.from_json(ctx.input["package"])
        with self._log.handling(ctx, package.title):
            report, answer = ctx.results["report"], ctx.results["signoff"]
            stands = report["verdict"] not in BAD or bool(answer and answer["accepted"])
        if not stands:
            raise Abort(f"{package.title} is {report['verdict']}: {', '.join(report['names'])}")
        return stands

    def gather(self, ctx: Context) -> dict[str, Any]:
        """Reads all the reports, those that stand and those that were withdrawn."""
        with self._log.handling(ctx, "all packages"):
            keys = ctx.input["keys"]
            found = [self._place.report(key, withdrawn=withdrawn) for key in keys for withdrawn in (False, True)]
            reports = [json.loads(path.read_text(encoding="utf-8")) for path in found if path.exists()]
            verdicts = Counter(report["verdict"] for report in reports)
            totals = {name: sum(report[name] for report in reports) for name in ("files", "bytes")}
            return {"packages": len(reports), **totals, "verdicts": dict(sorted(verdicts.items()))}

    def publish(self, ctx: Context) -> dict[str, Any]:
        """Writes what was collected into the summary."""
        with self._log.handling(ctx, "all packages"):
            summary: dict[str, Any] = ctx.results["gather"]
            _write(self._place.summary, summary)
            return summary


def _chunks(rows: Sequence[Row]) -> list[list[int]]:
    chunks, start, size = [], 0, 0
    for at, row in enumerate(rows):
        if at > start and (at - start >= _CHUNK_FILES or size + row.size > _CHUNK_BYTES):
            chunks.append([start, at])
            start, size = at, 0
        size += row.size
    return [*chunks, [start, len(rows)]] if rows else []


def _part(row: Row) -> str:
    if ".dist-info/" in row.path or ".egg-info/" in row.path:
        return "metadata"
    return "code" if row.path.endswith((".py", ".pyi", ".so", ".pyd")) else "data"


def _whole_tally(ctx: Context) -> Tally:
    """The package's tally, from whichever of the three ways its files were hashed; an empty one if none was needed."""
    results = ctx.results
    parts = [results[part] for part in ("code", "data", "metadata")]
    chunks = [results["chunks"], results["apart"] and results["apart"]["chunks"]]
    tallies = [part for part in parts if part] + [chunk["tally"] for chunk in chunks if chunk]
    return sum((Tally.from_json(tally) for tally in tallies), Tally())


def _write(path: Path, value: object) -> None:
    """Writes the file whole or not at all; a handler that was cut off leaves at most a file of its own process."""
    path.parent.mkdir(exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps(value, indent=1), encoding="utf-8")
    draft.replace(path)
