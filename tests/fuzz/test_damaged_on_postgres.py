"""The same rules on PostgreSQL, a row of each table at a time: each damaged run is parked by name, alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepwell import Durable, durable
from tests.postgres import execute, fresh_url
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from stepwell import Workflow

RESULTS = {"one": 1, "two": 2, "sign": "yes", "more": 1}
RUN = "run_id = '{id}'"
DAMAGE = {
    "a row is gone": (f"DELETE FROM journal WHERE {RUN} AND seq = 1", "row 1 is missing"),
    "the last row is gone": (f"DELETE FROM journal WHERE {RUN} AND seq = 2", "1 rows where 2"),
    "a value that is no JSON": (f"UPDATE journal SET value = '\\x00' WHERE {RUN} AND seq = 1", "the value of row 1"),
    "an input that is no JSON": (f"UPDATE inputs SET value = '\\xff' WHERE {RUN}", "its input"),
    "an input that is gone": (f"DELETE FROM inputs WHERE {RUN}", "its input"),
    "a failure that never was": ("UPDATE runs SET status = 'compensating' WHERE id = '{id}'", "no row tells"),
    "a letter that is no JSON": (f"UPDATE mailbox SET value = '\\x', name = 'go' WHERE {RUN}", "message 1"),
}


def flow() -> Workflow:
    """Two steps, and a wait."""
    return (
        durable("flow")
        .step("one", lambda ctx: 1)
        .step("two", lambda ctx: 2)
        .wait_for_signal("sign", "go")
        .wait_for_signal("more", "more")
    )


def edit(url: str, statement: str, run_id: str) -> None:
    """Runs the statement over a run, and makes the run due."""
    due = "UPDATE runs SET due_at = 1 WHERE id = '{id}'"
    path = f'SET search_path = "{url.rpartition("=")[2]}"'
    execute("; ".join((path, statement.format(id=run_id), due.format(id=run_id))))


async def filled(url: str, count: int) -> list[str]:
    """So many runs that wait for their signal, with an unread letter in each one's box."""
    async with Durable(url, [flow()]) as app:
        ids = [started.run_id for started in await app.start_many("flow", [None] * count)]
        async with app.worker():

            async def all_wait() -> bool:
                return all(run.awaiting_signal == "go" for run in await app.list())

            await eventually(all_wait)
        for run_id in ids:
            await app.signal(run_id, "more", 1)
    return ids


async def test_damaged_and_strange_runs_are_parked_by_name_alone() -> None:
    url = fresh_url()
    *damaged, strange, healthy = await filled(url, len(DAMAGE) + 2)
    for run_id, (statement, _) in zip(damaged, DAMAGE.values(), strict=True):
        edit(url, statement, run_id)
    edit(url, f"UPDATE journal SET kind = 'of 2040' WHERE {RUN} AND seq = 2", strange)
    async with Durable(url, [flow()]) as app:

        async def reasons() -> dict[str, str | None]:
            return {run.run_id: run.damaged for run in await app.list()}

        async def all_are_parked() -> bool:
            found = await reasons()
            return all(found[run_id] is not None for run_id in (*damaged, strange))

        async with app.worker():
            await app.signal(healthy, "go", "yes")
            assert await app.result(healthy, timeout=PATIENCE) == RESULTS
            await eventually(all_are_parked)
        found = await reasons()
        for run_id, (_, words) in zip(damaged, DAMAGE.values(), strict=True):
            assert words in str(found[run_id])
            await app.cancel(run_id)
        assert "kind 'of 2040', which this version" in str(found[strange])
        edit(url, f"UPDATE journal SET kind = 'step' WHERE {RUN} AND seq = 2", strange)
        async with app.worker():
            await app.signal(strange, "go", "yes")
            assert await app.result(strange, timeout=PATIENCE) == RESULTS
            assert {run.status for run in await app.list() if run.run_id in damaged} == {"canceled"}


async def test_the_cancel_of_a_run_that_is_its_own_parent_comes_to_an_end() -> None:
    url = fresh_url()
    (run_id,) = await filled(url, 1)
    edit(url, "UPDATE runs SET parent_id = id, parent_node = 'x' WHERE id = '{id}'", run_id)
    async with Durable(url, [flow()]) as app:
        await app.cancel(run_id)
        assert (await app.status(run_id)).status == "canceled"
