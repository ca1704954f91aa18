"""What a store's file is to those who keep it: where it is, whose it is, and what becomes of rows deleted by hand."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import threading
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import Context, DefinitionError, Durable, SchemaError, StoreUnavailableError, durable
from tests.api.running_fixtures import echo, file_url, names_in
from tests.gates import Gate
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


async def test_an_app_is_entered_and_left_while_the_default_executor_is_full(tmp_path: Path) -> None:
    released = threading.Event()
    hogs = [asyncio.create_task(asyncio.to_thread(released.wait)) for _ in range(64)]
    await asyncio.sleep(0)  # each is handed to the executor when its task begins
    try:
        async with asyncio.timeout(PATIENCE), Durable(file_url(tmp_path), [durable("say").step("say", echo)]) as app:
            assert (await app.start("say", 1)).status == "pending"
    finally:
        released.set()
        await asyncio.gather(*hogs)


async def test_a_relative_path_means_the_folder_in_which_the_app_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, later, last = (tmp_path / name for name in ("home", "later", "last"))
    for folder in (home, later, last):
        folder.mkdir()
    gate = Gate("done")
    monkeypatch.chdir(home)
    app = Durable("sqlite:///shop.db", [durable("wait").step("wait", gate.handler)])
    other = app.at("sqlite:///other.db")
    monkeypatch.chdir(later)
    async with app, other, app.worker():
        started = await app.start("wait")
        await gate.entered()
        monkeypatch.chdir(last)
        async with app.worker():  # its lock file and its heartbeat's connection are made only now
            gate.let()
            assert await app.result(started.run_id, timeout=PATIENCE) == {"wait": "done"}
    assert (names_in(later), names_in(last)) == (set(), set())
    assert {"shop.db", "other.db"} <= names_in(home)
    assert not [name for name in names_in(home) if "worker" in name]


async def test_a_relative_path_from_a_folder_that_is_gone_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(DefinitionError, match="a folder that is gone"):
        Durable("sqlite:///shop.db")
    assert Durable(file_url(tmp_path)).url == file_url(tmp_path)


@pytest.mark.parametrize("linked", ["file", "folder"])
async def test_a_symlink_and_the_file_it_points_to_are_one_store(tmp_path: Path, linked: str) -> None:
    real, links = tmp_path / "real", tmp_path / "links"
    real.mkdir()
    if linked == "file":
        links.mkdir()
        (links / "store.db").symlink_to(real / "store.db")  # it points nowhere yet: the file is made there
    else:
        links.symlink_to(real)
    say = durable("say").step("say", echo)
    async with Durable(file_url(links), [say]) as app, Durable(file_url(real), [say]) as other, app.worker():
        assert len([name for name in names_in(real) if "worker" in name]) == 1
        started = await other.start("say", "hello")
        assert await app.result(started.run_id, timeout=PATIENCE) == {"say": "hello"}
        assert {name for name in names_in(links) if name != "store.db"} <= names_in(real)
    assert "store.db" in names_in(real)


@pytest.mark.parametrize("tables", [("runs",), ("runs", "journal"), ("runs", "journal", "mailbox", "inputs")])
async def test_a_run_deleted_by_hand_lends_nothing_to_the_next(tmp_path: Path, tables: tuple[str, ...]) -> None:
    given: list[object] = []

    async def take(ctx: Context) -> object:
        given.append(ctx.input)
        return ctx.input

    flow = durable("flow").wait_for_signal("go", "go").step("take", take)
    async with Durable(file_url(tmp_path), [flow]) as app, app.worker():
        for value in ("first", "second"):
            run_id = (await app.start("flow", value)).run_id
            await app.signal(run_id, "go", value)
            await app.result(run_id, timeout=PATIENCE)
        unread = (await app.start("flow", "unread")).run_id
        await app.signal(unread, "other", "unread")
        delete_all(tmp_path, tables)
        given.clear()
        run_id = (await app.start("flow", "third")).run_id
        await app.signal(run_id, "go", "go of the third")
        assert await app.result(run_id, timeout=PATIENCE) == {"go": "go of the third", "take": "third"}
        assert given == ["third"]
        assert (await app.status(run_id)).input == "third"


async def test_what_a_worker_still_does_for_a_run_deleted_by_hand_reaches_no_other_run(tmp_path: Path) -> None:
    gates = {"deleted": Gate("of the deleted run"), "new": Gate("its own")}

    async def work(ctx: Context) -> object:
        return await gates[ctx.input].handler(ctx)

    flows = [durable("flow").step("work", work), durable("other").step("say", echo)]
    async with Durable(file_url(tmp_path), flows) as app, app.worker():
        await app.start("flow", "deleted")
        await gates["deleted"].entered()
        delete_all(tmp_path, ("runs", "journal", "mailbox", "inputs"))
        run_id = (await app.start("flow", "new")).run_id
        await gates["new"].entered()
        gates["deleted"].let()
        await app.result((await app.start("other", "after it")).run_id, timeout=PATIENCE)
        gates["new"].let()
        assert await app.result(run_id, timeout=PATIENCE) == {"work": "its own"}


async def test_numbers_are_not_used_again_even_if_their_count_was_lost(tmp_path: Path) -> None:
    flow = durable("flow").step("say", echo)
    async with Durable(file_url(tmp_path), [flow]) as app, app.worker():
        await app.result((await app.start("flow", "first")).run_id, timeout=PATIENCE)
        delete_all(tmp_path, ("runs",))
        with sqlite3.connect(tmp_path / "store.db") as connection:
            connection.execute("DELETE FROM sqlite_sequence")
        run_id = (await app.start("flow", "second")).run_id
        assert await app.result(run_id, timeout=PATIENCE) == {"say": "second"}


async def test_a_number_that_leaves_no_room_for_others_is_told(tmp_path: Path) -> None:
    async with Durable(file_url(tmp_path), [durable("say").step("say", echo)]) as app:
        connection = sqlite3.connect(tmp_path / "store.db")
        with connection:
            connection.execute("INSERT INTO stepwell_inputs (ref, value) VALUES (?, x'31')", (2**63 - 1,))
        connection.close()
        with pytest.raises(StoreUnavailableError, match="too large"):
            await app.start("say", 1)


def delete(path: Path) -> None:
    """Deletes the database, and leaves what stands beside it."""
    path.unlink()


def delete_the_log(path: Path) -> None:
    """Deletes the write-ahead log alone."""
    path.with_name("store.db-wal").unlink()


def move(path: Path) -> None:
    """Gives the database another name."""
    path.rename(path.with_name("moved.db"))


def restore(path: Path) -> None:
    """Puts a backup in its place, made by SQLite's own means."""
    backup = path.with_name("backup.db")
    connection = sqlite3.connect(path)
    connection.execute("VACUUM INTO ?", (str(backup),))
    connection.close()
    backup.replace(path)


LOSSES = [delete, delete_the_log, move, restore]


@pytest.mark.parametrize("lose", LOSSES)
async def test_a_start_into_a_file_that_is_gone_is_not_acknowledged(
    tmp_path: Path, lose: Callable[[Path], None]
) -> None:
    say = durable("say").step("say", echo)
    async with Durable(file_url(tmp_path), [say]) as app:
        run_id = (await app.start("say", 1)).run_id
        lose(tmp_path / "store.db")
        for call in (
            lambda: app.start("say", 2),
            lambda: app.signal(run_id, "go"),
            lambda: app.status(run_id),
            app.list,
            lambda: app.result(run_id),
            app.recover,
        ):
            with pytest.raises(StoreUnavailableError, match="deleted, moved or replaced while it was open") as caught:
                await call()
            assert str(tmp_path / "store.db") in str(caught.value)
    async with Durable(file_url(tmp_path), [say]) as app:
        assert (await app.start("say", 3)).status == "pending"
        assert len(await app.list()) == (2 if lose is restore else 1)
    connection = sqlite3.connect(tmp_path / "store.db")
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


async def test_a_folder_that_cannot_be_looked_into_is_told_like_a_file_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = os.stat

    def refuse(path: Any, **options: Any) -> os.stat_result:
        if str(path).startswith(str(tmp_path)):
            raise PermissionError(13, "Permission denied", str(path))
        return looked(path, **options)

    async with Durable(file_url(tmp_path), [durable("say").step("say", echo)]) as app:
        with monkeypatch.context() as patch:
            patch.setattr(os, "stat", refuse)
            with pytest.raises(StoreUnavailableError):
                await app.start("say", 1)
            with pytest.raises(StoreUnavailableError):
                await Durable(file_url(tmp_path, "other.db")).ensure_tables()
        assert (await app.start("say", 2)).status == "pending"


SILENT = "cannot tell the store that it is alive"


@pytest.mark.parametrize("lose", LOSSES)
async def test_a_worker_whose_file_is_gone_says_so_and_can_be_left(
    tmp_path: Path, lose: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate("done")
    app = Durable(file_url(tmp_path), [durable("work").step("work", gate.handler)], lease=1)
    async with app, app.worker(grace=0.1):
        await app.start("work")
        await gate.entered()
        lose(tmp_path / "store.db")
        await eventually(lambda: "deleted, moved or replaced" in caplog.text and SILENT in caplog.text)
        gate.let()
    assert "Traceback" not in caplog.text
    assert not [name for name in names_in(tmp_path) if "worker" in name]


async def test_a_file_that_is_back_is_used_again(tmp_path: Path) -> None:
    async with Durable(file_url(tmp_path), [durable("say").step("say", echo)]) as app, app.worker():
        move(tmp_path / "store.db")
        with pytest.raises(StoreUnavailableError):
            await app.start("say", 1)
        (tmp_path / "moved.db").rename(tmp_path / "store.db")
        assert await app.result((await app.start("say", 2)).run_id, timeout=PATIENCE) == {"say": 2}


def modes_in(folder: Path) -> dict[str, int]:
    """The permissions of the files in a folder, by name."""
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
@pytest.mark.parametrize("mode", [None, 0o600, 0o660, 0o644])
async def test_a_stores_files_have_the_mode_that_was_asked_for_whatever_the_umask(
    tmp_path: Path, umask: int, mode: int | None
) -> None:
    before, url, say = os.umask(umask), file_url(tmp_path, "other.db"), durable("say").step("say", echo)
    try:
        app = Durable(url, [say]) if mode is None else Durable(url, [say], file_mode=mode)
        async with app.at(file_url(tmp_path)) as other, other.worker():
            await other.result((await other.start("say", 1)).run_id, timeout=PATIENCE)
            files = modes_in(tmp_path)
    finally:
        os.umask(before)
    assert len(files) == 4
    assert set(files.values()) == {0o600 if mode is None else mode}


async def test_the_mode_of_a_file_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "store.db").touch(0o644)
    (tmp_path / "store.db").chmod(0o640)
    async with Durable(file_url(tmp_path)):
        assert stat.S_IMODE((tmp_path / "store.db-wal").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "store.db").stat().st_mode) == 0o640


@pytest.mark.parametrize("mode", [0, 0o400, 0o066, 0o1600, 660, -1, "0o600", None, True])
def test_a_mode_that_shuts_the_owner_out_or_is_none_is_refused(tmp_path: Path, mode: Any) -> None:
    with pytest.raises(DefinitionError, match="file_mode"):
        Durable(file_url(tmp_path), file_mode=mode)


async def test_an_app_over_an_existing_store_creates_and_upgrades_nothing(tmp_path: Path) -> None:
    app = Durable(file_url(tmp_path), [durable("say").step("say", echo)])
    with pytest.raises(StoreUnavailableError, match="there is no file"):
        await app.existing().__aenter__()
    assert names_in(tmp_path) == set()
    (tmp_path / "store.db").touch()
    with pytest.raises(SchemaError, match="stepwell db upgrade"):
        await app.existing().__aenter__()
    await app.ensure_tables()
    async with app.existing() as existing:
        assert (await existing.start("say", 1)).status == "pending"


async def test_an_app_that_only_reads_an_existing_store_refuses_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    app = Durable("sqlite:///store.db", [durable("say").step("say", echo)])
    monkeypatch.chdir("/")  # the store is where the app was made
    async with app, app.existing(read_only=True) as reader:
        run_id = (await app.start("say", 1)).run_id
        assert (await reader.status(run_id)).input == 1
        with pytest.raises(StoreUnavailableError, match="can only be read"):
            await reader.start("say", 2)


def delete_all(folder: Path, tables: tuple[str, ...]) -> None:
    """Deletes every row of these tables, as a person would."""
    connection = sqlite3.connect(folder / "store.db", timeout=PATIENCE)
    with connection:
        for table in tables:
            connection.execute(f"DELETE FROM stepwell_{table}")
    connection.close()
