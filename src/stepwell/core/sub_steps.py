"""The names of sub-steps within one piece of work, and what is known of one.

A sub-step is the n-th call of its name within an attempt, `fetch#1`, or the one of its key, `fetch~a`. The calls are
counted from 1 again in each attempt: then the n-th is given back what the n-th had journaled. Two calls of one name
that are in flight together have no order that the next attempt would repeat, so they need keys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepwell.core.journal import Work
from stepwell.errors import DefinitionError

if TYPE_CHECKING:
    from stepwell.core.decisions import Call
    from stepwell.core.flat import PlainCall
    from stepwell.core.journal import JournalRow
    from stepwell.core.state import RunState


class SubStepNames:
    """The sub-steps that one attempt has begun."""

    __slots__ = ("_counts", "_in_flight")

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._in_flight: set[str] = set()

    def begin(self, name: str, key: str | None) -> str:
        """The name in the journal of the call that begins; raises DefinitionError for one that cannot be told apart."""
        if key is not None:
            named = f"{name}~{key}"
            if named in self._in_flight:
                raise DefinitionError(
                    f"Two sub-steps {name} with the key {key!r} are in flight. Give each its own key."
                )
        else:
            count = self._counts.get(name, 0)
            if count and f"{name}#{count}" in self._in_flight:
                raise DefinitionError(
                    f"Two sub-steps {name} are in flight, and the next attempt may begin them in another order. "
                    "Give each a key: ctx.run(name, function, …, key=…)."
                )
            self._counts[name] = count + 1
            named = f"{name}#{count + 1}"
        self._in_flight.add(named)
        return named

    def end(self, named: str) -> None:
        """The call has ended, however it did."""
        self._in_flight.discard(named)


def work_of(call: Call | PlainCall) -> Work:
    """The piece of work that an attempt does."""
    return getattr(call, "work", None) or Work(call.step)


def sub_step_of(state: RunState, work: Work, named: str) -> JournalRow | None:
    """What the work has journaled under that name."""
    known = state.progress_of(work).sub_steps
    return None if known is None else known.get(named)
