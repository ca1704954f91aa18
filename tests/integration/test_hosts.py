"""A database and three worker hosts, each with an address of its own; one is cut off for longer than its lease."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import pytest

from stepwell import Durable
from tests.network import Network, NotPermittedError, end, said
from tests.network_faults import fetch, fresh_schema, owners
from tests.programs.far_worker import CONCURRENCY, Line, lines, workflows
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stepwell import Entry

LEASE = "1.0"
HELD = 2 * CONCURRENCY
"""How many runs a worker holds at most: so many are started for each, while the others are full or not there."""


@pytest.fixture
def network() -> Iterator[Network]:
    """Hosts to be."""
    try:
        with Network() as network:
            yield network
    except NotPermittedError as error:
        pytest.skip(str(error))


def of(folder: Path, event: str, host: str) -> list[Line]:
    """The lines of one kind that a host has logged."""
    return [line for line in lines(folder) if (line.event, line.host) == (event, host)]


def is_full(folder: Path, host: str) -> bool:
    """Whether the host's worker has as many handlers in flight as it may."""
    return len(of(folder, "begin", host)) == CONCURRENCY


async def test_i3_a_host_cut_off_for_longer_than_its_lease_writes_nothing_stale_and_works_on(
    network: Network, tmp_path: Path
) -> None:
    address = network.add("database")
    port = await asyncio.to_thread(said, network.run("database", "far_server"))
    url = fresh_schema(f"postgresql://postgres@{address}:{port}/postgres")
    ids, processes, started = {}, {}, {}
    async with Durable(url, workflows(tmp_path, "client")) as app:
        for host in ("one", "two", "three"):
            network.add(host)
            processes[host] = network.run(host, "far_worker", url, str(tmp_path), host, LEASE)
            ids[host] = await asyncio.to_thread(said, processes[host])
            started[host] = [run.run_id for run in await app.start_many("far", range(HELD))]
            await eventually(partial(is_full, tmp_path, host))
        for host in ("two", "three"):
            (tmp_path / f"let-{host}").touch()
            for run_id in started[host]:
                await app.result(run_id, timeout=PATIENCE)
            (tmp_path / f"let-{host}").unlink()

        network.cut("one")
        moved = started["one"]
        await eventually(lambda: are_held_by(url, moved, {ids["two"], ids["three"]}))
        (tmp_path / "let-one").touch()
        stale = await eventually(lambda: of(tmp_path, "end", "one"))
        network.heal("one")
        await eventually(lambda: is_enlisted_anew(url, ids))
        await eventually(lambda: network.is_drained("one"))
        assert [await app.journal(run_id) for run_id in moved] == [[]] * HELD

        for host in ("two", "three"):
            (tmp_path / f"let-{host}").touch()
        results = [await app.result(run_id, timeout=PATIENCE) for run_id in moved]
        for host in ("two", "three"):
            await asyncio.to_thread(end, processes[host])
        more = [run.run_id for run in await app.start_many("far", range(HELD))]
        later = [await app.result(run_id, timeout=PATIENCE) for run_id in more]

        ended = {line.call: line.host for line in lines(tmp_path) if line.event == "end"}
        assert {ended[result["work"]] for result in results} <= {"two", "three"}
        assert not {line.call for line in stale} & {result["work"] for result in results}
        assert {ended[result["work"]] for result in later} == {"one"}
        for run_id in [*started["two"], *started["three"], *moved]:
            check(await app.journal(run_id), {ids["two"], ids["three"]})
        for run_id in more:
            assert not {entry.worker for entry in await app.journal(run_id)} & set(ids.values())


def check(journal: list[Entry], owners: set[str]) -> None:
    """Each node once, by one who owned the run, and what came later saw what is journaled."""
    assert [(entry.node, entry.status, entry.attempt) for entry in journal] == [
        ("work", "completed", 1),
        ("after", "completed", 1),
    ]
    assert {entry.worker for entry in journal} <= owners
    assert journal[0].result == journal[1].result


async def are_held_by(url: str, run_ids: list[str], workers: set[str]) -> bool:
    """Whether all of these runs are leased to those workers."""
    held = await owners(url)
    return {held[run_id][0] for run_id in run_ids} <= workers


async def is_enlisted_anew(url: str, ids: dict[str, str]) -> bool:
    """Whether the three hosts are there again, one of them under a new id."""
    enlisted = {worker_id for (worker_id,) in await fetch(url, "SELECT id::text FROM workers")}
    return len(enlisted) == len(ids) and ids["one"] not in enlisted
