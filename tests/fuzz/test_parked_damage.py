"""A damaged run is parked as it is; the others go on, a repair or another release goes on with it, cancel ends it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stepwell import Durable, JournalError, Reason, RunFailedError, RunStatus, Workflow, durable
from tests.fuzz.edited import Edited
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from pathlib import Path

    from stepwell import Context

RESULTS = {"one": 1, "sign": "yes", "two": 2}
OF_RUN = "WHERE ref = (SELECT ref FROM {runs} WHERE id = '{id}')"
TAKE = f"UPDATE {{journal}} SET seq = 7 {OF_RUN} AND seq = 1"
REPAIR = f"UPDATE {{journal}} SET seq = 1 {OF_RUN} AND seq = 7"
REASON = "row 1 is missing"
DUE = "UPDATE {runs} SET due_at = 1 WHERE id = '{id}'"
STANDS = "SELECT status, damaged, damage_count, worker FROM {runs} WHERE id = '{id}'"


@pytest.fixture(params=["a file", "a server"])
def edited(request: pytest.FixtureRequest, tmp_path: Path) -> Edited:
    """Each store that others can edit."""
    return Edited(tmp_path, server=request.param == "a server")


async def undo(ctx: Context) -> None:
    pass


def flow() -> Workflow:
    """A step, a wait, and a step."""
    return durable("flow").step("one", lambda ctx: 1).wait_for_signal("sign", "go").step("two", lambda ctx: 2)


def parent() -> Workflow:
    """A workflow that starts the other one, and undoes its first step if that fails."""
    return durable("parent").step("first", lambda ctx: 0, compensate=undo).child_workflow("kid", "flow")


def app_of(edited: Edited, *more: Workflow) -> Durable:
    """An app with both."""
    return Durable(edited.url, [flow(), parent(), *more])


async def waiting(app: Durable, workflow: str = "flow") -> str:
    """A run of `flow` that waits for its signal, as that of a parent or alone."""
    started = await app.start(workflow)

    async def waits() -> str | None:
        runs = await app.list(workflow="flow")
        return next((run.run_id for run in runs if run.awaiting_signal == "go"), None)

    async with app.worker():
        run_id = await eventually(waits)
    assert run_id == started.run_id or workflow != "flow"
    return run_id


async def parked(edited: Edited, app: Durable, run_id: str, times: int = 1) -> None:
    """Waits until a worker has parked it."""

    async def is_parked() -> bool:
        ((_, _, count, worker),) = edited.read(STANDS, run_id)
        return (count, worker) == (times, None)

    await eventually(is_parked)
    assert (await app.status(run_id)).damaged == REASON


async def test_a_damaged_run_is_parked_with_the_reason_and_the_others_go_on(
    edited: Edited, caplog: pytest.LogCaptureFixture
) -> None:
    async with app_of(edited) as app:
        run_id, healthy = await waiting(app), (await app.start("flow")).run_id
        edited.edit(TAKE, run_id)
        await app.signal(run_id, "go", "yes")
        await app.signal(healthy, "go", "yes")
        async with app.worker():
            await parked(edited, app, run_id)
            assert await app.result(healthy, timeout=PATIENCE) == RESULTS
            edited.edit(DUE, run_id)
            await parked(edited, app, run_id, times=2)
        explained = await app.explain(run_id)
        (listed,) = [run for run in await app.list() if run.run_id == run_id]
        with pytest.raises(JournalError, match=REASON):
            await app.journal(run_id)
    assert edited.read(STANDS, run_id) == [("running", REASON, 2, None)]
    assert (listed.status, listed.damaged) == (RunStatus.RUNNING, REASON)
    assert explained.reason is Reason.DAMAGED
    assert explained.until is not None
    assert [action.name for action in explained.actions] == ["journal", "cancel"]
    assert caplog.text.count(f"The journal of run {run_id} cannot be continued: {REASON}. It is parked as it is") == 1


async def test_a_repaired_run_goes_on_when_it_is_looked_at_again(edited: Edited) -> None:
    async with app_of(edited) as app:
        run_id = await waiting(app)
        edited.edit(TAKE, run_id)
        await app.signal(run_id, "go", "yes")
        async with app.worker():
            await parked(edited, app, run_id)
            edited.edit(REPAIR, run_id)
            edited.edit(DUE, run_id)
            assert await app.result(run_id, timeout=PATIENCE) == RESULTS
        assert (await app.status(run_id)).damaged is None
    assert edited.read(STANDS, run_id) == [("completed", None, None, None)]


async def test_a_worker_with_other_definitions_looks_at_once_and_one_with_the_same_does_not(edited: Edited) -> None:
    async with app_of(edited) as app:
        run_id = await waiting(app)
        edited.edit(TAKE, run_id)
        await app.signal(run_id, "go", "yes")
        async with app.worker():
            await parked(edited, app, run_id)
    edited.edit(REPAIR, run_id)
    edited.edit("UPDATE {runs} SET due_at = due_at + 3600000000 WHERE id = '{id}'", run_id)  # not by itself, that is
    async with app_of(edited) as app, app.worker():  # a restart: it claims what is due, and this is not
        healthy = (await app.start("flow")).run_id
        await app.signal(healthy, "go", "yes")
        assert await app.result(healthy, timeout=PATIENCE) == RESULTS
        assert edited.read(STANDS, run_id) == [("running", REASON, 1, None)]
    async with app_of(edited, durable("another").step("one", undo)) as app, app.worker():
        assert await app.result(run_id, timeout=PATIENCE) == RESULTS


async def test_a_parent_waits_for_its_damaged_child_and_its_explanation_says_so(edited: Edited) -> None:
    async with app_of(edited) as app:
        run_id = await waiting(app, "parent")
        (above,) = await app.list(workflow="parent")
        edited.edit(TAKE, run_id)
        await app.signal(run_id, "go", "yes")
        async with app.worker():
            await parked(edited, app, run_id)
            explained = await app.explain(above.run_id)
            assert (await app.status(above.run_id)).status == RunStatus.SUSPENDED
            await app.cancel(run_id)
            with pytest.raises(RunFailedError) as caught:
                await app.result(above.run_id, timeout=PATIENCE)
        assert (await app.status(run_id)).status == RunStatus.CANCELED
        assert (await app.explain(run_id)).reason is Reason.ENDED
    assert explained.reason is Reason.DAMAGED
    assert f"{run_id} (flow, running), whose stored rows are not understood: {REASON}." in explained.sentence
    assert [action.name for action in explained.actions] == ["child", "cancel_child", "cancel"]
    assert (caught.value.error.type, caught.value.compensated) == ("ChildCanceled", ("first",))


async def test_what_is_found_to_be_damaged_on_the_way_parks_the_run_too(edited: Edited) -> None:
    later = durable("flow").step("one", lambda ctx: 1).wait_for_signal("sign", "go").wait_for_signal("more", "more")
    async with Durable(edited.url, [later]) as app:
        run_id = await waiting(app)
        await app.signal(run_id, "more", 1)
        bad = "x'00'" if edited.url.startswith("sqlite") else "'\\x00'"
        edited.edit(f"UPDATE {{mailbox}} SET value = {bad} {OF_RUN} AND name = 'more'", run_id)
        await app.signal(run_id, "go", "yes")
        async with app.worker():

            async def is_parked() -> bool:
                return (await app.status(run_id)).damaged == "message 1 of its mailbox cannot be read"

            await eventually(is_parked)
        # The signal that it had taken in by then was not committed: it is still in the mailbox.
        assert (await app.status(run_id)).results == {"one": 1}
