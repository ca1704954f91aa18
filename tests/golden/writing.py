"""Writes the golden journals of this release: one SQLite file, one dump of PostgreSQL, and how their runs end."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepwell.store.migrate import migrations_of
from stepwell.testing.bench import Bench
from stepwell.workflow.durations import instant
from tests.golden.ends import states_and_ends
from tests.golden.restoring import restored
from tests.golden.workflows import workflows
from tests.postgres import fresh_url

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from stepwell import Durable

SECOND = 1_000_000
FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
SOURCE = ROOT / "src" / "stepwell"
BEGINS = datetime(2020, 1, 1, tzinfo=UTC)
"""Long ago, so that every timer is over when a journal is opened, by any clock."""
HELD = ("fetch", "right", "way", "poll", "ask", "nap", "pay", "kid_nap")
DOOMED = ("fetch", "right", "way", "poll", "pay")
FOREIGN = ("/root", "/home", str(ROOT))
TABLES = ("versions", "definitions", "runs", "inputs", "names", "journal", "mailbox", "workers")


async def _fill(bench: Bench, app: Durable) -> None:
    """Runs in every state, each told by its key."""
    fails = {"fails": "close"}
    inputs: dict[str, dict[str, Any]] = {f"held at {place}": {"at": place} for place in HELD}
    inputs |= {
        "completed": {},
        "failed": fails,
        "failed, one not undone": {**fails, "fails_to_undo": "way"},
        "failed in a parallel": {"fails": "left"},
        "failed in its child": {"fails": "pay"},
        "compensating": {**fails, "at": "undo way"},
        "canceled": {"at": "nap"},
        "waiting": {},
    }
    ids = {key: (await app.start("every_kind", given, key=key)).run_id for key, given in inputs.items()}
    for place in (*DOOMED, "undo way"):
        key = f"of the dead, at {place}"
        started = await app.start("doomed", {"at": place, **(fails if place == "undo way" else {})}, key=key)
        ids[key] = started.run_id
    for key, run_id in ids.items():
        if key != "waiting":
            await app.signal(run_id, "go", {"sent": "early"}, key="once")
    await bench.settle(app._events.due)
    await app.cancel(ids["canceled"])
    await bench.move(bench.clock.wall() + 2 * SECOND)
    await bench.settle(app._events.due)
    for key, delay in (("giving up soon", None), ("not begun", timedelta(days=1))):
        started = await app.start("every_kind", {}, key=key, delay=delay)
        await app.signal(started.run_id, "go", {"sent": "early"})
    await bench.settle(app._events.due)


async def _doom(bench: Bench, app: Durable) -> None:
    """A worker takes the runs of one workflow and is never heard of again; another one was buried before it."""
    lanes = await app._lanes.of_queues(["durable"])
    doomed = [lane for lane in lanes if app._lanes.plan(lane).name == "doomed"]
    await bench.move(bench.clock.wall() + 2 * 86_400 * SECOND)
    for worker, is_declared_dead in (("00000000-0000-7000-8000-000000000001", True), (DEAD, False)):
        await bench.call("enlist", (worker, "golden"), {})
        await bench.call("claim", (worker, doomed, 100, 1), {})
        if is_declared_dead:
            await bench.call("expire", (worker, None), {})


DEAD = "00000000-0000-7000-8000-000000000002"


async def _written(url: str, keep: Callable[[Bench], Awaitable[None]]) -> None:
    """Fills the store at `url` and has it kept, with nothing in it of the place where it was written."""
    beginning = instant(BEGINS, "begins")
    async with Bench(url, seed=1, begins=beginning, patience=10) as bench, bench.app(workflows(), bench.call) as app:
        async with app.worker(grace=0):
            await _fill(bench, app)
        await _doom(bench, app)
        await keep(bench)


def _keep_file(path: Path) -> Callable[[Bench], Awaitable[None]]:
    async def keep(bench: Bench) -> None:
        memory: sqlite3.Connection = bench._store._memory
        cut = f"CAST(replace(CAST(error AS TEXT), '{ROOT}', '.') AS BLOB)"
        memory.execute(f"UPDATE stepwell_journal SET error = {cut} WHERE error IS NOT NULL")
        memory.execute(f"UPDATE stepwell_mailbox SET error = {cut} WHERE error IS NOT NULL")
        memory.execute("UPDATE stepwell_workers SET pid = 1, process = '1-golden'")
        path.unlink(missing_ok=True)  # noqa: ASYNC240  nobody else waits for this loop
        target = sqlite3.connect(path)
        memory.backup(target)
        target.execute("VACUUM")
        target.close()

    return keep


def _keep_dump(path: Path) -> Callable[[Bench], Awaitable[None]]:
    async def keep(bench: Bench) -> None:
        schema = bench._store._location.schema
        cut = f"convert_to(replace(convert_from(error, 'UTF8'), '{ROOT}', '.'), 'UTF8')"
        await bench._execute(f'UPDATE "{schema}".journal SET error = {cut} WHERE error IS NOT NULL')
        await bench._execute(f'UPDATE "{schema}".mailbox SET error = {cut} WHERE error IS NOT NULL')
        await bench._execute(f'UPDATE "{schema}".workers SET pid = 1')
        lines = ["CREATE SCHEMA stepwell;\n"]
        lines += [migration.sql for migration in migrations_of(SOURCE / "store" / "postgres")]
        for table in TABLES:
            lines += await _inserts(bench, schema, table)
        for table, column in (("definitions", "lane"), ("names", "number")):
            last = f"SELECT setval(pg_get_serial_sequence('stepwell.{table}', '{column}'), max({column}))"
            lines.append(f"{last} FROM stepwell.{table};\n")
        path.write_text("\n".join(lines), encoding="utf-8")  # noqa: ASYNC240  nobody else waits for this loop

    return keep


async def _inserts(bench: Bench, schema: str, table: str) -> list[str]:
    """The rows of a table as statements, written by the database itself."""
    run = bench._store._connections.run
    facts = "SELECT attname FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped"
    named = f'"{schema}".{table}'
    columns = [name for (name,) in await run(lambda one: one.fetch(f"{facts} ORDER BY attnum", named))]
    values = " || ', ' || ".join(f"quote_nullable({column}::text)" for column in columns)
    rows = await run(lambda one: one.fetch(f"SELECT {values} FROM {named} ORDER BY 1"))
    own_lane = " OVERRIDING SYSTEM VALUE" if table in {"definitions", "names"} else ""
    head = f"INSERT INTO stepwell.{table} ({', '.join(columns)}){own_lane} VALUES"
    return [f"{head} ({row});" for (row,) in rows]


async def write() -> str:
    """Writes all three, and sees that both stores tell the same; what was written, in words."""
    name = version("stepwell")
    database, dump = FOLDER / f"{name}.db", FOLDER / f"{name}.sql"
    await _written("sqlite://", _keep_file(database))
    await _written(fresh_url(), _keep_dump(dump))
    told = database.read_bytes() + dump.read_bytes()
    hexed = [word.encode().hex().encode() for word in FOREIGN]
    foreign = [word for word in (*(one.encode() for one in FOREIGN), *hexed) if word in told]
    if foreign:
        raise SystemExit(f"something of this machine got into the golden journals: {foreign}")
    with tempfile.TemporaryDirectory() as folder:
        found = [await states_and_ends(await restored(one, Path(folder))) for one in (database, dump)]
    if found[0] != found[1]:
        raise SystemExit("the two stores do not tell the same")
    ends = json.dumps(found[0], indent=1, ensure_ascii=False, sort_keys=True)
    (FOLDER / f"{name}.json").write_text(ends + "\n", encoding="utf-8")
    return f"{name}: {len(found[0])} runs, {database.stat().st_size:,} and {dump.stat().st_size:,} bytes"
