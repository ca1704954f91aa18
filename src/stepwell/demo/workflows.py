"""The demo's workflows and handlers: one run audits one package, a child hashes a large one, a last run collects.

Handlers are ordinary functions that run on threads. A handler may run again after a crash, so it writes each file
completely or not at all.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from stepwell import Abort, Context, Durable, Workflow, durable
from stepwell.demo.findings import BAD, Findings, Row, check_files, recorded_rows
from stepwell.demo.handler_log import HandlerLog
from stepwell.demo.packages import Package

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stepwell.demo.config import DemoConfig, DemoDirectory

SIGNAL = "signoff"
"""The signal that a run with a bad verdict waits for if the demo is interactive; its data is `{"accepted": bool}`."""

_PARALLEL_FILES = 40
_LOOP_FILES = 200
_CHUNK_FILES = 100
_CHUNK_BYTES = 4 << 20
_SIGNOFF_TIMEOUT = timedelta(hours=1)
_MAX_CHUNKS = 1_000_000


def open_app(directory: DemoDirectory, config: DemoConfig) -> Durable:
    """The demo's app, for the worker processes and for the process that starts and watches them.

    Every kill may hit the same run. The run must not fail because of that, so `max_crashes` exceeds the kills.
    """
    url = config.store_url(directory)
    return Durable(url, workflows=workflows(directory), max_crashes=config.kills + 5, lease=config.lease)


def workflows(directory: DemoDirectory) -> tuple[Workflow, Workflow, Workflow]:
    """The three workflows `audit`, `hash` and `collect`, which write their files to `directory`."""
    handlers = _AuditHandlers(directory, HandlerLog(directory.log))
    hashing = durable("hash").loop(
        "hash_chunks",
        handlers.hash_chunk,
        max_iterations=_MAX_CHUNKS,
        map_input=lambda ctx: {"chunks": ctx.input["chunks"], "findings": Findings().as_json()},
        until=lambda done, _iteration: not done["chunks"],
        feedback=lambda done: done,
    )
    audit = (
        durable("audit")
        .step("record", handlers.read_record)
        .parallel(
            "hash_parallel",
            {"code": handlers.hash_part, "data": handlers.hash_part, "metadata": handlers.hash_part},
            when=lambda ctx: 0 < ctx.results["record"]["files"] <= _PARALLEL_FILES,
        )
        .loop(
            "hash_chunks",
            handlers.hash_chunk,
            when=lambda ctx: _PARALLEL_FILES < ctx.results["record"]["files"] <= _LOOP_FILES,
            max_iterations=_MAX_CHUNKS,
            map_input=lambda ctx: {"chunks": ctx.results["record"]["chunks"], "findings": Findings().as_json()},
            until=lambda done, _iteration: not done["chunks"],
            feedback=lambda done: done,
        )
        .child_workflow(
            "hash_child",
            hashing,
            when=lambda ctx: ctx.results["record"]["files"] > _LOOP_FILES,
            map_input=lambda ctx: {"package": ctx.input["package"], "chunks": ctx.results["record"]["chunks"]},
        )
        .step("report", handlers.write_report, compensate=handlers.withdraw_report)
        .wait_for_signal(
            "signoff",
            SIGNAL,
            timeout=_SIGNOFF_TIMEOUT,
            default={"accepted": False},
            when=lambda ctx: ctx.input["interactive"] and ctx.results["report"]["verdict"] in BAD,
        )
        .step("accept", handlers.check_verdict)
    )
    collect = durable("collect").step("gather", handlers.gather).step("publish", handlers.publish)
    return audit, hashing, collect


class _AuditHandlers:
    """The handlers of all three workflows; each one logs its start and its end."""

    def __init__(self, directory: DemoDirectory, log: HandlerLog) -> None:
        self._directory = directory
        self._log = log

    def read_record(self, ctx: Context) -> dict[str, Any]:
        """Reads the package's RECORD and cuts it into chunks of files of about equal size."""
        package = Package.from_json(ctx.input["package"])
        with self._log.log_call(ctx, package.title):
            rows = recorded_rows(package.metadata)
            return {"files": len(rows), "chunks": _chunks(rows)}

    def hash_part(self, ctx: Context) -> dict[str, Any]:
        """Hashes one kind of a small package's files: the kind that names this branch."""
        package = Package.from_json(ctx.input["package"])
        with self._log.log_call(ctx, package.title) as counts:
            rows = [row for row in recorded_rows(package.metadata) if _part(row) == ctx.step]
            findings = check_files(package.folder, rows)
            counts.files, counts.bytes = findings.files, findings.bytes
            return findings.as_json()

    def hash_chunk(self, state: dict[str, Any], ctx: Context) -> dict[str, Any]:
        """Hashes the next chunk and adds it to the findings so far."""
        package = Package.from_json(ctx.input["package"])
        with self._log.log_call(ctx, package.title) as counts:
            (start, stop), *left = state["chunks"]
            findings = check_files(package.folder, recorded_rows(package.metadata)[start:stop])
            counts.files, counts.bytes = findings.files, findings.bytes
            return {"chunks": left, "findings": (Findings.from_json(state["findings"]) + findings).as_json()}

    def write_report(self, ctx: Context) -> dict[str, Any]:
        """Writes the package's report, with the verdict."""
        package = Package.from_json(ctx.input["package"])
        with self._log.log_call(ctx, package.title):
            findings = _all_findings(ctx)
            report = {"package": package.as_json(), "verdict": findings.verdict, **findings.as_json()}
            _write(self._directory.report(ctx.input["key"]), report)
            return report

    def withdraw_report(self, ctx: Context) -> None:
        """Moves the report to the withdrawn ones; safe to repeat."""
        package = Package.from_json(ctx.input["package"])
        with self._log.log_call(ctx, package.title, "undo"):
            withdrawn = self._directory.report(ctx.input["key"], withdrawn=True)
            withdrawn.parent.mkdir(exist_ok=True)
            try:
                self._directory.report(ctx.input["key"]).replace(withdrawn)
            except FileNotFoundError:
                if not withdrawn.exists():
                    raise

    def check_verdict(self, ctx: Context) -> bool:
        """Completes for a good report, or one that a person has accepted; aborts the run for any other."""
        package = Package.from_json(ctx.input["package"])
        with self._log.log_call(ctx, package.title):
            report, answer = ctx.results["report"], ctx.results["signoff"]
            accepted = report["verdict"] not in BAD or bool(answer and answer["accepted"])
        if not accepted:
            raise Abort(f"{package.title} is {report['verdict']}: {', '.join(report['names'])}")
        return accepted

    def gather(self, ctx: Context) -> dict[str, Any]:
        """Adds up all reports, the withdrawn ones included."""
        with self._log.log_call(ctx, "all packages"):
            keys = ctx.input["keys"]
            found = [self._directory.report(key, withdrawn=withdrawn) for key in keys for withdrawn in (False, True)]
            reports = [json.loads(path.read_text(encoding="utf-8")) for path in found if path.exists()]
            verdicts = Counter(report["verdict"] for report in reports)
            totals = {name: sum(report[name] for report in reports) for name in ("files", "bytes")}
            return {"packages": len(reports), **totals, "verdicts": dict(sorted(verdicts.items()))}

    def publish(self, ctx: Context) -> dict[str, Any]:
        """Writes the summary."""
        with self._log.log_call(ctx, "all packages"):
            summary: dict[str, Any] = ctx.results["gather"]
            _write(self._directory.summary, summary)
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


def _all_findings(ctx: Context) -> Findings:
    """The package's findings, whichever of the three nodes hashed its files; empty if it has none."""
    results = ctx.results
    parts = [results[part] for part in ("code", "data", "metadata")]
    chunks = [results["hash_chunks"], results["hash_child"] and results["hash_child"]["hash_chunks"]]
    found = [part for part in parts if part] + [chunk["findings"] for chunk in chunks if chunk]
    return sum((Findings.from_json(findings) for findings in found), Findings())


def _write(path: Path, value: object) -> None:
    """Writes the file completely or not at all; an interrupted handler leaves at most its own draft."""
    path.parent.mkdir(exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps(value, indent=1), encoding="utf-8")
    draft.replace(path)
