"""The wait for a signal: the first message of that name in the mailbox, or what a timeout gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepwell.core.decisions import Decision, Park, Record
from stepwell.core.model import MessageName
from stepwell.core.work import Work, first_message, outcome

if TYPE_CHECKING:
    from stepwell.core.model import JournalRow, RunState
    from stepwell.workflow.nodes import Function, WaitForSignal


def work(node: WaitForSignal, state: RunState) -> Work:
    """What is next at this node."""
    return Work(node.name, kind="signal")


def moves(node: WaitForSignal, state: RunState, now: int) -> tuple[Decision, ...]:
    """Takes the message that is here; without one waits, and after the timeout gives the default or fails."""
    piece = work(node, state)
    since = state.parked.at if state.parked else now
    name = wanted(node)
    message = first_message(state, name)
    if message is not None:
        row = outcome(state, piece, started_at=since, now=now, value=message.value or b"null")
        return (Record(row, consumed=(message.n,)),)
    if state.parked is not None:
        deadline = state.parked.wake_at
    else:
        since = now + state.lag
        deadline = None if node.timeout is None else since + node.timeout
    if deadline is None or deadline > now:
        return (Park(since, deadline, absent=name),)
    if node.default is not None:
        return (Record(outcome(state, piece, started_at=since, now=now, value=node.default), absent=name),)
    failure = ("SignalTimeout", f'no signal "{node.signal}" came in {(deadline - since) / 1_000_000:g} s')
    return (Record(outcome(state, piece, started_at=since, now=now, failure=failure), absent=name),)


def results(node: WaitForSignal, state: RunState, row: JournalRow) -> dict[str, bytes] | None:
    """The payload, under the node's name."""
    return {node.name: row.value or b"null"}


def wanted(node: WaitForSignal) -> MessageName:
    """The signal that it waits for."""
    return MessageName("signal", node.signal)


def compensator(node: WaitForSignal, state: RunState, item: str) -> Function | None:
    """Nothing: a signal cannot be undone."""
    return None
