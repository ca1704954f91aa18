"""What an app gives back about its runs: frozen values; how they are read from stored rows is in `snapshots`."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime

    from stepwell.errors import Failure


class RunStatus(StrEnum):
    """Where a run is in its life."""

    PENDING = "pending"
    RUNNING = "running"
    SUSPENDED = "suspended"
    COMPENSATING = "compensating"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"


@dataclass(frozen=True, slots=True)
class StartResult:
    """A started run: its id, and how it stands (another status than `pending` for a key that was known).

    `created`: whether this call wrote it. `same_input`: whether the input is equal to that of the key's first run, as
    JSON values; True when created, None where the stored input is gone. Neither counts when two results are compared.
    """

    run_id: str
    status: RunStatus
    created: bool = field(default=True, compare=False)
    same_input: bool | None = field(default=True, compare=False)


@dataclass(frozen=True, slots=True)
class ResumeResult:
    """Whether a signal was accepted, and the run's status after the call.

    `expected`: whether a node of the run's workflow waits for a signal of that name, or may suspend itself under it. It
    does not count when two results are compared.
    """

    accepted: bool
    status: RunStatus
    expected: bool = field(default=True, compare=False)


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    """The store's schema version, the newest that this stepwell knows, and the migrations between them."""

    version: int
    latest: int
    pending: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a run's journal."""

    node: str
    kind: str
    iteration: int | None
    attempt: int
    status: str
    result: Any
    error: Failure | None
    started_at: datetime
    finished_at: datetime
    worker: str


@dataclass(frozen=True, slots=True)
class RunSnapshot:
    """A run's live state; in lists `input`, `results` and `children` are None.

    `attempt` is that under way or coming, or the one that failed the run; `last_error` and `retry_at` tell of the last
    failed one while it is tried again. `waits_for` is `worker`, `delay`, `retry`, `sleep`, `signal`, `child`, or None.
    `damaged`: None, or why its rows are not understood, as when they were changed by hand; then the other fields have
    what can be read, and a `status` that this version does not know is that word as it is stored.
    """

    run_id: str
    key: str | None
    workflow_name: str
    status: RunStatus
    current_step: int
    current_node: str | None
    total_steps: int
    awaiting_signal: str | None
    wake_at: datetime | None
    input: Any
    results: dict[str, Any] | None
    error: Failure | None
    parent_run_id: str | None
    children: tuple[RunSnapshot, ...] | None
    compensated: tuple[str, ...]
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None
    damaged: str | None = None
    attempt: int | None = None
    last_error: Failure | None = None
    retry_at: datetime | None = None
    unread_signals: dict[str, int] = field(default_factory=dict)
    failed_compensations: tuple[str, ...] = ()
    definition: str = ""
    waits_for: str | None = None
