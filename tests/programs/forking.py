"""A worker whose handler forks a child that outlives it: prints the child's id, and goes on for ever."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from stepwell import Context, Durable, durable


async def fork(ctx: Context) -> None:
    """Fork, say which child, and never end."""
    child = os.fork()
    if child == 0:
        os.close(1)
        while True:
            signal.pause()
    sys.stdout.write(f"{child}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


async def main() -> None:
    """Work until killed."""
    async with Durable(sys.argv[1], [durable("fork").step("fork", fork)]) as app, app.worker():
        await app.start("fork")
        await asyncio.Event().wait()


asyncio.run(main())
