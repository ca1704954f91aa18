"""Signals that come at the worst moment: they are used once, with their payload, or refused.

The same races on the store's side alone stand in tests/conformance.
"""

from __future__ import annotations

import asyncio
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import Context, Durable, Suspended, durable
from tests.api.running_fixtures import file_url, until_status
from tests.faulty import FaultyStore, faulty_app, parks, times_out
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from pathlib import Path

    from stepwell import Workflow

ROUNDS = 200
LONGEST_WAIT = 0.4
MISSED_BY = 0.01

TIMED_OUT = "timed out"


def asking(timeout: float = 3600) -> Workflow:
    """Waits for a signal, then gives back what it got."""
    found: Workflow = (
        durable("asking")
        .wait_for_signal("wait", "go", timeout=timeout, default=TIMED_OUT)
        .step("last", lambda ctx: ctx.results["wait"])
    )
    return found


def twice() -> Workflow:
    """A step that suspends itself two times, and gives back what it was resumed with."""

    async def talk(ctx: Context) -> Any:
        heard = [] if ctx.resume_data is None else [*ctx.results["talk"], ctx.resume_data]
        return heard if len(heard) == 2 else Suspended(heard)

    found: Workflow = durable("twice").step("talk", talk)
    return found


@pytest.fixture(params=["memory", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store of each kind."""
    return "sqlite://" if request.param == "memory" else file_url(tmp_path)


async def used(app: Durable, faulty: FaultyStore, run_id: str) -> Any:
    """The payload that the run got, after it ended; it used its message once, and was claimed once."""
    results = await app.result(run_id, timeout=PATIENCE)
    outcomes = [entry.result for entry in await app.journal(run_id) if entry.node == "wait"]
    assert outcomes == [results["wait"]]
    assert results["last"] == results["wait"]
    consumed = [
        n
        for verb, (_, advances), verdicts in [each for each in faulty.answers if each[0] == "commit"]
        for one, verdict in zip(advances, verdicts, strict=True)
        if one.run_id == run_id and verdict == "ok"
        for n in one.consumed
    ]
    assert len(consumed) == len(set(consumed))
    return results["wait"]


@pytest.mark.parametrize("earlier_mail", [False, True])
async def test_i6_a_signal_between_claim_and_load_is_used_without_another_claim(
    url: str, *, earlier_mail: bool
) -> None:
    app, faulty = faulty_app(url, [asking()])
    async with app:
        started = await app.start("asking")
        if earlier_mail:
            await app.signal(started.run_id, "other")
        stop = faulty.stop_after("claim", lambda *arguments: True)
        async with app.worker():
            await stop.reached()
            assert (await app.signal(started.run_id, "go", 7)).accepted
            stop.release()
            assert await used(app, faulty, started.run_id) == 7
    assert len(faulty.claims_of(started.run_id)) == 1


async def test_i6_a_signal_during_the_load_of_a_run_is_used_once(url: str) -> None:
    app, faulty = faulty_app(url, [asking()])
    async with app:
        started = await app.start("asking")
        await app.signal(started.run_id, "other")
        stop = faulty.stop_after("load")
        async with app.worker():
            await stop.reached()
            assert (await app.signal(started.run_id, "go", 7)).accepted
            stop.release()
            assert await used(app, faulty, started.run_id) == 7
    assert len(faulty.claims_of(started.run_id)) == 1


async def test_i6_a_signal_between_load_and_park_is_used_without_another_claim(url: str) -> None:
    app, faulty = faulty_app(url, [asking()])
    async with app:
        stop = faulty.stop_before("commit", parks)
        started = await app.start("asking")
        async with app.worker():
            await stop.reached()
            assert (await app.signal(started.run_id, "go", 7)).accepted
            assert not (await app.resume(started.run_id, "go", 8)).accepted
            assert await stop.released() == ["message"]
            assert await used(app, faulty, started.run_id) == 7
    assert len(faulty.claims_of(started.run_id)) == 1


async def test_i6_a_signal_while_the_answer_to_the_park_is_on_its_way_is_used_once(url: str) -> None:
    app, faulty = faulty_app(url, [asking()])
    async with app:
        stop = faulty.stop_after("commit", parks)
        started = await app.start("asking")
        async with app.worker():
            await stop.reached()
            assert (await app.resume(started.run_id, "go", 7)).accepted
            assert not (await app.resume(started.run_id, "go", 8)).accepted
            assert await stop.released() == ["ok"]
            assert await used(app, faulty, started.run_id) == 7


async def test_i6_a_park_whose_answer_is_lost_still_waits_for_its_signal(url: str) -> None:
    app, faulty = faulty_app(url, [asking()])
    async with app:
        faulty.lose_answer("commit", parks)
        started = await app.start("asking")
        async with app.worker():
            await until_status(app, started.run_id, "suspended")
            await eventually(lambda: faulty.verdicts_on(started.run_id) == ["ok", "lost"])
            assert (await app.resume(started.run_id, "go", 7)).accepted
            assert await used(app, faulty, started.run_id) == 7


async def test_i6_a_resume_before_the_commit_of_the_timeout_is_accepted_and_used(url: str) -> None:
    app, faulty = faulty_app(url, [asking(timeout=0.05)])
    async with app:
        stop = faulty.stop_before("commit", times_out)
        started = await app.start("asking")
        async with app.worker():
            await stop.reached()
            assert (await app.resume(started.run_id, "go", 7)).accepted
            assert not (await app.resume(started.run_id, "go", 8)).accepted
            assert await stop.released() == ["message"]
            assert await used(app, faulty, started.run_id) == 7


async def test_i6_a_resume_after_the_commit_of_the_timeout_is_refused(url: str) -> None:
    app, faulty = faulty_app(url, [asking(timeout=0.05)])
    async with app:
        stop = faulty.stop_after("commit", times_out)
        started = await app.start("asking")
        async with app.worker():
            await stop.reached()
            assert not (await app.resume(started.run_id, "go", 7)).accepted
            assert await stop.released() == ["ok"]
            assert await used(app, faulty, started.run_id) == TIMED_OUT


async def test_i6_two_resumes_at_once_of_a_step_that_suspends_twice_feed_one_suspension(url: str) -> None:
    async with Durable(url, [twice()]) as app, app.worker():
        run_id = (await app.start("twice")).run_id
        await until_status(app, run_id, "suspended")
        answers = await asyncio.gather(app.resume(run_id, "talk", "a"), app.resume(run_id, "talk", "b"))
        assert sorted(answer.accepted for answer in answers) == [False, True]
        first = "a" if answers[0].accepted else "b"

        async def suspended_again() -> bool:
            entries = await app.journal(run_id)
            return len(entries) == 2 and (await app.status(run_id)).status == "suspended"

        await eventually(suspended_again)
        assert (await app.status(run_id)).results == {"talk": [first]}
        assert (await app.resume(run_id, "talk", "c")).accepted
        assert (await app.result(run_id, timeout=PATIENCE)) == {"talk": [first, "c"]}


@pytest.mark.parametrize("workflow", [asking(), twice()], ids=["wait_for_signal", "suspended step"])
async def test_i6_a_resume_while_its_run_is_claimed_for_nothing_is_accepted_and_used(
    tmp_path: Path, workflow: Workflow
) -> None:
    app, faulty = faulty_app(file_url(tmp_path), [workflow])
    async with app, app.worker():
        run_id = (await app.start(workflow)).run_id
        signal = (await until_status(app, run_id, "suspended")).awaiting_signal
        assert signal is not None
        stop = faulty.stop_before("commit", parks)
        with sqlite3.connect(tmp_path / "store.db", timeout=PATIENCE) as connection:
            connection.execute("UPDATE stepwell_runs SET due_at = 0")
        connection.close()
        await stop.reached()
        assert (await app.status(run_id)).status == "suspended"
        assert (await app.resume(run_id, signal, 7)).accepted
        assert not (await app.resume(run_id, signal, 8)).accepted
        assert await stop.released() == ["message"]
        if signal == "talk":
            await eventually(lambda: _suspended_with(app, run_id, [7]))
        else:
            assert await used(app, faulty, run_id) == 7


async def _suspended_with(app: Durable, run_id: str, heard: list[int]) -> bool:
    snapshot = await app.status(run_id)
    return snapshot.status == "suspended" and snapshot.results == {"talk": heard}


async def test_i6_a_worker_that_stops_gives_back_no_wait_that_was_answered_meanwhile(tmp_path: Path) -> None:
    """Else a second resume would be accepted, and would answer a question that was not asked yet."""
    app, faulty = faulty_app(file_url(tmp_path), [twice()])
    async with app:
        worker = app.worker()
        await worker.__aenter__()
        run_id = (await app.start("twice")).run_id
        await until_status(app, run_id, "suspended")
        stop = faulty.stop_before("commit", parks)
        with sqlite3.connect(tmp_path / "store.db", timeout=PATIENCE) as connection:
            connection.execute("UPDATE stepwell_runs SET due_at = 0")
        connection.close()
        await stop.reached()
        assert (await app.resume(run_id, "talk", "a")).accepted
        leaving = asyncio.ensure_future(worker.__aexit__(None, None, None))
        await asyncio.sleep(0)
        assert await stop.released() == ["message"]
        await leaving
        assert (await app.status(run_id)).awaiting_signal is None
        assert not (await app.resume(run_id, "talk", "b")).accepted
