"""Why a run is not moving, and what would move it: the values; they are put together in `stepwell.reading.explain`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


class Reason(StrEnum):
    """Why a run does not move, a `StrEnum`. A worker is *alive* if it is registered and not silent beyond its lease.

    - `RUNNING_HANDLER` (`running_handler`): a living worker holds it; the sentence names worker, node, attempt.
    - `COMPENSATING` (`compensating`): the same, and the run compensates completed work.
    - `WORKER_SILENT` (`worker_silent`): the worker that holds it is dead or silent; another one will take over.
    - `DELAYED` (`delayed`): its start was delayed.
    - `RETRYING` (`retrying`): an attempt failed; the next one is due at `until`.
    - `SLEEPING` (`sleeping`): a sleep, or the pause of a loop.
    - `AWAITING_SIGNAL` (`awaiting_signal`): suspended on a signal; `until` is its timeout.
    - `AWAITING_CHILD` (`awaiting_child`): suspended on its child run.
    - `DUE_NO_WORKER` (`due_no_worker`): due, and no worker that is alive serves its queue.
    - `NO_WORKER_HAS_DEFINITION` (`no_worker_has_definition`): due, and no worker that is alive has its workflow in its
      version; the sentence names the first node that differs.
    - `SUSPECT` (`suspect`): due, and at least two workers died while they held it: few such runs are claimed at a time.
    - `WORKERS_FULL` (`workers_full`): due, and waits for a free slot in the workers that serve it.
    - `VALUE_DOES_NOT_DECODE` (`value_does_not_decode`): a stored value is not of the type that the worker declares;
      the sentence names place and type ([types.md](types.md#how-types-change)).
    - `DAMAGED` (`damaged`): its rows are invalid, a worker has put it off, or nothing would ever move it.
    - `ENDED` (`ended`): it has ended.
    - `CANCEL_REQUESTED` (`cancel_requested`): it is to be compensated and canceled by a worker, once its child has
      ended.
    - `QUEUE_LIMIT`, `QUEUE_PAUSED`, `RATE_LIMIT`: reserved.

    If a run that waits for something else would find no worker afterwards, its sentence says so, too.
    """

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
"""The reasons that end only when a worker starts or a person acts."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a sentence. Frozen.

    - `text`: the text.
    - `is_name`: whether it names a run, node, signal, worker or workflow.
    """

    text: str
    is_name: bool = False


@dataclass(frozen=True, slots=True)
class Action:
    """An action that would move the run. Frozen.

    - `name`: a stable name.
    - `label`: the text to show.
    - `command`: the command that does it.
    - `kind`: `link` only shows something, `form` needs a value, `confirm` changes the run.
    """

    name: str
    label: str
    command: str
    kind: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a run does not move, and what would move it. Frozen.

    - `reason`: a `Reason`.
    - `sentence`: the explanation.
    - `since`, `until`: since when it is so, and when it ends by itself, by the store's clock; None if unknown.
    - `parts`: a tuple of `Part` whose texts make up the sentence.
    - `brief`: a few words, for a row of a list.
    - `actions`: a tuple of `Action`.
    """

    reason: Reason
    sentence: str
    since: datetime | None
    until: datetime | None
    parts: tuple[Part, ...]
    brief: str
    actions: tuple[Action, ...]
