"""Work that suspends itself, and is entered again by a signal of its name: a step, a branch, an entry, an iteration.

The signal is consumed by the commit of what the re-entered work gives, not when it is entered: after a crash in between
it is entered again with the same payload (I6). From the commit of the suspended row on the run's row names the signal,
so that it is accepted at once, whatever else of the run goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from stepwell.core.attempts import call_for, unless_waiting
from stepwell.core.decisions import Call, Decision, Done, Ending, Invoke, Park, Script, Snapshot, Tools
from stepwell.core.mailbox import MessageName
from stepwell.core.refusals import refusal
from stepwell.workflow.policy import Policy, Suspended

if TYPE_CHECKING:
    from collections.abc import Generator

    from stepwell.core.journal import Work
    from stepwell.core.state import RunState
    from stepwell.workflow.annotations import HandlerTypes
    from stepwell.workflow.nodes import Function


class _Handled(Protocol):
    """What has one handler of the context, and the types that it declares."""

    @property
    def handler(self) -> Function:
        """What does the work."""

    @property
    def types(self) -> HandlerTypes:
        """What is declared of it."""


def next_attempt(
    state: RunState, work: Work, script: Script, policy: Policy, now: int, *, types: HandlerTypes, subject: Any = None
) -> Decision:
    """The next attempt at work that may suspend itself; what is suspended begins only once its signal is here."""
    resume = None
    if state.progress_of(work).snapshot is not None:
        name = answer_to(work)
        message = state.first_message(name)
        if message is None:
            return Park(state.parked.at if state.parked else now, wake_at=None, absent=(name,))
        refused = refusal(state, work, types.resume, message, now)
        if refused is not None:
            return refused
        resume = (message.n, message.value or state.values.null)
    return unless_waiting(state, work, now) or call_for(state, work, script, policy, subject=subject, resume=resume)


def answer_to(work: Work) -> MessageName:
    """The signal that enters the work again, once it has suspended itself."""
    return MessageName("signal", work.name)


def unanswered(state: RunState, work: Work) -> tuple[MessageName, ...]:
    """The signal that the work waits for, if it is suspended and the signal is not known to be here."""
    progress, name = state.progress_of(work), answer_to(work)
    is_suspended = progress.snapshot is not None and progress.outcome is None
    return (name,) if is_suspended and state.first_message(name) is None else ()


def ending_with(result: Any, tools: Tools, name: str, types: HandlerTypes) -> Snapshot | Done:
    """How an attempt ends whose handler gave this: it completed, or it suspended itself."""
    if isinstance(result, Suspended):
        return Snapshot(tools.encode(result.snapshot, f"snapshot.{name}", types.snapshot))
    if isinstance(result, dict) and result.get("status") == "suspended" and "state" in result:
        return Snapshot(tools.encode(result, f"snapshot.{name}", types.snapshot))
    return Done(tools.encode(result, f"results.{name}", types.result))


def left_by(state: RunState, work: Work) -> dict[str, bytes]:
    """What suspended work has left for itself, by its name; nothing of other work."""
    progress = state.progress_of(work)
    return {} if progress.snapshot is None or progress.outcome is not None else {work.name: progress.snapshot}


def handler_call(call: Call, tools: Tools) -> Generator[Invoke, Any, Ending]:
    """Calls the handler of a step, an entry or a branch, which may suspend itself."""
    work: _Handled = call.subject
    result = yield Invoke(work.handler, (tools.context(call),), handler=True)
    return ending_with(result, tools, call.step, work.types)
