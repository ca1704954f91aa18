"""Wrong types and options: each error says the place, what came, and what is accepted, in our own words."""

from __future__ import annotations

from collections.abc import Awaitable  # noqa: TC003  an annotation is read when the workflow is built
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import msgspec
import pytest
from pydantic import BaseModel, Field

from stepwell import (
    Branch,
    Context,
    DefinitionError,
    PayloadError,
    RunFailedError,
    Secret,
    Suspended,
    Workflow,
    durable,
)


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Line:
    item: str
    count: int = 1


class Order(msgspec.Struct):
    id: Annotated[int, msgspec.Meta(ge=1)]
    due: datetime
    lines: list[Line] = field(default_factory=list)


class Model(BaseModel):
    id: int
    total: Decimal = Field(ge=0)


class Typed(TypedDict):
    count: int


class Pair(NamedTuple):
    left: int
    right: str


class Login(msgspec.Struct):
    user: str
    password: Secret[str]


class Tuples(Enum):
    ONE = (1, 2)


NOW = datetime(2026, 12, 1, tzinfo=UTC)
VALUES: dict[str, tuple[Any, Any, str]] = {
    "another class": (Order, {"id": 1}, "input: must be Order, got dict {'id': 1}"),
    "a field of another type": (Order, Order("7", NOW), "input.id: must be int >= 1, got str '7'"),  # type: ignore[arg-type]
    "a number out of bounds": (Order, Order(0, NOW), "input.id: must be int >= 1, got int 0"),
    "a part of a part": (
        Order,
        Order(1, NOW, [Line("a"), Line("b", "2")]),  # type: ignore[arg-type]
        "input.lines[1].count: must be int, got str '2'",
    ),
    "a datetime without a zone": (
        datetime,
        datetime(2026, 1, 1),  # noqa: DTZ001  that is what is wrong
        "input: must be datetime with a time zone, got datetime datetime.datetime(2026, 1, 1, 0, 0)",
    ),
    "a naive datetime within": (
        list[datetime],
        [NOW, datetime(2026, 1, 1)],  # noqa: DTZ001  as above
        "input[1]: must be datetime with a time zone, got datetime datetime.datetime(2026, 1, 1, 0, 0)",
    ),
    "a datetime for a date": (date, NOW, f"input: must be date, got datetime {NOW!r}"),
    "a bool for an int": (int, True, "input: must be int, got bool True"),
    "a float for a Decimal that it is not": (Decimal, 0.1, "input: must be Decimal, got float 0.1"),
    "not a number": (float, float("nan"), "input: must be a finite float, got float nan"),
    "a text for an Enum": (Colour, "red", "input: must be Colour (red or blue), got str 'red'"),
    "another literal": (Literal["a", "b"], "c", "input: must be 'a' or 'b', got str 'c'"),
    "a list for a tuple": (tuple[int, str], [1, "a"], "input: must be tuple of (int, str), got list [1, 'a']"),
    "a tuple of another length": (tuple[int, str], (1,), "input: must be tuple of (int, str), got 1 items"),
    "a list for a set": (set[int], [1], "input: must be set of int, got list [1]"),
    "a part of a set": (frozenset[int], frozenset({"a"}), "input[0]: must be int, got str 'a'"),
    "a key of another type": (dict[int, str], {"a": "b"}, "input: has a key that must be int, got str 'a'"),
    "a value of a dict": (dict[str, int], {"a-b": None}, "input['a-b']: must be int, got None"),
    "none of a union": (int | Colour | None, 1.5, "input: must be int, Colour (red or blue) or None, got float 1.5"),
    "a missing key": (Typed, {}, "input.count: is missing; Typed needs count"),
    "an unknown key": (Typed, {"count": 1, "more": 2}, "input.more: is no field of Typed, which has count"),
    "a field of a NamedTuple": (Pair, Pair(1, 2), "input.right: must be str, got int 2"),  # type: ignore[arg-type]
    "a class for a model": (Model, {"id": 1}, "input: must be Model, got dict {'id': 1}"),
    "a model with a wrong field": (
        Model,
        Model.model_construct(id=1, total=Decimal(-1)),
        "input.total: must be greater than or equal to 0, got str '-1'",
    ),
    "what is secret": (Login, Login("ada", "hunter2"), "input.password: must be Secret, got str"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("what", VALUES)
async def test_a_value_of_another_type_is_refused_with_its_place(what: str) -> None:
    type_, value, message = VALUES[what]
    with pytest.raises(PayloadError) as refused:
        await durable("flow", input=type_).step("one", lambda ctx: None).run(value)
    assert str(refused.value) == message
    assert "msgspec" not in str(refused.value)


async def test_a_result_of_another_type_fails_its_node_at_once() -> None:
    calls: list[int] = []

    def make(ctx: Context[Any]) -> Line:
        calls.append(ctx.attempt)
        return Line(5)  # type: ignore[arg-type]

    with pytest.raises(RunFailedError) as failed:
        await durable("flow").step("make", make).run()
    assert failed.value.error.message == "results.make.item: must be str, got int 5"
    assert calls == [1]


async def test_a_loops_next_input_is_checked() -> None:
    def iterate(given: Line, ctx: Context[Any]) -> int:
        return given.count

    flow = durable("flow").loop(
        "again", iterate, max_iterations=3, map_input=lambda ctx: Line("a"), feedback=lambda result: {"item": "a"}
    )
    with pytest.raises(RunFailedError) as failed:
        await flow.run()
    assert failed.value.error.message == "input.again: must be Line, got dict {'item': 'a'}"


def one(ctx: Context[Any]) -> Any:
    return None


def two(value: Any, ctx: Context[Any]) -> Any:
    return None


def none() -> None:
    return None


def path(ctx: Context[Any]) -> Path:
    return Path()


def line(ctx: Context[Any]) -> Line:
    return Line("a")


def typed(ctx: Context[Any]) -> Typed:
    return {"count": 1}


FLOW = 'Workflow "flow": '
ARITY = "must take 1 argument (ctx), got "
CHOSEN = " Give the branches types that can be told apart, or result= to the route."
UNTOLD = "cannot be used: its alternatives cannot be told apart from their JSON."
DEFINITIONS: dict[str, tuple[Any, str]] = {
    "an input that cannot be told apart": (
        lambda flow: durable("flow", input=str | datetime),
        FLOW + f"input: the type str | datetime {UNTOLD}",
    ),
    "an input without a form as JSON": (
        lambda flow: durable("flow", input=complex),
        FLOW + "input: the type complex cannot be used: complex has no form as JSON from which it could be told again.",
    ),
    "an Enum of tuples": (
        lambda flow: flow.step("a", one, result=Tuples),
        FLOW + "step 'a': result: the type Tuples cannot be used: Enums must contain either all str or all int values.",
    ),
    "an annotation without a form as JSON": (
        lambda flow: flow.step("a", path),
        FLOW
        + "step 'a': result: the type Path cannot be used: Path has no form as JSON from which it could be told again.",
    ),
    "a payload": (
        lambda flow: flow.wait_for_signal("w", "go", payload=bytes | str),
        FLOW + f"wait_for_signal 'w': payload: the type bytes | str {UNTOLD}",
    ),
    "a default that is no such payload": (
        lambda flow: flow.wait_for_signal("w", "go", payload=Line, timeout=1, default={"item": "a"}),
        FLOW + "wait_for_signal 'w': default: must be Line, got dict {'item': 'a'}.",
    ),
    "a snapshot": (
        lambda flow: flow.step("a", one, snapshot=set[Path]),
        FLOW + "step 'a': snapshot: the type set[Path] cannot be used: Path has no form as JSON from which it could be"
        " told again.",
    ),
    "a branch": (
        lambda flow: flow.parallel("p", {"a": Branch(one, resume=complex)}),
        FLOW + "parallel 'p': \"a\": resume: the type complex cannot be used: complex has no form as JSON from which it"
        " could be told again.",
    ),
    "branches that cannot be told apart": (
        lambda flow: flow.route("r", one, {"a": line, "b": typed}),
        FLOW + f"route 'r': the type Line | Typed {UNTOLD}{CHOSEN}",
    ),
    "a handler without its context": (
        lambda flow: flow.step("a", none),
        FLOW + f"step 'a': handler {ARITY}none() -> 'None'.",
    ),
    "a handler with two arguments": (
        lambda flow: flow.step("a", two),
        FLOW + f"step 'a': handler {ARITY}two(value: 'Any', ctx: 'Context[Any]') -> 'Any'.",
    ),
    "a compensator": (
        lambda flow: flow.step("a", one, compensate=none),
        FLOW + f"step 'a': compensate {ARITY}none() -> 'None'.",
    ),
    "a loop's handler": (
        lambda flow: flow.loop("a", one, max_iterations=1),
        FLOW + "loop 'a': handler must take 2 arguments (input, ctx), got one(ctx: 'Context[Any]') -> 'Any'.",
    ),
    "a loop's end": (
        lambda flow: flow.loop("a", two, max_iterations=1, until=one),
        FLOW + "loop 'a': until must take 2 arguments (result, iteration), got one(ctx: 'Context[Any]') -> 'Any'.",
    ),
    "a misspelt option": (
        lambda flow: flow.step("a", one, resutl=int),
        FLOW + "step 'a' has no option \"resutl\". Known options: compensate, undo, when, result, snapshot, resume,"
        " max_retries, retry_backoff, timeout, retry_on, give_up_on.",
    ),
}


@pytest.mark.parametrize("what", DEFINITIONS)
def test_a_wrong_declaration_is_refused_when_the_workflow_is_built(what: str) -> None:
    build, message = DEFINITIONS[what]
    flow: Workflow[Any] = durable("flow")
    with pytest.raises(DefinitionError) as refused:
        build(flow)
    assert str(refused.value) == message
    assert flow.nodes == ()


async def test_an_annotation_that_cannot_be_resolved_says_how_to_mend_it() -> None:
    def make(ctx: Context[Any]) -> Elsewhere:  # type: ignore[name-defined]  # noqa: F821  that is what is wrong
        return NOW

    with pytest.raises(RunFailedError) as failed:
        await durable("flow").step("make", make).run()
    assert failed.value.error.message == (
        "results.make: datetime; the annotation Elsewhere of make cannot be resolved (name 'Elsewhere' is not defined),"
        " so the value must be JSON; import it outside of `if TYPE_CHECKING`, or give result=…"
    )


async def test_annotations_may_name_what_is_defined_later_and_in_functions() -> None:
    def make(ctx: Context[Any]) -> Local | Suspended:
        return Local(NOW)

    async def later() -> Later:
        return Later(1)

    def give(ctx: Context[Any]) -> Awaitable[Later]:
        return later()

    @dataclass
    class Local:
        at: datetime

    flow = durable("flow").step("make", make).step("give", give)
    assert (await flow.run()).results == {"make": Local(NOW), "give": Later(1)}


@dataclass
class Later:
    number: int
