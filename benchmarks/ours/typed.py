"""Draining runs whose input and results are of declared types, beside the same values as plain JSON."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from benchmarks.ours.drain import STEPS_PER_RUN, drained_of
from stepwell import Context, durable

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepwell import Workflow

AMOUNT = Decimal("19.90")
DUE = datetime(2026, 12, 24, 18, tzinfo=UTC)


class TypedInput(msgspec.Struct):
    """The input of a typed run."""

    number: int
    due: datetime


@dataclass
class TypedResult:
    """The result of each typed step."""

    number: int
    amount: Decimal
    at: datetime


def typed_workflow(on_last: Callable[[], None]) -> Workflow[TypedInput]:
    """Ten steps that read a typed input and give a dataclass with a Decimal and a datetime."""

    async def work(ctx: Context[TypedInput]) -> TypedResult:
        if ctx.step == f"step_{STEPS_PER_RUN}":
            on_last()
        return TypedResult(ctx.input.number, AMOUNT, ctx.input.due)

    made = durable("drain", input=TypedInput)
    for number in range(1, STEPS_PER_RUN + 1):
        made.step(f"step_{number}", work)
    return made


def untyped_workflow(on_last: Callable[[], None]) -> Workflow[Any]:
    """The same with the same values as plain JSON, which handlers read and write as such."""

    async def work(ctx: Context[Any]) -> Any:
        if ctx.step == f"step_{STEPS_PER_RUN}":
            on_last()
        return {"number": ctx.input["number"], "amount": str(AMOUNT), "at": ctx.input["due"]}

    made = durable("drain")
    for number in range(1, STEPS_PER_RUN + 1):
        made.step(f"step_{number}", work)
    return made


async def drained(url: str, runs: int, *, is_typed: bool = True) -> Any:
    """One worker drains runs of ten steps, each of which reads the input and gives a small object."""
    if is_typed:
        return await drained_of(url, typed_workflow, [TypedInput(number, DUE) for number in range(runs)])
    return await drained_of(url, untyped_workflow, [{"number": n, "due": DUE.isoformat()} for n in range(runs)])
