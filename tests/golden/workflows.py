"""The workflows of the golden journals: their names and nodes stay as they are, or old runs could not go on.

A run is held at the place that its input names: there the first attempt asks for another a day later.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from stepwell import Abort, Branch, Retry, Suspended, durable

if TYPE_CHECKING:
    from stepwell import Context, Workflow

DAY = timedelta(days=1)
MOMENT = 0.2
"""Seconds, of the wait that is given up."""


async def work(ctx: Context) -> dict[str, Any]:
    """Does its work, unless it is held or is to fail."""
    _hold(ctx, ctx.step)
    if ctx.input.get("fails") == ctx.step:
        raise Abort("as it was told")
    return {"did": ctx.step, "attempt": ctx.attempt}


def work_plainly(ctx: Context) -> str:
    """As `work`, in a thread."""
    _hold(ctx, ctx.step)
    return f"{ctx.step} \N{SNOWMAN}"


async def undo(ctx: Context) -> None:
    """Undoes it, unless it is held or is to fail."""
    _hold(ctx, f"undo {ctx.step}")
    if ctx.input.get("fails_to_undo") == ctx.step:
        raise Abort("it stays done")


async def count(value: Any, ctx: Context) -> dict[str, Any]:
    """An iteration: counts, and carries on what holds the run."""
    return {"count": value["count"] + 1, "held": ctx.input.get("at") == "poll"}


async def ask(ctx: Context) -> Any:
    """Suspends the run once, if its input says so."""
    if ctx.input.get("at") == "ask" and ctx.resume_data is None:
        return Suspended({"question": "may I?"})
    return ctx.resume_data


def _hold(ctx: Context, place: str) -> None:
    if ctx.input.get("at") == place and ctx.attempt == 1:
        raise Retry("held for a day", after=DAY)


def _every_kind(name: str) -> Workflow:
    return (
        durable(name)
        .step("fetch", work, compensate=undo)
        .step("skipped", work, when=lambda ctx: False)
        .parallel("both", {"left": Branch(work, compensate=undo), "right": work_plainly})
        .route("way", lambda ctx: "air", {"air": Branch(work, compensate=undo), "sea": work})
        .loop(
            "poll",
            count,
            max_iterations=5,
            until=lambda result, iteration: result["count"] == 3,
            feedback=lambda result: result,
            map_input=lambda ctx: {"count": 0},
            pause=lambda result, iteration: DAY if result["held"] and iteration == 1 else 0,
            compensate=undo,
        )
        .step("ask", ask)
        .sleep("nap", lambda ctx: DAY if ctx.input.get("at") == "nap" else 0)
        .wait_for_signal("maybe", "perhaps", timeout=MOMENT, default="nobody")
        .wait_for_signal("go", "go")
        .child_workflow("kid", "kid", map_input=lambda ctx: ctx.input, compensate=undo)
        .step("close", work)
    )


def workflows() -> list[Workflow]:
    """All of them, new; `doomed` is `every_kind` once more, for the runs that a dead worker holds."""
    kid = (
        durable("kid")
        .step("pay", work, compensate=undo)
        .sleep("kid_nap", lambda ctx: DAY if ctx.input.get("at") == "kid_nap" else 0)
    )
    return [_every_kind("every_kind"), _every_kind("doomed"), kid]
