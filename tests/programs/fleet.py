"""A worker process of a fleet on PostgreSQL, for tests: the workflows of `gated` and `stubborn`, and `paired`.

`python -m tests.programs.fleet FOLDER OPTIONS` works on the store at the options' `url` until its standard input ends,
with handlers that log into FOLDER.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepwell import Branch, Context, Durable, durable
from tests.programs import gated, stubborn
from tests.programs.gated import HandlersLog

if TYPE_CHECKING:
    from stepwell import Workflow


def workflows(folder: Path) -> list[Workflow]:
    """Those of the other programs; `paired`: beside each other one that fails, one that never ends, and two more."""
    log = HandlersLog(folder)

    async def note(ctx: Context) -> None:
        log.write("begin", ctx)

    async def fail(ctx: Context) -> None:
        log.write("begin", ctx)
        raise ValueError("no")

    async def wait(ctx: Context) -> None:
        log.write("begin", ctx)
        await asyncio.Event().wait()

    async def undo(ctx: Context) -> None:
        log.write("undo", ctx)

    paired = (
        durable("paired")
        .step("before", note, compensate=undo)
        .parallel(
            "all",
            {
                "fails": Branch(fail, compensate=undo),
                "waits": Branch(wait, compensate=undo),
                "one": Branch(note, compensate=undo),
                "two": Branch(note, compensate=undo),
            },
            max_retries=0,
        )
        .step("after", note)
    )
    return [*gated.workflows(folder), *stubborn.workflows(folder), paired]


async def main(folder: Path, options: dict[str, Any]) -> None:
    """Work until standard input ends."""
    grace = options.pop("grace", 0)
    async with Durable(options.pop("url"), workflows(folder), **options) as app, app.worker(grace=grace):
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(main(Path(sys.argv[1]), json.loads(sys.argv[2])))
