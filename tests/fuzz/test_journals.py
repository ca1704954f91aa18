"""Stores that were edited by hand or half-written: a clear error or the right answer, never a wrong one or a hang.

Each example damages one row of every run of a store, in every state there is, and then asks everything of it, with a
worker beside healthy runs.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwell import Durable, DurableError, RunStatus
from tests.fuzz.damaged_store import (
    HELD,
    PLAIN,
    RESULTS,
    STATES,
    DamagedStore,
    add,
    replace,
    rows_of,
    workflows,
)
from tests.fuzz.profile import examples
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

VICTIMS = [*STATES, "kid"]
ITSELF = "the run's own id"
NUMBERS = [-(2**63), -(2**62), -1, 0, 1, 2, 99, 2**62, 2**63 - 1]
GARBAGE = [b"", b"\xff", b"\0", b'"cut of', b"nul", b'1,"x":2', b"{}}", b"[" * 5_000, b"1e999"]
WORDS = ["", "nonsense", "first", "both", "sea", "#1", "#x", "x", "go", "\0", "'"]
STATUSES = [*map(str, RunStatus), "retrying", "skipped", "zombie", ""]
JOURNAL: dict[str, list[Any]] = {
    "seq": NUMBERS,
    "node": NUMBERS,
    "item": WORDS,
    "phase": ["choose", "do", "undo", "read", "redo", ""],
    "n": NUMBERS,
    "kind": [None, "step", "sleep", "signal", "child", "compensate", "dream"],
    "attempt": [None, *NUMBERS],
    "status": [None, *STATUSES],
    "value": [None, *GARBAGE],
    "detail": [
        None,
        *GARBAGE,
        b"next",
        b"next x 1",
        b"next 1 ",
        b"next 99999999999999999999999999 -",
        b"next " + b"9" * 5_000 + b" -",
        b"air",
    ],
    "error": [None, *GARBAGE, b'{"node":1}', b'{"node":"n","type":"t","message":"m"}'],
    "retry_at": [None, *NUMBERS],
    "started_at": NUMBERS,
    "finished_at": NUMBERS,
    "worker": NUMBERS,
    "name": WORDS,
}
RUNS: dict[str, list[Any]] = {
    "workflow": ["nonsense", "plain"],
    "key": ["k"],
    "status": STATUSES,
    "position": NUMBERS,
    "worker": ["ghost", ""],
    "token": NUMBERS,
    "seq": [*range(8), *NUMBERS],
    "messages": NUMBERS,
    "crashes": NUMBERS,
    "due_at": [None, *NUMBERS],
    "wake_at": [None, *NUMBERS],
    "awaiting": [None, *WORDS, "agent", "hold"],
    "parked_at": [None, *NUMBERS],
    "parent_id": ["nonsense", "", ITSELF],
    "parent_node": [None, "nonsense"],
    "created_at": NUMBERS,
    "updated_at": NUMBERS,
    "finished_at": [None, *NUMBERS],
}
MAILBOX: dict[str, list[Any]] = {
    "n": NUMBERS,
    "kind": ["signal", "child", "bill"],
    "name": WORDS,
    "value": [None, *GARBAGE],
    "error": [None, *GARBAGE],
    "key": ["k"],
    "taken": [0, 1, 7],
    "delivered_at": [None, *NUMBERS],
    "receipt": [None, *GARBAGE],
}
INPUTS: dict[str, list[Any]] = {"value": GARBAGE}
COLUMNS = {"journal": JOURNAL, "runs": RUNS, "mailbox": MAILBOX, "inputs": INPUTS}
CHANGES = [
    (table, column, value) for table, columns in COLUMNS.items() for column in columns for value in columns[column]
]
LOSSES = [("journal", "lost", None), ("journal", "twice", None), ("journal", "swapped", None), ("inputs", "lost", None)]
DAMAGE = st.tuples(st.integers(0, 99), st.sampled_from(CHANGES) | st.sampled_from([*LOSSES, ("mailbox", "lost", None)]))


@pytest.fixture(scope="module")
def damaged_store(tmp_path_factory: pytest.TempPathFactory) -> DamagedStore:
    """A store with runs in all states."""
    return DamagedStore(tmp_path_factory.mktemp("damaged_store"))


def damage(connection: sqlite3.Connection, ref: int, place: int, change: tuple[str, str, Any]) -> None:
    """Changes one row of the run, where there is one and the tables take it."""
    table, column, value = change
    rows = rows_of(connection, table, ref)
    if not rows:
        return
    row = rows[place % len(rows)]
    connection.execute("SAVEPOINT one")
    try:
        if column == "lost":
            replace(connection, table, row, None)
        elif column == "twice":
            add(connection, table, {**row, "seq": len(rows) + 1, "n": place % 4})
        elif column == "swapped":
            other = rows[(place + 1) % len(rows)]
            replace(connection, table, other, None)
            replace(connection, table, row, {**row, "seq": other["seq"]})
            add(connection, table, {**other, "seq": row["seq"]})
        else:
            replace(connection, table, row, {**row, column: row["id"] if value == ITSELF else value})
    except (sqlite3.IntegrityError, OverflowError):
        connection.execute("ROLLBACK TO one")


class Raised(logging.Handler):
    """Keeps what was logged with the traceback of an error that is none of ours."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps the error, unless it is one that a handler raised."""
        error = record.exc_info[1] if record.exc_info and not hasattr(record, "event") else None
        if error is not None and not isinstance(error, DurableError):
            self.errors.append(error)


@asynccontextmanager
async def entered(url: str) -> AsyncIterator[Durable]:
    """The app over a damaged store; whatever a worker has to say, it is no raw error."""
    raised, log = Raised(), logging.getLogger("stepwell")
    log.addHandler(raised)
    try:
        async with Durable(url, workflows()) as app:
            yield app
    finally:
        log.removeHandler(raised)
    for error in raised.errors:
        raise error


async def answered(call: Awaitable[Any]) -> Any:
    """What a call gives, or the clear error it raises; anything else it raises fails the test, and so does a hang."""
    try:
        return await asyncio.wait_for(call, PATIENCE)
    except DurableError as error:
        raised = error
    assert str(raised).isprintable()
    return raised


async def result(app: Durable, run_id: str) -> Any:
    """The run's results, None while there are none, or the error that it ended with."""
    try:
        return await app.result(run_id, timeout=0)
    except TimeoutError:
        return None


async def look(app: Durable, ids: dict[str, str]) -> None:
    """Asks everything of all runs; what is answered is right."""
    await answered(app.list())
    snapshots = await all_of(app.status, ids)
    for run_id, snapshot in zip(ids.values(), snapshots, strict=True):
        if not isinstance(snapshot, DurableError):
            assert snapshot.run_id == run_id
            assert snapshot.damaged or 0 <= snapshot.current_step <= snapshot.total_steps
    await all_of(app.journal, ids)
    for name, found in zip(ids, await all_of(lambda run_id: result(app, run_id), ids), strict=True):
        check_result(name, found)


async def all_of(call: Callable[[str], Awaitable[Any]], ids: dict[str, str]) -> list[Any]:
    """What a call answers about each of the runs, asked at once."""
    return await asyncio.gather(*(answered(call(run_id)) for run_id in ids.values()))


def check_result(name: str, found: Any) -> None:
    """Fails for results other than the run's."""
    if found is None or isinstance(found, DurableError):
        return
    right = {"inner": "inner", "held": "now"} if name == "kid" else HELD if name == "parent" else RESULTS
    assert found == right, name


async def go_through(url: str, ids: dict[str, str], healthy: list[str]) -> None:
    """Does everything there is with a damaged store."""
    async with entered(url) as app:
        await look(app, ids)
        async with app.worker(grace=0):
            for run_id in healthy:
                assert await app.result(run_id, timeout=PATIENCE) == PLAIN
            await all_of(lambda run_id: app.signal(run_id, "go", "yes"), ids)
            await all_of(lambda run_id: app.resume(run_id, "agent", {"ok": True}), ids)
            await all_of(lambda run_id: app.signal(run_id, "hold", "now"), ids)
            await answered(app.recover())
            more = [one.run_id for one in await app.start_many("plain", [None] * 3)]
            for run_id in more:
                assert await app.result(run_id, timeout=PATIENCE) == PLAIN
            await look(app, ids)
        await all_of(app.cancel, ids)
        await look(app, ids)


@examples(14)
@given(changes=st.lists(DAMAGE, min_size=len(VICTIMS), max_size=len(VICTIMS)))
def test_whatever_was_done_to_a_store_it_gives_right_answers_or_clear_errors(
    damaged_store: DamagedStore,
    tmp_path_factory: pytest.TempPathFactory,
    changes: list[tuple[int, tuple[str, str, Any]]],
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "damaged.db"
    url = damaged_store.copy(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "UPDATE stepwell_runs SET due_at = 1 WHERE status IN ('running', 'suspended', 'compensating')"
        )
        for name, (place, change) in zip(VICTIMS, changes, strict=True):
            damage(connection, damaged_store.refs[damaged_store.ids[name]], place, change)
    asyncio.run(go_through(url, damaged_store.ids, damaged_store.healthy))
