"""Every error stepwell raises on purpose, as one tree under `DurableError`; imports nothing of stepwell."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

_CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])")


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong in a node, as it was journaled: four strings, safe to print and to store.

    `node` is the node's name (of a parallel, the entry's), `type` the exception's class name or one of stepwell's own
    (`CrashLimit`, `ChildFailed`, `ChildCanceled`, `SignalTimeout`, `UnknownBranch`, `Suspended`).
    """

    node: str
    type: str
    message: str
    traceback: str = ""

    def __str__(self) -> str:
        return f"{self.node}: {self.type}: {self.message}" if self.message else f"{self.node}: {self.type}"


class DurableError(Exception):
    """The root of stepwell's errors; `code` is a stable name for machines, such as `run_not_found`."""

    code: ClassVar[str] = "durable"

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.code = _CAPITAL.sub("_", cls.__name__.removesuffix("Error")).lower()


class DefinitionError(DurableError):
    """A workflow, a node or an option is not what it may be; raised while building, or where it is first used."""


class WorkflowNotRegisteredError(DurableError):
    """No workflow of that name is registered here: `.name`, and `.known`, the names that are."""

    def __init__(self, name: str, known: tuple[str, ...], needed_by: str | None = None) -> None:
        self.name = name
        self.known = known
        self.needed_by = needed_by
        where = f' (a child of workflow "{needed_by}")' if needed_by else ""
        super().__init__(f'No workflow "{name}"{where}. Known: {", ".join(known) or "none"}.')


class RunNotFoundError(DurableError):
    """The store holds no run of that id: `.run_id`."""

    def __init__(self, run_id: object) -> None:
        self.run_id = run_id
        super().__init__(f'No run "{run_id}" in this store.')


class RunFailedError(DurableError):
    """The run ended `failed`: `.run_id`, `.error` (a `Failure`), and `.compensated`, the names that were undone.

    `.attempt` is the attempt that failed it, where that is known; `.failed_compensations` names what was not undone.
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
        undone = f" Undone: {', '.join(compensated)}." if compensated else ""
        if failed_compensations:
            undone += f" Not undone, since their compensators failed: {', '.join(failed_compensations)}."
        super().__init__(f"Run {run_id} failed at {str(error).rstrip('.')}{tried}.{undone}")


class RunCanceledError(DurableError):
    """The run was canceled: `.run_id`."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        super().__init__(f"Run {run_id} was canceled.")


class PayloadError(DurableError):
    """A value is not JSON that comes back equal, or is too large: `.place` says where, `.reason` why."""

    def __init__(self, place: str, reason: str) -> None:
        self.place = place
        self.reason = reason
        super().__init__(f"{place}: {reason}")


class StoreUnavailableError(DurableError):
    """The store cannot be opened, reached or written now; nothing was changed: `.url`, `.reason`."""

    def __init__(self, url: str, reason: str) -> None:
        self.url = url
        self.reason = reason
        super().__init__(f"The store {url} is not available: {reason}")


class SchemaError(DurableError):
    """The store's tables are not those of this version of stepwell: `.url`, `.version`, `.latest`."""

    def __init__(self, url: str, version: int, latest: int, reason: str) -> None:
        self.url = url
        self.version = version
        self.latest = latest
        super().__init__(f"The store {url} has schema version {version}, this stepwell knows up to {latest}: {reason}")


class JournalError(DurableError):
    """A run's stored journal does not fit its workflow, as when rows were changed by hand: `.run_id`."""

    def __init__(self, run_id: str, reason: str) -> None:
        self.run_id = run_id
        self.reason = reason
        super().__init__(f"The journal of run {run_id} cannot be continued: {reason}")
