"""Orders behind FastAPI: reserve, charge, wait for an approval, ship; what was done is undone if one fails.

    python examples/fastapi_orders.py

Kill it at any moment and start it again: every order goes on. http://127.0.0.1:8000/docs has the routes and types.
"""

import os
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request
from pydantic import BaseModel, PositiveInt

from stepwell import Abort, Context, Durable, durable
from stepwell.ext.fastapi import Identity, lifespan, router


class Order(BaseModel):
    item: str
    quantity: PositiveInt
    price: Decimal


class Approval(BaseModel):
    approved: bool
    by: str


def effect(ctx: Context[Order], what: str) -> str:  # stands for a call of a service that acts once for each key
    with Path(os.environ.get("EFFECTS", "effects.log")).open("a", encoding="utf-8") as log:
        log.write(f"{ctx.run_id} {what} {ctx.idempotency_key} {os.getpid()}\n")
    return ctx.idempotency_key


async def charge(ctx: Context[Order]) -> Decimal:
    if ctx.input.price <= 0:
        raise Abort("the price must be positive")
    effect(ctx, "charge")
    return ctx.input.price * ctx.input.quantity


async def ship(ctx: Context[Order]) -> str:
    if not ctx.results["approval"].approved:
        raise Abort(f"refused by {ctx.results['approval'].by}")
    return effect(ctx, "ship")


late = Approval(approved=False, by="timeout")
order = (
    durable("order", input=Order)
    .step("reserve", lambda ctx: effect(ctx, "reserve"), compensate=lambda ctx: effect(ctx, "release"))
    .step("charge", charge, compensate=lambda ctx: effect(ctx, f"refund {ctx.result(charge)}"))
    .wait_for_signal("approval", "approval", payload=Approval, timeout=timedelta(days=3), default=late)
    .step("ship", ship)
)


def auth(request: Request) -> Identity | None:
    return Identity("shop") if request.headers.get("Authorization") == "Bearer secret" else None


shop = Durable(os.environ.get("SHOP_DB", "sqlite:///shop.db"), workflows=[order], signing_keys=["another secret"])
api = FastAPI(lifespan=lifespan(shop))
api.include_router(router(shop, auth=auth), prefix="/orders")

if __name__ == "__main__":
    uvicorn.run(api)
