"""An order as a saga: when a later step fails for good, the completed steps are compensated, newest first.

    python examples/order.py

Two orders are placed. The second one is too heavy: shipping aborts after the goods are reserved, the money is charged
and a mail is sent. Each of these steps has a compensator, so the order is undone completely. Note:
* A step is an ordinary function of `ctx`. Its return value is in `ctx.results` under the step's name.
* `idempotency_key` is the same if a crash makes a step run again: pass it to the payment service, so it charges once.
* A route calls its resolver once; a crash cannot change the choice.
* `Abort` fails the node at once; any other exception is retried.
"""

# ruff: noqa: D103  an example's functions are named for what they do

import asyncio
import logging
import tempfile
from typing import Any

from stepwell import Abort, Branch, Context, Durable, RunFailedError, durable

stock = {"kettle": 3, "anvil": 1}
payments: dict[str, int] = {}
mails: list[str] = []


def reserve(ctx: Context) -> dict[str, Any]:
    stock[ctx.input["item"]] -= 1
    return {"item": ctx.input["item"]}


def release(ctx: Context) -> None:
    stock[ctx.results["reserve"]["item"]] += 1


def charge(ctx: Context) -> dict[str, Any]:
    payments[ctx.idempotency_key] = ctx.input["price"]  # charged twice under one key is charged once
    return {"payment": ctx.idempotency_key}


def refund(ctx: Context) -> None:
    payments.pop(ctx.results["charge"]["payment"], None)


async def send_mail(ctx: Context) -> str:
    mails.append(f"{ctx.input['id']}: your {ctx.input['item']} is on its way")
    return mails[-1]


async def recall_mail(ctx: Context) -> None:
    mails.append(f"{ctx.input['id']}: sorry, your {ctx.input['item']} cannot be shipped")


async def tell_warehouse(ctx: Context) -> str:
    return f"pack one {ctx.input['item']}"


def choose_carrier(ctx: Context) -> str:
    return "truck" if ctx.input["kilos"] > 20 else "bicycle"


def ship_by_bicycle(ctx: Context) -> str:
    return f"{ctx.input['item']} went by bicycle"


def ship_by_truck(ctx: Context) -> str:
    if ctx.input["kilos"] > 50:
        raise Abort(f"{ctx.input['kilos']} kg is more than the truck takes")
    return f"{ctx.input['item']} went by truck"


order = (
    durable("order")
    .step("reserve", reserve, compensate=release)
    .step("charge", charge, compensate=refund)
    .parallel("notify", {"mail": Branch(send_mail, compensate=recall_mail), "warehouse": tell_warehouse})
    .route("ship", choose_carrier, {"bicycle": ship_by_bicycle, "truck": ship_by_truck})
)


async def main() -> None:
    logging.getLogger("stepwell.run").setLevel(logging.CRITICAL)  # the failure is told below
    with tempfile.TemporaryDirectory() as folder:
        async with Durable(f"sqlite:///{folder}/shop.db", workflows=[order]) as app, app.worker():
            for number, item, price, kilos in [(1, "kettle", 30, 2), (2, "anvil", 90, 80)]:
                started = await app.start(  # a second click on "buy" has the same key, and is the same run
                    order, {"id": number, "item": item, "price": price, "kilos": kilos}, key=f"order-{number}"
                )
                try:
                    results = await app.result(started.run_id, timeout=30)
                    print(f"order {number}: {results['ship']}")
                except RunFailedError as error:
                    print(f"order {number}: {error.error.message}; undone: {', '.join(error.compensated)}")
    print(f"in stock: {stock}, paid: {sum(payments.values())}")
    print("\n".join(mails))


if __name__ == "__main__":
    asyncio.run(main())
