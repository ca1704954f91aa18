"""Golden journals read and finished by today's code: what is in one, and how its runs end."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from stepwell import Durable, RunCanceledError, RunFailedError
from tests.golden.workflows import workflows
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from stepwell import RunSnapshot

LEASE = 1
"""Seconds after which the dead worker is silent enough; its last beat was years ago."""
MOST = 500
ANSWER = {"from": "today"}


async def states_and_ends(url: str) -> dict[str, Any]:
    """By run: where it stands, and how it ends once a worker of today has worked on it."""
    async with Durable(url, workflows(), lease=LEASE) as app:
        runs = await app.list(limit=MOST)
        states = {run.run_id: _state(await app.status(run.run_id)) for run in runs}
        waiting = [(run.run_id, run.awaiting_signal) for run in runs]
        async with app.worker():
            for run_id, awaited in waiting:
                if awaited is not None and awaited != "perhaps":
                    await app.signal(run_id, awaited, ANSWER)
            ends = await asyncio.gather(*(_end(app, run_id) for run_id in states))
    labels = {run.run_id: run.key or "" for run in runs}
    labels |= {run.run_id: f"{labels[run.parent_run_id]} > kid" for run in runs if run.parent_run_id is not None}
    found = {labels[run_id]: {"state": states[run_id], "end": end} for run_id, end in zip(states, ends, strict=True)}
    return dict(sorted(found.items()))


def _state(run: RunSnapshot) -> dict[str, Any]:
    return {
        "workflow": run.workflow_name,
        "status": run.status,
        "node": run.current_node,
        "awaiting": run.awaiting_signal,
        "wakes": run.wake_at is not None,
        "input": run.input,
        "results": run.results,
        "children": len(run.children or ()),
    }


async def _end(app: Durable, run_id: str) -> dict[str, Any]:
    with suppress(RunFailedError, RunCanceledError):
        await app.result(run_id, timeout=PATIENCE)
    run = await app.status(run_id)
    entries = await app.journal(run_id)
    return {
        "status": run.status,
        "results": run.results,
        "error": None if run.error is None else [run.error.node, run.error.type, run.error.message],
        "compensated": list(run.compensated),
        "journal": [
            f"{entry.node}{f' #{entry.iteration}' if entry.iteration else ''}: "
            f"{entry.kind} {entry.status} {entry.attempt}"
            for entry in entries
        ],
    }
