"""`resume` and `signal`: delivered, kept, refused; keys; suspended steps re-entered."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import Context, Durable, PayloadError, ResumeResult, RunFailedError, RunNotFoundError, Suspended, durable
from tests.api import running_fixtures
from tests.api.running_fixtures import file_url, one, outcomes, until_status
from tests.gates import Gate
from tests.postgres import fresh_url
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from pathlib import Path

    from stepwell import Workflow

url = running_fixtures.url

UNKNOWN = "0197f0a0-0000-7000-8000-000000000000"


def signoff() -> Workflow:
    return durable("signoff").wait_for_signal("approval", "approved").step("close", one)


async def ask(ctx: Context) -> Any:
    """A step that asks a person, and gives back the answer."""
    return {"answer": ctx.resume_data} if ctx.resume_data is not None else Suspended({"question": "may I?"})


async def test_resume_delivers_to_a_run_that_is_suspended_on_that_signal(url: str) -> None:
    async with Durable(url, [signoff()]) as app, app.worker():
        started = await app.start("signoff")
        waiting = await until_status(app, started.run_id, "suspended")
        assert waiting.awaiting_signal == "approved"
        answer = await app.resume(started.run_id, "approved", {"by": "ada"})
        assert isinstance(answer, ResumeResult)
        assert answer.accepted
        assert await app.result(started.run_id, timeout=PATIENCE) == {"approval": {"by": "ada"}, "close": 1}


async def test_the_status_in_the_answer_is_the_runs_after_the_call(url: str) -> None:
    async with Durable(url, [signoff()]) as app:
        async with app.worker():
            started = await app.start("signoff")
            await until_status(app, started.run_id, "suspended")
        answer = await app.resume(started.run_id, "approved")
        after = await app.status(started.run_id)
        assert answer == ResumeResult(accepted=True, status=after.status)
        assert after.awaiting_signal is None


async def test_what_resume_delivers_is_none_if_no_data_are_given(url: str) -> None:
    async with Durable(url, [signoff()]) as app, app.worker():
        started = await app.start("signoff")
        await until_status(app, started.run_id, "suspended")
        assert (await app.resume(started.run_id, "approved")).accepted
        assert (await app.result(started.run_id, timeout=PATIENCE))["approval"] is None


async def test_a_resume_by_another_name_is_not_accepted_and_changes_nothing(url: str) -> None:
    async with Durable(url, [signoff()]) as app, app.worker():
        started = await app.start("signoff")
        before = await until_status(app, started.run_id, "suspended")
        for name in ("rejected", "approval"):
            assert await app.resume(started.run_id, name) == ResumeResult(accepted=False, status=before.status)
        assert await app.status(started.run_id) == before


async def test_a_resume_that_comes_before_the_wait_is_not_kept(url: str) -> None:
    async with Durable(url, [signoff()]) as app:
        started = await app.start("signoff")
        refused = await app.resume(started.run_id, "approved", "early")
        assert refused == ResumeResult(accepted=False, status=started.status)
        async with app.worker():
            await until_status(app, started.run_id, "suspended")
            assert (await app.resume(started.run_id, "approved", "late")).accepted
            assert (await app.result(started.run_id, timeout=PATIENCE))["approval"] == "late"


async def test_of_two_resumes_one_is_accepted(url: str) -> None:
    two_waits = durable("twice").wait_for_signal("first", "go").wait_for_signal("second", "go")
    async with Durable(url, [two_waits]) as app:
        async with app.worker():
            started = await app.start("twice")
            await until_status(app, started.run_id, "suspended")
        answers = await asyncio.gather(*(app.resume(started.run_id, "go", number) for number in (1, 2)))
        assert sorted(answer.accepted for answer in answers) == [False, True]
        async with app.worker():
            again = await until_status(app, started.run_id, "suspended")
            assert again.current_node == "second"
            assert again.results in ({"first": 1}, {"first": 2})


async def test_a_run_that_has_ended_accepts_nothing(url: str) -> None:
    async with Durable(url, [durable("sum").step("value", one)]) as app, app.worker():
        started = await app.start("sum")
        await app.result(started.run_id, timeout=PATIENCE)
        refused = ResumeResult(accepted=False, status=(await app.status(started.run_id)).status)
        assert refused.status == "completed"
        assert await app.resume(started.run_id, "approved") == refused
        assert await app.signal(started.run_id, "approved") == refused


async def test_i6_a_signal_sent_before_the_wait_is_kept_and_consumed_once(url: str) -> None:
    two_waits = durable("twice").wait_for_signal("first", "go").wait_for_signal("second", "go")
    async with Durable(url, [two_waits]) as app:
        started = await app.start("twice")
        assert await app.signal(started.run_id, "go", "early") == ResumeResult(accepted=True, status=started.status)
        async with app.worker():
            waiting = await until_status(app, started.run_id, "suspended")
        assert waiting.results == {"first": "early"}
        assert waiting.current_node == "second"


async def test_a_signal_wakes_a_run_that_waits_for_it(url: str) -> None:
    async with Durable(url, [signoff()]) as app, app.worker():
        started = await app.start("signoff")
        await until_status(app, started.run_id, "suspended")
        assert (await app.signal(started.run_id, "approved", [1])).accepted
        assert (await app.result(started.run_id, timeout=PATIENCE))["approval"] == [1]


async def test_signals_of_one_name_are_taken_in_the_order_they_came(url: str) -> None:
    waits = durable("waits")
    for number in range(5):
        waits.wait_for_signal(f"wait-{number}", "go")
    async with Durable(url, [waits]) as app:
        started = await app.start("waits")
        for number in range(5):
            assert (await app.signal(started.run_id, "go", number)).accepted
        async with app.worker():
            results = await app.result(started.run_id, timeout=PATIENCE)
    assert results == {f"wait-{number}": number for number in range(5)}


async def test_a_signal_of_another_name_is_kept_for_its_own_wait(url: str) -> None:
    flow = durable("flow").wait_for_signal("first", "a").wait_for_signal("second", "b")
    async with Durable(url, [flow]) as app, app.worker():
        started = await app.start("flow")
        assert (await app.signal(started.run_id, "b", "for b")).accepted
        assert (await until_status(app, started.run_id, "suspended")).current_node == "first"
        assert (await app.signal(started.run_id, "a", "for a")).accepted
        assert await app.result(started.run_id, timeout=PATIENCE) == {"first": "for a", "second": "for b"}


async def test_a_signal_to_a_run_in_the_middle_of_a_step_is_kept(url: str) -> None:
    gate = Gate()
    flow = durable("flow").step("work", gate.handler).wait_for_signal("approval", "approved")
    async with Durable(url, [flow]) as app, app.worker():
        started = await app.start("flow")
        await gate.entered()
        assert not (await app.resume(started.run_id, "approved")).accepted
        assert (await app.signal(started.run_id, "approved", "kept")).accepted
        gate.let()
        assert (await app.result(started.run_id, timeout=PATIENCE))["approval"] == "kept"
    assert gate.begun == 1


async def test_signals_nobody_waits_for_let_a_run_complete(url: str) -> None:
    async with Durable(url, [durable("sum").step("value", one)]) as app:
        started = await app.start("sum")
        assert (await app.signal(started.run_id, "approved")).accepted
        async with app.worker():
            assert await app.result(started.run_id, timeout=PATIENCE) == {"value": 1}


async def test_a_signal_with_a_key_the_run_has_accepted_changes_nothing(url: str) -> None:
    two_waits = durable("twice").wait_for_signal("first", "go").wait_for_signal("second", "go")
    async with Durable(url, [two_waits]) as app:
        started = await app.start("twice")
        for data in ("once", "again"):
            assert (await app.signal(started.run_id, "go", data, key="mail-1")).accepted
        async with app.worker():
            waiting = await until_status(app, started.run_id, "suspended")
            assert waiting.results == {"first": "once"}
            assert await app.resume(started.run_id, "go", "third", key="mail-1") == ResumeResult(
                accepted=True, status=waiting.status
            )
            assert await app.status(started.run_id) == waiting


async def test_a_key_is_the_runs_under_any_name_and_after_its_end(url: str) -> None:
    async with Durable(url, [signoff()]) as app, app.worker():
        started = await app.start("signoff")
        await until_status(app, started.run_id, "suspended")
        assert (await app.resume(started.run_id, "approved", 1, key="k")).accepted
        assert await app.result(started.run_id, timeout=PATIENCE) == {"approval": 1, "close": 1}
        for call in (app.signal, app.resume):
            for name in ("approved", "other"):
                again = await call(started.run_id, name, 2, key="k")
                assert (again.accepted, again.status) == (True, "completed")
            assert not (await call(started.run_id, "approved", 2, key="new")).accepted


async def test_a_key_that_was_refused_can_still_be_used(url: str) -> None:
    async with Durable(url, [signoff()]) as app:
        started = await app.start("signoff")
        assert not (await app.resume(started.run_id, "approved", "early", key="k")).accepted
        async with app.worker():
            await until_status(app, started.run_id, "suspended")
            assert (await app.resume(started.run_id, "approved", "late", key="k")).accepted
            assert (await app.result(started.run_id, timeout=PATIENCE))["approval"] == "late"


async def test_one_key_may_be_used_for_several_runs(url: str) -> None:
    async with Durable(url, [signoff()]) as app, app.worker():
        for each in await app.start_many("signoff", [1, 2]):
            assert (await app.signal(each.run_id, "approved", each.run_id, key="k")).accepted
            assert (await app.result(each.run_id, timeout=PATIENCE))["approval"] == each.run_id


@pytest.mark.parametrize("run_id", [UNKNOWN, "nonsense", ""])
async def test_a_run_that_is_not_there_is_named(url: str, run_id: str) -> None:
    async with Durable(url) as app:
        with pytest.raises(RunNotFoundError):
            await app.resume(run_id, "approved")
        with pytest.raises(RunNotFoundError):
            await app.signal(run_id, "approved")


async def test_data_that_are_not_json_are_refused_and_nothing_changes(url: str) -> None:
    async with Durable(url, [signoff()]) as app, app.worker():
        started = await app.start("signoff")
        before = await until_status(app, started.run_id, "suspended")
        with pytest.raises(PayloadError, match="datetime"):
            await app.resume(started.run_id, "approved", {"at": datetime.now(UTC)})
        with pytest.raises(PayloadError, match="set"):
            await app.signal(started.run_id, "approved", {1})
        assert await app.status(started.run_id) == before


async def test_a_suspended_step_is_re_entered_by_its_own_name(url: str) -> None:
    async with Durable(url, [durable("agent").step("ask", ask)]) as app, app.worker():
        started = await app.start("agent")
        waiting = await until_status(app, started.run_id, "suspended")
        assert waiting.awaiting_signal == "ask"
        assert waiting.results == {"ask": {"question": "may I?"}}
        assert (await app.resume(started.run_id, "ask", "yes")).accepted
        assert await app.result(started.run_id, timeout=PATIENCE) == {"ask": {"answer": "yes"}}


async def test_a_signal_kept_for_a_step_re_enters_it_as_soon_as_it_suspends(url: str) -> None:
    async with Durable(url, [durable("agent").step("ask", ask)]) as app:
        started = await app.start("agent")
        assert (await app.signal(started.run_id, "ask", "yes")).accepted
        async with app.worker():
            assert await app.result(started.run_id, timeout=PATIENCE) == {"ask": {"answer": "yes"}}


async def test_a_second_resume_does_not_feed_the_next_suspension(url: str) -> None:
    async def ask_twice(ctx: Context) -> Any:
        asked = ctx.results.get("ask", {}).get("asked", 0)
        return ctx.resume_data if asked == 2 else Suspended({"asked": asked + 1})

    async with Durable(url, [durable("agent").step("ask", ask_twice)]) as app:
        async with app.worker():
            started = await app.start("agent")
            await until_status(app, started.run_id, "suspended")
        answers = await asyncio.gather(*(app.resume(started.run_id, "ask", number) for number in (1, 2)))
        assert sorted(answer.accepted for answer in answers) == [False, True]
        async with app.worker():
            waiting = await until_status(app, started.run_id, "suspended")
            assert waiting.results == {"ask": {"asked": 2}}
            assert (await app.resume(started.run_id, "ask", "enough")).accepted
            assert await app.result(started.run_id, timeout=PATIENCE) == {"ask": "enough"}


async def test_a_wait_that_times_out_without_a_default_fails_and_refuses_later_signals(url: str) -> None:
    flow = durable("flow").wait_for_signal("approval", "approved", timeout=0.05)
    async with Durable(url, [flow]) as app, app.worker():
        started = await app.start("flow")
        with pytest.raises(RunFailedError) as caught:
            await app.result(started.run_id, timeout=PATIENCE)
        entries = await app.journal(started.run_id)
        assert not (await app.signal(started.run_id, "approved")).accepted
    assert (caught.value.error.node, caught.value.error.type) == ("approval", "SignalTimeout")
    assert outcomes(entries, "signal") == [("approval", None, "failed")]


async def test_a_wait_that_times_out_gives_its_default(url: str) -> None:
    flow = durable("flow").wait_for_signal("approval", "approved", timeout=timedelta(seconds=0.05), default=None)
    async with Durable(url, [flow.step("close", one)]) as app, app.worker():
        started = await app.start("flow")
        assert await app.result(started.run_id, timeout=PATIENCE) == {"approval": None, "close": 1}


async def test_an_answer_tells_whether_a_node_can_use_the_signal(url: str) -> None:
    flow = (
        durable("flow")
        .parallel("both", {"left": one, "right": one})
        .route("way", lambda ctx: "a", {"a": one})
        .loop("turns", lambda value, ctx: value, max_iterations=1)
        .sleep("rest", 0)
        .wait_for_signal("wait", "go")
        .step("last", one)
    )
    async with Durable(url, [flow]) as app:
        run_id = (await app.start("flow")).run_id
        known = await app.expected_signals(run_id)
        answers = {name: await app.signal(run_id, name) for name in (*known, "both", "a", "rest", "wait", "og")}
        refused = await app.resume(run_id, "og")

    assert known == ("go", "left", "right", "way", "turns", "last")
    assert {name for name, answer in answers.items() if answer.expected} == set(known)
    assert all(answer.accepted for answer in answers.values())
    assert (refused.accepted, refused.expected) == (False, False)


@pytest.mark.parametrize("place", ["file", "postgres"])
async def test_what_a_node_can_use_is_known_without_the_workflows_code(place: str, tmp_path: Path) -> None:
    url = file_url(tmp_path) if place == "file" else fresh_url()
    async with Durable(url, [durable("flow").wait_for_signal("wait", "go")]) as app:
        run_id = (await app.start("flow")).run_id
    async with Durable(url) as other:
        assert await other.expected_signals(run_id) == ("go",)
        assert (await other.signal(run_id, "go")).expected
        assert not (await other.signal(run_id, "og")).expected
        with pytest.raises(RunNotFoundError):
            await other.expected_signals("nobody")
