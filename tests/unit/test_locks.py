"""Locks on files where the system has none of the kind that stays, and folders that are not writable."""

from __future__ import annotations

import os
import sqlite3
import stat
from typing import TYPE_CHECKING

import pytest

from stepwell import Durable, durable
from stepwell.runtime.system import SystemRuntime
from stepwell.store.sqlite import guard, locks
from stepwell.store.sqlite.connection import location_of, unavailable
from stepwell.store.sqlite.store import SqliteStore
from tests.api.running_fixtures import echo, file_url, names_in
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from pathlib import Path


async def test_without_such_locks_a_store_works_and_no_worker_is_certainly_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (locks, guard):
        monkeypatch.setattr(module, "SUPPORTED", False)
    app = Durable(file_url(tmp_path), [durable("say").step("say", echo)])
    async with app, app.worker():
        assert await app.result((await app.start("say", 1)).run_id, timeout=PATIENCE) == {"say": 1}
        assert stat.S_IMODE((tmp_path / "store.db").stat().st_mode) == 0o600
        assert not [name for name in names_in(tmp_path) if "worker" in name]
        other = SqliteStore(file_url(tmp_path), SystemRuntime())
        monkeypatch.setattr(SystemRuntime, "process", "another process")
        await other.open()
        assert [row.dead for row in await other.workers()] == [False]
        await other.close()
    assert names_in(tmp_path) == {"store.db"}


def test_a_file_system_without_such_locks_is_no_dead_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_SET", 2**30)  # no system knows this command: EINVAL
    file = locks.LockFile(tmp_path / "store.db", "worker", 0o600)
    file.hold()
    assert not locks.LockFile(tmp_path / "store.db", "worker", 0o600).is_free()
    assert names_in(tmp_path) == set()
    file.release()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_lock_file_is_not_released_by_a_forked_child(tmp_path: Path) -> None:
    file = locks.LockFile(tmp_path / "store.db", "worker", 0o600)
    file.hold()
    child = os.fork()
    if child == 0:
        file.release()
        os._exit(0)
    os.waitpid(child, 0)
    assert not locks.LockFile(tmp_path / "store.db", "worker", 0o600).is_free()
    assert len(names_in(tmp_path)) == 1
    file.release()
    assert names_in(tmp_path) == set()


def test_a_folder_that_is_not_writable_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    location, error = location_of(file_url(tmp_path)), sqlite3.OperationalError("attempt to write a readonly database")
    assert "can only be read" in str(unavailable(location, error))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert f"the folder {tmp_path} is not writable" in str(unavailable(location, error))


async def test_of_a_worker_that_left_or_was_declared_dead_no_lock_file_stays(tmp_path: Path) -> None:
    """A file for each worker that ever was would fill the folder."""
    own, other = (SqliteStore(file_url(tmp_path), SystemRuntime()) for _ in range(2))
    await own.migrate()
    for store in (own, other):
        await store.open()
    heartbeat_connections = [await own.enlist("left", "here"), await other.enlist("dead", "here")]
    assert len([name for name in names_in(tmp_path) if "worker" in name]) == (2 if locks.SUPPORTED else 0)
    await own.retire("left")
    assert await own.expire("dead", None) == 0
    assert not [name for name in names_in(tmp_path) if "worker" in name]
    for heartbeat_connection in heartbeat_connections:
        heartbeat_connection.close()
    for store in (own, other):
        await store.close()
