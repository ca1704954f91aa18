"""A primary that dies while workers and clients know its standby: they go on there, even if commits are missing."""

from __future__ import annotations

import asyncio
import signal
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from stepwell import Durable, RunNotFoundError, durable
from stepwell.engine.fleet.worker_session import WorkerSession
from tests.gates import Gate
from tests.network_faults import (
    CountedCalls,
    check,
    cross,
    ended,
    fetch,
    fresh_schema,
    retrying_while_unavailable,
)
from tests.postgres import Server
from tests.standby import Standby
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNS = 20
MISSING = 50
"""Commits that the standby has not heard of, at least."""


@pytest.fixture
def primary() -> Iterator[Server]:
    """The server that takes writes."""
    with Server() as server:
        yield server


@pytest.fixture
def standby(primary: Server) -> Iterator[Standby]:
    """Its standby."""
    with Standby(primary) as server:
        yield server


@pytest.fixture
def url(primary: Server, standby: Standby) -> str:
    """A store that nobody has used, on whichever of the two takes writes; the standby is named first."""
    return fresh_schema(f"postgresql://postgres@127.0.0.1:{standby.port},127.0.0.1:{primary.port}/postgres")


def on(server: Server, url: str) -> str:
    """The store as that server has it."""
    return f"{server.dsn}?{url.partition('?')[2]}"


async def has_followed(standby: Standby, primary: Server, url: str) -> None:
    """Waits until the standby has all that the primary has written by now."""
    ((place,),) = await fetch(on(primary, url), "SELECT pg_current_wal_lsn()::text")
    behind = "SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn AS here"

    async def is_here() -> bool:
        ((here,),) = await fetch(on(standby, url), behind, place)
        return bool(here)

    await eventually(is_here)


async def a_day_passes(app: Durable, server: Server, url: str) -> None:
    """Makes due what is delayed, and has the worker look."""
    await fetch(on(server, url), "UPDATE runs SET due_at = 0 WHERE worker IS NULL AND due_at IS NOT NULL")
    app._events.due()


async def test_workers_and_clients_find_the_promoted_standby_by_themselves(
    primary: Server, standby: Standby, url: str
) -> None:
    counted = CountedCalls()
    async with Durable(url, counted.workflows(), lease=2) as app, app.worker() as worker:
        worker_id = worker.worker_id
        held = [one.run_id for one in await app.start_many("held", range(RUNS))]
        await counted.reached(RUNS, "work")
        await has_followed(standby, primary, url)
        await asyncio.to_thread(primary.stop, signal.SIGQUIT)
        clients = [asyncio.create_task(cross(app, f"run {number}")) for number in range(RUNS)]
        await asyncio.to_thread(standby.promote)
        counted.release.set()
        run_ids = [*held, *await asyncio.gather(*clients)]
        await ended(app, held)
        await check(app, on(standby, url), counted, run_ids)
        assert counted.repeated() == {}
        assert worker.worker_id == worker_id


async def test_i7_a_standby_that_lacks_the_last_commits_has_no_hole_in_any_journal_and_every_run_ends(
    primary: Server, standby: Standby, url: str
) -> None:
    """What was acknowledged last is gone; runs that the standby knows go on from where it knows them."""
    counted = CountedCalls()
    async with Durable(url, counted.workflows(), lease=2) as app, app.worker(concurrency=10):
        before = [(await app.start("counted", key=f"before {number}")).run_id for number in range(RUNS)]
        held = [one.run_id for one in await app.start_many("held", range(5))]
        await counted.reached(5, "work")
        await has_followed(standby, primary, url)
        await asyncio.to_thread(standby.cut_off)
        length = "SELECT count(*) FROM journal"
        ((known,),) = await fetch(on(standby, url), length)
        after = [await cross(app, f"after {number}") for number in range(5)]
        for run_id in before:
            await app.signal(run_id, "word", "gone", key="gone")
        await ended(app, before)
        ((written,),) = await fetch(on(primary, url), length)
        assert written - known >= MISSING
        await asyncio.to_thread(primary.stop, signal.SIGQUIT)
        await asyncio.to_thread(standby.promote)
        counted.release.set()
        for run_id in before:
            again = await retrying_while_unavailable(lambda one=run_id: app.signal(one, "word", "again", key="again"))  # type: ignore[misc]  # a default argument holds the id
            assert again.accepted
        results = await ended(app, [*before, *held])
        assert [one["word"] for one in results[:RUNS]] == ["again"] * RUNS
        await check(app, on(standby, url), counted, [*before, *held])
        for run_id in after:
            with pytest.raises(RunNotFoundError):
                await app.status(run_id)


async def test_i1_what_a_worker_remembers_and_the_standby_lacks_is_not_built_upon(
    primary: Server, standby: Standby, url: str
) -> None:
    """The standby knows that the run is leased to it, and none of the steps that were stored since."""
    one, other = Gate(holds=1), Gate()
    names = ["first", "second", "third", "last"]
    flow = durable("flow")
    for name in names:
        flow = flow.step(name, (other if name == "third" else one).handler)
    async with Durable(url, [flow]) as app, app.worker():
        run_id = (await app.start("flow")).run_id
        await one.entered()
        await has_followed(standby, primary, url)
        await asyncio.to_thread(standby.cut_off)
        one.let()
        await other.entered()
        await asyncio.to_thread(primary.stop, signal.SIGQUIT)
        await asyncio.to_thread(standby.promote)
        other.let()
        await ended(app, [run_id])
        assert [entry.node for entry in await app.journal(run_id)] == names


async def test_i1_a_worker_that_claims_again_what_it_holds_drives_it_once(
    primary: Server, standby: Standby, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claim is among what the standby lacks, which gives the same run to the same worker under the same token.

    The looks that would tell it that its run was lost happen to come after the claim.
    """

    async def come_later(_: WorkerSession) -> None:
        pass

    monkeypatch.setattr(WorkerSession, "look_for_lost", come_later)
    counted = CountedCalls()
    async with Durable(url, counted.workflows(), lease=60) as app, app.worker():
        held = (await app.start("held", delay=timedelta(days=1))).run_id
        await has_followed(standby, primary, url)
        await asyncio.to_thread(standby.cut_off)
        await a_day_passes(app, primary, url)
        await counted.reached(1, "work")
        await asyncio.to_thread(primary.stop, signal.SIGQUIT)
        await asyncio.to_thread(standby.promote)
        await a_day_passes(app, standby, url)
        await counted.reached(2, "work")
        counted.release.set()
        await ended(app, [held])
        await check(app, on(standby, url), counted, [held])
        assert counted.calls[held, "last"] == 1
