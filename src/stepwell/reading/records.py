"""What an app returns about its runs: frozen values. `snapshots` reads them from stored rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime

    from stepwell.errors import Failure


class RunStatus(StrEnum):
    """The status of a run, a `StrEnum`; [statuses.md](statuses.md) shows the transitions.

    - `PENDING` (`pending`): no worker has claimed it yet.
    - `RUNNING` (`running`): it runs, or waits for a time: a sleep, a pause, the next attempt.
    - `SUSPENDED` (`suspended`): it waits for signals or a child, and for nothing else.
    - `COMPENSATING` (`compensating`): a node failed for good, or `cancel` with `compensate` was called, and its work is
      being compensated.
    - `COMPLETED` (`completed`): it has ended, and every node has its outcome.
    - `FAILED` (`failed`): it has ended; a node failed, and all compensators have run.
    - `CANCELED` (`canceled`): it was ended by `cancel`; nothing was compensated unless that was requested.
    """

    PENDING = "pending"
    RUNNING = "running"
    SUSPENDED = "suspended"
    COMPENSATING = "compensating"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"


@dataclass(frozen=True, slots=True)
class StartResult:
    """The return value of `Durable.start`. Frozen; two are equal if `run_id` and `status` are.

    - `run_id`: the run's id, a UUIDv7 as a string.
    - `status`: `pending`, or the status of the existing run with the same key.
    - `created`: True if this call created the run.
    - `same_input`: True if `created`; otherwise whether the input equals that of the existing run as a JSON value, or
      None if the stored input is gone.
    """

    run_id: str
    status: RunStatus
    created: bool = field(default=True, compare=False)
    same_input: bool | None = field(default=True, compare=False)


@dataclass(frozen=True, slots=True)
class ResumeResult:
    """The return value of `Durable.signal` and `resume`. Frozen; two are equal if `accepted` and `status` are.

    - `accepted`: whether the signal was accepted.
    - `status`: the run's status after the call.
    - `expected`: whether a node of the run's workflow can use a signal of that name: a wait, or a step, loop, route or
      entry of that name, which may suspend itself. True if the outline of the workflow cannot be read.
    """

    accepted: bool
    status: RunStatus
    expected: bool = field(default=True, compare=False)


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    """The return value of `Durable.schema_status`. Frozen.

    - `version`: the version of the store's tables; 0 if there are none.
    - `latest`: the latest version that this stepwell knows.
    - `pending`: the names of the migrations between them.
    """

    version: int
    latest: int
    pending: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a run's journal. Frozen.

    - `node`, `kind`, `iteration`: what the entry is about; see [The journal](#the-journal).
    - `attempt`: counted from 1; always 1 for a kind that is not retried.
    - `status`: `completed`, `failed` or `skipped` for an outcome; `retrying`, `suspended` or `refused` (a payload that
      does not fit its wait) for an entry before it.
    - `result`: the value, or None; of a refused payload, the payload.
    - `error`: a `Failure`, or None.
    - `started_at`, `finished_at`: aware datetimes in UTC.
    - `worker`: the id of the worker that wrote the entry.
    - `seq`: the entry's place in the journal, from 1.
    - `name`: of a sub-step, its name and which call of that name it is, as `fetch#2`, or its key, as `fetch~a`; else
      None.
    """

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
    seq: int = 0
    name: str | None = None


@dataclass(frozen=True, slots=True)
class RunSnapshot:
    """The current state of a run. Frozen; in lists, `input`, `results` and `children` are None.

    - `run_id`, `key`, `workflow_name`, `status`: the run and its status.
    - `current_step`, `current_node`: index and name of the current node; `total_steps` and None for a completed run.
    - `total_steps`: the number of nodes of its workflow.
    - `awaiting_signal`: the signal that it waits for, the first of several, or None.
    - `wake_at`: when it continues by itself (sleep, pause, next attempt, delayed start, timeout of a wait), or None.
    - `input`: the input it was started with.
    - `results`: the results so far by name, including the snapshots of what is suspended.
    - `error`: a `Failure`: why the run failed or compensates; else None.
    - `compensated`: the names that were compensated, in order; a loop once for each iteration.
    - `parent_run_id`: the id of its parent, or None.
    - `children`: its child runs as `list` returns them, oldest first, one level deep.
    - `created_at`, `updated_at`, `finished_at`: aware datetimes in UTC; `finished_at` is None until the run has ended.
    - `damaged`: None, or why its stored rows are invalid. The other fields then contain what could be read, and
      `status` may be a string that this version does not know.
    - `attempt`: the current or next attempt; of a failed run, the attempt that failed it; else None.
    - `last_error`, `retry_at`: the `Failure` of the last failed attempt without an outcome, and the time of the next
      attempt; of a failed run, `last_error` is `error`.
    - `unread_signals`: the number of unused signals by name.
    - `failed_compensations`: the names whose compensators failed for good, in order.
    - `definition`: the fingerprint of its workflow's version.
    - `awaiting_signals`: all signals that it waits for: that of its wait, or those of what is suspended; also while
      other entries of a parallel run.
    - `cancel_requested_at`: when it was requested that it is compensated and canceled, or None.
    - `waits_for`: what it waits for while no worker holds it: `worker`, `delay`, `retry`, `sleep`, `signal` or `child`;
      else None.
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
    awaiting_signals: tuple[str, ...] = ()
    cancel_requested_at: datetime | None = None
