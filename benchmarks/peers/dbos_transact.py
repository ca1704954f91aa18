"""DBOS Transact on the same PostgreSQL, or on a file; its handlers are plain functions where the work allows it.

Its defaults but for the queue, which is looked at every 20 ms instead of every second, eight workflows at a time, or
one at a time on a file, which takes one writer.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import itertools
import statistics
import threading
import time
from typing import TYPE_CHECKING, Any

from benchmarks.child import call_in_child

if TYPE_CHECKING:
    from collections.abc import Iterator

STEPS_PER_RUN = 10
QUEUE = "bench"
AT_ONCE = 8
POLL_SECONDS = 0.02
PATIENCE_SECONDS = 300
WARM_UP = 5

dbos: Any = importlib.import_module("dbos")
DBOS = dbos.DBOS


class Flows:
    """The workflows, registered with DBOS; `on_end` is called by the last step of each `drain`."""

    def __init__(self, on_end: Any = None, result_bytes: int = 0) -> None:
        value = "x" * (result_bytes - 2) if result_bytes else 1

        def work(number: int) -> Any:
            if number == STEPS_PER_RUN and on_end is not None:
                on_end()
            return value

        async def work_async(number: int) -> Any:
            return value

        step = DBOS.step(name="work")(work)
        step_async = DBOS.step(name="work_async")(work_async)

        def steps(count: int) -> int:
            for number in range(1, count + 1):
                step(number)
            return count

        async def fan(entries: int) -> int:
            return len(await asyncio.gather(*(step_async(number) for number in range(entries))))

        def parent() -> Any:
            return DBOS.start_workflow(self.steps, 1).get_result()

        async def wait() -> Any:
            return await DBOS.recv_async("answer", timeout_seconds=PATIENCE_SECONDS)

        self.steps = DBOS.workflow(name="steps")(steps)
        self.fan = DBOS.workflow(name="fan")(fan)
        self.parent = DBOS.workflow(name="parent")(parent)
        self.wait = DBOS.workflow(name="wait")(wait)


@contextlib.contextmanager
def launched(url: str, *, queue: bool = False, listening: bool = True) -> Iterator[None]:
    """DBOS with its workflows, and the queue if it needs one; if it does not listen, what is enqueued stays there."""
    DBOS(
        config={
            "name": "bench",
            "system_database_url": url,
            "application_version": "1",
            "executor_id": "bench",
            "log_level": "ERROR",
        }
    )
    if not listening:
        DBOS.listen_queues(["another"])
    DBOS.launch()
    if queue:
        DBOS.register_queue(
            QUEUE, worker_concurrency=1 if url.startswith("sqlite") else AT_ONCE, polling_interval_sec=POLL_SECONDS
        )
    try:
        yield
    finally:
        DBOS.destroy()


def enqueue(url: str, runs: int) -> int:
    """Leaves so many workflows of ten steps in the queue."""
    flows = Flows()
    with launched(url, queue=True, listening=False):
        for _ in range(runs):
            DBOS.enqueue_workflow(QUEUE, flows.steps, STEPS_PER_RUN)
    return runs


def drained(url: str, peer_runs: int, result_bytes: int = 0) -> dict[str, float]:
    """Steps a second from the launch until the last workflow is stored as a success."""
    call_in_child("peers.dbos_transact:enqueue", url=url, runs=peer_runs)
    done, ended = threading.Event(), itertools.count(1)

    def on_end() -> None:
        if next(ended) == peer_runs:
            done.set()

    Flows(on_end, result_bytes)
    began, cpu_began = time.perf_counter(), time.process_time()
    with launched(url, queue=True):
        assert done.wait(PATIENCE_SECONDS)
        while len(DBOS.list_workflows(status="SUCCESS", load_input=False, load_output=False)) < peer_runs:
            time.sleep(POLL_SECONDS)
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
    steps = peer_runs * STEPS_PER_RUN
    return {"steps_per_second": steps / seconds, "process_micros": cpu_seconds / steps * 1e6}


def alone(url: str, peer_runs: int, steps: int) -> dict[str, float]:
    """Milliseconds of a workflow that is called in this very process, one after the other."""
    flows = Flows()
    with launched(url):
        times = [_milliseconds(lambda: flows.steps(steps)) for _ in range(WARM_UP + peer_runs)][WARM_UP:]
    return {"p50_ms": statistics.median(times), "p99_ms": sorted(times)[int(len(times) * 0.99)]}


def _milliseconds(call: Any) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1_000


async def parallel(url: str, peer_runs: int, entries: int) -> dict[str, float]:
    """Milliseconds of an async workflow that gathers so many steps."""
    flows = Flows()
    times = []
    with launched(url):
        for _ in range(1 + peer_runs):
            began = time.perf_counter()
            handle = await DBOS.start_workflow_async(flows.fan, entries)
            assert await handle.get_result() == entries
            times.append((time.perf_counter() - began) * 1_000)
    return {"p50_ms": statistics.median(times[1:])}


def many(url: str, runs: int, peer_runs: int) -> dict[str, float]:
    """Seconds for all `runs`, from the first start to the last result, taken from those that were started."""
    flows = Flows()
    return _started_to_results(url, runs, peer_runs, flows.steps, 1)


def children(url: str, runs: int, peer_runs: int) -> dict[str, float]:
    """The same of parents that start a child each and wait for it."""
    flows = Flows()
    return _started_to_results(url, runs, peer_runs, flows.parent)


def _started_to_results(url: str, runs: int, peer_runs: int, flow: Any, *words: Any) -> dict[str, float]:
    with launched(url):
        began = time.perf_counter()
        handles = [DBOS.start_workflow(flow, *words) for _ in range(peer_runs)]
        for handle in handles:
            handle.get_result()
        return {"seconds": (time.perf_counter() - began) * runs / peer_runs}


async def signals(url: str, peer_runs: int) -> dict[str, float]:
    """Messages sent a second, at once, to workflows that wait for one."""
    flows = Flows()
    with launched(url):
        handles = [await DBOS.start_workflow_async(flows.wait) for _ in range(peer_runs)]
        await asyncio.sleep(1)
        began = time.perf_counter()
        await asyncio.gather(*(DBOS.send_async(handle.get_workflow_id(), 1, "answer") for handle in handles))
        seconds = time.perf_counter() - began
        assert all([await handle.get_result() == 1 for handle in handles])
    return {"signals_per_second": peer_runs / seconds}
