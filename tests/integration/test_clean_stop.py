"""A worker that is told to stop with SIGTERM: what has no handler in flight is given back at once, the rest in time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from stepwell import Durable, durable
from tests.postgres import fresh_url
from tests.programs.gated import HandlersLog, workflows
from tests.programs.processes import ROOT, let
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stepwell import Context

CONCURRENCY = 2
RUNS = 5
"""One more than the worker has room for, which is twice its concurrency."""


@pytest.fixture(params=["file", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store that several processes share."""
    return fresh_url() if request.param == "postgres" else f"sqlite:///{tmp_path / 'store.db'}"


@contextlib.contextmanager
def worker(url: str, folder: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """`stepwell worker`, killed in the end."""
    command = ["-m", "stepwell.cli", "--app", "tests.programs.gated:app", "worker", "--concurrency", str(CONCURRENCY)]
    surroundings = os.environ | {"STEPWELL_URL": url, "STEPWELL_TEST_FOLDER": str(folder)}
    process = subprocess.Popen(
        [sys.executable, *command, *options], cwd=ROOT, env=surroundings, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(PATIENCE)


async def leased(app: Durable) -> set[str]:
    """The runs that any worker holds."""
    held = [(await app._store.reader.leased(row.worker_id)).tokens for row in await app._store.workers()]
    return {run_id for one in held for run_id in one}


def working(log: HandlersLog) -> set[str]:
    """The runs whose gated handler was called."""
    return {line.run_id for line in log.lines("begin") if line.step == "work"}


async def test_told_to_stop_it_gives_back_what_has_no_handler_and_keeps_the_rest_until_it_ends(
    url: str, tmp_path: Path
) -> None:
    log = HandlersLog(tmp_path)
    async with Durable(url, workflows(tmp_path)) as app:
        runs = {one.run_id for one in await app.start_many("gated", [None] * RUNS)}
        with worker(url, tmp_path, "--grace", str(PATIENCE)) as process:
            await eventually(lambda: len(working(log)) == CONCURRENCY)
            in_flight = working(log)

            async def is_full() -> bool:
                return len(await leased(app)) == 2 * CONCURRENCY

            await eventually(is_full)
            process.send_signal(signal.SIGTERM)

            async def has_given_back() -> bool:
                return await leased(app) == in_flight

            await eventually(has_given_back)
            assert process.poll() is None
            let(tmp_path)
            await eventually(lambda: process.poll() == 0)
        assert working(log) == in_flight
        assert await app._store.workers() == []
        done = {run_id for run_id in runs if "work" in [entry.node for entry in await app.journal(run_id)]}
        assert done == in_flight
        assert not log.lines("canceled")
        async with app.worker():
            for run_id in runs:
                await app.result(run_id, timeout=PATIENCE)


async def test_told_to_stop_it_gives_back_what_waits_for_a_thread_and_begins_none_of_it(url: str) -> None:
    begun: list[str] = []
    let_go = threading.Event()

    def work(ctx: Context) -> None:
        begun.append(ctx.run_id)
        let_go.wait(PATIENCE)

    async with Durable(url, [durable("flow").step("work", work)]) as app:
        here = app.worker(threads=1, concurrency=4, grace=PATIENCE)
        await here.__aenter__()
        runs = {one.run_id for one in await app.start_many("flow", [None] * 3)}

        async def holds(wanted: set[str]) -> bool:
            return await leased(app) == wanted

        await eventually(lambda: len(begun) == 1)
        await eventually(lambda: holds(runs))
        leaving = asyncio.create_task(here.__aexit__(None, None, None))
        await eventually(lambda: holds(set(begun)))
        let_go.set()
        await leaving
        assert len(begun) == 1


async def test_told_to_stop_it_waits_for_a_handler_that_will_not_end_no_longer_than_its_grace(
    url: str, tmp_path: Path
) -> None:
    log = HandlersLog(tmp_path)
    async with Durable(url, workflows(tmp_path)) as app:
        started = await app.start("gated")
        with worker(url, tmp_path, "--grace", "0.5") as process:
            await eventually(lambda: working(log) == {started.run_id})
            process.send_signal(signal.SIGTERM)
            await eventually(lambda: process.poll() == 0)
        assert log.lines("canceled")
        assert await app._store.workers() == []
        assert [entry.node for entry in await app.journal(started.run_id)] == ["first"]
        let(tmp_path)
        async with app.worker():
            results = await app.result(started.run_id, timeout=PATIENCE)
    assert results["work"]["attempt"] == 1
