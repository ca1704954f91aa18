"""A shop in Django, in one file: views start orders and let a person approve them; a worker does the rest.

    python examples/django_shop.py

plays a customer and a person who approves, with a worker in the same process. With arguments it is `manage.py`:

    python examples/django_shop.py runserver
    python examples/django_shop.py stepwell worker

Stop and kill both as you like, in the middle of a request, too: send the request again with the same Idempotency-Key.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import django
from django.conf import settings

if not settings.configured:
    settings.configure(
        SECRET_KEY="of an example",  # noqa: S106  it keeps nothing secret
        ALLOWED_HOSTS=["localhost", "testserver"],
        ROOT_URLCONF=__name__,
        INSTALLED_APPS=["stepwell.ext.django"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "django-shop.db"}},
        STEPWELL={"APP": f"{__name__}:make_app"},
    )
    django.setup()

from django.core.management import execute_from_command_line
from django.http import HttpRequest, JsonResponse
from django.test import Client
from django.urls import path

from stepwell import Context, Durable, durable
from stepwell.ext.django import database_url, fresh_connections, runs
from stepwell.ext.django.models import WorkflowRun

order = durable("order")


@order.step("charge")
@fresh_connections
def charge(ctx: Context) -> dict[str, Any]:
    """A plain function, which may use the ORM; a payment provider would get the key, and charge once."""
    return {"charged": ctx.input["total"], "has_key": bool(ctx.idempotency_key)}


order.wait_for_signal("approval", "approved")


@order.step("ship")
def ship(ctx: Context) -> str:
    """The last step."""
    return f"{ctx.input['item']}, approved by {ctx.results['approval']['by']}"


def make_app() -> Durable:
    """The app of the setting `STEPWELL`, in the database of Django."""
    return Durable(database_url(), workflows=[order])


def start(request: HttpRequest) -> JsonResponse:
    """Starts an order: once for each Idempotency-Key, whatever happens to the answer."""
    started = runs().start("order", json.loads(request.body), key=request.headers["Idempotency-Key"])
    return JsonResponse({"run": started.run_id, "created": started.created}, status=202 if started.created else 200)


def approve(request: HttpRequest, run_id: str) -> JsonResponse:
    """Delivers the approval, which is kept until the order waits for it."""
    answer = runs().signal(run_id, "approved", json.loads(request.body), key="approval")
    return JsonResponse({"accepted": answer.accepted})


urlpatterns = [path("orders/", start), path("orders/<run_id>/approval/", approve)]


def main() -> None:
    """What a customer and a person who approves do."""
    client, key = Client(), {"Idempotency-Key": "cart-7"}
    with runs().worker():
        answers = [
            client.post("/orders/", {"item": "a kettle", "total": 30}, "application/json", headers=key)
            for _ in range(2)
        ]
        print("orders:", [answer.status_code for answer in answers])
        run_id = answers[1].json()["run"]
        print(client.post(f"/orders/{run_id}/approval/", {"by": "Ada"}, "application/json").json())
        print("shipped:", runs().result(run_id, timeout=60)["ship"])
    run = WorkflowRun.objects.get(run_id=run_id)
    print(run.key, run.status, [(entry.node, entry.status) for entry in run.entries.all()])


if __name__ == "__main__":
    execute_from_command_line(sys.argv) if sys.argv[1:] else main()
