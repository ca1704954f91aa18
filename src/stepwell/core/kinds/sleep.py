"""The sleep: a wait until an instant that is computed once, when the node begins.

The instant is stored when the run is parked. A restart waits for the same instant; it does not begin the wait again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepwell.core.attempts import call_for, unless_waiting, wait_until
from stepwell.core.decisions import Call, Decision, Ending, Invoke, Tools, WaitUntil
from stepwell.core.journal import Work
from stepwell.core.kinds.kind import Kind, absent
from stepwell.workflow.durations import wake_at
from stepwell.workflow.nodes import Sleep

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from stepwell.core.state import RunState


class SleepKind(Kind[Sleep]):
    """Answers for sleeps."""

    row_kinds: frozenset[str] = frozenset({"sleep"})

    def from_outline(self, name: str, outline: Mapping[str, Any]) -> Sleep:
        """A sleep of that name."""
        return Sleep(name, absent)

    def next_work(self, node: Sleep, state: RunState) -> Work:
        """The wait."""
        return Work(node.name, kind="sleep")

    def decide(self, node: Sleep, state: RunState, now: int) -> tuple[Decision, ...]:
        """Fixes the instant, waits for it, and then completes."""
        work = self.next_work(node, state)
        if state.parked is not None:
            return (wait_until(state, work, state.parked.at, state.parked.wake_at or 0, now),)
        if callable(node.duration):
            waiting = unless_waiting(state, work, now)
            return (waiting or call_for(state, work, _ask_instant, node.policy, subject=node),)
        begins = now + state.lag if node.duration else now
        return (wait_until(state, work, begins, wake_at(node.duration, begins, node.name), now),)


def _ask_instant(call: Call, tools: Tools) -> Generator[Invoke, Any, Ending]:
    node: Sleep = call.subject
    pause = yield Invoke(node.duration, (tools.context(call),))
    return WaitUntil(wake_at(pause, tools.latest() if pause else tools.now(), f"the duration of {node.name}"))
