"""The two ways a test of the contract runs a workflow, in memory and on SQLite, behind one face; and their outcome."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from stepwell import Durable, RunFailedError
from tests.postgres import fresh_url
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from stepwell import Entry, Failure, RunSnapshot, Workflow


@dataclass(frozen=True)
class Outcome:
    """What a run ended with: its results, or the error it was failed with."""

    ended: Any

    @property
    def results(self) -> dict[str, Any]:
        """The results of a run that completed; a failed one fails the test, with its reason."""
        assert not isinstance(self.ended, RunFailedError), f"the run failed: {self.ended!r} {self.ended.error}"
        return dict(self.ended)

    @property
    def error(self) -> RunFailedError:
        """The error of a run that failed; a completed one fails the test."""
        assert isinstance(self.ended, RunFailedError), f"the run completed: {self.ended}"
        return self.ended

    @property
    def failure(self) -> Failure:
        """What made the run fail."""
        return self.error.error

    @property
    def compensated(self) -> list[str]:
        """The names that were undone, in order."""
        return list(self.error.compensated)


@dataclass(frozen=True)
class KeptOutcome(Outcome):
    """The outcome of a run on SQLite, with what was stored of it."""

    run_id: str
    journal: Sequence[Entry]
    snapshot: RunSnapshot

    def rows(self, node: str | None = None) -> list[tuple[str, str, int]]:
        """Kind, status and attempt of each journal entry, of one node or of all."""
        return [(str(e.kind), str(e.status), e.attempt) for e in self.journal if node in (None, e.node)]

    def entry(self, node: str, status: str = "completed") -> Entry:
        """The only entry of a node with that status."""
        (found,) = [entry for entry in self.journal if entry.node == node and entry.status == status]
        return found


class Runner(Protocol):
    """Runs a workflow to its end."""

    async def __call__(self, workflow: Workflow, input: Any = None) -> Outcome: ...


class InMemory:
    """Runs a workflow by its own `run`."""

    async def __call__(self, workflow: Workflow, input: Any = None) -> Outcome:
        try:
            return Outcome((await workflow.run(input)).results)
        except RunFailedError as error:
            return Outcome(error)


class OnSqlite:
    """Runs workflows on one SQLite file; `open` gives the app itself, for what takes more than a run."""

    def __init__(self, folder: Path) -> None:
        self.url = f"sqlite:///{folder / 'runs.db'}"

    async def __call__(
        self, workflow: Workflow, input: Any = None, *, children: Sequence[Workflow] = (), **options: Any
    ) -> KeptOutcome:
        """Start a run, be its worker until it has ended, and read back what is stored of it."""
        async with self.open(workflow, *children, **options) as app:
            run_id = (await app.start(workflow, input)).run_id
            async with app.worker():
                return await ended(app, run_id)

    def open(self, *workflows: Workflow, **options: Any) -> Durable:
        """An app on the file, not yet entered."""
        return Durable(self.url, workflows=workflows, **options)


class OnPostgres(OnSqlite):
    """Runs workflows in one PostgreSQL schema."""

    def __init__(self) -> None:
        self.url = fresh_url()


async def ended(app: Durable, run_id: str) -> KeptOutcome:
    """Wait until a run has completed or failed, and read back what is stored of it."""
    try:
        outcome: Any = await app.result(run_id, timeout=PATIENCE)
    except RunFailedError as error:
        outcome = error
    return KeptOutcome(outcome, run_id, await app.journal(run_id), await app.status(run_id))


async def work_until(app: Durable, condition: Callable[[], bool | Awaitable[bool]]) -> None:
    """Be a worker until the condition holds, then stop at once: what is in flight is cancelled and given back."""
    async with app.worker(grace=0):
        await eventually(condition)


async def suspended(app: Durable, run_id: str, on: str | None = None) -> RunSnapshot:
    """Wait until a run is suspended, on that signal if one is named."""

    async def look() -> RunSnapshot | None:
        snapshot = await app.status(run_id)
        return snapshot if snapshot.status == "suspended" and on in (None, snapshot.awaiting_signal) else None

    snapshot = await eventually(look)
    assert snapshot is not None
    return snapshot
