"""One piece of work at a node and the call that attempts it: shared by all kinds of nodes, and by compensation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from stepwell.core.decisions import Answer, Call, Decision, Invoke, Park, Script, Tools
from stepwell.core.model import JournalRow, Kind, Mail, MessageName, Phase, Progress, RunState
from stepwell.errors import Failure

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from stepwell.workflow.nodes import Function
    from stepwell.workflow.policy import Policy


class Work(NamedTuple):
    """What a call attempts or a row records: the journal's key but for the attempt."""

    node: str
    item: str = ""
    phase: Phase = "do"
    kind: Kind = "step"

    @property
    def name(self) -> str:
        """What the user calls it: the entry's name in a parallel, the node's elsewhere."""
        return self.item if self.item and not self.item.startswith("#") else self.node


_NEW = Progress()


def progress_of(state: RunState, work: Work) -> Progress:
    """How far the work has come; not to be changed."""
    if work.phase == "undo":
        return state.undoing.get((work.node, work.item), _NEW)
    return state.progress.get((work.item, work.phase), _NEW)


def first_message(state: RunState, name: MessageName) -> Mail | None:
    """The first message of that name that the run has not used, of those that it knows."""
    return next((mail for mail in state.mailbox if (mail.kind, mail.name) == name), None)


def call_for(
    state: RunState,
    work: Work,
    script: Script,
    policy: Policy,
    *,
    subject: Any = None,
    results: Mapping[str, bytes] | None = None,
    resume: tuple[int, bytes] | None = None,
) -> Call:
    """The next attempt at the work."""
    progress = progress_of(state, work)
    if results is None:
        results = state.results
        if progress.snapshot is not None:
            results = {**results, work.node: progress.snapshot}
    return Call(
        state.run_id,
        work.node,
        work.item,
        work.phase,
        work.kind,
        progress.attempts + 1,
        progress.entries,
        work.name if work.item else work.node,
        policy,
        script,
        results,
        subject,
        resume,
    )


def unless_waiting(state: RunState, work: Work, now: int) -> Decision | None:
    """What to do instead of a call: wait for the next attempt's time."""
    retry_at = progress_of(state, work).retry_at
    if retry_at is not None and retry_at > now:
        return Park(since=None, wake_at=retry_at)
    return None


def outcome(
    state: RunState,
    work: Work,
    *,
    started_at: int,
    now: int,
    value: bytes | None = None,
    failure: tuple[str, str] | None = None,
    skipped: bool = False,
) -> JournalRow:
    """The row of an outcome that no handler gave: completed with the value, failed, or skipped."""
    error = None if failure is None else Failure(work.name, failure[0], failure[1])
    return JournalRow(
        state.ref,
        state.seq + 1,
        work.node,
        work.item,
        work.phase,
        0,
        work.kind,
        progress_of(state, work).attempts + 1,
        "failed" if failure else "skipped" if skipped else "completed",
        value,
        None,
        error,
        None,
        started_at,
        now,
        state.worker,
    )


def ask(state: RunState, work: Work, when: Function, policy: Policy, now: int) -> Decision:
    """Asks the node's condition."""
    return unless_waiting(state, work, now) or call_for(state, work, _ask, policy, subject=when)


def _ask(call: Call, tools: Tools) -> Generator[Invoke, Any, Answer]:
    holds = yield Invoke(call.subject, (tools.context(call),))
    return Answer(bool(holds))


def asks(call: Call) -> bool:
    """Whether the call asks a condition."""
    return call.script is _ask
