"""The end of a round: its runs as stored, as texts without ids, so that rounds can be compared."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stepwell.core.journal import CHOICE, UNDOING
from stepwell.core.kinds.functions import UNDO
from stepwell.reading.records import RunStatus
from stepwell.testing.handlers import names_in

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepwell.app import Durable
    from stepwell.reading.records import Entry, RunSnapshot
    from stepwell.testing.points import Paths
    from stepwell.workflow.builder import Workflow


@dataclass(slots=True)
class End:
    """A round's end; `undone`, `undone_badly` and `not_undone` name what a run and its children did."""

    status: str
    results: dict[str, str]
    failure: str | None
    undone: tuple[str, ...]
    undone_badly: tuple[str, ...]
    not_undone: tuple[str, ...]
    """The completed work of a failed run that has a compensator and was not compensated."""
    view: str
    stuck: str | None = None
    places: list[str] = field(default_factory=list)
    pieces: Counter[str] = field(default_factory=Counter)
    has_died: bool = False


async def end_of(client: Durable, run_id: str, workflows: Mapping[str, Workflow], paths: Paths) -> End:
    """The end of this run and its children; the probe has not been called yet."""
    snapshot = await client.status(run_id)
    end = End(
        status=str(snapshot.status),
        results={name: text_of(value, paths) for name, value in (snapshot.results or {}).items()},
        failure=None if snapshot.error is None else paths.without_ids(str(snapshot.error)),
        undone=(),
        undone_badly=(),
        not_undone=(),
        view="",
    )
    await _look_back(client, snapshot, workflows, paths, end)
    return end


async def _look_back(
    client: Durable, snapshot: RunSnapshot, workflows: Mapping[str, Workflow], paths: Paths, end: End
) -> None:
    """Notes what was undone in this run and below it."""
    path, entries = paths.of(snapshot.run_id), await client.journal(snapshot.run_id)
    undone = [entry for entry in entries if entry.kind == UNDOING]
    end.undone += tuple(path + entry.node for entry in undone if entry.status == "completed")
    end.undone_badly += tuple(path + entry.node for entry in undone if entry.status == "failed")
    if snapshot.status is RunStatus.FAILED:
        done = {(one.node, one.iteration) for one in undone if one.status == "completed"}
        due = _undoable(entries, workflows[snapshot.workflow_name])
        end.not_undone += tuple(path + one.node for one in due if (one.node, one.iteration) not in done)
    for child in snapshot.children or ():
        await _look_back(client, await client.status(child.run_id), workflows, paths, end)


def _undoable(entries: list[Entry], workflow: Workflow) -> list[Entry]:
    """What completed and has a compensator."""
    compensators = {name.shown for name in names_in(workflow) if name.shown.startswith(UNDO)}
    chosen = {entry.node: f"{entry.node}/{entry.result}" for entry in entries if entry.kind == CHOICE}
    return [
        entry
        for entry in entries
        if entry.status == "completed"
        and entry.name is None
        and entry.kind not in {CHOICE, UNDOING}
        and UNDO + chosen.get(entry.node, entry.node) in compensators
    ]


def text_of(value: Any, paths: Paths) -> str:
    """The value as JSON, without ids."""
    return paths.without_ids(json.dumps(value, sort_keys=True, ensure_ascii=False, default=repr))
