"""Orders behind Flask. A request that is repeated, also after a crash, starts no second run and charges nothing twice.

Serve it together with a worker, which creates the store and the bank in this folder:

    python examples/flask_orders.py

or with more processes, in the folder `examples`:

    gunicorn --preload --workers 2 --threads 8 flask_orders:web
    stepwell --app flask_orders:shop worker
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import Any

from flask import Flask, Response, abort, request

from stepwell import Context, Durable, durable
from stepwell.ext.flask import Stepwell, run_response


def charge(ctx: Context) -> str:
    """Charge the customer once, however often this is called: the bank knows the key of a payment."""
    with closing(sqlite3.connect("bank.db", timeout=60)) as bank, bank:
        bank.execute("CREATE TABLE IF NOT EXISTS payments (key TEXT PRIMARY KEY, item TEXT)")
        bank.execute("INSERT OR IGNORE INTO payments VALUES (?, ?)", [ctx.idempotency_key, ctx.input["item"]])
    return "paid"


def ship(ctx: Context) -> str:
    """Ship what was approved."""
    return f"{ctx.input['item']} is on its way"


order = durable("order").step("charge", charge).wait_for_signal("approval", "approval").step("ship", ship)
shop = Durable("sqlite:///orders.db", workflows=[order])
web = Flask(__name__)
runs = Stepwell(web, shop)


@web.post("/orders")
def create() -> tuple[dict[str, str], int]:
    """Start an order; the same key is the same order."""
    started = runs.start(order, request.get_json(), key=request.headers["Idempotency-Key"])
    if started.same_input is False:
        abort(422, "This Idempotency-Key was used for another order.")
    return {"id": started.run_id}, 202 if started.created else 200


@web.get("/orders/<run_id>")
def show(run_id: str) -> Response:
    """Show how far an order has come."""
    return run_response(runs.status(run_id))


@web.post("/orders/<run_id>/approval")
def approve(run_id: str) -> dict[str, bool]:
    """Approve an order, once."""
    return {"accepted": runs.signal(run_id, "approval", {"approved": True}, key="approval").accepted}


@web.get("/orders/<run_id>/results")
def results(run_id: str) -> dict[str, Any]:
    """Wait until an order has ended."""
    return runs.result(run_id, timeout=60)


if __name__ == "__main__":
    with runs.worker():
        web.run(port=int(os.environ.get("PORT", "8000")), threaded=True)
