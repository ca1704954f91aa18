"""Work beside the caller's own, which never begins within the call that asks for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


def begin(work: Callable[[*Ts], Coroutine[Any, Any, T]], *given: *Ts, name: str) -> asyncio.Task[T]:
    """Has the work done, from the loop's next turn on.

    An eager factory (`asyncio.eager_task_factory`, or one of the user's) runs it to its first wait before the caller
    has kept what comes back: work that ends by then would be taken for work that still goes on.
    """
    being_made = [True]
    made = asyncio.get_running_loop().create_task(_later(being_made, work, given), name=name)
    being_made.clear()
    return made


async def _later(being_made: list[bool], work: Callable[[*Ts], Coroutine[Any, Any, T]], given: tuple[*Ts]) -> T:
    if being_made:
        await asyncio.sleep(0)  # noqa: TID251  a turn of the loop, no time
    return await work(*given)
