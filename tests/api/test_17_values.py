"""Values must be JSON: what would not come back equal is refused, naming the place, and never changed silently."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stepwell import Durable, PayloadError, durable
from tests.api.handlers import Spy, nothing
from tests.api.runs import InMemory, ended, suspended

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepwell import Workflow
    from tests.api.runs import OnSqlite, Runner


@dataclass
class Point:
    x: int


class Pair(NamedTuple):
    x: int


def deep(levels: int) -> list[Any]:
    """Lists in lists, that many levels deep."""
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


def cycle() -> list[Any]:
    value: list[Any] = [1]
    value.append({"again": value})
    return value


WRONG: dict[str, Callable[[], Any]] = {
    "tuple": lambda: (1, 2),
    "empty tuple": lambda: (),
    "set": lambda: {1, 2},
    "frozenset": lambda: frozenset({1}),
    "date": lambda: date(2030, 1, 1),
    "datetime": lambda: datetime(2030, 1, 1, tzinfo=UTC),
    "time": lambda: time(1, 2),
    "timedelta": lambda: timedelta(seconds=1),
    "NaN": lambda: math.nan,
    "infinity": lambda: math.inf,
    "minus infinity": lambda: -math.inf,
    "bytes": lambda: b"bytes",
    "bytearray": lambda: bytearray(b"bytes"),
    "Decimal": lambda: Decimal("1.5"),
    "UUID": lambda: UUID(int=7),
    "path": lambda: PurePosixPath("a"),
    "complex": lambda: 1j,
    "object": object,
    "class": lambda: int,
    "function": lambda: nothing,
    "dataclass": lambda: Point(1),
    "named tuple": lambda: Pair(1),
    "generator": lambda: (number for number in (1, 2)),
    "dict view": {"a": 1}.keys,
    "key that is a number": lambda: {1: "a"},
    "key that is None": lambda: {None: "a"},
    "key that is a tuple": lambda: {(1, 2): "a"},
    "key that is a bool": lambda: {True: "a"},
    "half a character": lambda: "\ud800",
    "half a character in a key": lambda: {"\udfff": 1},
    "cycle": cycle,
    "too deep": lambda: deep(100_000),
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("nested", [False, True])
async def test_as_an_input_it_is_refused_at_the_call(sqlite: OnSqlite, kind: str, nested: bool) -> None:  # noqa: FBT001 - a parameter of the test
    value = {"list": [1, WRONG[kind]()]} if nested else WRONG[kind]()
    order = durable("order").step("a", nothing)
    with pytest.raises(PayloadError):
        await order.run(value)
    async with sqlite.open(order) as app:
        with pytest.raises(PayloadError):
            await app.start(order, value)
        with pytest.raises(PayloadError):
            await app.start_many(order, [1, value])
        assert await app.list() == []


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("nested", [False, True])
async def test_as_a_result_it_fails_its_node_at_once(runner: Runner, kind: str, nested: bool) -> None:  # noqa: FBT001 - a parameter of the test
    spy = Spy({"list": [1, WRONG[kind]()]} if nested else WRONG[kind]())
    failure = (await runner(durable("order").step("charge", spy.handle))).failure
    assert (failure.node, failure.type) == ("charge", "PayloadError")
    assert "results.charge" in failure.message
    assert spy.attempts == [1]


# Naming the place.


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"items": [0, 1, 2, {"at": datetime(2030, 1, 1, tzinfo=UTC)}]}, "results.charge.items[3].at: datetime"),
        ({1, 2}, "results.charge: set"),
        ([[(1,)]], "results.charge[0][0]: tuple"),
        ({"a": {"b": math.nan}}, "results.charge.a.b: "),
        ({"a": [1, date(2030, 1, 1)]}, "results.charge.a[1]: date"),
        ({"a": {"b": {1: 2}}}, "results.charge.a.b"),
        ({"a": [b"x"]}, "results.charge.a[0]: bytes"),
        ({"a": Decimal(1)}, "results.charge.a: Decimal"),
        ({"a": Point(1)}, "results.charge.a: Point"),
    ],
)
async def test_the_refusal_of_a_result_names_the_place(runner: Runner, value: Any, place: str) -> None:
    failure = (await runner(durable("order").step("charge", lambda ctx: value))).failure
    assert place in failure.message


NODES: dict[str, Callable[[Any], Workflow]] = {
    "entry": lambda value: durable("order").parallel("all", {"node": lambda ctx: value}),
    "branch": lambda value: durable("order").route("node", lambda ctx: "b", {"b": lambda ctx: value}),
    "loop": lambda value: durable("order").loop("node", lambda input, ctx: value, max_iterations=2),
}


@pytest.mark.parametrize("kind", NODES)
async def test_results_of_every_node_are_checked_and_placed(runner: Runner, kind: str) -> None:
    failure = (await runner(NODES[kind]({"when": date(2030, 1, 1)}))).failure
    assert (failure.node, failure.type) == ("node", "PayloadError")
    assert "results.node.when: date" in failure.message


@pytest.mark.parametrize("function", ["map_input", "feedback"])
async def test_the_inputs_of_a_loop_are_checked(runner: Runner, function: str) -> None:
    options: dict[str, Any] = {function: lambda given: {"when": date(2030, 1, 1)}}
    order = durable("order").loop("node", lambda input, ctx: 1, max_iterations=2, **options)
    failure = (await runner(order)).failure
    assert (failure.node, failure.type) == ("node", "PayloadError")
    assert ".when: date" in failure.message


async def test_the_input_of_a_child_is_checked(sqlite: OnSqlite) -> None:
    child = durable("invoicing").step("write", nothing)
    order = durable("order").child_workflow("node", child, map_input=lambda ctx: {"when": date(2030, 1, 1)})
    kept = await sqlite(order, children=[child])
    assert (kept.failure.node, kept.failure.type) == ("node", "PayloadError")
    assert kept.rows() == [("child", "failed", 1)]
    assert ".when: date" in kept.failure.message


async def test_the_refusal_of_an_input_names_the_place(sqlite: OnSqlite) -> None:
    order = durable("order").step("a", nothing)
    wrong = {"items": [0, {"at": datetime(2030, 1, 1, tzinfo=UTC)}]}
    with pytest.raises(PayloadError, match=r"input\.items\[1\]\.at: datetime"):
        await order.run(wrong)
    async with sqlite.open(order) as app:
        with pytest.raises(PayloadError, match=r"input\.items\[1\]\.at: datetime"):
            await app.start(order, wrong)


async def test_signal_data_is_refused_at_the_call_and_nothing_changes(sqlite: OnSqlite) -> None:
    order = durable("order").wait_for_signal("signoff", "signoff")
    async with sqlite.open(order) as app, app.worker():
        run_id = (await app.start(order)).run_id
        await suspended(app, run_id)
        for deliver in (app.signal, app.resume):
            with pytest.raises(PayloadError, match=r"\.when: date"):
                await deliver(run_id, "signoff", {"when": date(2030, 1, 1)})
        assert (await app.status(run_id)).status == "suspended"
        await app.signal(run_id, "signoff", "fine")
        assert (await ended(app, run_id)).results == {"signoff": "fine"}


# The limit of size.


async def test_nothing_over_max_value_bytes(sqlite: OnSqlite) -> None:
    order = durable("order").step("big", lambda ctx: "x" * ctx.input)
    assert (await sqlite(order, 90, max_value_bytes=100)).results == {"big": "x" * 90}
    kept = await sqlite(order, 101, max_value_bytes=100)
    assert (kept.failure.node, kept.failure.type) == ("big", "PayloadError")
    assert "results.big" in kept.failure.message
    assert "100" in kept.failure.message
    assert kept.rows() == [("step", "failed", 1)]


async def test_inputs_and_signal_data_over_the_limit_are_refused_at_the_call(sqlite: OnSqlite) -> None:
    order = durable("order").wait_for_signal("signoff", "signoff")
    async with sqlite.open(order, max_value_bytes=100) as app:
        with pytest.raises(PayloadError, match="100"):
            await app.start(order, "x" * 101)
        run_id = (await app.start(order, "x" * 90)).run_id
        with pytest.raises(PayloadError, match="100"):
            await app.signal(run_id, "signoff", ["x" * 101])
        assert (await app.signal(run_id, "signoff", "x" * 90)).accepted


async def test_by_default_the_limit_is_four_mebibytes(runner: Runner) -> None:
    order = durable("order").step("big", lambda ctx: "x" * ctx.input)
    assert len((await runner(order, 4 * 2**20 - 100)).results["big"]) == 4 * 2**20 - 100
    assert (await runner(order, 4 * 2**20 + 1)).failure.type == "PayloadError"


# What is JSON comes back equal.


SCALARS = st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(
    SCALARS | st.integers(-(2**63), 2**63 - 1),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
ANY_NUMBERS = (
    st.integers() | st.integers(2**60, 2**70) | st.floats() | st.sampled_from([-0.0, 5e-324, 1e308, 2**64, 1e16])
)
STRANGE = st.recursive(
    ANY_NUMBERS | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(), inner, max_size=3),
    max_leaves=6,
)
QUICKLY = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])


def exactly(value: Any) -> str:
    """A text in which 1, 1.0, True and -0.0 differ, and the order of keys does not."""
    return json.dumps(value, sort_keys=True)


def echo() -> Workflow:
    return durable("echo").step("echo", lambda ctx: ctx.input).step("again", lambda ctx: ctx.results["echo"])


@QUICKLY
@given(value=VALUES)
async def test_every_json_value_comes_back_equal_in_memory(value: Any) -> None:
    results = (await InMemory()(echo(), value)).results
    assert exactly(results["again"]) == exactly(value)


@QUICKLY
@given(values=st.lists(VALUES, min_size=1, max_size=8))
async def test_every_json_value_comes_back_equal_from_sqlite(values: list[Any]) -> None:
    async with Durable("sqlite://", workflows=[echo()]) as app, app.worker():
        started = await app.start_many("echo", values)
        for run, value in zip(started, values, strict=True):
            kept = await ended(app, run.run_id)
            assert exactly(kept.snapshot.input) == exactly(value)
            assert exactly(kept.results["again"]) == exactly(value)
            assert exactly(kept.journal[0].result) == exactly(value)


@QUICKLY
@given(value=STRANGE)
async def test_a_strange_value_comes_back_exactly_or_is_refused(value: Any) -> None:
    try:
        results = (await InMemory()(echo(), value)).results
    except PayloadError:
        return
    assert exactly(results["again"]) == exactly(value)
