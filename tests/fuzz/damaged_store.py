"""Stores to damage: a file with a run in every state over all kinds of nodes, and what their results must be."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

from stepwell import Abort, Branch, Durable, Retry, Suspended, durable
from tests.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from stepwell import Context, RunSnapshot, Workflow

FAR = 3_600
STATES = {
    "done": "completed",
    "failed": "failed",
    "waiting": "suspended",
    "agent": "suspended",
    "sleeping": "running",
    "retrying": "running",
    "undoing": "compensating",
    "parent": "suspended",
    "canceled": "canceled",
    "half": "running",
}
"""What the runs are given as input, and how they stand in the store."""
RESULTS = {
    "first": {"n": 1},
    "x": [1],
    "y": "y",
    "way": "by sea",
    "skipped": None,
    "count": 3,
    "nap": None,
    "sign": "yes",
    "agent": {"ok": True},
    "kid": {"inner": "inner", "held": None},
    "shaky": 1.5,
    "last": "end",
}
HELD = {**RESULTS, "kid": {"inner": "inner", "held": "now"}}
"""The same of the run whose child waits for a signal."""
PLAIN = {"one": 1, "two": 2}


def workflows(*, gate: bool = False) -> list[Workflow]:
    """The workflows; behind the gate the half-done run stays half-done."""

    async def shaky(ctx: Context) -> float:
        if ctx.input == "retrying":
            raise Retry("later", after=FAR)
        if ctx.input == "half" and ctx.attempt == 1:
            raise Retry("once more", after=0)
        if ctx.input == "half" and gate:
            await asyncio.Event().wait()
        return 1.5

    def last(ctx: Context) -> str:
        if ctx.input in {"failed", "undoing"}:
            raise Abort("no more")
        return "end"

    def undo(ctx: Context) -> None:
        if ctx.input == "undoing" and ctx.step == "way":
            raise Retry("later", after=FAR)

    everything = (
        durable("everything")
        .step("first", lambda ctx: {"n": 1}, compensate=undo)
        .parallel("both", {"x": lambda ctx: [1], "y": Branch(lambda ctx: "y", compensate=undo)})
        .route("way", lambda ctx: "sea", {"sea": Branch(lambda ctx: "by sea", compensate=undo), "air": lambda ctx: 1})
        .step("skipped", lambda ctx: 1, when=lambda ctx: False)
        .loop("count", lambda at, ctx: ctx.iteration, max_iterations=3, feedback=lambda at: at, compensate=undo)
        .sleep("nap", lambda ctx: FAR if ctx.input == "sleeping" else 0)
        .wait_for_signal("sign", "go")
        .step("agent", lambda ctx: ctx.resume_data or Suspended({"asks": 1}))
        .child_workflow("kid", "kid")
        .step("shaky", shaky, compensate=undo)
        .step("last", last)
    )
    kid = (
        durable("kid")
        .step("inner", lambda ctx: "inner")
        .wait_for_signal("held", "hold", when=lambda ctx: ctx.input == "parent")
    )
    return [everything, kid, durable("plain").step("one", lambda ctx: 1).step("two", lambda ctx: 2)]


class DamagedStore:
    """The file, and the ids of its runs by what they were given; `kid` is the child that waits."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "damaged.db"
        self.ids: dict[str, str] = {}
        self.healthy: list[str] = []
        asyncio.run(self._fill())
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")
            self.refs = dict(connection.execute("SELECT id, ref FROM stepwell_runs").fetchall())

    def copy(self, path: Path) -> str:
        """A copy of the file under that path, and its URL."""
        shutil.copyfile(self.path, path)
        return f"sqlite:///{path}"

    async def _fill(self) -> None:
        async with Durable(f"sqlite:///{self.path}", workflows(gate=True)) as app:
            async with app.worker(grace=0):
                for name in STATES:
                    run_id = (await app.start("everything", name)).run_id
                    self.ids[name] = run_id
                    if name not in {"waiting", "canceled"}:
                        await app.signal(run_id, "go", "yes")
                    if name != "agent":
                        await app.signal(run_id, "agent", {"ok": True})
                for name, status in STATES.items():
                    await eventually(lambda name=name, status=status: self._stands(app, name, status))  # type: ignore[misc]  # mypy infers no type for a lambda with defaults
            (child,) = await app.list(parent_run_id=self.ids["parent"])
            self.ids["kid"] = child.run_id
            self.healthy = [one.run_id for one in await app.start_many("plain", [None] * 3)]

    async def _stands(self, app: Durable, name: str, status: str) -> bool:
        run = await app.status(self.ids[name])
        if name == "canceled" and run.awaiting_signal is not None:
            await app.cancel(run.run_id)
        return run.status == status and _has_come_there(name, run)


def _has_come_there(name: str, run: RunSnapshot) -> bool:
    """Whether the run does nothing any more, or what it does has no end."""
    if name == "half":
        return run.current_node == "shaky" and run.wake_at is None
    if name == "parent":
        return run.current_node == "kid" and run.children is not None and run.children[0].awaiting_signal == "hold"
    return run.finished_at is not None or run.awaiting_signal is not None or run.wake_at is not None


_ORDER = {"journal": "seq", "mailbox": "n", "runs": "ref", "inputs": "ref"}


def rows_of(connection: sqlite3.Connection, table: str, ref: int) -> list[dict[str, Any]]:
    """The run's rows of a table, in order."""
    cursor = connection.execute(f"SELECT * FROM stepwell_{table} WHERE ref = ? ORDER BY {_ORDER[table]}", (ref,))
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def replace(connection: sqlite3.Connection, table: str, old: dict[str, Any], new: dict[str, Any] | None) -> None:
    """Puts another row, or none, in the place of a row; raises IntegrityError for one that the tables do not take."""
    connection.execute(
        f"DELETE FROM stepwell_{table} WHERE ref = ? AND {_ORDER[table]} = ?", (old["ref"], old[_ORDER[table]])
    )
    if new is not None:
        add(connection, table, new)


def add(connection: sqlite3.Connection, table: str, row: dict[str, Any]) -> None:
    """Adds a row."""
    marks = ", ".join("?" * len(row))
    connection.execute(f"INSERT INTO stepwell_{table} ({', '.join(row)}) VALUES ({marks})", tuple(row.values()))
