"""The demo's worker process, which the demo starts and kills.

Called as `python -m stepwell.cli.demo.worker FOLDER KILLS CONCURRENCY`, it works until its standard input is closed:
so it never outlives the demo, however that ends.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from stepwell.cli.demo.audit import open_app
from stepwell.cli.demo.script import Place


async def work(place: Place, kills: int, concurrency: int) -> None:
    """Is a worker until standard input is closed."""
    loop = asyncio.get_running_loop()
    closed = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(closed), sys.stdin)
    async with open_app(place, kills=kills) as app, app.worker(concurrency=concurrency, threads=concurrency):
        await closed.read()


if __name__ == "__main__":
    folder, kills, concurrency = sys.argv[1:]
    asyncio.run(work(Place(Path(folder)), int(kills), int(concurrency)))
