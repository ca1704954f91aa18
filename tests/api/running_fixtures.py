"""What the tests of running workflows share: the stores, a gated handler, waiting for a status. No test lives here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.postgres import fresh_url
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from stepwell import Context, Durable, Entry, RunSnapshot


def file_url(folder: Path, name: str = "store.db") -> str:
    """The URL of a file store in `folder`."""
    return f"sqlite:///{folder / name}"


def names_in(folder: Path) -> set[str]:
    """The names of the files in a folder."""
    return {path.name for path in folder.iterdir()}


@pytest.fixture(params=["memory", "file", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store; the test runs once with each kind."""
    if request.param == "postgres":
        return fresh_url()
    return "sqlite://" if request.param == "memory" else file_url(tmp_path)


async def echo(ctx: Context) -> Any:
    """A handler that gives back the run's input."""
    return ctx.input


async def one(ctx: Context) -> int:
    """A handler that gives 1."""
    return 1


async def two(ctx: Context) -> int:
    """A handler that gives 2."""
    return 2


async def decline(ctx: Context) -> None:
    """A handler that always fails."""
    raise ValueError("card declined")


async def undo(ctx: Context) -> None:
    """A compensator that does nothing."""


async def until_status(app: Durable, run_id: str, status: str) -> RunSnapshot:
    """Wait until the run has that status; the snapshot that shows it."""

    async def reached() -> RunSnapshot | None:
        snapshot = await app.status(run_id)
        return snapshot if snapshot.status == status else None

    reached.__qualname__ = f"status {status} of run {run_id}"
    return await eventually(reached)


async def until_asleep(app: Durable, run_id: str) -> RunSnapshot:
    """Wait until the run will move by itself at a time that is known; the snapshot that shows it."""

    async def asleep() -> RunSnapshot | None:
        snapshot = await app.status(run_id)
        return snapshot if snapshot.wake_at is not None else None

    asleep.__qualname__ = f"wake_at of run {run_id}"
    return await eventually(asleep)


def outcomes(entries: list[Entry], kind: str = "step") -> list[tuple[str, int | None, str]]:
    """Node, iteration and status of the journal's entries of one kind, in order."""
    return [(entry.node, entry.iteration, entry.status) for entry in entries if entry.kind == kind]


CALLS: dict[str, Callable[[Durable, str], Awaitable[Any]]] = {
    "start": lambda app, run_id: app.start("flow"),
    "start_many": lambda app, run_id: app.start_many("flow", [1, 2]),
    "signal": lambda app, run_id: app.signal(run_id, "go"),
    "resume": lambda app, run_id: app.resume(run_id, "go"),
    "expected_signals": lambda app, run_id: app.expected_signals(run_id),
    "status": lambda app, run_id: app.status(run_id),
    "list": lambda app, run_id: app.list(),
    "journal": lambda app, run_id: app.journal(run_id),
    "cancel": lambda app, run_id: app.cancel(run_id),
    "recover": lambda app, run_id: app.recover(),
    "result": lambda app, run_id: app.result(run_id),
}
"""Every call of an entered app by its name, on a workflow `flow` and a run."""
