"""Monthly billing: a loop that pauses for a month between its iterations, without a separate scheduler.

    python examples/billing.py

A paused run is only a row with a due time, even if no process runs meanwhile. Here a month lasts a fifth of a second.
For real months, write `timedelta(days=30)`, or a function that returns the first of the next month as a datetime.

Note:
* Each iteration is journaled, so a crash never bills the same month twice.
* `until` checks the result and ends the loop; `feedback` computes the next input from it.
* The second worker continues where the first one stopped.
"""

# ruff: noqa: D103  an example's functions are named for what they do

import asyncio
import tempfile
from datetime import timedelta
from typing import Any

from stepwell import Context, Durable, durable

MONTH = timedelta(seconds=0.2)


def first_month(ctx: Context) -> dict[str, Any]:
    return {"month": 1, "credit": ctx.input["credit"]}


def bill(account: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Bills one month; `ctx.iteration` counts them, and the idempotency key is another one for each."""
    price = ctx.input["price"]
    paid = min(price, account["credit"])
    print(f"month {account['month']}: {ctx.input['customer']} pays {paid} of {price}")
    return {"month": account["month"], "credit": account["credit"] - paid, "paid": paid, "enough": paid == price}


def is_over(billed: dict[str, Any], iteration: int) -> bool:
    return not billed["enough"]


def next_month(billed: dict[str, Any]) -> dict[str, Any]:
    return {"month": billed["month"] + 1, "credit": billed["credit"]}


def close(ctx: Context) -> str:
    last = ctx.results["billing"]
    return (
        f"{ctx.input['customer']}: closed in month {last['month']}, {'paid up' if last['enough'] else 'out of credit'}"
    )


subscription = (
    durable("subscription")
    .loop("billing", bill, max_iterations=12, map_input=first_month, until=is_over, feedback=next_month, pause=MONTH)
    .step("close", close)
)


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/billing.db"
        async with Durable(url, workflows=[subscription]) as app, app.worker():
            started = await app.start(subscription, {"customer": "Ada", "price": 10, "credit": 35}, key="ada")
            while len(await app.journal(started.run_id)) < 2:  # noqa: ASYNC110  the worker could be another process
                await asyncio.sleep(0.05)

        print("the first worker is gone")

        async with Durable(url, workflows=[subscription]) as app:
            asleep = await app.status(started.run_id)
            print(f"the run is {asleep.status}, and wakes by itself: {asleep.wake_at is not None}")
            async with app.worker():
                print((await app.result(started.run_id, timeout=30))["close"])


if __name__ == "__main__":
    asyncio.run(main())
