"""A handler that tests hold at a point; no test lives here."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from stepwell import Context


class Gate:
    """A handler whose first call waits to be let; later calls go through."""

    def __init__(self) -> None:
        self.calls = Counter[str]()
        self.begun = asyncio.Event()
        self.let = asyncio.Event()

    async def handler(self, ctx: Context) -> str:
        """Counts the call, and waits if it is the first."""
        self.calls[ctx.run_id] += 1
        if self.calls.total() == 1:
            self.begun.set()
            await self.let.wait()
        return ctx.step

    async def entered(self) -> None:
        """Waits until the first call has begun."""
        await asyncio.wait_for(self.begun.wait(), PATIENCE)
