"""What a worker does again and again: a list of loops, each of which outlives the failure of one of its turns.

A loop that ended without a word would strand runs: those of its lanes, if it claims; those of dead workers, if it looks
after the others. So a turn that fails is logged, and another one follows after a pause.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, NoReturn

from stepwell.errors import StoreUnavailableError
from stepwell.store.logs import logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from stepwell.runtime.protocol import Runtime

_log = logger("stepwell.worker")


class Loop(NamedTuple):
    """One loop: its turns, as a log line names what they do ("cannot claim runs"), and the pause after a failure."""

    name: str
    does: str
    turn: Callable[[], Awaitable[None]]
    retry_seconds: float


async def take_turns(loop: Loop, runtime: Runtime, worker_id: Callable[[], str]) -> NoReturn:
    """Takes one turn after the other until it is cancelled; the worker's id may change meanwhile."""
    while True:
        try:
            await loop.turn()
        except StoreUnavailableError as error:
            _log.warning("Worker %s cannot %s; trying again: %s", worker_id(), loop.does, error)
        except Exception:  # noqa: BLE001  whatever it is: see above
            _log.exception("Worker %s failed to %s; trying again.", worker_id(), loop.does)
        else:
            continue
        await runtime.sleep(loop.retry_seconds)
