"""The wait for a signal: the first message of that name in the mailbox, or what a timeout gives.

A park and a timeout depend on the absence of a message. Both name it, and the store refuses them if such a message has
come since the mailbox was searched: so a signal that is accepted just before the deadline is used, never lost (I6).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepwell.core.attempts import outcome
from stepwell.core.decisions import Decision, Park, Record
from stepwell.core.journal import Work
from stepwell.core.kinds.kind import Kind, text_in
from stepwell.core.mailbox import MessageName
from stepwell.core.refusals import refusal
from stepwell.core.types import Declares
from stepwell.workflow.nodes import WaitForSignal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stepwell.core.state import RunState
    from stepwell.workflow.annotations import Declaration


class SignalKind(Kind[WaitForSignal]):
    """Answers for waits for a signal."""

    row_kinds: frozenset[str] = frozenset({"signal"})
    needs_store = True

    def outline(self, node: WaitForSignal) -> dict[str, Any]:
        """The signal that a stored run waits for."""
        return {"signal": node.signal}

    def from_outline(self, name: str, outline: Mapping[str, Any]) -> WaitForSignal:
        """A wait for that signal."""
        return WaitForSignal(name, text_in(outline, "signal"))

    def difference(self, was: WaitForSignal, now: WaitForSignal) -> str:
        """Another signal."""
        return f"waits for {now.signal}, not for {was.signal}" if was.signal != now.signal else ""

    def next_work(self, node: WaitForSignal, state: RunState) -> Work:
        """The wait."""
        return Work(node.name, kind="signal")

    def decide(self, node: WaitForSignal, state: RunState, now: int) -> tuple[Decision, ...]:
        """Takes the message that is here; without one waits, and after the timeout gives the default or fails."""
        work = self.next_work(node, state)
        refused_since = state.progress_of(work).since
        since = state.parked.at if state.parked else now if refused_since is None else refused_since
        name = self.awaits(node)
        message = state.first_message(name)
        if message is not None:
            # The wait began up to `lag` after the known instant: a message may be here before that is over.
            begun = min(since, now)
            refused = refusal(state, work, node.payload, message, now, since=begun)
            if refused is not None:
                return (refused,)
            row = outcome(state, work, started_at=begun, now=now, value=message.value or state.values.null)
            return (Record(row, consumed=(message.n,)),)
        if state.parked is not None and refused_since is None:
            deadline = state.parked.wake_at
        else:
            # The message that was refused ended the wait as it was stored: its deadline is counted again.
            if state.parked is None and refused_since is None:
                since = now + state.lag
            deadline = None if node.timeout is None else since + node.timeout
        if deadline is None or deadline > now:
            return (Park(since, deadline, absent=(name,)),)
        if node.default is not None:
            return (Record(outcome(state, work, started_at=since, now=now, value=node.default), absent=name),)
        failure = ("SignalTimeout", f'no signal "{node.signal}" came in {(deadline - since) / 1_000_000:g} s')
        return (Record(outcome(state, work, started_at=since, now=now, failure=failure), absent=name),)

    def awaits(self, node: WaitForSignal) -> MessageName:
        """The signal that it waits for."""
        return MessageName("signal", node.signal)

    def declares(self, node: WaitForSignal) -> Declares:
        """The payload, which is the result."""
        return Declares({node.name: node.payload}, payloads={node.signal: node.payload})

    def awaited(self, node: WaitForSignal, state: RunState) -> tuple[MessageName, ...]:
        """That signal, once it waits."""
        name = self.awaits(node)
        return () if state.parked is None or state.first_message(name) is not None else (name,)

    def takes(self, node: WaitForSignal) -> Sequence[tuple[str, Declaration]]:
        """The payload."""
        return ((node.signal, node.payload),)

    def signals(self, node: WaitForSignal) -> tuple[str, ...]:
        """The signal that it waits for."""
        return (node.signal,)
