"""Declared types: what is accepted of each, how it is given back, and where that is checked."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict
from uuid import UUID

import attrs
import msgspec
import pytest
from pydantic import BaseModel

from stepwell import Branch, Context, Durable, durable
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from pathlib import Path

    from tests.api.runs import Runner


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Line:
    item: str
    count: int


class Order(msgspec.Struct):
    id: int
    due: datetime
    total: Decimal
    lines: list[Line]


class Model(BaseModel):
    id: UUID
    colour: Colour
    total: Decimal


@attrs.define
class Attributes:
    at: datetime


class Pair(NamedTuple):
    left: int
    right: str


class Typed(TypedDict):
    count: int


NOW = datetime(2026, 12, 1, 8, 30, 15, 123456, tzinfo=UTC)
ID = UUID("0193c5a0-0000-7000-8000-000000000001")
SAMPLES: dict[str, tuple[Any, Any]] = {
    "datetime": (datetime, NOW),
    "date": (date, date(2026, 12, 1)),
    "time": (time, time(8, 30)),
    "timedelta": (timedelta, timedelta(days=3, microseconds=1)),
    "Decimal": (Decimal, Decimal("19.90")),
    "UUID": (UUID, ID),
    "Enum": (Colour, Colour.RED),
    "bytes": (bytes, b"\x00\xff"),
    "dataclass": (Line, Line("kettle", 2)),
    "Struct": (Order, Order(1, NOW, Decimal("1.10"), [Line("kettle", 2)])),
    "attrs": (Attributes, Attributes(NOW)),
    "pydantic model": (Model, Model(id=ID, colour=Colour.BLUE, total=Decimal("0.10"))),
    "models in a list": (list[Model], [Model(id=ID, colour=Colour.BLUE, total=Decimal("0.10"))]),
    "TypedDict": (Typed, {"count": 1}),
    "NamedTuple": (Pair, Pair(1, "a")),
    "set": (set[int], {1, 2, 3}),
    "frozenset": (frozenset[str], frozenset({"a"})),
    "tuple": (tuple[int, str], (1, "a")),
    "dict with other keys": (dict[int, Decimal], {1: Decimal("1.5")}),
    "Optional": (Order | None, None),
}


@pytest.mark.parametrize("name", SAMPLES)
async def test_a_value_comes_back_as_its_type(name: str, runner: Runner) -> None:
    type_, value = SAMPLES[name]
    flow = durable("flow", input=type_)
    seen: list[Any] = []

    async def first(ctx: Context[Any]) -> Any:
        seen.append(ctx.input)
        return ctx.input

    def iterate(given: Any, ctx: Context[Any]) -> Any:
        seen.extend([given, ctx.results["first"], ctx.result(first)])
        return given

    iterate.__annotations__ = {"given": type_, "return": type_}
    flow.step("first", first, result=type_)
    flow.parallel("both", {"one": Branch(_reads("first"), result=type_)})
    flow.route("way", lambda ctx: "here", {"here": Branch(_reads("one"), result=type_)})
    flow.loop("again", iterate, max_iterations=2, until=lambda result, _: seen.append(result), feedback=lambda r: r)

    results = (await runner(flow, value)).results

    assert results == dict.fromkeys(["first", "one", "way", "again"], value)
    assert [type(one) for one in [*seen, *results.values()]] == [type(value)] * (len(seen) + 4)
    assert all(one == value for one in seen)


def _reads(name: str) -> Any:
    def read(ctx: Context[Any]) -> Any:
        return ctx.results[name]

    return read


async def test_a_node_that_was_skipped_gives_none_at_every_depth(tmp_path: Path) -> None:
    """Whatever its type: the results of a child, and of a child's child, are read by the types of their workflows."""

    async def never(ctx: Context) -> bool:
        return False

    async def number(ctx: Context) -> int:
        return 1

    lowest = durable("lowest").step("n", number)
    middle = durable("middle").step("skipped", number, when=never).child_workflow("low", lowest, when=never)
    top = durable("top").child_workflow("middle", middle)
    async with Durable(f"sqlite:///{tmp_path / 'store.db'}", [top, middle, lowest]) as app, app.worker():
        run_id = (await app.start(top)).run_id
        assert await app.result(run_id, timeout=PATIENCE) == {"middle": {"skipped": None, "low": None}}
        assert (await app.status(run_id)).results == {"middle": {"skipped": None, "low": None}}
