"""The example's app with a way to stop in the middle of a request, for tests that kill the server there.

A request with the header `x-hold: before` stops before the app hears of it, one with `x-hold: after` when the app has
answered and nothing of it has been sent. Either writes its marker file first, and then waits to be killed.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))


class Holding:
    """Middleware that holds requests."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, unless it is held."""
        hold = dict(scope.get("headers", [])).get(b"x-hold", b"").decode()
        if hold == "before":
            await self._hold()

        async def held(message: Message) -> None:
            if hold == "after":
                await self._hold()
            await send(message)

        await self._app(scope, receive, held)

    async def _hold(self) -> None:
        Path(os.environ["HELD"]).touch()  # noqa: ASYNC240  the process does nothing else that matters
        await asyncio.Event().wait()


app = Holding(importlib.import_module("fastapi_orders").api)
