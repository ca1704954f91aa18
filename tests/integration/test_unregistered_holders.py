"""Runs that are held under the name of a worker that is not registered, as an edit by hand or a lost commit leaves."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

from stepwell import Durable, durable
from tests.network_faults import fetch, fresh_schema, own_server
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from pathlib import Path


async def nothing(_ctx: object) -> None:
    """A handler without a result."""


@pytest.mark.parametrize("store", ["file", "postgres"])
async def test_i4_a_run_that_an_unregistered_worker_holds_is_freed_by_the_others(store: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}" if store == "file" else fresh_schema(own_server().dsn)
    async with Durable(url, [durable("flow").step("work", nothing)], lease=1) as app:
        run_id = (await app.start("flow")).run_id
        held = "SET worker = 'ghost', status = 'running', due_at = NULL, token = token + 1"
        if store == "file":
            with sqlite3.connect(tmp_path / "store.db") as connection:
                connection.execute(f"UPDATE stepwell_runs {held}")
            connection.close()
        else:
            await fetch(url, f"UPDATE runs {held}")
        async with app.worker():
            await app.result(run_id, timeout=PATIENCE)
