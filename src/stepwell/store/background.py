"""Work beside the caller's own, which never begins within the call that asks for it."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
_MOST_CUTS = 8
_CUT_SECONDS = 1.0
"""That number of cancels within this time ends what would go on after one."""


def begin(work: Callable[[*Ts], Coroutine[Any, Any, T]], *given: *Ts, name: str) -> asyncio.Task[T]:
    """Has the work done, from the loop's next turn on.

    An eager factory (`asyncio.eager_task_factory`, or one of the user's) runs it to its first wait before the caller
    has kept what comes back: work that ends by then would be taken for work that still goes on.
    """
    being_made = [True]
    made = asyncio.get_running_loop().create_task(_later(being_made, work, given), name=name)
    being_made.clear()
    return made


class Cuts:
    """The cancels by other code of work that goes on after one, until they are many within a short time."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=_MOST_CUTS)
        self._loop = asyncio.get_running_loop()

    def add(self) -> None:
        """One more, now."""
        self._times.append(self._loop.time())

    @property
    def are_many(self) -> bool:
        """Whether the loop is being ended by code that waits for the end of all tasks."""
        return len(self._times) == _MOST_CUTS and self._loop.time() - self._times[0] < _CUT_SECONDS


class Lasting:
    """Work that goes on, from its beginning, although other code cancels the task in which it is done.

    Code that cancels all tasks of a loop reaches ours, too, even before their first step, which nothing in the work
    would notice. So the work must leave what it works on as it was, or as it is to be found, when it is cut short.
    Where its task is cancelled again and again, the loop is being ended by code that waits for the end of all tasks:
    then it ends, too.
    """

    def __init__(self, work: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        self._work = work
        self.name = name
        self._is_wanted = True
        self._cuts = Cuts()
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once it has ended, by itself or after `cancel`."""
        self._begin()

    @property
    def is_over(self) -> bool:
        """Whether it has ended; known at once, while `ended` is told a turn of the loop later."""
        task = self._task
        return task.done() and not (task.cancelled() and self._is_to_go_on)

    def cancel(self) -> None:
        """Ends it."""
        self._is_wanted = False
        self._task.cancel()

    def _begin(self) -> None:
        self._task = begin(self._work, name=self.name)
        self._task.add_done_callback(self._end)

    @property
    def _is_to_go_on(self) -> bool:
        return self._is_wanted and not self._cuts.are_many

    def _end(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() and self._is_to_go_on:
            self._cuts.add()
            self._begin()
        elif not self.ended.done():
            self.ended.set_result(None)


async def _later(being_made: list[bool], work: Callable[[*Ts], Coroutine[Any, Any, T]], given: tuple[*Ts]) -> T:
    if being_made:
        await asyncio.sleep(0)  # noqa: TID251  a turn of the loop, no time
    return await work(*given)
