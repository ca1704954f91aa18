"""What a call gives back about a run: the results of one that has ended, or why it has none, and what a start did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepwell.errors import Failure, JournalError, PayloadError, RunCanceledError, RunFailedError, stored_value_error
from stepwell.reading.records import RunSnapshot, RunStatus, StartResult
from stepwell.reading.snapshots import status_of
from stepwell.store.codec import PLAIN

if TYPE_CHECKING:
    from stepwell.store.records import NewRun, Started


def results_of(ended: RunSnapshot) -> dict[str, Any]:
    """The results of a run that has ended; raises RunFailedError, RunCanceledError, JournalError of a damaged one."""
    if ended.status is RunStatus.CANCELED:
        failed = ended.failed_compensations
        raise RunCanceledError(ended.run_id, ended.compensated, failed_compensations=failed)
    if ended.status is RunStatus.FAILED:
        raise run_failed(ended)
    if ended.damaged is not None:
        raise stored_value_error(ended.run_id, ended.damaged) or JournalError(ended.run_id, ended.damaged)
    return ended.results or {}


def run_failed(run: RunSnapshot) -> RunFailedError:
    """The error that tells why the run failed."""
    unknown = Failure(run.current_node or "", "Unknown", "the journal names no failure")
    return RunFailedError(
        run.run_id,
        run.error or unknown,
        run.compensated,
        attempt=run.attempt,
        failed_compensations=run.failed_compensations,
    )


def start_result(run: NewRun, started: Started) -> StartResult:
    """What a start gives: this run, or the first one of its key."""
    created = started.run_id == run.run_id
    same: bool | None = created
    if not created:
        try:
            same = None if started.value is None else PLAIN.is_same(run.value, started.value)
        except PayloadError:
            same = None
    return StartResult(started.run_id, status_of(started.run_id, started.status), created, same)
