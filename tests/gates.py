"""The one handler that tests hold at a point; no test lives here."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepwell import Context


class Gate:
    """A handler whose calls wait until they are let; with `holds`, only so many of them, and later ones go through.

    It gives `result`, or what `result` makes of the context where it is a function.
    """

    def __init__(self, result: Any | Callable[[Context], Any] = None, *, holds: int | None = None) -> None:
        self.result = result
        self.calls = Counter[str]()
        """How often it was called, by run."""
        self.attempts: list[int] = []
        self.canceled = 0
        self.ended: list[int] = []
        """The numbers of the calls that have ended, from 1, in this order."""
        self._holds = holds
        self._is_open = False
        self._let: dict[int, asyncio.Event] = {}

    @property
    def begun(self) -> int:
        """How many calls have begun."""
        return self.calls.total()

    def let(self, number: int | None = None) -> None:
        """Lets one call end, or all that wait and all that come."""
        if number is not None:
            self._let[number].set()
            return
        self._is_open = True
        for waiting in self._let.values():
            waiting.set()

    async def entered(self, times: int = 1) -> None:
        """Waits until so many calls have begun."""
        await eventually(lambda: self.begun >= times)

    async def handler(self, ctx: Context) -> Any:
        """Waits to be let, then gives the result."""
        self.calls[ctx.run_id] += 1
        self.attempts.append(ctx.attempt)
        number = self.begun
        if not self._is_open and (self._holds is None or number <= self._holds):
            self._let[number] = asyncio.Event()
            await self._wait(self._let[number])
        self.ended.append(number)
        return self._result_of(ctx, number)

    async def _wait(self, let: asyncio.Event) -> None:
        try:
            await let.wait()
        except asyncio.CancelledError:
            self.canceled += 1
            raise

    def _result_of(self, ctx: Context, number: int) -> Any:
        return self.result(ctx) if callable(self.result) else self.result


class StubbornGate(Gate):
    """One that swallows every cancellation while it waits, and gives the number of the call."""

    async def _wait(self, let: asyncio.Event) -> None:
        while not let.is_set():
            try:
                await let.wait()
            except asyncio.CancelledError:
                self.canceled += 1

    def _result_of(self, ctx: Context, number: int) -> Any:
        return number
