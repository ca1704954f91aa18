"""What PostgreSQL does for each named query over 100,000 runs: its indexes, and the pages it reads.

The plans are those of the statements that the store itself runs, told by `auto_explain` on its connections. Each
verb is used four times: on tables of a few rows that nobody ever analysed; on the same tables, grown to 100,000 runs,
with the plans made before; with new plans, the tables still not analysed; and after ANALYZE.
Pages are counted, never times.
"""

from __future__ import annotations

import asyncio
from itertools import combinations
from typing import TYPE_CHECKING, Any

import pytest

from stepwell.core.mailbox import MessageName
from stepwell.core.needed import Needed
from stepwell.runtime.system import SystemRuntime
from stepwell.store.postgres.sql import Queries
from stepwell.store.records import Definition, Filter, Lane, NewRun, Wanted
from tests.conformance.keeper import awaiting, end_of_child, ended, grown, parked, row, step, usual
from tests.plans import Plan, Told, telling
from tests.postgres import apart
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepwell.store.postgres.store import PostgresStore

RUNS = 100_000
LANES = [Definition(Lane("durable", f"flow{number}", "v1"), b'{"nodes":[]}') for number in range(4)]
WHEN = ("on a few rows", "with the plans from then", "never analysed", "analysed")
HOT = {"runs", "journal", "mailbox", "inputs"}
INDEXES = {
    "append": "runs_pkey",
    "cancel": "runs_pkey",
    "change": "runs_pkey mailbox_pkey mailbox_unread journal_key",
    "claim": "runs_due runs_suspect runs_pkey inputs_pkey",
    "extend": "runs_pkey",
    "find_ended": "runs_pkey",
    "parent_of": "runs_pkey",
    "find_key": "runs_key inputs_pkey",
    "find_keyed_message": "mailbox_key",
    "find_messages": "mailbox_unread",
    "find_ref": "runs_pkey",
    "find_result": "runs_pkey inputs_pkey journal_key",
    "find_run": "runs_pkey inputs_pkey",
    "find_tree": "runs_pkey runs_parent",
    "free_runs": "runs_worker runs_pkey",
    "free_crashed": "runs_worker runs_pkey",
    "give_back": "runs_pkey",
    "has_message_key": "mailbox_key",
    "held": "runs_worker",
    "held_by_worker": "runs_worker",
    "journal_sizes": "journal_key",
    "journal_of": "journal_key",
    "journal_parts": "journal_key",
    "list_runs_by_id": "runs_pkey",
    "list_workers": "runs_worker",
    "living_children": "runs_parent",
    "open_retries": "journal_retrying journal_key",
    "unread_signals": "mailbox_unread",
    "lane_of": "runs_pkey",
    "lock_tree": "runs_pkey",
    "owned": "runs_worker",
    "request_cancel": "runs_parent runs_pkey",
    "message_counts": "runs_pkey",
    "tell_parent": "runs_pkey",
    "deliver_signal": "runs_pkey",
    "deliver_signals": "runs_pkey",
    "park_damaged": "runs_pkey",
    "recheck_damaged": "runs_damaged runs_pkey",
    "sweep_orphans": "runs_worker runs_pkey",
    "sweep_stranded": "runs_status runs_parent mailbox_unread runs_pkey",
    "failure_rows": "journal_telling",
}
"""The indexes by which a query reads the tables that grow; those of pages are added below."""
PAGE_FILTERS = {"status": "failed", "workflow": "flow1", "key": "key70", "parent_id": None, "before": None}
"""What a page can be asked for; where there is no value it is a run's id."""
ASKED = [(), *((name,) for name in PAGE_FILTERS), *combinations(PAGE_FILTERS, 2), ("status", "workflow", "before")]
for _names in ASKED:
    _by = next((name for name in ("key", "parent_id") if name in _names), None)
    _found = {"key": "runs_key", "parent_id": "runs_parent"}.get(_by or "") or "_".join(
        ["runs", *(name for name in ("workflow", "status") if name in _names)]
    )
    INDEXES[" by ".join(["list_runs", *("id" if name == "before" else name for name in _names)])] = (
        "runs_pkey" if _found == "runs" else _found
    )
OR_BY = {
    "unread_signals": {"mailbox_pkey"},
    "give_back": {"runs_worker"},
}
"""What else a query may do, before anybody has analysed the tables or after: it reads a few runs more."""
READ_NOTHING_THAT_GROWS = {
    "add_lane",
    "add_message",
    "add_names",
    "add_runs",
    "beat",
    "delete_worker",
    "enlist",
    "find_lane",
}
ONCE = {"has_schema", "schema_version", "record_migration"}
"""Asked when a store is opened or migrated."""
FROM_AN_END = {("held_by_worker", "runs_worker"), ("list_runs", "runs_pkey"), ("list_workers", "runs_worker")}
"""Indexes that are read from one end, without a condition, as far as a LIMIT goes."""
FEW_PAGES = 60
PAGES = {
    "add_runs": 40 * 14,  # a new run is entered into eight indexes
    "change": 40 * 5,  # as is one that is claimed, parked or ended
    "claim": 40 * 6,
    "extend": 32 * 6,  # with the names of its rows, and the catalog's pages of the journal's indexes
    "free_crashed": 40 * 6,
    "has_schema": 400,  # the catalog, with the tables of every schema that the other tests made
    "journal_of": 6 * 14,  # with the two names of each row
    "journal_parts": 6 * 3 * 8,  # some nodes of some runs, and the two names of each row
    "list_runs": 5 * 100,  # a page of runs, anywhere in the table, each with its outline
    "held_by_worker": 2 * RUNS // 100,  # all runs that are leased
    "sweep_orphans": 2 * RUNS // 100,  # all runs that are leased; asked by hand alone, as is the next
    "sweep_stranded": 5 * RUNS // 10,  # all runs that are parked, their children and messages
}
"""How many pages a query may look at, where that is more than a few; the table of runs has some 3,000."""
FEW_ROWS = 100
ROWS = {"sweep_stranded": RUNS}
"""How many rows it may look at in vain."""
SEED = """
INSERT INTO {schema}.workers SELECT 'worker' || g, 0, 0, 'far', g FROM generate_series(0, 9) AS g;
INSERT INTO {schema}.runs (id, lane, workflow, key, status, position, token, seq, messages, crashes, worker, due_at,
    wake_at, awaiting, parked_at, parent_id, parent_node, created_at, updated_at, finished_at)
SELECT {id}, 1 + g / 100 % 4, 'flow' || g / 100 % 4, CASE WHEN g % 10 = 0 THEN 'key' || g END,
    CASE WHEN p < 20 THEN 'completed' WHEN p < 25 THEN 'failed' WHEN p < 30 THEN 'canceled'
        WHEN p BETWEEN 80 AND 89 OR p = 98 THEN 'suspended' WHEN p < 80 THEN 'pending' ELSE 'running' END,
    1, 1, 1, (p = 80)::integer, CASE WHEN g % 1000 = 96 THEN 2 ELSE 0 END,
    CASE WHEN p = 97 THEN 'worker' || g / 100 % 10 END,
    CASE WHEN p BETWEEN 90 AND 94 THEN {soon} + g WHEN p BETWEEN 30 AND 79 OR p IN (95, 96, 97, 99) THEN g END,
    CASE WHEN p BETWEEN 90 AND 94 THEN {soon} + g END, CASE WHEN p BETWEEN 80 AND 89 THEN 'go' END,
    CASE WHEN p BETWEEN 80 AND 94 OR p = 98 THEN 1 END,
    CASE WHEN p = 99 THEN {parent} END, CASE WHEN p = 99 THEN 'child' END, g, g, CASE WHEN p < 30 THEN g END
FROM generate_series(1, {runs}) AS g, LATERAL (SELECT g % 100 AS p) AS place;
INSERT INTO {schema}.inputs SELECT id, '{{}}' FROM {schema}.runs ON CONFLICT DO NOTHING;
INSERT INTO {schema}.names (name) VALUES ('step1'), ('worker0') ON CONFLICT DO NOTHING;
INSERT INTO {schema}.journal (run_id, started_at, finished_at, seq, node, worker, value)
    SELECT id, 1, 2, 1, 1, 2, '1' FROM {schema}.runs
    WHERE created_at BETWEEN 1 AND {runs} AND seq = 1;
INSERT INTO {schema}.mailbox SELECT id, 1, 'signal', 'other', '1', NULL, 'key', NULL, false, 1, NULL FROM {schema}.runs
    WHERE created_at BETWEEN 1 AND {runs} AND messages = 1;
"""
RUN_ID = "(lpad(to_hex(1700000000000 + {}), 12, '0') || '70008000' || lpad(to_hex({}), 12, '0'))::uuid"


async def use(store: PostgresStore, beside: Any, worker: str) -> None:
    """Every verb of the store once, on a few runs."""
    host = SystemRuntime()
    lanes = await store.define(LANES)
    heartbeat_connections = [await store.enlist(name, "here") for name in (worker, f"{worker}2")]
    await store.serve(worker, lanes)
    parent, child, *others = (host.new_id() for _ in range(14))
    await store.start([
        NewRun(parent, lanes[0], "flow0", b"{}", key=parent, delay=10**9),
        NewRun(child, lanes[0], "flow0", b"{}", delay=10**9, parent_id=parent, parent_node="child"),
        *(NewRun(run_id, lanes[1], "flow1", b"{}") for run_id in others),
    ])  # fmt: skip
    leases = (await store.claim(worker, lanes, 6, 1)).leases
    assert len(leases) == 6
    assert len((await store.claim(f"{worker}2", lanes, 6, 1)).leases) == 6
    assert await store.commit(worker, [step(lease, lean=True) for lease in leases]) == ["ok"] * 6
    one, two, three, four, five, six = (grown(lease) for lease in leases)
    assert await store.commit(worker, [usual(six, worker, node="usual")]) == ["ok"]
    six = grown(six)
    for _ in range(2):
        assert await store.deliver(four.run_id, "go", b"1", key="mine", waiting_only=False)
    assert await store.deliver(one.run_id, "other", b"1", key=None, waiting_only=False)
    name = MessageName("signal", "go")
    parts = Needed(("step0", "step2"), ("step1",))
    found = (await store.load([Wanted(lease, name, parts) for lease in leases]))[four.run_id].found.found
    assert (await store.load([Wanted(lease) for lease in leases]))[four.run_id].rows
    assert found
    used = ended(four, row(four))
    used.consumed = [found[0].n]
    assert not (await store.find_messages(four, {name: found[0].n})).found
    spawned = [NewRun(host.new_id(), lanes[0], "flow0", b"{}", parent_id=two.run_id, parent_node="child")]
    verdicts = await store.commit(
        worker,
        [
            awaiting(one, "go"),
            parked(two, row(two), spawned=spawned),
            ended(three, row(three), child_end=end_of_child(two)),
            used,
            ended(five, status="failed"),
        ],
    )
    assert verdicts == ["ok"] * 5
    async with beside.transaction():
        await beside.execute(
            f'UPDATE "{store._location.schema}".runs SET messages = messages WHERE id = $1', six.run_id
        )
        held = asyncio.create_task(store.deliver(six.run_id, "other", b"1", key=None, waiting_only=False))
        await eventually(lambda: _one_waits(beside))
        assert await store.commit(worker, [step(six, lean=True)]) == ["busy"]
        assert await store.commit(worker, [step(six)]) == ["busy"]
    assert await held
    await store.deliver(one.run_id, "go", b"1", key=None, waiting_only=True)
    assert await store.park_damaged(worker, six, "row 1 is missing", "0.1.0")
    assert await store.recheck_damaged(lanes, "0.2.0") == 1
    await store.give_back(worker, {six.run_id: six.token})
    assert await store.request_cancel(child) == [child]
    assert await store.cancel(child) == [child]
    await read(store, parent, worker)
    assert heartbeat_connections[0].beat() is not None
    await store.workers()
    assert await store.expire(f"{worker}2", 0) is not None
    await store.retire(worker)
    await store.sweep()
    assert (await store.claim(worker, [max(lanes) + 1], 6, 1)).leases == []
    for heartbeat_connection in heartbeat_connections:
        heartbeat_connection.close()


async def _one_waits(beside: Any) -> bool:
    return bool(await beside.fetchval("SELECT EXISTS (SELECT 1 FROM pg_locks WHERE NOT granted)"))


async def read(store: PostgresStore, run_id: str, worker: str) -> None:
    """What the edges ask for."""
    reader = store.reader
    await reader.snapshot(run_id)
    await reader.journal(run_id)
    await reader.result(run_id)
    await reader.ended([run_id])
    await reader.leased(worker)
    await reader.keyed_message(run_id, "mine")
    await reader.situation([run_id])
    lane = await reader.lane(run_id)
    assert lane is not None
    assert await reader.outline(lane)
    page = Filter(None, None, None, None, 100, None)
    for names in ASKED:
        wanted = page._replace(**{name: PAGE_FILTERS[name] or run_id for name in names})  # type: ignore[arg-type]  # each has a text
        await reader.page(wanted)


async def _record() -> tuple[Told, set[str]]:
    async with telling() as (store, told, plain):
        schema = store._location.schema
        told.when = WHEN[0]
        await use(store, plain, "ann")
        await seed(plain, schema)
        told.when = WHEN[1]
        await use(store, plain, "bob")
        await store.close()
        await store.open()
        told.when = WHEN[2]
        await use(store, plain, "cid")
        await plain.execute("ANALYZE")
        told.when = WHEN[3]
        await use(store, plain, "dan")
        found = await plain.fetch("SELECT indexname FROM pg_indexes WHERE schemaname = $1", schema)
    return told, {index for (index,) in found}


async def seed(connection: Any, schema: str) -> None:
    """100,000 runs: half of them due; finished, parked, asleep, leased ones, suspects, parents and children."""
    ids = {"id": RUN_ID.format("g", "g"), "parent": RUN_ID.format("g - 1", "g - 1")}
    soon = "4000000000000000"
    await connection.execute(SEED.format(schema=schema, runs=RUNS, soon=soon, **ids))


@pytest.fixture(scope="module")
def recorded() -> tuple[Told, set[str]]:
    """The plans of every query in three states of the tables, and the indexes there are."""
    found: tuple[Told, set[str]] = apart(_record())
    return found


def each(told: Told) -> Iterator[tuple[str, str, Plan]]:
    """Every plan, with what the tables were like and the query's name."""
    for when in WHEN:
        for name, some in told.plans[when].items():
            for plan in some:
                yield when, name, plan


def test_every_query_has_been_seen_at_work(recorded: tuple[Told, set[str]]) -> None:
    told, _ = recorded
    named = {name for name in Queries("any", "0").texts if name not in ONCE}
    for when in WHEN:
        seen = {name.partition(" ")[0] for name in told.plans[when]}
        assert named - seen == ({"add_lane"} if when != WHEN[0] else set()), when


def test_no_query_reads_a_table_that_grows_but_through_its_index(recorded: tuple[Told, set[str]]) -> None:
    told, _ = recorded
    for when, name, plan in each(told):
        scans = [scan for scan in plan.scans if scan.table in HOT]
        used = {scan.by for scan in scans if scan.by is not None}
        wanted = set(INDEXES.get(name, "").split())
        assert used <= wanted | OR_BY.get(name, set()), (when, name)
        assert used >= wanted or used & OR_BY.get(name, set()), (when, name)
        for scan in scans:
            assert scan.way != "Seq Scan", (when, name)
            unbounded = scan.by is not None and not scan.bounded
            assert not unbounded or (name, scan.by) in FROM_AN_END, (when, name, scan)


def test_a_query_looks_at_few_pages_and_few_rows_in_vain(recorded: tuple[Told, set[str]]) -> None:
    told, _ = recorded
    for when, name, plan in each(told):
        pages = PAGES.get(name, PAGES.get(name.partition(" ")[0], FEW_PAGES))
        assert plan.pages <= pages, (when, name)
        assert sum(scan.removed for scan in plan.scans) <= ROWS.get(name, FEW_ROWS), (when, name)


def test_every_index_is_used_by_a_query(recorded: tuple[Told, set[str]]) -> None:
    told, indexes = recorded
    used = {scan.by for when, _, plan in each(told) if when == WHEN[3] for scan in plan.scans}
    assert indexes - used == {"versions_pkey"}


async def test_a_claim_reads_no_more_when_all_there_is_is_due() -> None:
    async with telling() as (store, told, plain):
        (lane,) = await store.define(LANES[:1])
        new_id = SystemRuntime().new_id
        await store.start([NewRun(new_id(), lane, "flow0", b"{}") for _ in range(5_000)])
        await plain.execute("ANALYZE")
        heartbeat_connection = await store.enlist("ann", "here")
        for _ in range(3):
            assert len((await store.claim("ann", [lane], 6, 1)).leases) == 6
        heartbeat_connection.close()
        plans = told.plans[""]["claim"]
    assert len(plans) == 3
    for plan in plans:
        assert plan.pages <= PAGES["claim"]
        assert all(scan.bounded for scan in plan.scans if scan.table in HOT and scan.by), plan


async def test_the_update_of_a_step_touches_no_index() -> None:
    """A claim and the end of a run change what is indexed; what is between is *HOT*, but where a page is full."""
    async with telling() as (store, _, plain):
        (lane,) = await store.define(LANES[:1])
        new_id = SystemRuntime().new_id
        await store.start([NewRun(new_id(), lane, "flow0", b"{}") for _ in range(256)])
        heartbeat_connection = await store.enlist("ann", "here")
        leases = (await store.claim("ann", [lane], 256, 1)).leases
        for length in range(10):
            steps = [step(grown(lease, length), lean=True) for lease in leases]
            assert await store.commit("ann", steps) == ["ok"] * 256
        heartbeat_connection.close()
        await store.close()  # a connection tells what it counted when it ends
        counts = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE schemaname = $1 AND relname = 'runs'"

        async def counted() -> tuple[int, int] | None:
            ((updated, hot),) = await plain.fetch(counts, store._location.schema)
            return (updated, hot) if updated >= 256 * 11 else None

        _, hot = await eventually(counted)
    assert hot >= 0.9 * 256 * 10
