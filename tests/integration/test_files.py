"""User code that opens and closes the files of a store, in the very process that has it open, costs nothing.

A `close` of a file drops the locks that the process has on it by POSIX. Each test does so, and lets another process act
upon what it then sees.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import Context, Durable, durable
from stepwell.runtime.system import SystemRuntime
from stepwell.store.sqlite.connection import location_of
from stepwell.store.sqlite.file import FileConnection
from tests.api.running_fixtures import echo, file_url, names_in
from tests.faulty import faulty_app
from tests.gates import Gate
from tests.programs.copying import STEPS
from tests.programs.processes import ROOT
from tests.visitor import Visitor, visit
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from stepwell.store.records import History, Wanted

COPYING_RUNS = 25
UNUSED = 132
"""Where SQLite's format has four bytes of the shared memory that are not used."""
FILES = ("store.db", "store.db-wal", "store.db-shm")


def read(path: Path) -> None:
    """Reads a file whole."""
    path.read_bytes()


def hash_file(path: Path) -> None:
    """Hashes a file."""
    with path.open("rb") as opened:
        hashlib.file_digest(opened, "sha256")


def copy(path: Path) -> None:
    """Copies a file."""
    shutil.copy(path, path.parent / "copies")


def query(path: Path) -> None:
    """Opens the database once more, and closes it."""
    if path.name == "store.db":
        connection = sqlite3.connect(path)
        connection.execute("SELECT count(*) FROM stepwell_runs").fetchone()
        connection.close()


def touch_all(folder: Path, how: Callable[[Path], None] = read) -> None:
    """Does it to every file of the store."""
    (folder / "copies").mkdir(exist_ok=True)
    for path in sorted(folder.iterdir()):
        if path.is_file():
            how(path)


def stored(folder: Path) -> list[tuple[str, str]]:
    """The runs in the file, once everybody has left, and their status."""
    connection = sqlite3.connect(folder / "store.db")
    try:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return connection.execute("SELECT id, status FROM stepwell_runs ORDER BY id").fetchall()
    finally:
        connection.close()


@pytest.mark.parametrize("how", [read, hash_file, copy, query])
async def test_a_handler_that_opens_the_files_loses_no_run_when_another_process_leaves(
    tmp_path: Path, how: Callable[[Path], None]
) -> None:
    async def look(ctx: Context) -> None:
        touch_all(tmp_path, how)

    async with Durable(file_url(tmp_path), [durable("look").step("look", look)]) as app, app.worker():
        ids = [(await app.start("look")).run_id]
        await app.result(ids[0], timeout=PATIENCE)
        for _ in range(3):
            await asyncio.to_thread(visit, file_url(tmp_path))
            ids += [(await app.start("look")).run_id for _ in range(3)]
            for run_id in ids:
                await app.result(run_id, timeout=PATIENCE)
        assert len(await app.list()) == len(ids)
    assert stored(tmp_path) == [(run_id, "completed") for run_id in ids]


@pytest.mark.parametrize("name", FILES)
async def test_an_acknowledged_start_is_kept_whichever_file_was_read(tmp_path: Path, name: str) -> None:
    async with Durable(file_url(tmp_path), [durable("say").step("say", echo)]) as app:
        ids = [(await app.start("say")).run_id]
        read(tmp_path / name)
        await asyncio.to_thread(visit, file_url(tmp_path))
        ids.append((await app.start("say")).run_id)
        with Visitor(file_url(tmp_path)) as visitor:
            assert visitor.ask("look") == "2"
    assert stored(tmp_path) == [(run_id, "pending") for run_id in ids]


async def test_nobody_makes_the_shared_memory_anew_under_those_who_have_it(tmp_path: Path) -> None:
    async with Durable(file_url(tmp_path), [durable("say").step("say", echo)]) as app:
        await app.start("say")
        with (tmp_path / "store.db-shm").open("r+b") as memory:
            memory.seek(UNUSED)
            memory.write(b"here")
        await asyncio.to_thread(visit, file_url(tmp_path))
        assert (tmp_path / "store.db-shm").read_bytes()[UNUSED : UNUSED + 4] == b"here"


async def test_a_worker_whose_lock_file_is_read_is_not_declared_dead(tmp_path: Path) -> None:
    gate = Gate("done")
    async with Durable(file_url(tmp_path), [durable("work").step("work", gate.handler)]) as app, app.worker():
        run_id = (await app.start("work")).run_id
        await gate.entered()
        for how in (read, hash_file, copy):
            touch_all(tmp_path, how)
        with Visitor(file_url(tmp_path)) as visitor:
            assert visitor.ask("recover") == "0"
        gate.let()
        assert await app.result(run_id, timeout=PATIENCE) == {"work": "done"}
        assert (gate.begun, gate.canceled) == (1, 0)


async def test_writers_shut_each_other_out_though_the_locks_of_sqlite_are_gone(tmp_path: Path) -> None:
    await Durable(file_url(tmp_path)).ensure_tables()
    file = FileConnection(location_of(file_url(tmp_path)), SystemRuntime().pause)
    try:
        with Visitor(file_url(tmp_path)) as visitor:

            def write() -> str:
                file.connection.execute("DELETE FROM stepwell_workers")
                touch_all(tmp_path)
                return visitor.ask("try")

            assert await asyncio.to_thread(file.run, write, write=True) == "busy"
            assert visitor.hear()
    finally:
        file.close()
    assert len(stored(tmp_path)) == 1


async def test_workers_that_copy_the_files_all_the_time_lose_no_run_and_call_nothing_twice(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    url = file_url(tmp_path / "store")
    command = [sys.executable, "-m", "tests.programs.copying", str(tmp_path), str(COPYING_RUNS)]
    workers = [await asyncio.create_subprocess_exec(*command, cwd=ROOT) for _ in range(2)]
    ends = asyncio.gather(*(worker.wait() for worker in workers))
    while not ends.done():
        await asyncio.to_thread(visit, url)
    assert await ends == [0, 0]
    started = sorted(lines_of(tmp_path, "started-*"))
    assert stored(tmp_path / "store") == [(run_id, "completed") for run_id in started]
    assert len(started) == 2 * COPYING_RUNS
    assert sorted(lines_of(tmp_path, "calls-*")) == [f"{run_id} step{at}" for run_id in started for at in range(STEPS)]
    assert names_in(tmp_path / "store") == {"store.db"}


def lines_of(folder: Path, names: str) -> list[str]:
    """The lines of all files of such names."""
    return [line for path in folder.glob(names) for line in path.read_text(encoding="utf-8").splitlines()]


async def test_a_journal_that_a_torn_read_shows_too_short_fails_no_run(tmp_path: Path) -> None:
    first, second = Gate("first"), Gate("second")
    first.let()
    flow = durable("flow").step("first", first.handler).step("second", second.handler)
    app, faulty = faulty_app(file_url(tmp_path), [flow])
    async with app:
        run_id = (await app.start("flow")).run_id
        async with app.worker(grace=0):
            await second.entered()
        second.let()
        lengths = []

        async def load_torn(load: Any, wanted: Sequence[Wanted]) -> Mapping[str, History]:
            found: Mapping[str, History] = await load(wanted)
            lengths.append(len(found[run_id].rows))
            return found if len(lengths) > 1 else {run_id: found[run_id]._replace(rows=[])}

        faulty.replace("load", load_torn)
        async with app.worker():
            assert await app.result(run_id, timeout=PATIENCE) == {"first": "first", "second": "second"}
    assert lengths == [1, 1]
    assert first.begun == 1


async def test_leaving_an_app_takes_no_lock_from_a_connection_of_the_users_own(tmp_path: Path) -> None:
    async with Durable(file_url(tmp_path)):
        own = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
        own.execute("CREATE TABLE mine (a)")
        own.execute("BEGIN IMMEDIATE")
        own.execute("INSERT INTO mine VALUES (1)")
    try:
        with Visitor(file_url(tmp_path)) as visitor:
            assert visitor.ask("try") == "busy"
            own.execute("COMMIT")
            assert visitor.hear()
    finally:
        own.close()
    assert len(stored(tmp_path)) == 1


async def test_the_forked_child_of_a_killed_worker_does_not_keep_it_alive(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.programs.forking", file_url(tmp_path), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    child = int(await asyncio.wait_for(process.stdout.readline(), PATIENCE))
    try:
        process.kill()
        await process.wait()
        async with Durable(file_url(tmp_path), lease=3600) as app:
            assert await app.recover() == 1
    finally:
        os.kill(child, signal.SIGKILL)


async def test_after_the_last_writer_has_left_there_is_one_file(tmp_path: Path) -> None:
    say = durable("say").step("say", echo)
    with Visitor(file_url(tmp_path)) as visitor:
        async with Durable(file_url(tmp_path), [say]) as app, app.worker():
            await app.result((await app.start("say")).run_id, timeout=PATIENCE)
            visitor.ask("start")
        assert names_in(tmp_path) == set(FILES)
    assert names_in(tmp_path) == {"store.db"}
    assert len(stored(tmp_path)) == 2


async def test_the_one_who_came_first_and_leaves_last_leaves_one_file(tmp_path: Path) -> None:
    async with Durable(file_url(tmp_path)) as app:
        with Visitor(file_url(tmp_path)) as visitor:
            visitor.ask("start")
        assert len(await app.list()) == 1
    assert names_in(tmp_path) == {"store.db"}


async def test_those_who_leave_together_leave_one_file(tmp_path: Path) -> None:
    for _ in range(2):
        visitors = [Visitor(file_url(tmp_path)).__enter__() for _ in range(4)]
        for visitor in visitors:
            visitor.ask("start")
        await asyncio.gather(*(asyncio.to_thread(visitor.__exit__, None, None, None) for visitor in visitors))
        assert names_in(tmp_path) == {"store.db"}
    assert len(stored(tmp_path)) == 8


async def test_a_reader_that_leaves_last_leaves_what_the_next_writer_clears(tmp_path: Path) -> None:
    say = durable("say").step("say", echo)
    async with Durable(file_url(tmp_path), [say]) as app:
        reader = Durable(file_url(tmp_path)).existing(read_only=True)
        await app.start("say")
        await reader.__aenter__()
    assert len(await reader.list()) == 1
    await reader.__aexit__(None, None, None)
    assert len(stored(tmp_path)) == 1
    async with Durable(file_url(tmp_path), [say]):
        pass
    assert names_in(tmp_path) == {"store.db"}


@pytest.mark.parametrize("line", [["list"], ["status"], ["journal"], ["db", "status"]], ids=" ".join)
def test_a_question_at_the_command_line_writes_nothing_back(tmp_path: Path, line: list[str]) -> None:
    asyncio.run(Durable(file_url(tmp_path)).ensure_tables())
    before = (tmp_path / "store.db").read_bytes()
    with Visitor(file_url(tmp_path)) as visitor:
        run_id = visitor.ask("start")
        visitor.kill()
    of_a_run = [run_id] if line in (["status"], ["journal"]) else []
    command = [sys.executable, "-m", "stepwell.cli", "--url", file_url(tmp_path), *line, *of_a_run]
    subprocess.run(command, cwd=ROOT, check=True, timeout=PATIENCE)
    assert (tmp_path / "store.db").read_bytes() == before
    assert [found for found, _ in stored(tmp_path)] == [run_id]
