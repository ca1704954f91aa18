"""The log of runs and workers, on by default: what failed, what ended, who died; each fact in `extra` as well.

Loggers: `stepwell.run` for what becomes of runs, `stepwell.worker` for what workers do. One record an event, in one
line that is bounded whatever an exception's message holds; an error's traceback is the journal's, bounded too.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from stepwell.engine.observer import Observer
from stepwell.engine.wording import clock_text, error_text
from stepwell.store.logs import SafeLogger, logger

if TYPE_CHECKING:
    from datetime import timedelta

    from stepwell.engine.observer import (
        AttemptEnded,
        BatchCommitted,
        LeaseLost,
        RunEnded,
        RunParked,
        RunsClaimed,
        RunStarted,
        WorkerDead,
    )
    from stepwell.errors import Failure

_run = logger("stepwell.run")
_worker = logger("stepwell.worker")
_in_a_line = partial(error_text, longest=500)
_MOST_NAMED = 5


class AttemptLog(Observer):
    """Logs failed attempts and failed compensators; all that a run in memory logs, whose caller sees its end."""

    def _attempt_failed(self, event: AttemptEnded) -> None:
        """A failed attempt is a warning; a compensator that failed for good an error, with its traceback."""
        error = event.error
        if error is None:
            return
        if event.status == "refused":
            self._payload_refused(event, error)
            return
        undoes = event.kind == "compensate"
        given_up = event.retry_at is None
        level = logging.ERROR if undoes and given_up else logging.WARNING
        if not _run.isEnabledFor(level):
            return
        what = f"compensator of {_named(event)}" if undoes else _named(event)
        text = f"Run {event.run_id} ({event.workflow}): {what}, attempt {event.attempt} failed: {_in_a_line(error)}; "
        if event.retry_at is not None:
            text += f"next try at {clock_text(event.retry_at)} (in {_seconds(event.retry_at - event.finished_at)})."
        else:
            text += "it is not undone." if undoes else "no further try."
        facts = {
            "event": "attempt_failed",
            "run_id": event.run_id,
            "workflow": event.workflow,
            "node": event.node,
            "kind": event.kind,
            "iteration": event.iteration,
            "attempt": event.attempt,
            "error_type": error.type,
            "error_message": error.message,
            "next_try_at": event.retry_at,
            "worker_id": event.worker,
        }
        shown = error if level == logging.ERROR else None
        _log(_run, level, text, facts, failure=shown, exception=event.exception if shown else None)

    def _payload_refused(self, event: AttemptEnded, error: Failure) -> None:
        """A payload that does not fit is a warning: its wait goes on."""
        facts = {
            "event": "payload_refused",
            "run_id": event.run_id,
            "workflow": event.workflow,
            "node": event.node,
            "iteration": event.iteration,
            "error_message": error.message,
            "worker_id": event.worker,
        }
        text = f"Run {event.run_id} ({event.workflow}): {_named(event)} refused a payload and waits on: {error.message}"
        _log(_run, logging.WARNING, text, facts)


class LoggingObserver(AttemptLog):
    """Logs what a worker's runs do, and what becomes of workers."""

    def _would_tell(self) -> bool:
        """What goes well is told for information."""
        return _run.isEnabledFor(logging.INFO)

    def run_started(self, event: RunStarted) -> None:
        """For information."""
        if _run.isEnabledFor(logging.INFO):
            facts = {"run_id": event.run_id, "workflow": event.workflow, "worker_id": event.worker}
            _log(
                _run, logging.INFO, f"Run {event.run_id} ({event.workflow}) started.", facts | {"event": "run_started"}
            )

    def run_ended(self, event: RunEnded) -> None:
        """For information; an error with its traceback, if the run failed."""
        level = logging.ERROR if event.status == "failed" else logging.INFO
        if not _run.isEnabledFor(level):
            return
        named = event.run_id if event.workflow is None else f"{event.run_id} ({event.workflow})"
        facts: dict[str, Any] = {
            "event": "run_ended",
            "run_id": event.run_id,
            "workflow": event.workflow,
            "status": event.status,
            "worker_id": event.worker,
        }
        error = event.error
        if error is None:
            words = {"completed": "completed", "canceled": "was canceled"}
            _log(_run, level, f"Run {named} {words.get(event.status, event.status)}.{_undone(event)}", facts)
            return
        text = f"Run {named} failed at {error.node}, attempt {event.attempt or 1}: {_in_a_line(error)}."
        text += _undone(event)
        facts |= {
            "node": error.node,
            "attempt": event.attempt,
            "error_type": error.type,
            "error_message": error.message,
            "compensated": event.compensated,
            "failed_compensations": event.failed_compensations,
        }
        _log(_run, level, text, facts, failure=error, exception=event.exception)

    def parked(self, event: RunParked) -> None:
        """For those who look closely."""
        if _run.isEnabledFor(logging.DEBUG):
            until = "" if event.wake_at is None else f" until {clock_text(event.wake_at)}"
            names = ", ".join(event.awaiting_signals)
            what = f" for signal{'s' if len(event.awaiting_signals) > 1 else ''} {names}" if names else ""
            facts = {
                "event": "parked",
                "run_id": event.run_id,
                "workflow": event.workflow,
                "node": event.node,
                "wake_at": event.wake_at,
                "awaiting_signal": event.awaiting_signal,
                "awaiting_signals": event.awaiting_signals,
                "worker_id": event.worker,
            }
            _log(
                _run, logging.DEBUG, f"Run {event.run_id} ({event.workflow}) waits at {event.node}{what}{until}.", facts
            )

    def claimed(self, event: RunsClaimed) -> None:
        """For those who look closely."""
        if _worker.isEnabledFor(logging.DEBUG):
            count = len(event.run_ids)
            facts = {"event": "claimed", "worker_id": event.worker, "runs": count, "run_ids": event.run_ids}
            _log(
                _worker, logging.DEBUG, f"Worker {event.worker} claimed {count} runs in {_seconds(event.took)}.", facts
            )

    def committed(self, event: BatchCommitted) -> None:
        """For those who look closely."""
        if _worker.isEnabledFor(logging.DEBUG):
            facts = {"event": "committed", "worker_id": event.worker, "runs": event.runs, "rows": event.rows}
            text = (
                f"Worker {event.worker} committed {event.rows} entries of {event.runs} runs in {_seconds(event.took)}."
            )
            _log(_worker, logging.DEBUG, text, facts)

    def worker_dead(self, event: WorkerDead) -> None:
        """A warning."""
        why = "its process is gone" if event.silent_for is None else f"silent for {_seconds(event.silent_for)}"
        text = f"Worker {event.worker} on host {event.host} is dead ({why}); released its {event.runs} runs."
        facts = {
            "event": "worker_dead",
            "worker_id": event.worker,
            "host": event.host,
            "silent_seconds": None if event.silent_for is None else event.silent_for.total_seconds(),
            "runs": event.runs,
        }
        _log(_worker, logging.WARNING, text, facts)

    def lease_lost(self, event: LeaseLost) -> None:
        """For information: a cancel in another process looks the same."""
        if _worker.isEnabledFor(logging.INFO):
            count = len(event.run_ids)
            some = f"{count} run{'s' if count != 1 else ''} ({_some(event.run_ids)})"
            text = f"Worker {event.worker} stopped working on {some}: canceled, or held by another worker."
            facts = {"event": "lease_lost", "worker_id": event.worker, "runs": count, "run_ids": event.run_ids}
            _log(_worker, logging.INFO, text, facts)


def _undone(event: RunEnded) -> str:
    text = f" Undone: {_some(event.compensated)}." if event.compensated else ""
    if event.failed_compensations:
        text += f" Not undone, since their compensators failed: {_some(event.failed_compensations)}."
    return text


def _log(
    log: SafeLogger,
    level: int,
    text: str,
    facts: dict[str, Any],
    *,
    failure: Failure | None = None,
    exception: BaseException | None = None,
) -> None:
    """Logs one record; the traceback is the journaled text, which is bounded and asks nothing of the exception."""
    if not log.isEnabledFor(level):
        return
    record = log.logger.makeRecord(log.logger.name, level, __file__, 0, "%s", (text,), None, extra=facts)
    if failure is not None and failure.traceback:
        record.exc_text = failure.traceback.rstrip()
        if exception is not None:
            record.exc_info = (type(exception), exception, exception.__traceback__)
    log.handle(record)


def _named(event: AttemptEnded) -> str:
    node = event.node if event.iteration is None else f"{event.node} #{event.iteration}"
    return node if event.name is None else f"{node}/{event.name}"


def _some(names: tuple[str, ...]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _seconds(length: timedelta) -> str:
    seconds = max(length.total_seconds(), 0.0)
    return f"{seconds:,.0f} s" if seconds >= 100 else f"{seconds:.3g} s"  # noqa: PLR2004  only how it looks
