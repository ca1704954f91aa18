"""The trace of a history: the store's answers, the calls that handlers logged, and the signals that were sent."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from stepwell import Context, Entry, RunSnapshot
    from tests.simulation.designs import Design

JOURNAL = """
SELECT node, item, phase, n, kind, status FROM stepwell_entries WHERE run_id = ? AND name = '' ORDER BY seq
"""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the handlers' own log: a call that begins or ends, with what it saw and what was journaled then.

    `tries` are the failed attempts journaled for its own place since it was entered, `saw` digests of the results.
    """

    event: str
    who: str
    at: float
    run_id: str
    phase: str
    step: str
    iteration: int | None
    attempt: int
    key: str
    token: str
    tries: int = 0
    journaled: tuple[str, ...] = ()
    saw: dict[str, str] = field(default_factory=dict)
    resumed: Any = None
    undoes: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Letter:
    """A signal that was accepted; `waited_for`: only because the run waited for it. Instants in seconds since 1970."""

    name: str
    payload: Any
    waited_for: bool
    answered_at: float


@dataclass(slots=True)
class Trace:
    """All runs of a history, children too, by id.

    `stopped`: the processes that were killed or stopped, so that their calls start again. `late`: the processes that
    were frozen and may start a call before they notice that they lost their runs. `imposed`: the run, node, kind and
    iteration of each outcome that no handler produced: workers died at it too often, or the store refused it.
    `refused`: the runs whose rows the store refused or its driver failed to read, so that a call may start again.
    """

    designs: dict[str, Design]
    snapshots: dict[str, RunSnapshot] = field(default_factory=dict)
    journals: dict[str, list[Entry]] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)
    letters: dict[str, list[Letter]] = field(default_factory=dict)
    frozen: dict[str, list[Entry]] = field(default_factory=dict)
    cancel_asked: set[str] = field(default_factory=set)
    plainly_canceled: set[str] = field(default_factory=set)
    """Those of them whose cancel compensates nothing."""
    stopped: set[str] = field(default_factory=set)
    late: set[str] = field(default_factory=set)
    imposed: set[tuple[str, str, str, int | None]] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    attempted: int = field(default=0, compare=False, repr=False)
    """How many calls of what then failed were seen to be undone."""
    deleted: set[str] = field(default_factory=set)
    """The runs that were deleted by hand."""
    not_before: dict[str, float] = field(default_factory=dict)
    """The instants of the loop's clock before which runs that were started with a delay may not begin."""

    def is_asked(self, run_id: str, among: set[str]) -> bool:
        """Whether the run or one above it is among these."""
        above: str | None = run_id
        while above is not None:
            if above in among:
                return True
            above = self.snapshots[above].parent_run_id
        return False

    def children(self, run_id: str) -> list[str]:
        """The run's children, oldest first."""
        return sorted(one for one, run in self.snapshots.items() if run.parent_run_id == run_id)


def digest(value: Any) -> str:
    """A short name for a JSON value."""
    return hashlib.blake2b(msgspec.json.encode(value, order="sorted"), digest_size=6).hexdigest()


def outcome_name(node: str, item: str, phase: str, kind: str) -> str:
    """How an outcome is named in a line's `journaled`."""
    iteration = item[1:].lstrip("0") if item.startswith("#") else ""
    name = item if item and not iteration else node
    return f"{'compensate' if phase == 'undo' else kind}:{name}:{iteration}"


def key_name(node: str, kind: str, iteration: int | None) -> str:
    """The same, of an entry."""
    return f"{kind}:{node}:{'' if iteration is None else iteration}"


def kind_of(phase: str) -> str:
    """The kind of entry that a call of this phase leads to."""
    return {"undo": "compensate", "choose": "route", "ask": "sleep", "map": "child"}.get(phase, "step")


def beginning(connection: sqlite3.Connection, ctx: Context, phase: str, *, who: str, at: float, token: str) -> Line:
    """The line of a call that begins now, with what the store's file has of its run."""
    rows = connection.execute(JOURNAL, (ctx.run_id,)).fetchall()
    return beginning_after(rows, ctx, phase, who=who, at=at, token=token)


def beginning_after(
    rows: Sequence[Sequence[Any]], ctx: Context, phase: str, *, who: str, at: float, token: str
) -> Line:
    """The same, with the rows of `JOURNAL` that any store has of its run."""
    place = key_name(ctx.step, kind_of(phase), ctx.iteration)
    tries = 0
    for node, item, row_phase, n, kind, status in rows:
        if n and outcome_name(node, item, row_phase, kind) == place:
            tries = 0 if status == "suspended" else tries + 1
    journaled = tuple(outcome_name(row[0], row[1], row[2], row[4]) for row in rows if row[3] == 0)
    saw = {name: digest(value) for name, value in ctx.results.items()}
    facts = (ctx.run_id, phase, ctx.step, ctx.iteration, ctx.attempt, ctx.idempotency_key, token)
    return Line("begin", who, at, *facts, tries, journaled, saw, ctx.resume_data, ctx.undoes_keys)


def ending(ctx: Context, phase: str, *, who: str, at: float, token: str) -> Line:
    """The line of a call that is about to return."""
    facts = (ctx.run_id, phase, ctx.step, ctx.iteration, ctx.attempt, ctx.idempotency_key, token)
    return Line("end", who, at, *facts)
