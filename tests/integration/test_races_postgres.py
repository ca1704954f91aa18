"""Commits, claims and loads that are late, repeated or unanswered on PostgreSQL; a proxy holds and loses statements.

What the same races come to without a connection in them stands in tests/conformance, for every store.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import Context, Durable, Suspended, durable
from tests.api.handlers import nothing
from tests.api.running_fixtures import until_status
from tests.faulty import faulty_app, times_out
from tests.gates import Gate
from tests.postgres import dsn, fresh_url
from tests.proxy import Proxy
from tests.rival import own_database, rival_of, statements
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


LEASE_SECONDS = 1.0
TIMED_OUT = "timed out"


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """A proxy before the tests' server."""
    async with Proxy(dsn()) as proxy:
        yield proxy


async def test_i6_a_run_does_not_park_beside_a_signal_that_is_being_committed() -> None:
    """The signal holds the run's lock; the park is passed over until it is committed, and then refused."""
    gate, url = Gate(), fresh_url()
    flow = durable("flow").step("first", gate.handler).wait_for_signal("wait", "go")
    app, faulty = faulty_app(url, [flow])
    async with app, rival_of(url) as rival, app.worker():
        run_id = (await app.start("flow")).run_id
        await gate.entered()
        async with rival.connection.transaction():
            await rival.signal(run_id, "go", b"7")
            gate.let()
            await eventually(lambda: "busy" in faulty.verdicts_on(run_id))
        assert (await app.result(run_id, timeout=PATIENCE))["wait"] == 7
    assert [verdict for verdict in faulty.verdicts_on(run_id) if verdict != "busy"] == ["message", "ok"]
    assert len(faulty.claims_of(run_id)) == 1


@pytest.mark.parametrize("moment", ["message_counts", "find_messages", "change"])
async def test_i6_a_signal_between_the_claim_and_the_park_is_used_once_without_another_claim(
    proxy: Proxy, moment: str
) -> None:
    """It comes before the messages are counted, before the mailbox is read, or before the park is committed."""
    url = fresh_url()
    flow = durable("flow").wait_for_signal("wait", "go").wait_for_signal("again", "go")
    app, faulty = faulty_app(proxy.url(url), [flow])
    async with app, Durable(url) as other:
        run_id = (await app.start("flow")).run_id
        await other.signal(run_id, "another")
        held = proxy.hold(statements(url)[moment])
        async with app.worker():
            await held.reached()
            assert (await other.signal(run_id, "go", 7)).accepted
            held.release()
            await until_status(app, run_id, "suspended")
            assert (await app.status(run_id)).results == {"wait": 7}
            assert len(faulty.claims_of(run_id)) == 1


@pytest.mark.parametrize("arrives", ["after its retry", "after the next one"])
async def test_i1_a_commit_that_arrives_when_its_worker_has_gone_on_changes_nothing(proxy: Proxy, arrives: str) -> None:
    """The proxy has it in its hands while the worker, cut off, connects again and repeats it."""
    url, gates = fresh_url(), {"second": Gate(), "third": Gate()}
    flow = durable("flow").step("first", nothing)
    for name, gate in gates.items():
        flow.step(name, gate.handler)
    async with Durable(proxy.url(url), [flow]) as app, rival_of(url) as rival, app.worker():
        late = proxy.hold(statements(url)["append"])
        run_id = (await app.start("flow")).run_id
        await late.reached()
        late.abandon()
        await gates["second"].entered()
        if arrives == "after the next one":
            gates["second"].let()
            await gates["third"].entered()
        before = await app.journal(run_id), await rival.owners()
        await late.released()
        assert (await app.journal(run_id), await rival.owners()) == before
        for gate in gates.values():
            gate.let()
        await app.result(run_id, timeout=PATIENCE)
        assert [entry.node for entry in await app.journal(run_id)] == ["first", "second", "third"]


async def test_i6_a_park_that_arrives_when_its_run_was_signalled_and_goes_on_changes_nothing(proxy: Proxy) -> None:
    url, gate = fresh_url(), Gate()
    flow = durable("flow").step("first", nothing).wait_for_signal("wait", "go").step("last", gate.handler)
    async with Durable(proxy.url(url), [flow]) as app, rival_of(url) as rival, app.worker():
        late = proxy.hold(statements(url)["change"])
        run_id = (await app.start("flow")).run_id
        await late.reached()
        late.abandon()
        await until_status(app, run_id, "suspended")
        assert (await app.signal(run_id, "go", 7)).accepted
        await gate.entered()
        before = await app.journal(run_id), await rival.owners()
        await late.released()
        assert b"lost" in late.answer
        assert (await app.journal(run_id), await rival.owners()) == before
        gate.let()
        assert (await app.result(run_id, timeout=PATIENCE))["wait"] == 7


@pytest.mark.parametrize("name", ["append", "change"])
async def test_i1_a_commit_whose_answer_is_lost_on_its_way_is_known_again(proxy: Proxy, name: str) -> None:
    """The repeated one says `done`, of a run that was let go of, too; the handlers are called once."""
    url, gate = fresh_url(), Gate()
    gate.let()
    flow = durable("flow").step("first", gate.handler).step("second", gate.handler).wait_for_signal("wait", "go")
    app, faulty = faulty_app(proxy.url(url), [flow])
    async with app, app.worker():
        # The first commit that has the name of a node is made twice: the names are given their numbers in between.
        await until_status(app, (await app.start("flow")).run_id, "suspended")
        lost = proxy.drop_answer(statements(url)[name])
        run_id = (await app.start("flow")).run_id
        await lost.answered()
        assert name == "append" or b"ok" in lost.answer  # which answers with a count
        await until_status(app, run_id, "suspended")
        await eventually(lambda: len(faulty.verdicts_on(run_id)) == 2)
        await app.signal(run_id, "go")
        await app.result(run_id, timeout=PATIENCE)
        assert [entry.node for entry in await app.journal(run_id)] == ["first", "second", "wait"]
    assert faulty.verdicts_on(run_id)[:2] == (["done", "ok"] if name == "append" else ["ok", "done"])
    assert gate.calls[run_id] == 2


async def test_i4_runs_whose_claim_is_answered_to_nobody_go_on_without_blame(
    proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker lives and beats all the while; it finds out by itself what is leased to it, and gives it back."""
    url = fresh_url()
    app = Durable(proxy.url(url), [durable("flow").step("work", nothing)], lease=LEASE_SECONDS)
    async with app, rival_of(url) as rival:
        started = await app.start_many("flow", [1, 2, 3])
        lost = proxy.drop_answer(statements(url)["claim"])
        async with app.worker() as worker:
            before = worker.worker_id
            await lost.answered()
            assert await rival.owners() == [(before, 1, 0)] * 3
            for each in started:
                await app.result(each.run_id, timeout=PATIENCE)
            assert worker.worker_id == before
        assert [(token, crashes) for _, token, crashes in await rival.owners()] == [(3, 0)] * 3
    assert "never received" in caplog.text


@pytest.mark.parametrize("resume", ["is committed", "is rolled back"])
async def test_i6_a_resume_that_is_being_committed_at_the_deadline_is_used_or_undone(resume: str) -> None:
    """The timeout is passed over as long as the resume holds the run, and is then refused, or taken."""
    url = fresh_url()
    app, faulty = faulty_app(url, [durable("flow").wait_for_signal("wait", "go", timeout=0.05, default=TIMED_OUT)])
    async with app, rival_of(url) as rival:
        timeout = faulty.stop_before("commit", times_out)
        run_id = (await app.start("flow")).run_id
        async with app.worker():
            await timeout.reached()
            transaction = rival.connection.transaction()
            await transaction.start()
            await rival.signal(run_id, "go", b"7", waiting_only=True)
            assert await timeout.released() == ["busy"]
            await (transaction.commit() if resume == "is committed" else transaction.rollback())
            payload = 7 if resume == "is committed" else TIMED_OUT
            assert await app.result(run_id, timeout=PATIENCE) == {"wait": payload}
    assert ("message" in faulty.verdicts_on(run_id)) == (resume == "is committed")


async def test_i6_of_two_resumes_whose_transactions_overlap_one_is_accepted_and_the_next_wait_stays() -> None:
    async def talk(ctx: Context) -> Any:
        heard = [] if ctx.resume_data is None else [*ctx.results["talk"], ctx.resume_data]
        return heard if len(heard) == 2 else Suspended(heard)

    with own_database() as url:
        async with (
            Durable(url, [durable("flow").step("talk", talk)]) as app,
            Durable(url) as other,
            rival_of(url) as rival,
            app.worker(),
        ):
            run_id = (await app.start("flow")).run_id
            await until_status(app, run_id, "suspended")
            async with rival.connection.transaction():
                await rival.execute("SELECT 1 FROM stepwell.runs WHERE id = $1 FOR NO KEY UPDATE", run_id)
                asked = [
                    asyncio.create_task(each.resume(run_id, "talk", name)) for each, name in ((app, "a"), (other, "b"))
                ]
                await rival.until_waiting(2)
            answers = [(await each).accepted for each in asked]
            assert sorted(answers) == [False, True]
            heard = "ab"[answers.index(True)]

            async def suspended_again() -> bool:
                snapshot = await app.status(run_id)
                return snapshot.status == "suspended" and snapshot.results == {"talk": [heard]}

            await eventually(suspended_again)
            assert (await app.resume(run_id, "talk", "c")).accepted
            assert await app.result(run_id, timeout=PATIENCE) == {"talk": [heard, "c"]}
