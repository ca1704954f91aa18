"""An attempt whose handler raises what the event loop uses for itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from stepwell import Context, durable
from tests.api.handlers import Spy, nothing
from tests.api.runs import OnSqlite

if TYPE_CHECKING:
    from pathlib import Path


async def give_up(ctx: Context) -> None:
    """Raises what a handler gets from a library whose own request was cancelled."""
    raise asyncio.CancelledError("the connection was dropped")


@pytest.mark.parametrize("beside", [False, True], ids=["a step", "an entry of a parallel"])
async def test_a_cancellation_that_nobody_asked_for_is_a_failed_attempt_and_what_was_done_is_undone(
    tmp_path: Path, *, beside: bool
) -> None:
    """Taken for the worker's own, it would leave the run leased to a worker that drives it no more."""
    flow = durable("order").step("reserve", nothing, compensate=nothing)
    if beside:
        flow.parallel("both", {"charge": give_up, "mail": Spy().handle})
    else:
        flow.step("charge", give_up)
    kept = await OnSqlite(tmp_path)(flow)
    assert (kept.failure.type, kept.failure.message) == ("CancelledError", "the connection was dropped")
    assert kept.failure.node == "charge"
    assert kept.rows("charge") == [("step", "failed", 1)], "what is no Exception is not tried again"
    assert kept.compensated == ["reserve"]
