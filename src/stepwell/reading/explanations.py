"""Why a run is not moving, and what would move it: the values; they are put together in `stepwell.reading.explain`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


class Reason(StrEnum):
    """Why a run is not moving; those of queues' limits, cancel requests and declared types are not given yet."""

    RUNNING_HANDLER = "running_handler"
    DELAYED = "delayed"
    RETRYING = "retrying"
    SLEEPING = "sleeping"
    AWAITING_SIGNAL = "awaiting_signal"
    AWAITING_CHILD = "awaiting_child"
    DUE_NO_WORKER = "due_no_worker"
    NO_WORKER_HAS_DEFINITION = "no_worker_has_definition"
    QUEUE_LIMIT = "queue_limit"
    QUEUE_PAUSED = "queue_paused"
    RATE_LIMIT = "rate_limit"
    SUSPECT = "suspect"
    WORKERS_FULL = "workers_full"
    WORKER_SILENT = "worker_silent"
    COMPENSATING = "compensating"
    CANCEL_REQUESTED = "cancel_requested"
    VALUE_DOES_NOT_DECODE = "value_does_not_decode"
    DAMAGED = "damaged"
    ENDED = "ended"


STUCK = frozenset(
    {
        Reason.DUE_NO_WORKER,
        Reason.NO_WORKER_HAS_DEFINITION,
        Reason.SUSPECT,
        Reason.WORKER_SILENT,
        Reason.VALUE_DOES_NOT_DECODE,
        Reason.DAMAGED,
    }
)
"""The reasons that pass only if somebody does something, or a worker comes."""


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a sentence; `is_name`: it names a run, node, signal, worker or workflow."""

    text: str
    is_name: bool = False


@dataclass(frozen=True, slots=True)
class Action:
    """What would move the run: a command to run, and how it is offered (`link`, `form` or `confirm`)."""

    name: str
    label: str
    command: str
    kind: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a run is not moving: a code, a sentence of parts, since when and until when, and what would move it.

    `brief` is for a row of a list. `since` and `until` are by the store's clock; None where there is no such instant.
    """

    reason: Reason
    sentence: str
    since: datetime | None
    until: datetime | None
    parts: tuple[Part, ...]
    brief: str
    actions: tuple[Action, ...]
