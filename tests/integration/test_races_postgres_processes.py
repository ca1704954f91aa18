"""Worker processes on PostgreSQL that are frozen, killed, blocked or will not end."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import Durable, RunFailedError
from tests.postgres import dsn, fresh_url
from tests.programs import fleet, processes
from tests.programs.processes import WorkerProcess
from tests.proxy import Proxy
from tests.rival import rival_of, statements
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SHORT_LEASE_SECONDS = 1.0
"""Where it does no harm if a living worker should be buried because the machine is busy."""
LEASE_SECONDS = 2.0
BLOCKED_SECONDS = 2 * LEASE_SECONDS
HEALTHY = 99
MAX_CRASHES = 5
SUSPECTED_AFTER = 2
FLEET = 3


@contextlib.contextmanager
def worker_process(folder: Path, url: str, **options: Any) -> Iterator[WorkerProcess]:
    """A worker process of a fleet; killed in the end."""
    worker = WorkerProcess(folder, {"url": url, **options}, "fleet")
    try:
        yield worker
    finally:
        worker.close()


def client(folder: Path, url: str) -> Durable:
    """An app that knows the workflows of the processes."""
    return Durable(url, fleet.workflows(folder), lease=LEASE_SECONDS)


async def test_i3_a_frozen_worker_with_a_batch_in_its_socket_writes_nothing_of_it_when_it_wakes(tmp_path: Path) -> None:
    url = fresh_url()
    async with Proxy(dsn()) as proxy, client(tmp_path, url) as app, rival_of(url) as rival:
        with worker_process(tmp_path, proxy.url(url), lease=LEASE_SECONDS) as late:
            held = await app.start("gated")
            await late.begun()
            sent = proxy.hold(statements(url)["append"])
            quick = await app.start("gated")
            await sent.reached()
            late.freeze()
            async with app.worker(grace=0) as owner:
                await eventually(lambda: len(late.log.lines("begin", pid=os.getpid())) == 3)
                await sent.released()
                assert b"ok" not in sent.answer
                before = await rival.owners()
                late.thaw()

                async def has_begun_anew() -> bool:
                    return len(await app._store.workers()) == 2

                await eventually(has_begun_anew)
                processes.let(tmp_path, late.pid)
                await eventually(lambda: late.log.lines("end", pid=late.pid))
                assert await rival.owners() == before
                assert {worker for worker, _, _ in before} == {owner.worker_id}
                processes.let(tmp_path, os.getpid())
                for run in (held, quick):
                    assert (await app.result(run.run_id, timeout=PATIENCE))["work"]["pid"] == os.getpid()
                    assert [entry.node for entry in await app.journal(run.run_id)] == ["first", "work", "last"]


async def test_i3_a_blocked_event_loop_costs_its_worker_nothing(tmp_path: Path) -> None:
    """The beat has a thread, a loop and a connection of its own, and so goes on."""
    url = fresh_url()
    async with client(tmp_path, url) as app, rival_of(url) as rival:
        with worker_process(tmp_path, url, lease=LEASE_SECONDS) as blocked:
            started = await app.start("blocks", BLOCKED_SECONDS)
            await eventually(lambda: blocked.log.lines("begin"))
            before = await rival.owners()
            async with app.worker():
                assert await app.result(started.run_id, timeout=PATIENCE) == {"block": 1}
            assert len(blocked.log.lines("begin")) == 1
            ((_, token, crashes),) = await rival.owners()
            assert [(token, crashes)] == [(token, crashes) for _, token, crashes in before]
            complaints = blocked.complaints
    assert "The event loop has been blocked" in complaints
    assert "time.sleep(ctx.input)" in complaints


async def test_i4_a_fleet_that_one_step_kills_again_and_again_loses_that_run_alone(tmp_path: Path) -> None:
    """Each process that dies is replaced; those who shared the first deaths with the poison complete."""
    url = fresh_url()
    with contextlib.ExitStack() as stack:

        def process() -> WorkerProcess:
            options = {"lease": SHORT_LEASE_SECONDS, "max_crashes": MAX_CRASHES}
            return stack.enter_context(worker_process(tmp_path, url, **options))

        async with client(tmp_path, url) as app:
            started = await app.start_many("gated", range(HEALTHY))
            poison = await app.start("poison")
            workers, deaths = [process() for _ in range(FLEET)], 0

            async def one_died_or_all_is_over() -> bool:
                is_over = (await app.status(poison.run_id)).status == "failed"
                return is_over or any(worker.ended for worker in workers)

            while (await app.status(poison.run_id)).status != "failed":
                await eventually(one_died_or_all_is_over)
                dead = [worker for worker in workers if worker.ended]
                workers = [worker for worker in workers if not worker.ended] + [process() for _ in dead]
                deaths += len(dead)
                assert deaths <= MAX_CRASHES
                if deaths >= SUSPECTED_AFTER:  # from now on each of them may be alone with its worker
                    processes.let(tmp_path)
            for one in started:
                assert (await app.result(one.run_id, timeout=PATIENCE))["work"]["attempt"] == 1
            with pytest.raises(RunFailedError) as caught:
                await app.result(poison.run_id, timeout=PATIENCE)
            assert [run.run_id for run in await app.list(status="failed")] == [poison.run_id]
    assert (caught.value.error.node, caught.value.error.type) == ("kill", "CrashLimit")


async def test_i5_a_parallel_with_a_failed_entry_begins_none_again_after_a_kill_and_undoes_in_reverse(
    tmp_path: Path,
) -> None:
    url = fresh_url()
    async with client(tmp_path, url) as app:
        with worker_process(tmp_path, url, lease=SHORT_LEASE_SECONDS) as killed:
            run_id = (await app.start("paired")).run_id

            async def all_but_one_have_ended() -> bool:
                return len(await app.journal(run_id)) == 4

            await eventually(all_but_one_have_ended)
            completed = [entry.node for entry in await app.journal(run_id) if entry.status == "completed"]
            killed.kill()
        with worker_process(tmp_path, url, lease=SHORT_LEASE_SECONDS) as heir:
            with pytest.raises(RunFailedError) as caught:
                await app.result(run_id, timeout=PATIENCE)
            begun = Counter(line.step for line in heir.log.lines("begin"))
            undone = [line.step for line in heir.log.lines("undo", pid=heir.pid)]
    assert (caught.value.error.node, caught.value.error.type) == ("fails", "ValueError")
    assert begun == dict.fromkeys(["before", "fails", "waits", "one", "two"], 1)
    assert undone == list(reversed(completed))
    assert list(caught.value.compensated) == undone


async def test_i4_a_worker_that_leaves_handlers_that_will_not_end_gives_their_runs_back_without_blame(
    tmp_path: Path,
) -> None:
    """One swallows its cancellation, one blocks a thread: the process ends by itself all the same."""
    url = fresh_url()
    async with client(tmp_path, url) as app, rival_of(url) as rival:
        with worker_process(tmp_path, url) as worker:
            for name in ("swallows", "stuck"):
                await app.start(name)
            await eventually(lambda: len(worker.log.lines("begin")) == 2)
            before = await rival.owners()
            await worker.stop()
            after = [(worker or None, token, crashes) for worker, token, crashes in await rival.owners()]
            assert after == [(None, token + 1, 0) for _, token, _ in before]
            assert await app._store.workers() == []
