"""A worker process for tests whose handlers do not behave: they block the loop or a thread, or will not be cancelled.

`python -m tests.programs.stubborn FOLDER OPTIONS` works on `FOLDER/store.db` until its standard input ends, and logs to
standard error.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepwell import Durable, durable
from tests.programs.gated import HandlersLog

if TYPE_CHECKING:
    from stepwell import Context, Workflow

FOREVER = 3600


def workflows(folder: Path) -> list[Workflow]:
    """`blocks`: the event loop, for `input` seconds. `stuck`: a thread. `swallows`: whatever cancels it, for ever."""
    log = HandlersLog(folder)

    async def block(ctx: Context) -> int:
        log.write("begin", ctx)
        time.sleep(ctx.input)  # noqa: ASYNC251  that is the point
        log.write("end", ctx)
        return ctx.attempt

    def stick(ctx: Context) -> None:
        log.write("begin", ctx)
        time.sleep(FOREVER)

    async def swallow(ctx: Context) -> None:
        log.write("begin", ctx)
        while True:
            try:
                await asyncio.sleep(FOREVER)
            except asyncio.CancelledError:
                log.write("swallowed", ctx)

    return [
        durable("blocks").step("block", block),
        durable("stuck").step("stick", stick),
        durable("swallows").step("swallow", swallow),
    ]


async def main(folder: Path, options: dict[str, Any]) -> None:
    """Work until standard input ends."""
    grace = options.pop("grace", 0)
    async with Durable(f"sqlite:///{folder / 'store.db'}", workflows(folder), **options) as app:
        async with app.worker(grace=grace):
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)
        (folder / f"left-{os.getpid()}").touch()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(main(Path(sys.argv[1]), json.loads(sys.argv[2])))
