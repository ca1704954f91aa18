"""Every error stepwell raises on purpose, as one tree under `DurableError`; imports nothing of stepwell."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

_UNREADABLE = " does not decode as "
_CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])")


@dataclass(frozen=True, slots=True)
class Failure:
    """The failure of a node, as it is journaled: four strings. Frozen.

    - `node`: the node's name, or the entry's in a parallel.
    - `type`: the exception's class name, or one of [stepwell's own](#types-of-failures).
    - `message`: shortened to 2,000 characters.
    - `traceback`: shortened to 16,000 characters; may be empty.
    """

    node: str
    type: str
    message: str
    traceback: str = ""

    def __str__(self) -> str:
        return f"{self.node}: {self.type}: {self.message}" if self.message else f"{self.node}: {self.type}"


class DurableError(Exception):
    """The base class of stepwell's errors; `code` is a stable name of the class, such as `run_not_found`.

    Raised directly if an app is used without being entered, entered twice, or used from another event loop or process.
    """

    code: ClassVar[str] = "durable"

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.code = _CAPITAL.sub("_", cls.__name__.removesuffix("Error")).lower()


class DefinitionError(DurableError):
    """A workflow, a node, an option or a parameter is invalid; nothing was changed."""


class WorkflowNotRegisteredError(DurableError):
    """No workflow of that name is registered in this app.

    - `name`: the name.
    - `known`: the registered names.
    - `needed_by`: the workflow that has it as a child, or None.
    """

    def __init__(self, name: str, known: tuple[str, ...], needed_by: str | None = None) -> None:
        self.name = name
        self.known = known
        self.needed_by = needed_by
        where = f' (a child of workflow "{needed_by}")' if needed_by else ""
        super().__init__(f'No workflow "{name}"{where}. Known: {", ".join(known) or "none"}.')


class RunNotFoundError(DurableError):
    """The store has no run with that id, `run_id`."""

    def __init__(self, run_id: object) -> None:
        self.run_id = run_id
        super().__init__(f'No run "{run_id}" in this store.')


class RunFailedError(DurableError):
    """The run has failed; `str()` of the error contains all of these facts.

    - `run_id`: the run's id.
    - `error`: a `Failure`.
    - `compensated`: the names that were compensated.
    - `attempt`: the attempt that failed the run, or None if unknown.
    - `failed_compensations`: the names whose compensators failed.
    """

    def __init__(
        self,
        run_id: str,
        error: Failure,
        compensated: tuple[str, ...] = (),
        *,
        attempt: int | None = None,
        failed_compensations: tuple[str, ...] = (),
    ) -> None:
        self.run_id = run_id
        self.error = error
        self.compensated = compensated
        self.attempt = attempt
        self.failed_compensations = failed_compensations
        tried = f" (attempt {attempt})" if attempt is not None and attempt > 1 else ""
        undone = _undone(compensated, failed_compensations)
        super().__init__(f"Run {run_id} failed at {str(error).rstrip('.')}{tried}.{undone}")


class RunCanceledError(DurableError):
    """The run was canceled.

    - `run_id`: the run's id.
    - `compensated`: the names that were compensated, in order.
    - `failed_compensations`: the names whose compensators failed.
    """

    def __init__(
        self, run_id: str, compensated: tuple[str, ...] = (), *, failed_compensations: tuple[str, ...] = ()
    ) -> None:
        self.run_id = run_id
        self.compensated = compensated
        self.failed_compensations = failed_compensations
        super().__init__(f"Run {run_id} was canceled.{_undone(compensated, failed_compensations)}")


class PayloadError(DurableError):
    """A value is not JSON that comes back equal, or is too large.

    - `place`: where, for example `input.items[3].at`.
    - `reason`: why.
    """

    def __init__(self, place: str, reason: str) -> None:
        self.place = place
        self.reason = reason
        super().__init__(f"{place}: {reason}")


class StoreUnavailableError(DurableError):
    """The store cannot be opened, reached or written now: no such folder, damaged, read only, disk full, busy for 30 s.

    Nothing was changed, unless the answer of a call was lost. A worker that gets this error keeps its outcomes and
    retries.

    - `url`: the store's URL, without its password.
    - `reason`: why.
    """

    def __init__(self, url: str, reason: str) -> None:
        self.url = url
        self.reason = reason
        super().__init__(f"The store {url} is not available: {reason}")


class SchemaError(DurableError):
    """The store's tables do not fit this version of stepwell.

    - `url`: the store's URL, without its password.
    - `version`: the version of the tables.
    - `latest`: the latest version that this stepwell knows.
    """

    def __init__(self, url: str, version: int, latest: int, reason: str) -> None:
        self.url = url
        self.version = version
        self.latest = latest
        super().__init__(f"The store {url} has schema version {version}, this stepwell knows up to {latest}: {reason}")


class JournalError(DurableError):
    """The stored rows of a run are invalid, for example because they were changed by hand.

    Raised by the calls that read the run: `status`, `journal`, `list`, `result`, `signal`, `resume`, and `start` with
    its key. See [guarantees.md](guarantees.md#what-is-not-promised).

    - `run_id`: the run's id.
    - `reason`: why.
    """

    def __init__(self, run_id: str, reason: str) -> None:
        self.run_id = run_id
        self.reason = reason
        super().__init__(f"The journal of run {run_id} cannot be continued: {reason}")


class StoredValueError(JournalError):
    """A stored value is not of the type that this process declares for it, as after a change of the type.

    Raised where the value is read: by `ctx.input`, `ctx.results[name]`, `ctx.result(function)` and `app.result`. If it
    leaves a function of a workflow, that is no attempt: the run is parked until a worker comes that can decode the
    value (see [types.md](types.md)).

    - `run_id`: the run's id.
    - `place`: where, for example `results.charge.total`.
    - `type`: the type that is declared for the value.
    - `reason`: all of it in a sentence.
    """

    def __init__(self, run_id: str, place: str, type: str, reason: str) -> None:
        self.place = place
        self.type = type
        super().__init__(run_id, f"{place}{_UNREADABLE}{type}: {reason}")


def stored_value_error(run_id: str, damaged: str) -> StoredValueError | None:
    """The StoredValueError of which this is the `reason`, or None for another reason for which a run is damaged."""
    place, is_one, rest = damaged.partition(_UNREADABLE)
    type_, _, reason = rest.partition(": ")
    return StoredValueError(run_id, place, type_, reason) if is_one else None


def _undone(compensated: tuple[str, ...], failed_compensations: tuple[str, ...]) -> str:
    """What was undone, and what could not be, behind a sentence."""
    undone = f" Undone: {', '.join(compensated)}." if compensated else ""
    if failed_compensations:
        undone += f" Not undone, since their compensators failed: {', '.join(failed_compensations)}."
    return undone


class AttemptOverError(DurableError):
    """What a handler asked of its run came too late: its attempt is over, and nothing was written.

    - `run_id`, `step`: the run, and the node or entry.
    """

    def __init__(self, run_id: str, step: str) -> None:
        self.run_id = run_id
        self.step = step
        super().__init__(f"The attempt at {step} of run {run_id} is over; nothing was written.")
