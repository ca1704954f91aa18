"""The errors: one tree, a stable code each, facts as attributes, messages that say what was known."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

import stepwell
from stepwell import (
    Context,
    DefinitionError,
    Durable,
    DurableError,
    PayloadError,
    RunCanceledError,
    RunFailedError,
    RunNotFoundError,
    SchemaError,
    StoreUnavailableError,
    WorkflowNotRegisteredError,
    durable,
)
from tests.api import running_fixtures
from tests.api.running_fixtures import decline, one
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from pathlib import Path

url = running_fixtures.url

CODES = {
    DefinitionError: "definition",
    WorkflowNotRegisteredError: "workflow_not_registered",
    RunNotFoundError: "run_not_found",
    RunFailedError: "run_failed",
    RunCanceledError: "run_canceled",
    PayloadError: "payload",
    StoreUnavailableError: "store_unavailable",
    SchemaError: "schema",
}


@pytest.mark.parametrize("kind", CODES, ids=lambda kind: kind.__name__)
def test_every_error_is_a_durable_error_with_its_own_code(kind: type[DurableError]) -> None:
    assert issubclass(kind, DurableError)
    assert kind.code == CODES[kind]


def test_a_durable_error_is_an_ordinary_exception() -> None:
    assert issubclass(DurableError, Exception)
    assert isinstance(DurableError.code, str)


def test_every_public_error_is_in_the_tree_and_no_two_share_a_code() -> None:
    public = [vars(stepwell)[name] for name in stepwell.__all__ if name.endswith("Error")]
    assert set(CODES) <= set(public)
    assert all(issubclass(kind, DurableError) for kind in public)
    assert len({kind.code for kind in public}) == len(public)


async def test_an_unknown_run_is_a_fact_of_its_error(url: str) -> None:
    unknown = "0197f0a0-0000-7000-8000-000000000000"
    async with Durable(url) as app:
        for call in (app.status, app.journal, app.cancel, app.result):
            with pytest.raises(RunNotFoundError) as caught:
                await call(unknown)
            assert caught.value.run_id == unknown
            assert caught.value.code == "run_not_found"
            assert unknown in str(caught.value)


async def test_an_unknown_workflow_says_what_is_known(url: str) -> None:
    async with Durable(url, [durable("refund").step("value", one), durable("order").step("value", one)]) as app:
        with pytest.raises(WorkflowNotRegisteredError) as caught:
            await app.start("ordr")
    assert caught.value.code == "workflow_not_registered"
    assert "ordr" in str(caught.value)
    assert "order" in str(caught.value)
    assert "refund" in str(caught.value)


async def test_an_unknown_workflow_is_told_even_if_none_is_known(url: str) -> None:
    async with Durable(url) as app:
        with pytest.raises(WorkflowNotRegisteredError, match="ordr"):
            await app.start("ordr")


async def test_a_failed_run_and_a_canceled_one_carry_their_id_and_code(url: str) -> None:
    async with Durable(url, [durable("flow").step("charge", decline, max_retries=0)]) as app:
        late = await app.start("flow", delay=3600)
        await app.cancel(late.run_id)
        started = await app.start("flow")
        async with app.worker():
            with pytest.raises(RunFailedError) as failed:
                await app.result(started.run_id, timeout=PATIENCE)
        with pytest.raises(RunCanceledError) as canceled:
            await app.result(late.run_id, timeout=PATIENCE)
    assert (failed.value.run_id, failed.value.code) == (started.run_id, "run_failed")
    assert (canceled.value.run_id, canceled.value.code) == (late.run_id, "run_canceled")


async def test_a_value_that_is_not_json_is_named_by_its_place(url: str) -> None:
    async def charge(ctx: Context) -> object:
        return {"items": [0, 1, 2, {"at": datetime.now(UTC)}]}

    async with Durable(url, [durable("flow").step("charge", charge)]) as app, app.worker():
        with pytest.raises(PayloadError, match=r"items\[3\]\.at: datetime") as caught:
            await app.start("flow", {"items": [0, 1, 2, {"at": datetime.now(UTC)}]})
        assert caught.value.code == "payload"
        started = await app.start("flow")
        with pytest.raises(RunFailedError, match=r"results\.charge\.items\[3\]\.at: datetime") as failed:
            await app.result(started.run_id, timeout=PATIENCE)
    assert failed.value.error.type == "PayloadError"


def test_a_definition_error_says_what_was_wrong_and_what_was_known() -> None:
    with pytest.raises(DefinitionError, match="reserve") as caught:
        durable("order").step("reserve", one).step("reserve", one)
    assert caught.value.code == "definition"


async def test_a_store_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "no-such-folder" / "store.db"
    with pytest.raises(StoreUnavailableError, match="no-such-folder") as caught:
        async with Durable(f"sqlite:///{missing}"):
            pytest.fail("entered")
    assert caught.value.code == "store_unavailable"
