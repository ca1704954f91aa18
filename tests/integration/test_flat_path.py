"""The flat path and the general path over the same histories: the tables are equal, byte for byte.

Ids and chance come from a seed, and no time passes, so what differs is what the path did.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import Abort, Branch, Context, Durable, RunFailedError, Suspended, durable
from stepwell.engine.driving.flat import FlatRuns
from stepwell.store.sqlite.store import SqliteStore
from stepwell.testing.clock import VirtualRuntime
from tests.faulty import faulty_app
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stepwell import Workflow
    from stepwell.engine.driving.flat_run import FlatRun

BEGINS = 1_700_000_000_000_000
TABLES = ("runs", "inputs", "journal", "mailbox", "workers", "definitions")
ONCE_MORE: dict[str, Any] = {"max_retries": 1, "retry_backoff": 0}
COLOUR = contextvars.ContextVar("COLOUR", default="none")


class Runtime(VirtualRuntime):
    """Takes the flat path always, never, or every other time that it may."""

    def __init__(self, path: str) -> None:
        super().__init__(BEGINS, 1, seeded_ids=True)
        self.path = path
        self.asked = 0

    def goes_flat(self) -> bool:
        self.asked += 1
        return self.path == "flat" or (self.path == "either" and self.asked % 2 == 0)


async def name(ctx: Context) -> str:
    return ctx.step


async def seen(ctx: Context) -> dict[str, Any]:
    facts = [ctx.run_id, ctx.workflow, ctx.step, ctx.attempt, ctx.iteration, ctx.idempotency_key, ctx.resume_data]
    return {"facts": facts, "results": dict(ctx.results), "input": ctx.input}


async def waits(ctx: Context) -> str:
    for _ in range(3):
        await asyncio.sleep(0)
    return ctx.step


def in_a_thread(ctx: Context) -> str:
    return ctx.step


async def fails(ctx: Context) -> None:
    raise ValueError("no")


async def fails_once(ctx: Context) -> int:
    if ctx.attempt == 1:
        await asyncio.sleep(0)
        raise ValueError("once")
    return ctx.attempt


async def gives_up(ctx: Context) -> None:
    raise Abort("enough")


async def suspends(ctx: Context) -> Any:
    return Suspended({"asks": 1}) if ctx.resume_data is None else ctx.resume_data


async def suspends_by_dict(ctx: Context) -> Any:
    return {"status": "suspended", "state": 7} if ctx.resume_data is None else ctx.resume_data


async def no_suspension(ctx: Context) -> Any:
    return {"status": "suspended"}


async def no_json(ctx: Context) -> Any:
    return {"a": [1, {2}]}


class Text(str):
    """No value that comes back equal."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not comparable")

    __hash__ = str.__hash__


async def hostile(ctx: Context) -> Any:
    return {Text("status"): Text("suspended")}


async def cancels_itself(ctx: Context) -> int:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    return 1


async def runs_out_of_time(ctx: Context) -> None:
    await asyncio.Event().wait()


async def colours(ctx: Context) -> str:
    before = COLOUR.get()
    COLOUR.set(ctx.step)
    await asyncio.sleep(0)
    return before + COLOUR.get()


async def undo(ctx: Context) -> None:
    """A compensator."""


async def turn(given: Any, ctx: Context) -> int:
    return 1


def plain_steps() -> Workflow:
    flow = durable("flow")
    for at in range(4):
        flow.step(f"s{at}", seen)
    return flow


CHILD: Workflow = durable("sub").step("x", seen).step("y", name)
HISTORIES: dict[str, Callable[[], Workflow]] = {
    "plain steps": plain_steps,
    "one step": lambda: durable("flow").step("a", name),
    "values": lambda: durable("flow").step("a", no_suspension).step("b", seen),
    "waits": lambda: durable("flow").step("a", waits).step("b", name).step("c", waits).step("d", colours),
    "colours": lambda: durable("flow").step("a", colours).step("b", colours).step("c", seen),
    "threads": lambda: durable("flow").step("a", in_a_thread).step("b", name).step("c", in_a_thread),
    "fails once": lambda: durable("flow").step("a", name).step("b", fails_once, **ONCE_MORE).step("c", seen),
    "fails": lambda: durable("flow").step("a", name, compensate=undo).step("b", fails, **ONCE_MORE),
    "is undone": lambda: (
        durable("flow")
        .step("a", name, compensate=undo)
        .step("b", seen)
        .step("c", waits, compensate=undo)
        .step("d", gives_up)
        .step("e", name)
    ),
    "suspends": lambda: durable("flow").step("a", name).step("ask", suspends).step("b", seen).step("c", name),
    "suspends by dict": lambda: durable("flow").step("ask", suspends_by_dict).step("b", seen),
    "no json": lambda: durable("flow").step("a", name).step("b", no_json),
    "hostile": lambda: durable("flow").step("a", hostile, max_retries=0),
    "cancels itself": lambda: durable("flow").step("a", cancels_itself, max_retries=0),
    "runs out of time": lambda: (
        durable("flow").step("a", name).step("b", runs_out_of_time, timeout=0.01, max_retries=0)
    ),
    "other nodes": lambda: (
        durable("flow")
        .step("a", name)
        .route("way", seen_way, {"left": name, "right": Branch(name)})
        .step("b", seen, when=always)
        .step("c", seen, when=never)
        .parallel("both", {"x": name, "y": waits})
        .step("d", name)
        .loop("turns", turn, max_iterations=2)
        .wait_for_signal("ask", "ask")
        .step("e", seen)
        .step("f", name)
    ),
    "a child": lambda: durable("flow").step("a", name).child_workflow("sub", CHILD).step("b", seen),
}


async def seen_way(ctx: Context) -> str:
    return "left"


def always(ctx: Context) -> bool:
    return True


def never(ctx: Context) -> bool:
    return False


async def tables_after(flow: Workflow, path: str) -> dict[str, list[tuple[Any, ...]]]:
    """What the store holds once the runs have ended; two of them, so that they meet in batches."""
    runtime = Runtime(path)
    store = SqliteStore("sqlite://", runtime)
    await store.migrate()
    async with Durable(workflows=[flow, CHILD], store=store, runtime=runtime) as app:
        run_ids = [started.run_id for started in await app.start_many(flow, [{"n": 1}, {"n": 2}])]
        async with app.worker(concurrency=8):
            for run_id in run_ids:

                async def ended(run_id: str = run_id) -> bool:
                    snapshot = await app.status(run_id)
                    if snapshot.status == "suspended" and "ask" in flow_names(flow):
                        await app.resume(run_id, "ask", {"told": run_id})
                    return snapshot.finished_at is not None

                await eventually(ended)
        connection = store._in_memory()
        return {name: connection.execute(f"SELECT * FROM stepwell_{name} ORDER BY 1, 2").fetchall() for name in TABLES}


def flow_names(flow: Workflow) -> list[str]:
    return [node.name for node in flow.nodes]


@pytest.mark.parametrize("history", HISTORIES)
async def test_both_paths_leave_the_same_bytes_in_every_table(history: str, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = list[str]()
    add = FlatRuns.add

    def note(self: FlatRuns, run: FlatRun) -> None:
        taken.append(run.run_id)
        add(self, run)

    monkeypatch.setattr(FlatRuns, "add", note)
    general = await tables_after(HISTORIES[history](), "general")
    assert taken == []
    assert len(general["journal"]) > 0
    for path in ("flat", "either"):
        assert await tables_after(HISTORIES[history](), path) == general
    assert taken


def four(handler: Callable[[Context], Any], name: str = "flow") -> Workflow:
    flow = durable(name)
    for at in range(4):
        flow.step(f"s{at}", handler)
    return flow


async def test_i2_a_plain_step_begins_once_the_row_before_it_is_stored(tmp_path: Path) -> None:
    stored = dict[str, list[str]]()

    async def look(ctx: Context) -> int:
        with contextlib.closing(sqlite3.connect(tmp_path / "store.db")) as connection:
            stored[ctx.step] = [
                node for (node,) in connection.execute("SELECT node FROM stepwell_entries ORDER BY seq")
            ]
        return 1

    flow = four(look)
    async with Durable(f"sqlite:///{tmp_path / 'store.db'}", [flow]) as app, app.worker():
        await app.result((await app.start(flow)).run_id, timeout=PATIENCE)
    assert stored == {f"s{at}": [f"s{before}" for before in range(at)] for at in range(4)}


async def test_i9_a_run_that_is_canceled_while_its_row_is_committed_is_not_called_again(tmp_path: Path) -> None:
    called = list[str]()

    async def note(ctx: Context) -> int:
        called.append(ctx.step)
        return 1

    flow = four(note)
    app, faulty = faulty_app(f"sqlite:///{tmp_path / 'store.db'}", [flow])
    async with app, app.worker():
        commit = faulty.stop_after("commit", lambda worker, advances: True)
        run_id = (await app.start(flow)).run_id
        await commit.reached()
        await app.cancel(run_id)
        assert await commit.released() == ["ok"]
        other = (await app.start(flow)).run_id
        await app.result(other, timeout=PATIENCE)
        assert (await app.status(run_id)).status == "canceled"
    assert called == ["s0", "s0", "s1", "s2", "s3"]


async def test_i3_a_run_whose_row_is_refused_as_lost_is_not_called_again(tmp_path: Path) -> None:
    called = list[str]()

    async def note(ctx: Context) -> int:
        called.append(ctx.step)
        return 1

    flow = four(note)
    app, faulty = faulty_app(f"sqlite:///{tmp_path / 'store.db'}", [flow])
    async with app, app.worker() as worker:
        commit = faulty.stop_before("commit", lambda worker, advances: True)
        run_id = (await app.start(flow)).run_id
        await commit.reached()
        with contextlib.closing(sqlite3.connect(tmp_path / "store.db")) as connection, connection:
            connection.execute("UPDATE stepwell_runs SET token = token + 1, worker = 'another'")
        assert await commit.released() == ["lost"]
        await eventually(lambda: not worker._worker_session.held)
        assert (await app.journal(run_id)) == []
    assert called == ["s0"]


async def test_i4_a_worker_that_stops_gives_a_run_back_between_two_plain_steps(tmp_path: Path) -> None:
    called = list[str]()
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def note(ctx: Context) -> int:
        called.append(ctx.step)
        if len(called) == 2:
            begun.set()
            await go_on.wait()
        return 1

    flow = four(note)
    async with Durable(f"sqlite:///{tmp_path / 'store.db'}", [flow]) as app:
        run_id = (await app.start(flow)).run_id
        async with app.worker() as worker:
            await begun.wait()
            asyncio.get_running_loop().call_later(0.05, go_on.set)
        assert called == ["s0", "s1"]
        assert not worker._worker_session.held
        async with app.worker():
            await app.result(run_id, timeout=PATIENCE)
    assert called == ["s0", "s1", "s2", "s3"]


async def test_a_turn_of_the_event_loop_calls_handlers_for_a_few_milliseconds_alone() -> None:
    """Here for none: one handler a turn, and what else the loop has to do comes between."""
    turns, called = 0, list[int]()

    async def note(ctx: Context) -> int:
        called.append(turns)
        return 1

    def count() -> None:
        nonlocal turns
        turns += 1
        asyncio.get_running_loop().call_soon(count)

    runtime, flow = Runtime("flat"), four(note)
    store = SqliteStore("sqlite://", runtime)
    await store.migrate()
    async with Durable(workflows=[flow], store=store, runtime=runtime) as app:
        run_ids = [started.run_id for started in await app.start_many(flow, [None] * 20)]
        count()
        async with app.worker(concurrency=20):
            for run_id in run_ids:
                await app.result(run_id, timeout=PATIENCE)
    assert len(set(called)) == len(called) == 80


async def test_plain_steps_that_wait_hold_slots_and_those_beyond_wait_for_one() -> None:
    in_flight, most = 0, 0

    async def note(ctx: Context) -> int:
        nonlocal in_flight, most
        in_flight += 1
        most = max(most, in_flight)
        await asyncio.sleep(0.001)
        in_flight -= 1
        return 1

    flow = four(note)
    async with Durable("sqlite://", [flow]) as app:
        run_ids = [started.run_id for started in await app.start_many(flow, [None] * 20)]
        async with app.worker(concurrency=3):
            for run_id in run_ids:
                await app.result(run_id, timeout=PATIENCE)
    assert most == 3


async def test_a_run_is_called_whenever_the_slot_it_lacked_becomes_free() -> None:
    """Two runs and one slot: the second looks for it in each of the turns about the end of the first one's handler."""

    async def wait(ctx: Context) -> None:
        for _ in range(ctx.input):
            await asyncio.sleep(0)

    flow = durable("flow").step("wait", wait)
    async with Durable("sqlite://", [flow]) as app, app.worker(concurrency=1):
        for first_turns in range(8):
            for between in range(12):
                first = await app.start(flow, first_turns)
                for _ in range(between):
                    await asyncio.sleep(0)
                second = await app.start(flow, 1)
                for each in (first, second):
                    await app.result(each.run_id, timeout=PATIENCE)


@pytest.mark.parametrize("turns", [0, 10], ids=["at once", "later"])
async def test_i9_a_handler_that_waits_is_canceled_with_its_run_and_its_outcome_does_not_count(turns: int) -> None:
    begun, ended, canceled = asyncio.Event(), asyncio.Event(), list[str]()

    async def note(ctx: Context) -> int:
        for _ in range(turns):
            await asyncio.sleep(0)
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            canceled.append(ctx.step)
        ended.set()
        return 1

    flow = four(note)
    async with Durable("sqlite://", [flow]) as app, app.worker():
        run_id = (await app.start(flow)).run_id
        await begun.wait()
        await app.cancel(run_id)
        await ended.wait()
        assert (await app.status(run_id)).status == "canceled"
        assert await app.journal(run_id) == []
    assert canceled == ["s0"]


async def test_i9_a_run_that_is_canceled_while_it_is_ready_is_not_called() -> None:
    """Twenty runs are ready, and one is called a turn: there are turns enough to cancel the last one."""
    called, canceling = list[str](), list[asyncio.Task[Any]]()

    async def note(ctx: Context) -> int:
        called.append(ctx.run_id)
        if len(called) == 1:
            canceling.append(asyncio.create_task(app.cancel(run_ids[-1])))
        return 1

    runtime, flow = Runtime("flat"), four(note)
    store = SqliteStore("sqlite://", runtime)
    await store.migrate()
    async with Durable(workflows=[flow], store=store, runtime=runtime) as app:
        run_ids = [started.run_id for started in await app.start_many(flow, [None] * 20)]
        async with app.worker(concurrency=20):
            for run_id in run_ids[:-1]:
                await app.result(run_id, timeout=PATIENCE)
        assert (await app.status(run_ids[-1])).status == "canceled"
    assert run_ids[-1] not in called


async def test_i5_plain_steps_that_completed_are_undone_in_reverse() -> None:
    undone = list[str]()

    async def undo_it(ctx: Context) -> None:
        undone.append(ctx.step)

    flow: Workflow = durable("flow").step("a", name, compensate=undo_it).step("b", name)
    flow.step("c", waits, compensate=undo_it).step("d", gives_up)
    async with Durable("sqlite://", [flow]) as app, app.worker():
        with pytest.raises(RunFailedError):
            await app.result((await app.start(flow)).run_id, timeout=PATIENCE)
    assert undone == ["c", "a"]
