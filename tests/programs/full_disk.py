"""Starts runs in `FOLDER/store.db` until the file may grow no more, and tells what happened.

`python -m tests.programs.full_disk FOLDER LIMIT_BYTES MODE`: `start` only starts runs; `work` has a worker whose
handlers return much. The last line of the output is one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepwell import Durable, DurableError, durable

if TYPE_CHECKING:
    from stepwell import Context, Workflow

MOST_RUNS = 10_000


async def verbose(ctx: Context) -> str:
    """A handler that returns 20 kB."""
    return f"{ctx.input['number']:06}" + "x" * 20_000


def workflow() -> Workflow:
    """One step that gives back much, and one that follows it."""
    return durable("verbose").step("fill", verbose).step("after", lambda ctx: len(ctx.results["fill"]))


async def start_until_full(app: Durable, limit: int) -> dict[str, Any]:
    """Start runs one by one until the store refuses; which were acknowledged, and the refusal."""
    lower_limit(limit)
    acknowledged: list[str] = []
    while len(acknowledged) < MOST_RUNS:
        try:
            started = await app.start("verbose", {"number": len(acknowledged), "padding": "y" * 2_000})
        except DurableError as refusal:
            listed = await app.list(limit=1)
            return {
                "acknowledged": acknowledged,
                "error": type(refusal).__name__,
                "code": refusal.code,
                "message": str(refusal),
                "still_readable": [row.run_id for row in listed],
            }
        acknowledged.append(started.run_id)
    return {"acknowledged": acknowledged, "error": None}


async def work_until_full(app: Durable, limit: int) -> dict[str, Any]:
    """Start runs, then work until some are done and the disk is full; what `result` said of each."""
    started = await app.start_many("verbose", [{"number": number} for number in range(40)])
    lower_limit(limit)
    endings: dict[str, str] = {}
    try:
        async with app.worker(concurrency=4, grace=0):
            waits = (app.result(each.run_id, timeout=1) for each in started)
            for each, ending in zip(started, await asyncio.gather(*waits, return_exceptions=True), strict=True):
                endings[each.run_id] = type(ending).__name__ if isinstance(ending, BaseException) else "completed"
    except DurableError as problem:
        return {"endings": endings, "left_with": type(problem).__name__}
    return {"endings": endings, "left_with": None}


def lower_limit(limit: int) -> None:
    """Let no file of this process grow beyond the limit; a write that would is refused by the kernel."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


async def main(folder: Path, limit: int, mode: str) -> None:
    """Run one of the two, and print what it found."""
    async with Durable(f"sqlite:///{folder / 'store.db'}", [workflow()]) as app:
        found = await (start_until_full if mode == "start" else work_until_full)(app, limit)
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
