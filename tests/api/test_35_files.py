"""What a store's file is to those who keep it: where it is, whose it is, and what becomes of rows deleted by hand."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from typing import TYPE_CHECKING

import pytest

from stepwell import Context, DefinitionError, Durable, durable
from tests.api.running_fixtures import PATIENCE, Gate, echo, file_url, names_in

if TYPE_CHECKING:
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


def delete_all(folder: Path, tables: tuple[str, ...]) -> None:
    """Deletes every row of these tables, as a person would."""
    connection = sqlite3.connect(folder / "store.db", timeout=PATIENCE)
    with connection:
        for table in tables:
            connection.execute(f"DELETE FROM stepwell_{table}")
    connection.close()
