"""A worker whose handlers copy every file of the store, beside others that do the same; starts runs of its own.

Writes `run step` into `calls-PID` at each call, and the ids of what it started, once acknowledged, into `started-PID`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
from pathlib import Path

from stepwell import Context, Durable, durable

STEPS = 3


def copy_all(folder: Path) -> None:
    """Copies each file of the store, if it is still there when its turn comes."""
    for path in sorted((folder / "store").iterdir()):
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(path, folder / f"copy-{os.getpid()}")


def add_line(path: Path, text: str) -> None:
    """Appends a line to a file."""
    with path.open("a", encoding="utf-8") as lines:
        lines.write(f"{text}\n")


async def main(folder: Path, runs: int) -> None:
    """Start so many runs, one by one, and work until they have ended."""

    async def work(ctx: Context) -> str:
        copy_all(folder)
        add_line(folder / f"calls-{os.getpid()}", f"{ctx.run_id} {ctx.step}")
        return "x" * 1000

    flow = durable("copy")
    for at in range(STEPS):
        flow.step(f"step{at}", work)
    async with Durable(f"sqlite:///{folder / 'store' / 'store.db'}", [flow]) as app, app.worker(concurrency=10):
        ids = []
        for _ in range(runs):
            ids.append((await app.start("copy")).run_id)
            add_line(folder / f"started-{os.getpid()}", ids[-1])
        for run_id in ids:
            await app.result(run_id)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
