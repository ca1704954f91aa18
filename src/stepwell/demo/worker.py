"""The program of the worker processes that the demo starts and kills.

Called as `python -m stepwell.demo.worker DIRECTORY`, it works until its standard input is closed, so it never outlives
the demo.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from stepwell import StoreUnavailableError
from stepwell.demo.config import DemoConfig, DemoDirectory
from stepwell.demo.workflows import open_app

_PAUSE_SECONDS = 0.2


async def work(directory: DemoDirectory, config: DemoConfig) -> None:
    """Runs a worker until standard input is closed."""
    loop = asyncio.get_running_loop()
    closed = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(closed), sys.stdin)
    limit = config.concurrency
    while True:
        try:
            async with open_app(directory, config) as app, app.worker(concurrency=limit, threads=limit):
                await closed.read()
                return
        except StoreUnavailableError:
            if not config.faults or closed.at_eof():
                raise
        await asyncio.sleep(_PAUSE_SECONDS)  # The store may be starting at this moment, too.


if __name__ == "__main__":
    demo_directory: DemoDirectory = DemoDirectory(Path(sys.argv[1]))
    asyncio.run(work(demo_directory, DemoConfig.read(demo_directory)))
