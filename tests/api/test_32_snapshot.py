"""The values that calls give back: `RunSnapshot`, `RunStatus`, `Entry`, `Failure`, the results of calls, ids."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from stepwell import (
    Context,
    Durable,
    Entry,
    Failure,
    ResumeResult,
    RunResult,
    RunSnapshot,
    RunStatus,
    SchemaStatus,
    StartResult,
    durable,
)
from tests.api import running_fixtures
from tests.api.running_fixtures import decline, one, two, until_status
from tests.waiting import PATIENCE

url = running_fixtures.url

FIELDS = {
    RunSnapshot: (
        "run_id key workflow_name status current_step current_node total_steps awaiting_signal wake_at input results "
        "error parent_run_id children compensated created_at updated_at finished_at "
        "damaged attempt last_error retry_at unread_signals failed_compensations definition waits_for awaiting_signals "
        "cancel_requested_at"
    ),
    Entry: "node kind iteration attempt status result error started_at finished_at worker seq name",
    Failure: "node type message traceback",
    StartResult: "run_id status created same_input",
    ResumeResult: "accepted status expected",
    RunResult: "results duration",
    SchemaStatus: "version latest pending",
}


@pytest.mark.parametrize("kind", FIELDS, ids=lambda kind: kind.__name__)
def test_what_comes_back_is_a_frozen_slotted_dataclass_with_the_fields_of_the_contract(kind: type[Any]) -> None:
    assert {field.name for field in dataclasses.fields(kind)} == set(FIELDS[kind].split())
    assert kind.__dataclass_params__.frozen
    assert not any("__dict__" in vars(each) for each in kind.__mro__)


def test_a_runs_status_is_one_of_seven_words() -> None:
    assert issubclass(RunStatus, enum.StrEnum)
    words = {"pending", "running", "suspended", "compensating", "completed", "failed", "canceled"}
    assert {str(status) for status in RunStatus} == words
    assert {status.name for status in RunStatus} == {word.upper() for word in words}


async def test_a_status_in_an_answer_is_a_run_status(url: str) -> None:
    async with Durable(url, [durable("flow").step("value", one)]) as app:
        started = await app.start("flow")
        snapshot = await app.status(started.run_id)
        answer = await app.signal(started.run_id, "go")
        (row,) = await app.list()
    assert {type(each.status) for each in (started, snapshot, answer, row)} == {RunStatus}


async def test_a_snapshot_cannot_be_changed(url: str) -> None:
    async with Durable(url, [durable("flow").step("value", one)]) as app:
        snapshot = await app.status((await app.start("flow")).run_id)
    with pytest.raises(dataclasses.FrozenInstanceError):
        snapshot.status = RunStatus.COMPLETED  # type: ignore[misc]  # what is tested is that it raises


async def test_ids_are_uuids_of_version_7_and_grow_with_time(url: str) -> None:
    async with Durable(url, [durable("flow").step("value", one)]) as app:
        ids = [(await app.start("flow")).run_id for _ in range(50)]
        ids += [each.run_id for each in await app.start_many("flow", list(range(50)))]
    assert {uuid.UUID(run_id).version for run_id in ids} == {7}
    assert ids == sorted(ids)


async def test_instants_are_aware_and_in_utc(url: str) -> None:
    before = datetime.now(UTC) - timedelta(seconds=5)
    async with Durable(url, [durable("flow").step("value", one)]) as app, app.worker():
        started = await app.start("flow")
        await app.result(started.run_id, timeout=PATIENCE)
        snapshot = await app.status(started.run_id)
    for instant in (snapshot.created_at, snapshot.updated_at, snapshot.finished_at):
        assert instant is not None
        assert instant.utcoffset() == timedelta(0)
        assert before <= instant <= datetime.now(UTC) + timedelta(seconds=5)


async def test_a_failure_is_four_strings_that_tell_node_class_message_and_place(url: str) -> None:
    flow = durable("flow").step("charge", decline, max_retries=0)
    async with Durable(url, [flow]) as app, app.worker():
        started = await app.start("flow")
        snapshot = await until_status(app, started.run_id, "failed")
        (entry,) = await app.journal(started.run_id)
    failure = snapshot.error
    assert failure == entry.error
    assert failure is not None
    assert {type(value) for value in dataclasses.astuple(failure)} == {str}
    assert (failure.node, failure.type, failure.message) == ("charge", "ValueError", "card declined")
    assert "decline" in failure.traceback
    assert __file__.rpartition("/")[0] in failure.traceback


async def test_of_a_parallel_the_failures_node_is_the_entry(url: str) -> None:
    flow = durable("flow").parallel("both", {"left": one, "right": decline}, max_retries=0)
    async with Durable(url, [flow]) as app, app.worker():
        started = await app.start("flow")
        snapshot = await until_status(app, started.run_id, "failed")
    assert snapshot.error is not None
    assert snapshot.error.node == "right"
    assert snapshot.current_node == "both"


async def test_a_child_that_failed_is_told_with_the_childs_message(url: str) -> None:
    child = durable("child").step("charge", decline, max_retries=0)
    async with Durable(url, [durable("parent").child_workflow("sub", child), child]) as app, app.worker():
        started = await app.start("parent")
        snapshot = await until_status(app, started.run_id, "failed")
        (entry,) = await app.journal(started.run_id)
    assert snapshot.error is not None
    assert (snapshot.error.node, snapshot.error.type) == ("sub", "ChildFailed")
    assert "card declined" in snapshot.error.message
    assert (entry.kind, entry.status, entry.error) == ("child", "failed", snapshot.error)


async def test_a_timeout_of_a_step_is_told_as_such(url: str) -> None:
    async def never_ends(ctx: Context) -> None:
        await asyncio.Event().wait()

    flow = durable("flow").step("work", never_ends, timeout=0.02, max_retries=1, retry_backoff=0.01)
    async with Durable(url, [flow]) as app, app.worker():
        started = await app.start("flow")
        snapshot = await until_status(app, started.run_id, "failed")
        entries = await app.journal(started.run_id)
    assert snapshot.error is not None
    assert (snapshot.error.node, snapshot.error.type) == ("work", "TimeoutError")
    assert [(entry.attempt, entry.status) for entry in entries] == [(1, "retrying"), (2, "failed")]


async def test_a_snapshot_grows_newer_as_the_run_moves(url: str) -> None:
    flow = durable("flow").step("first", one).wait_for_signal("wait", "go").step("second", two)
    async with Durable(url, [flow]) as app:
        started = await app.start("flow")
        stages = [await app.status(started.run_id)]
        async with app.worker():
            stages.append(await until_status(app, started.run_id, "suspended"))
            await app.resume(started.run_id, "go")
            stages.append(await until_status(app, started.run_id, "completed"))
    assert len({stage.created_at for stage in stages}) == 1
    assert [stage.updated_at for stage in stages] == sorted(stage.updated_at for stage in stages)
    assert [stage.current_step for stage in stages] == [0, 1, 3]
