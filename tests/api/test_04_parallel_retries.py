"""A parallel of which several entries wait for their next attempts goes on with the one that is due first."""

from __future__ import annotations

from stepwell import Context, Durable, Retry, durable
from tests.waiting import eventually


async def test_an_entry_whose_retry_is_due_does_not_wait_for_the_later_one_of_another() -> None:
    tried: list[int] = []

    def late(ctx: Context) -> None:
        raise Retry("in an hour", after=3_600)

    def soon(ctx: Context) -> None:
        tried.append(ctx.attempt)
        if ctx.attempt == 1:
            raise Retry("at once", after=0.01)

    flow = durable("flow").parallel("both", {"late": late, "soon": soon})
    async with Durable("sqlite://", [flow]) as app, app.worker():
        await app.start("flow")
        await eventually(lambda: tried == [1, 2])
