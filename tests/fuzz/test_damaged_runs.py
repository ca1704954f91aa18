"""What becomes of runs whose rows were edited by hand: each damaged run is parked by name, alone, and can be canceled.

What another version of stepwell may have written is left as it is, too, and `status` says so.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import Durable, JournalError
from stepwell.core.statuses import LIVE
from tests.fuzz.damaged_store import HELD, PLAIN, RESULTS, DamagedStore, workflows
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from pathlib import Path

DUE = "UPDATE stepwell_runs SET due_at = 1 WHERE id = '{id}'; "
LAST = "(SELECT number FROM stepwell_names WHERE name = 'last')"
JOURNAL_OF = "WHERE ref = (SELECT ref FROM stepwell_runs WHERE id = '{id}')"


@pytest.fixture(scope="module")
def damaged_store(tmp_path_factory: pytest.TempPathFactory) -> DamagedStore:
    """A store with runs in all states."""
    return DamagedStore(tmp_path_factory.mktemp("damaged_store"))


class Copy:
    """A copy of the store, to be edited."""

    def __init__(self, damaged_store: DamagedStore, folder: Path) -> None:
        self._path = folder / "damaged.db"
        self.url = damaged_store.copy(self._path)
        self.ids = damaged_store.ids
        self.healthy = damaged_store.healthy

    def edit(self, name: str, script: str) -> str:
        """Runs the statements over the run of that name, and gives its id."""
        with closing(sqlite3.connect(self._path, timeout=PATIENCE)) as connection:
            connection.executescript(script.format(id=self.ids[name]))
        return self.ids[name]

    def stands(self, run_id: str) -> tuple[str, str]:
        """The run's status, and why it is parked as damaged."""
        query = "SELECT status, coalesce(damaged, '') FROM stepwell_runs WHERE id = ?"
        with closing(sqlite3.connect(self._path, timeout=PATIENCE)) as connection:
            status, damaged = connection.execute(query, (run_id,)).fetchone()
        return status, damaged

    def rows(self, name: str) -> list[tuple[Any, ...]]:
        """The run's journal as it is stored."""
        query = "SELECT seq, node, phase, status, error FROM stepwell_entries WHERE run_id = '{id}' ORDER BY seq"
        with closing(sqlite3.connect(self._path, timeout=PATIENCE)) as connection:
            return connection.execute(query.format(id=self.ids[name])).fetchall()


@pytest.fixture
def copy(damaged_store: DamagedStore, tmp_path: Path) -> Copy:
    """A copy of the store, for one test."""
    return Copy(damaged_store, tmp_path)


DAMAGE = {
    "a row is gone": (f"DELETE FROM stepwell_journal {JOURNAL_OF} AND seq = 2", "row 2 is missing"),
    "the last row is gone": (f"DELETE FROM stepwell_journal {JOURNAL_OF} AND seq = 15", "14 rows where 15"),
    "the first row is gone": (f"DELETE FROM stepwell_journal {JOURNAL_OF} AND seq = 1", "row 1 is missing"),
    "all rows are gone": (f"DELETE FROM stepwell_journal {JOURNAL_OF}", "0 rows where 15"),
    "a row of another node": (f"UPDATE stepwell_journal SET node = {LAST} {JOURNAL_OF} AND seq = 1", "row 1"),
    "a value that is no JSON": (
        f"UPDATE stepwell_journal SET value = x'00' {JOURNAL_OF} AND seq = 1",
        "row 1",
    ),
    "a value that is gone": (f"UPDATE stepwell_journal SET value = NULL {JOURNAL_OF} AND seq = 3", "row 3"),
    "a branch nobody has": (f"UPDATE stepwell_journal SET detail = x'61' {JOURNAL_OF} AND seq = 4", "row 4"),
    "an input that is no JSON": (f"UPDATE stepwell_inputs SET value = x'ff' {JOURNAL_OF}", "its input"),
    "an input that is gone": (f"DELETE FROM stepwell_inputs {JOURNAL_OF}", "its input"),
    "a journal said to be empty": ("UPDATE stepwell_runs SET seq = 0 WHERE id = '{id}'", "15 rows where 0"),
    "an end that never was": ("UPDATE stepwell_runs SET status = 'completed' WHERE id = '{id}'", "completed"),
    "a failure that never was": (
        "UPDATE stepwell_runs SET status = 'compensating' WHERE id = '{id}'",
        "no row",
    ),
}


@pytest.mark.parametrize("what", DAMAGE)
async def test_a_damaged_run_is_parked_by_name_alone_and_keeps_its_journal(copy: Copy, what: str) -> None:
    script, words = DAMAGE[what]
    run_id = copy.edit("half", DUE + script)
    before, status = copy.rows("half"), copy.stands(run_id)[0]
    async with Durable(copy.url, workflows()) as app, app.worker():
        for healthy in copy.healthy:
            assert await app.result(healthy, timeout=PATIENCE) == PLAIN
        await eventually(lambda: copy.stands(run_id)[1])
        await app.cancel(run_id)
        seen = await app.list(limit=1000)
    assert words in copy.stands(run_id)[1]
    assert copy.rows("half") == before
    assert [run.status for run in seen if run.run_id == run_id] == ["canceled" if status in LIVE else status]


async def test_a_damaged_run_tells_its_row_and_what_can_be_read(copy: Copy) -> None:
    run_id = copy.edit("half", DUE + f"DELETE FROM stepwell_journal {JOURNAL_OF} AND seq = 2")
    async with Durable(copy.url, workflows()) as app:
        before = await app.status(run_id)
        async with app.worker():
            await eventually(lambda: copy.stands(run_id)[1])
        after = await app.status(run_id)
        with pytest.raises(JournalError, match="row 2 is missing"):
            await app.journal(run_id)
    for run in (before, after):
        assert (run.status, run.damaged, run.error) == ("running", "row 2 is missing", None)
        assert run.results == {"first": {"n": 1}}


@pytest.mark.parametrize("word", ["status", "phase", "kind"])
async def test_what_another_version_may_have_written_is_left_alone_and_status_says_so(copy: Copy, word: str) -> None:
    was = copy.rows("half")
    keep = f"CREATE TABLE kept AS SELECT {word} AS word FROM stepwell_journal {JOURNAL_OF} AND seq = 15; "
    run_id = copy.edit("half", DUE + keep + f"UPDATE stepwell_journal SET {word} = 'of 2040' {JOURNAL_OF} AND seq = 15")
    async with Durable(copy.url, workflows()) as app:
        async with app.worker():
            await eventually(lambda: copy.stands(run_id)[1])
            damaged = (await app.status(run_id)).damaged
            assert f"{word} 'of 2040', which this version of stepwell does not know" in str(damaged)
        assert [run.status for run in await app.list() if run.run_id == run_id] == ["running"]
        copy.edit(
            "half", DUE + f"UPDATE stepwell_journal SET {word} = (SELECT word FROM kept) {JOURNAL_OF} AND seq = 15"
        )
        assert copy.rows("half") == was
        async with app.worker():
            assert await app.result(run_id, timeout=PATIENCE) == RESULTS


async def test_a_run_that_is_said_to_wait_for_a_signal_elsewhere_names_it(copy: Copy) -> None:
    run_id = copy.edit("half", "UPDATE stepwell_runs SET awaiting = 'nothing' WHERE id = '{id}'")
    async with Durable(copy.url) as app:
        assert "waits for signal 'nothing'; its node does not" in str((await app.status(run_id)).damaged)


@pytest.mark.parametrize("count", ["token", "seq", "crashes", "messages"])
@pytest.mark.parametrize("edited", [-1, 2**30, 2**63 - 1])
def test_the_tables_refuse_a_count_that_no_run_reaches(copy: Copy, count: str, edited: int) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
        copy.edit("half", f"UPDATE stepwell_runs SET {count} = {edited} WHERE id = '{{id}}'")


async def test_a_run_of_a_status_of_another_version_is_left_alone_and_holds_nobody_up(copy: Copy) -> None:
    run_id = copy.edit("half", DUE + "UPDATE stepwell_runs SET status = 'of 2040' WHERE id = '{id}'")
    async with Durable(copy.url, workflows()) as app, app.worker():
        for healthy in copy.healthy:
            assert await app.result(healthy, timeout=PATIENCE) == PLAIN
        snapshot = await app.status(run_id)
        assert snapshot.status == "of 2040"
        assert "'of 2040'" in str(snapshot.damaged)
        for ask in (app.result, lambda run_id: app.signal(run_id, "go")):
            with pytest.raises(JournalError, match="'of 2040'"):
                await ask(run_id)
    assert len(copy.rows("half")) == 15


async def test_an_error_that_cannot_be_read_costs_nothing_but_its_words(copy: Copy) -> None:
    run_id = copy.edit("half", DUE + f"UPDATE stepwell_journal SET error = x'ff' {JOURNAL_OF} AND seq = 15")
    async with Durable(copy.url, workflows()) as app, app.worker():
        assert await app.result(run_id, timeout=PATIENCE) == RESULTS
        (entry,) = [one for one in await app.journal(run_id) if one.status == "retrying"]
    assert entry.error is not None
    assert (entry.error.node, entry.error.type) == ("shaky", "JournalError")


async def test_an_outline_that_cannot_be_read_is_told_and_the_runs_go_on(copy: Copy) -> None:
    run_id = copy.edit("half", DUE + "UPDATE stepwell_definitions SET outline = x'ff'")
    async with Durable(copy.url, workflows()) as app, app.worker():
        for run in (await app.status(run_id), *await app.list()):
            assert run.damaged == "the stored outline of its workflow cannot be read"
        await eventually(lambda: copy.rows("half")[-1][1] == "last")


async def test_a_message_of_a_kind_of_another_version_stays_in_the_box(copy: Copy) -> None:
    run_id = copy.edit("waiting", "")
    async with Durable(copy.url, workflows()) as app:
        await app.signal(run_id, "go", "no")
        copy.edit("waiting", f"UPDATE stepwell_mailbox SET kind = 'bill' {JOURNAL_OF} AND name = 'go'; " + DUE)
        async with app.worker():
            for healthy in copy.healthy:
                assert await app.result(healthy, timeout=PATIENCE) == PLAIN
            await app.signal(run_id, "go", "yes")
            assert await app.result(run_id, timeout=PATIENCE) == RESULTS


async def test_messages_that_the_row_does_not_count_are_in_nobodys_way(copy: Copy) -> None:
    for name in ("parent", "kid"):
        copy.edit(name, "UPDATE stepwell_runs SET messages = 0 WHERE id = '{id}'")
    async with Durable(copy.url, workflows()) as app, app.worker():
        await app.signal(copy.ids["kid"], "hold", "now")
        assert await app.result(copy.ids["parent"], timeout=PATIENCE) == HELD


async def test_the_cancel_of_runs_that_are_each_others_parents_comes_to_an_end(copy: Copy) -> None:
    parent = copy.ids["parent"]
    copy.edit(
        "parent", f"UPDATE stepwell_runs SET parent_id = '{copy.ids['kid']}', parent_node = 'x' WHERE id = '{{id}}'"
    )
    async with Durable(copy.url, workflows()) as app:
        await app.cancel(parent)
        for run_id in (parent, copy.ids["kid"]):
            assert (await app.status(run_id)).status == "canceled"
