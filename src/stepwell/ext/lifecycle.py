"""What may be asked of a run by its status: the actions of the models of other libraries, from the table of statuses.

An action is a call of `Durable` that changes a status. Whether it is possible is what `core/statuses.py` says of the
verb that it becomes; nothing here adds a rule of its own, except that `resume` needs a signal that the run waits for.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from stepwell.core.statuses import TRANSITIONS
from stepwell.errors import DefinitionError, DurableError
from stepwell.reading.records import RunStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepwell.app import Durable
    from stepwell.core.statuses import Verb

ACTIONS: Mapping[str, Verb] = MappingProxyType({"cancel": "cancel", "resume": "deliver"})
"""The actions by name, with the verb of the store that each becomes."""


class TransitionError(DurableError):
    """The action is not possible in the status that the run has; nothing was changed.

    - `run_id`: the run's id.
    - `action`: what was asked for.
    - `status`: the run's status.
    """

    def __init__(self, run_id: str, action: str, status: str, available: tuple[str, ...]) -> None:
        self.run_id = run_id
        self.action = action
        self.status = status
        known = ", ".join(available) or "none"
        super().__init__(f'Run {run_id} is {status}: "{action}" is not possible. Possible: {known}.')


def checked_statuses(statuses: tuple[str, ...]) -> list[str]:
    """The statuses as words; raises DefinitionError for an unknown one and for none."""
    unknown = [status for status in statuses if status not in set(RunStatus)]
    if unknown or not statuses:
        given = repr(unknown[0]) if unknown else "none"
        raise DefinitionError(f"in_status: a status must be one of {', '.join(RunStatus)}, got {given}.")
    return [str(status) for status in statuses]


def available_actions(status: str, awaiting_signal: str | None) -> tuple[str, ...]:
    """The actions that are possible in this status, in order; none for a status that is not known."""
    verbs = {verb for one in TRANSITIONS.get(status, ()) for verb in one.by}  # type: ignore[call-overload]  # any word may be stored
    found = [action for action, verb in ACTIONS.items() if verb in verbs]
    return tuple(action for action in found if action != "resume" or awaiting_signal is not None)


def is_possible(action: str, status: str, awaiting_signal: str | None) -> bool:
    """Whether the action is possible; raises DefinitionError for an action that does not exist."""
    if action not in ACTIONS:
        raise DefinitionError(f"No action {action!a}. Known: {', '.join(ACTIONS)}.")
    return action in available_actions(status, awaiting_signal)


async def perform(action: str, run_id: str, shop: Durable, data: Any) -> RunStatus:
    """Does the action if the run's stored status allows it, and returns the status after it; raises TransitionError."""
    run = await shop.status(run_id)
    if not is_possible(action, run.status, run.awaiting_signal):
        raise TransitionError(run_id, action, run.status, available_actions(run.status, run.awaiting_signal))
    # The run may end, or go on, between the look and the call. So the call's own answer decides, and not the look.
    if action == "cancel":
        await shop.cancel(run_id)
        done, after = True, (await shop.status(run_id)).status
    else:
        done, after = await _resume(run_id, run.awaiting_signal or "", shop, data)
    if not done or (action == "cancel" and after != RunStatus.CANCELED):
        raise TransitionError(run_id, action, after, available_actions(after, None))
    return after


async def _resume(run_id: str, signal: str, shop: Durable, data: Any) -> tuple[bool, RunStatus]:
    answer = await shop.resume(run_id, signal, data)
    return answer.accepted, answer.status
