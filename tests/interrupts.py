"""A coroutine that is cancelled at a given one of its awaits; no test lives here."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator


class Interrupted:
    """An awaitable that runs a coroutine, and cancels its own task at the awaits whose numbers are given, from 1."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], at: range) -> None:
        self._coroutine = coroutine
        self._at = at
        self.awaits = 0
        """How often the coroutine has waited so far."""

    def __await__(self) -> Generator[Any, Any, Any]:
        task = asyncio.current_task()
        assert task is not None
        thrown: BaseException | None = None
        while True:
            try:
                waits_for = self._coroutine.send(None) if thrown is None else self._coroutine.throw(thrown)
            except StopIteration as stop:
                return stop.value
            self.awaits += 1
            if self.awaits in self._at:
                # Only once the task has begun to wait, which is when others run, and may cancel it.
                asyncio.get_running_loop().call_soon(task.cancel)
            thrown = None
            try:
                yield waits_for
            except BaseException as error:  # noqa: BLE001  it is the coroutine's to handle
                thrown = error


async def interrupted(coroutine: Coroutine[Any, Any, Any], at: range) -> bool:
    """Run the coroutine in a task of its own, cancelled at these awaits; whether it has waited so often."""
    driven = Interrupted(coroutine, at)

    async def drive() -> None:
        await driven

    task = asyncio.create_task(drive())
    await asyncio.wait({task})
    reached = driven.awaits >= at.start
    if reached:
        assert task.cancelled(), f"a cancel at await {at.start} was swallowed"
    else:
        task.result()
    return reached
