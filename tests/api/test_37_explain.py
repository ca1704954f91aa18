"""`explain` where each reason is true, and what a snapshot says of a run that tries, waits or was not undone."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import (
    Abort,
    Backoff,
    Durable,
    Explanation,
    Failure,
    Reason,
    RunFailedError,
    RunNotFoundError,
    RunSnapshot,
    durable,
)
from tests.api import running_fixtures
from tests.api.running_fixtures import decline, file_url, one
from tests.gates import Gate
from tests.postgres import fresh_url
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from pathlib import Path

    from stepwell import Context, Workflow

url = running_fixtures.url

LATER = Backoff(initial=3600, factor=1, maximum=3600, jitter=0)


async def fail(ctx: Context) -> None:
    """Fail each attempt."""
    raise ValueError(f"no luck {ctx.attempt}")


@pytest.fixture(params=["file", "postgres"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store that several apps can open at once."""
    return fresh_url() if request.param == "postgres" else file_url(tmp_path)


async def until(app: Durable, run_id: str, reason: Reason) -> Explanation:
    """Wait until this is why the run is not moving."""

    async def told() -> Explanation | None:
        found = await app.explain(run_id)
        return found if found.reason is reason else None

    return await eventually(told)


async def until_waiting(app: Durable, run_id: str, word: str) -> RunSnapshot:
    """Wait until the run waits for this."""

    async def seen() -> RunSnapshot | None:
        run = await app.status(run_id)
        return run if run.waits_for == word else None

    return await eventually(seen)


async def test_a_run_that_tries_again_tells_its_attempt_and_its_last_error(url: str) -> None:
    flow = durable("flow").step("first", one).step("charge", fail, retry_backoff=LATER)
    async with Durable(url, [flow]) as app, app.worker() as worker:
        run_id = (await app.start("flow")).run_id
        run = await until_waiting(app, run_id, "retry")
        (listed,) = await app.list()
        told = await app.explain(run_id)

    for seen in (run, listed):
        assert (seen.attempt, seen.waits_for, seen.error) == (2, "retry", None)
        assert isinstance(seen.last_error, Failure)
        assert (seen.last_error.type, seen.last_error.message) == ("ValueError", "no luck 1")
        assert seen.retry_at == seen.wake_at
        assert len(seen.definition) == 24
    assert (told.reason, told.until) == (Reason.RETRYING, run.retry_at)
    assert told.sentence.startswith("charge: attempt 1 failed with ValueError: no luck 1; next try at ")
    assert worker.worker_id


async def test_a_run_that_runs_tells_which_worker_holds_it_and_where(url: str) -> None:
    gate = Gate()
    async with Durable(url, [durable("flow").step("work", gate.handler)]) as app, app.worker() as worker:
        run_id = (await app.start("flow")).run_id
        await gate.entered()
        told, run = await app.explain(run_id), await app.status(run_id)
        gate.let()
        await app.result(run_id, timeout=PATIENCE)
        end = await app.explain(run_id)

    assert told.reason is Reason.RUNNING_HANDLER
    assert f"It is at work, attempt 1, on worker {worker.worker_id} (host " in told.sentence
    assert told.since is not None
    assert (run.attempt, run.waits_for, run.last_error, run.unread_signals) == (1, None, None, {})
    assert (end.reason, end.sentence) == (Reason.ENDED, "It completed.")


async def test_what_a_run_waits_for_is_told(url: str) -> None:
    flow = durable("flow").sleep("rest", 3600)
    asks = durable("asks").wait_for_signal("wait", "go", timeout=timedelta(days=1))
    parent = durable("parent").child_workflow("child", "asks")
    async with Durable(url, [flow, asks, parent]) as app, app.worker():
        asleep = (await app.start("flow")).run_id
        later = (await app.start("flow", delay=3600)).run_id
        waiting = (await app.start("asks")).run_id
        over = (await app.start("parent")).run_id
        rest = await until(app, asleep, Reason.SLEEPING)
        signal = await until(app, waiting, Reason.AWAITING_SIGNAL)

        async def is_child_parked() -> bool:  # its status stands in its parent's sentence
            return [each.status for each in (await app.status(over)).children or ()] == ["suspended"]

        await eventually(is_child_parked)
        child = await until(app, over, Reason.AWAITING_CHILD)
        words = {}
        for run_id in (asleep, waiting, over):
            words[run_id] = (await app.status(run_id)).waits_for
        many = await app.explain_many([asleep, later, waiting, "nobody", over])
        (below,) = (await app.status(over)).children or ()
        until_then = (await app.status(waiting)).wake_at

    assert words == {asleep: "sleep", waiting: "signal", over: "child"}
    assert many == {asleep: rest, later: many[later], waiting: signal, over: child}
    assert many[later].reason is Reason.DELAYED
    assert (signal.until, signal.actions[0].kind) == (until_then, "form")
    assert signal.actions[0].command == f"stepwell signal {waiting} go DATA"
    assert below.run_id in child.sentence
    assert child.actions[0].command == f"stepwell why {below.run_id}"


async def test_a_due_run_without_a_worker_says_so(url: str) -> None:
    async with Durable(url, [durable("flow").step("one", one)]) as app:
        run_id = (await app.start("flow")).run_id
        told, run = await app.explain(run_id), await app.status(run_id)
        with pytest.raises(RunNotFoundError):
            await app.explain("nobody")

    assert told.reason is Reason.DUE_NO_WORKER
    assert told.sentence == "It is due. No living worker serves its queue durable; none is alive."
    assert run.waits_for == "worker"


async def test_a_run_of_a_version_that_no_worker_has_names_the_node_that_differs(shared: str) -> None:
    old = durable("order").step("reserve", one).step("ship", one)
    new = durable("order").step("reserve", one).step("send", one)
    async with Durable(shared, [old]) as app:
        run_id = (await app.start("order")).run_id
        async with Durable(shared, [new]) as other, other.worker():
            told = await app.explain(run_id)
            version, theirs = (await app.status(run_id)).definition, (await other.start("order")).run_id
            newer = (await app.status(theirs)).definition
        gone = await app.explain(run_id)

    assert told.reason is Reason.NO_WORKER_HAS_DEFINITION
    assert f"definition (order {version[:8]}): those alive have {newer[:8]}, where node 2 is send, not ship." in (
        told.sentence
    )
    assert gone.reason is Reason.DUE_NO_WORKER


async def test_a_workflow_that_is_registered_later_is_served_then(url: str) -> None:
    async with Durable(url, [durable("first").step("one", one)]) as app, app.worker():
        gate = Gate()
        app.register(durable("second").step("work", gate.handler).step("then", gate.handler))
        run_id = (await app.start("second")).run_id
        await gate.entered()
        assert (await app.explain(run_id)).reason is Reason.RUNNING_HANDLER
        other = (await app.start("second", delay=3600)).run_id
        assert "No living worker" not in (await app.explain(other)).sentence
        gate.let()


async def test_a_run_in_a_queue_that_nobody_serves_names_those_that_are(shared: str) -> None:
    flow = durable("flow").step("one", one)
    async with Durable(shared, [flow], queue="bulk") as app, Durable(shared, [_again(flow)]) as other, other.worker():
        told = await app.explain((await app.start("flow")).run_id)

    assert told.reason is Reason.DUE_NO_WORKER
    assert told.sentence == "It is due. No living worker serves its queue bulk; those alive serve: durable."


async def test_a_run_that_finds_its_workers_full_says_what_they_hold(url: str) -> None:
    gate = Gate()
    async with Durable(url, [durable("flow").step("work", gate.handler)]) as app, app.worker(concurrency=1):
        for _ in range(2):
            await app.start("flow")
        await gate.entered()
        runs = [await app.start("flow") for _ in range(4)]
        told = await until(app, runs[-1].run_id, Reason.WORKERS_FULL)
        gate.let()

    assert "holding 2 of at most 2 runs." in told.sentence


async def test_a_run_whose_worker_is_gone_says_so(shared: str) -> None:
    gate = Gate()
    async with Durable(shared, [durable("flow").step("work", gate.handler)]) as app, app.worker() as worker:
        run_id = (await app.start("flow")).run_id
        await gate.entered()
        await app._open_store().expire(worker.worker_id, None)
        await _hold(app, run_id, "bob")
        told = await app.explain(run_id)
        gate.let()

    assert told.reason is Reason.WORKER_SILENT
    assert "Worker bob, which holds it at work, is dead" in told.sentence


async def test_a_run_during_which_workers_died_is_a_suspect(shared: str) -> None:
    flow = durable("flow").step("one", one)
    async with Durable(shared, [flow]) as app:
        run_id = (await app.start("flow")).run_id
        await _change(app, "crashes = 2", run_id)
        store = app._open_store()
        lanes = [await app._lanes.of("durable", app._registry.get_plan("flow"))]
        await store.enlist("ann", "here", _offer(lanes))
        told = await app.explain(run_id)
        await store.retire("ann")

    assert told.reason is Reason.SUSPECT
    assert told.sentence.startswith("2 workers died while they held it")


async def test_a_run_that_is_undone_says_so(url: str) -> None:
    gate = Gate()
    flow = durable("flow").step("reserve", one, compensate=gate.handler).step("charge", decline, max_retries=0)
    async with Durable(url, [flow]) as app, app.worker():
        run_id = (await app.start("flow")).run_id
        await gate.entered()
        told, run = await app.explain(run_id), await app.status(run_id)
        gate.let()
        with pytest.raises(RunFailedError):
            await app.result(run_id, timeout=PATIENCE)

    assert told.reason is Reason.COMPENSATING
    assert run.last_error == run.error


async def test_a_failed_run_names_its_attempt_and_what_was_not_undone(url: str) -> None:
    async def never(ctx: Context) -> None:
        raise Abort("cannot be undone")

    flow = (
        durable("flow")
        .step("reserve", one, compensate=one)
        .step("mail", one, compensate=never)
        .step("charge", fail, max_retries=1, retry_backoff=Backoff(initial=0.001, maximum=0.001))
    )
    async with Durable(url, [flow]) as app, app.worker():
        run_id = (await app.start("flow")).run_id
        with pytest.raises(RunFailedError) as raised:
            await app.result(run_id, timeout=PATIENCE)
        run, (listed,), told = await app.status(run_id), await app.list(), await app.explain(run_id)

    for seen in (run, listed):
        assert (seen.attempt, seen.failed_compensations, seen.compensated) == (2, ("mail",), ("reserve",))
        assert seen.last_error == seen.error
    assert (raised.value.attempt, raised.value.failed_compensations) == (2, ("mail",))
    assert str(raised.value) == (
        f"Run {run_id} failed at charge: ValueError: no luck 2 (attempt 2). Undone: reserve. Not undone, since their "
        "compensators failed: mail."
    )
    assert told.reason is Reason.ENDED
    assert told.sentence.endswith("Not undone, since their compensators failed: mail.")
    with pytest.raises(RunFailedError, match=r"\(attempt 2\)\. Undone: reserve\. Not undone, .*: mail\.$"):
        await flow.run()


async def test_signals_that_were_not_used_are_counted_by_name(url: str) -> None:
    flow = durable("flow").wait_for_signal("wait", "go").sleep("rest", 3600)
    async with Durable(url, [flow]) as app:
        run_id = (await app.start("flow")).run_id
        for name in ("go", "go", "stop"):
            await app.signal(run_id, name)
        before, (listed,) = await app.status(run_id), await app.list()
        async with app.worker():
            after = await until_waiting(app, run_id, "sleep")

    assert before.unread_signals == listed.unread_signals == {"go": 2, "stop": 1}
    assert after.unread_signals == {"go": 1, "stop": 1}


async def test_a_run_whose_row_is_not_understood_is_shown_as_damaged(shared: str) -> None:
    async with Durable(shared, [durable("flow").step("one", one)]) as app:
        bad, good = (await app.start("flow")).run_id, (await app.start("flow")).run_id
        await _change(app, "position = 9", bad)
        run, listed, told = await app.status(bad), await app.list(), await app.explain(bad)

    assert (run.run_id, run.results, run.current_node) == (bad, {}, None)
    assert "node 9" in str(run.damaged)
    assert [(each.run_id, each.damaged is None) for each in listed] == [(good, True), (bad, False)]
    assert told.reason is Reason.DAMAGED
    assert "node 9 of 1" in told.sentence


async def test_a_page_is_explained_without_a_query_for_each_run(url: str) -> None:
    flow = durable("flow").step("charge", fail, retry_backoff=LATER)
    async with Durable(url, [flow]) as app:
        async with app.worker():
            started = await app.start_many("flow", list(range(30)))
            await asyncio.gather(*(until_waiting(app, each.run_id, "retry") for each in started))
        # A worker reads of the others by the same verbs: it has left before the calls are counted.
        asked = _counting(app)
        told = await app.explain_many([each.run_id for each in started])
        runs = await app.list()

    assert {each.reason for each in told.values()} == {Reason.RETRYING}
    assert len(told) == len(runs) == 30
    assert {run.attempt for run in runs} == {2}
    assert asked() <= 3


def _counting(app: Durable) -> Any:
    """How often the store's reader or the store was asked since."""
    store, asked = app._open_store(), []
    for owner, name in ((store.reader, "situation"), (store, "workers"), (store.reader, "page")):
        original = getattr(owner, name)

        def counted(*given: Any, _original: Any = original) -> Any:
            asked.append(1)
            return _original(*given)

        setattr(owner, name, counted)
    return lambda: len(asked)


def _again(flow: Workflow) -> Workflow:
    made = durable(flow.name)
    for node in flow.nodes:
        made.step(node.name, one)
    return made


def _offer(lanes: list[int]) -> Any:
    from stepwell.store.records import Offer  # noqa: PLC0415  only here

    return Offer(lanes, 10, 60_000_000)


async def _hold(app: Durable, run_id: str, worker: str) -> None:
    await _change(app, f"worker = '{worker}'", run_id)


async def _change(app: Durable, what: str, run_id: str) -> None:
    """Change a run's row by hand."""
    store: Any = app._open_store()
    if app.url.startswith("sqlite"):
        sql = f"UPDATE stepwell_runs SET {what} WHERE id = '{run_id}'"
        await store._writer.run(lambda connection: connection.execute(sql))
    else:
        table = f'"{store._location.schema}".runs'
        sql = f"UPDATE {table} SET {what} WHERE id = '{run_id}'"
        await store._connections.fetch(sql)
