"""The places of a run where a process can die, as text: in each handler, and before and after each commit.

A place is told by what is done there, not by its number: so it is the same place in another run of the workflow, in
whatever order the entries of a parallel end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepwell.core.journal import iteration_of

if TYPE_CHECKING:
    from stepwell.core.journal import JournalRow
    from stepwell.store.records import Advance
    from stepwell.testing.calls import Call

FIRST_LINE = "before the first line of {}"
LAST_LINE = "after the last line of {}"
WAIT = "at await {times} of {piece}"
BEFORE = "before the commit of {}"
AFTER = "after the commit of {}"


class Paths:
    """The runs of one tree by their place in it, told by the nodes that started them."""

    def __init__(self) -> None:
        self._paths: dict[str, str] = {}

    @property
    def run_ids(self) -> tuple[str, ...]:
        """Every run so far."""
        return tuple(self._paths)

    def add(self, run_id: str, parent_id: str | None, node: str | None) -> None:
        """Takes a run: the root, or the child of another."""
        self._paths[run_id] = "" if parent_id is None else f"{self._paths.get(parent_id, '')}{node} > "

    def of(self, run_id: str) -> str:
        """What stands before the names of this run's nodes."""
        return self._paths.get(run_id, "")

    def without_ids(self, text: str) -> str:
        """The text with each run's id replaced by its place, so that it can be compared with another run's."""
        for run_id, path in self._paths.items():
            text = text.replace(run_id, f"<run {path.removesuffix(' > ')}>" if path else "<run>")
        return text


def piece_of(call: Call, paths: Paths) -> str:
    """Which piece of work the call does: the same for the call of the same attempt after a crash."""
    again = call.idempotency_key.rpartition("~")[2]
    entered = f" (entered again, {again})" if again.isdigit() and "~" in call.idempotency_key else ""
    return f"{paths.of(call.run_id)}{call.name}{_counts(call.iteration, call.attempt)}{entered}"


def commit_of(advance: Advance, nodes: tuple[str, ...], paths: Paths) -> str:
    """What a commit brings: its last row, or without rows what the run does next."""
    path = paths.of(advance.run_id)
    if advance.rows:
        return path + _row(advance.rows[-1])
    node = nodes[advance.position] if advance.position < len(nodes) else "the end"
    if advance.ended:
        return f"{path}the run's end"
    what = "the child's start at" if advance.spawned else "the wait at" if advance.release else "the turn at"
    return f"{path}{what} {node}"


def _row(row: JournalRow) -> str:
    iteration = iteration_of(row.item) if row.item else None
    name = row.item if row.item and iteration is None else row.node
    undo = "undo " if row.phase == "undo" else ""
    chosen = "the choice at " if row.phase == "choose" else ""
    status = f", {row.status} {row.n}" if row.n else f"/{row.name}" if row.name else ""
    return f"{undo}{chosen}{name}{_counts(iteration, 1)}{status}"


def _counts(iteration: int | None, attempt: int) -> str:
    counted = "" if iteration is None else f" #{iteration}"
    return counted if attempt == 1 else f"{counted} (attempt {attempt})"
