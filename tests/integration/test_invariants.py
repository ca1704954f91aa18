"""What must hold whatever goes wrong in the store: a lost answer, a slow disk, a commit that comes again too late."""

from __future__ import annotations

import asyncio
import copy
import logging
from collections import Counter
from typing import TYPE_CHECKING, Any

from stepwell import Context, Durable, StoreUnavailableError, durable
from stepwell.store.sqlite.connection import connect, location_of
from tests.api.running_fixtures import file_url
from tests.faulty import faulty_app
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pytest

    from stepwell import Workflow
    from stepwell.store.records import Advance, Verdict
    from tests.faulty import Commit

SLOW_DISK_SECONDS = 0.05


class Calls:
    """Handlers that count their calls, and what had been journaled when they began."""

    def __init__(self) -> None:
        self.calls = Counter[tuple[str, int | None]]()
        self.journaled: dict[str, set[str]] = {}
        self.reader: Durable | None = None

    async def handler(self, ctx: Context) -> str:
        """Count the call, and look into the journal."""
        self.calls[ctx.step, ctx.iteration] += 1
        if self.reader is not None:
            self.journaled[ctx.step] = {entry.node for entry in await self.reader.journal(ctx.run_id)}
        return ctx.step

    async def turn(self, given: Any, ctx: Context) -> str:
        """Count the call of a loop's handler."""
        return await self.handler(ctx)

    def workflow(self) -> Workflow:
        """A step, a parallel, a loop, a short sleep and a step."""
        flow: Workflow = (
            durable("flow")
            .step("first", self.handler)
            .parallel("both", {"left": self.handler, "right": self.handler})
            .loop("turns", self.turn, max_iterations=2)
            .sleep("rest", 0.01)
            .step("last", self.handler)
        )
        return flow


def errors_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged as an error: a run that had to be given back, though it then went on and came to the same."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


EACH_ONCE = Counter(
    [("first", None), ("left", None), ("right", None), ("turns", 1), ("turns", 2), ("rest", None), ("last", None)]
)


async def test_i1_a_commit_whose_answer_is_lost_is_journaled_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lost = 0

    async def forgetful(commit: Commit, worker_id: str, advances: Sequence[Advance]) -> list[Verdict]:
        nonlocal lost
        verdicts = await commit(worker_id, advances)
        lost += 1
        if lost % 2:
            raise StoreUnavailableError("faulty", "the answer was lost")
        return verdicts

    calls = Calls()
    app, faulty = faulty_app(file_url(tmp_path), [calls.workflow()])
    faulty.replace("commit", forgetful)
    async with app, app.worker():
        started = await app.start_many("flow", [1, 2, 3])
        for each in started:
            await app.result(each.run_id, timeout=PATIENCE)
            outcomes = [(entry.node, entry.iteration) for entry in await app.journal(each.run_id)]
            assert Counter(outcomes) == EACH_ONCE
    assert lost > 1
    assert set(calls.calls.values()) == {3}
    assert errors_in(caplog) == []


async def test_i1_a_commit_that_comes_again_after_the_next_one_is_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first: list[Advance] = []
    late: list[Verdict] = []

    async def repeating(commit: Commit, worker_id: str, advances: Sequence[Advance]) -> list[Verdict]:
        kept = copy.deepcopy(list(advances))
        verdicts = await commit(worker_id, advances)
        if first:
            late.extend(await commit(worker_id, first))
        else:
            first.extend(kept)
        return verdicts

    calls = Calls()
    app, faulty = faulty_app(file_url(tmp_path), [calls.workflow()])
    faulty.replace("commit", repeating)
    async with app, app.worker():
        started = await app.start("flow")
        await app.result(started.run_id, timeout=PATIENCE)
        outcomes = [(entry.node, entry.iteration) for entry in await app.journal(started.run_id)]
    assert Counter(outcomes) == EACH_ONCE
    assert set(calls.calls.values()) == {1}
    assert len(late) > 1
    assert set(late) == {"lost"}
    assert errors_in(caplog) == []


async def test_i2_nothing_begins_before_what_precedes_it_is_journaled(tmp_path: Path) -> None:
    async def slow(commit: Commit, worker_id: str, advances: Sequence[Advance]) -> list[Verdict]:
        await asyncio.sleep(SLOW_DISK_SECONDS)
        return await commit(worker_id, advances)

    calls = Calls()
    app, faulty = faulty_app(file_url(tmp_path), [calls.workflow()])
    faulty.replace("commit", slow)
    async with Durable(file_url(tmp_path)) as reader, app, app.worker():
        calls.reader = reader
        started = await app.start("flow")
        await app.result(started.run_id, timeout=PATIENCE)
    entries = {"first", "left", "right"}
    assert calls.journaled["first"] == set()
    assert {"first"} <= calls.journaled["left"] <= entries
    assert {"first"} <= calls.journaled["right"] <= entries
    assert calls.journaled["turns"] == entries | {"turns"}
    assert calls.journaled["last"] == entries | {"turns", "rest"}


async def test_i7_a_commit_is_on_the_disk_before_it_is_acknowledged(tmp_path: Path) -> None:
    async with Durable(file_url(tmp_path)):
        connection = connect(location_of(file_url(tmp_path)))
        try:
            full, wal = 2, "wal"
            assert connection.execute("PRAGMA synchronous").fetchone() == (full,)
            assert connection.execute("PRAGMA journal_mode").fetchone() == (wal,)
        finally:
            connection.close()
