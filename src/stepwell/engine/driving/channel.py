"""What a handler asks its drive during an attempt, and what it is answered, once that is committed.

A drive commits between calls. While handlers run it is at rest, and that is when their questions are served: a row for
each, all that were asked meanwhile in one commit, and the answers after it.

Rule 1: either the drive touches the run or its channel, never both. A question is served only while the drive is at
rest, and a drive that goes on waits first until none is being served: so a run has one unanswered commit at a time.
Rule 2: an answer comes after the commit that holds its row (I2). Rule 3: a question belongs to its attempt. Once that
is over (it timed out, another attempt took its place, the run was lost) nothing is written for it any more, and its
handler gets an AttemptOverError: a plain one, in its thread, may ask long after. Rule 4: a commit that is lost stops
the drive, and so cancels its handlers; what the store refuses is raised to the drive, whose node fails. Rule 5: a drive
has no channel until a handler asks, so that others pay nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from stepwell.errors import AttemptOverError
from stepwell.store.background import Lasting

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepwell.core.journal import JournalRow
    from stepwell.core.state import RunState
    from stepwell.workflow.context import Facts


class Answered(NamedTuple):
    """A reply without anything to store."""

    value: Any


class Kept(NamedTuple):
    """A reply that is given once its row is committed."""

    row: JournalRow
    value: Any = None


class Question(Protocol):
    """What a handler asks; a pure function of the run's state, called in the drive's place."""

    def reply(self, state: RunState, facts: Facts, now: int) -> Answered | Kept:
        """The reply; what it raises is raised in the handler."""


class Desk(Protocol):
    """A run that is driven, as its channel needs it."""

    state: RunState

    @property
    def run_id(self) -> str:
        """The run's id."""

    @property
    def is_at_rest(self) -> bool:
        """Whether its drive waits for handlers, and does nothing else."""

    def is_in_flight(self, facts: Facts) -> bool:
        """Whether this very attempt is being made."""

    def now(self) -> int:
        """The instant by the store's clock."""

    def keep(self, row: JournalRow) -> None:
        """Takes the row into the state and into the next commit."""

    async def flush(self) -> bool:
        """Commits what is to be committed; False if the run was lost. Raises RefusedError."""

    def stop(self) -> None:
        """Ends the drive and cancels its handlers: the run is others'."""

    def channel(self) -> Channel:
        """The channel of its handlers, the same each time."""


class _Asked(NamedTuple):
    facts: Facts
    question: Question
    answer: asyncio.Future[Any]


class Channel:
    """Serves the questions of one drive's handlers."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._asked: deque[_Asked] = deque()
        self._serving: Lasting | None = None
        self._refusal: Exception | None = None
        self._is_closed = False

    def ask(self, facts: Facts, question: Question) -> asyncio.Future[Any]:
        """The answer, for a handler on the event loop; raises AttemptOverError."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._asked.append(_Asked(facts, question, answer))
        self.serve()
        return answer

    def serve(self) -> None:
        """Begins to serve, if something was asked and the drive is at rest: it has just come to rest, or rests."""
        if self._is_over:
            self._turn_away(lambda _: True)
        elif self._asked and self._desk.is_at_rest and (self._serving is None or self._serving.is_over):
            self._serving = Lasting(self._serve, f"stepwell-run-{self._desk.run_id}/asked")

    async def quiet(self) -> None:
        """Returns once none is being served, for a drive that is not at rest any more; raises RefusedError."""
        while (serving := self._serving) is not None and not serving.is_over:
            await asyncio.wait({serving.ended})
        self._turn_away(lambda one: not self._desk.is_in_flight(one.facts))
        if self._refusal is not None:
            raise self._refusal

    def close(self) -> None:
        """Answers nothing more: the drive has ended, and so have its attempts."""
        self._is_closed = True
        self._turn_away(lambda _: True)
        if self._serving is not None:
            self._serving.cancel()

    @property
    def _is_over(self) -> bool:
        """Whether nothing is answered any more."""
        return self._is_closed or self._refusal is not None

    async def _serve(self) -> None:
        try:
            while self._asked and self._desk.is_at_rest and not self._is_over:
                await self._serve_together()
        finally:
            if self._is_over:
                self._turn_away(lambda _: True)

    async def _serve_together(self) -> None:
        """Takes in all that was asked by now, and commits it at once."""
        desk, asked, kept = self._desk, list(self._asked), list[tuple[asyncio.Future[Any], Any]]()
        self._asked.clear()
        for one in asked:
            if one.answer.done():  # by the end of the handler that waited: nothing is to be written for it
                continue
            if not desk.is_in_flight(one.facts):
                self._refuse(one)
                continue
            try:
                reply = one.question.reply(desk.state, one.facts, desk.now())
            except Exception as error:  # noqa: BLE001  the handler's mistake, or what it is to be told
                one.answer.set_exception(error)
                continue
            if isinstance(reply, Answered):
                one.answer.set_result(reply.value)
            else:
                desk.keep(reply.row)
                kept.append((one.answer, reply.value))
        if kept:
            await self._commit(kept)

    async def _commit(self, kept: list[tuple[asyncio.Future[Any], Any]]) -> None:
        is_stored = False
        try:
            is_stored = await self._desk.flush()
        except Exception as error:  # noqa: BLE001  of the drive's own: it is raised there
            self._refusal = error
        else:
            if not is_stored:
                self._is_closed = True
                self._desk.stop()
        finally:
            for answer, value in kept:
                if not is_stored:
                    answer.cancel()
                elif not answer.done():
                    answer.set_result(value)

    def _turn_away(self, who: Callable[[_Asked], bool]) -> None:
        late = [one for one in self._asked if who(one)]
        self._asked = deque(one for one in self._asked if not who(one))
        for one in late:
            self._refuse(one)

    def _refuse(self, one: _Asked) -> None:
        if not one.answer.done():
            one.answer.set_exception(AttemptOverError(self._desk.run_id, one.facts.step))
