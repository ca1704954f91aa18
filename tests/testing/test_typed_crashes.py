"""Values of every declared type, in every place of a run, through a crash at every point; and read without the code."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
import pytest
from pydantic import BaseModel

from stepwell import Context, Durable, Suspended, Workflow, durable
from stepwell.testing import crash_everywhere
from tests.postgres import fresh_url
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow


class Colour(Enum):
    RED = "red"


@dataclass
class Line:
    item: str


class Model(BaseModel):
    total: Decimal


class Everything(msgspec.Struct):
    at: datetime
    price: Decimal
    id: UUID
    colour: Colour
    line: Line
    model: Model
    tags: set[int]
    pair: tuple[int, str]


ALL = Everything(
    datetime(2026, 12, 1, 8, 30, tzinfo=UTC),
    Decimal("1.10"),
    UUID("0193c5a0-0000-7000-8000-000000000001"),
    Colour.RED,
    Line("kettle"),
    Model(total=Decimal("0.10")),
    {1},
    (1, "a"),
)
PLAIN = {
    "at": "2026-12-01T08:30:00Z",
    "price": "1.10",
    "id": "0193c5a0-0000-7000-8000-000000000001",
    "colour": "red",
    "line": {"item": "kettle"},
    "model": {"total": "0.10"},
    "tags": [1],
    "pair": [1, "a"],
}


def checked(value: Any) -> Everything:
    assert isinstance(value, Everything)
    assert value == ALL
    return value


def first(ctx: Context[Everything]) -> Everything:
    return checked(ctx.input)


def undo(ctx: Context[Everything]) -> None:
    checked(ctx.result(first))


async def asks(ctx: Context[Everything]) -> Everything | Suspended:
    if ctx.resume_data is None:
        return Suspended(checked(ctx.results["first"]))
    checked(ctx.results["asks"])
    return checked(ctx.resume_data)


def again(given: Everything, ctx: Context[Everything]) -> Everything:
    checked(ctx.results["wait"])
    return checked(given)


def below(ctx: Context[Everything]) -> Everything:
    return checked(ctx.input)


async def last(ctx: Context[Everything]) -> Everything:
    return checked(ctx.results["child"]["below"])


def workflows() -> tuple[Workflow[Everything], Workflow[Everything]]:
    child = durable("child", input=Everything).step("below", below)
    parent = (
        durable("parent", input=Everything)
        .step("first", first, compensate=undo)
        .step("asks", asks, snapshot=Everything, resume=Everything)
        .wait_for_signal("wait", "go", payload=Everything)
        .loop("again", again, max_iterations=2, feedback=lambda result: result)
        .child_workflow("child", child, map_input=lambda ctx: ctx.input)
        .step("last", last)
    )
    return parent, child


@pytest.mark.parametrize("store", ["memory", "file", "server"])
async def test_typed_values_survive_a_crash_everywhere(store: str, tmp_path: Path) -> None:
    parent, child = workflows()
    url = {"memory": "sqlite://", "file": f"sqlite:///{tmp_path / 'runs.db'}", "server": ""}[store] or fresh_url()
    signals = {"asks": PLAIN, "go": PLAIN}  # as another process sends them, which knows no types
    report = await crash_everywhere(parent, ALL, workflows=child, signals=signals, url=url, awaits=1)
    report.assert_ok()


async def test_compensators_are_given_typed_values_through_a_crash_everywhere() -> None:
    parent, child = workflows()
    signals = {"asks": PLAIN, "go": PLAIN}  # as another process sends them, which knows no types
    report = await crash_everywhere(parent, ALL, workflows=child, signals=signals, failing="last", awaits=1)
    report.assert_ok()


@pytest.mark.parametrize("store", ["file", "server"])
async def test_typed_values_are_plain_json_where_the_code_is_not(store: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'runs.db'}" if store == "file" else fresh_url()
    async with Durable(url, workflows()) as app, app.worker():
        run_id = (await app.start("parent", ALL)).run_id
        await app.signal(run_id, "asks", PLAIN)
        await app.signal(run_id, "go", PLAIN)
        results = await app.result(run_id, timeout=PATIENCE)
        run = await app.status(run_id)
    names = ["first", "asks", "wait", "again", "last"]
    assert results == {**dict.fromkeys(names, ALL), "child": {"below": ALL}}
    assert (run.results, run.input) == (results, ALL)
    async with Durable(url) as reader:
        assert await reader.result(run_id, timeout=PATIENCE) == {
            **dict.fromkeys(names, PLAIN),
            "child": {"below": PLAIN},
        }
        assert (await reader.status(run_id)).input == PLAIN
        entries = [entry.result for entry in await reader.journal(run_id) if entry.kind != "child"]
    assert entries == [PLAIN] * len(entries)


async def test_a_snapshot_is_shown_as_its_type_while_its_step_waits(tmp_path: Path) -> None:
    async with Durable(f"sqlite:///{tmp_path / 'runs.db'}", workflows()) as app, app.worker():
        run_id = (await app.start("parent", ALL)).run_id

        async def waits() -> bool:
            return (await app.status(run_id)).awaiting_signal == "asks"

        await eventually(waits)
        assert (await app.status(run_id)).results == {"first": ALL, "asks": ALL}
