"""The site that tests run with `tests.programs.django_settings`: its app, its URLs and a view."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.contrib import admin
from django.http import JsonResponse
from django.urls import path

from stepwell import Durable, durable
from stepwell.ext.django import database_url, runs
from tests.programs.gated import workflows

if TYPE_CHECKING:
    from django.http import HttpRequest


def make_app() -> Durable:
    """The app of the setting `STEPWELL`."""
    approval = durable("approval").step("draft", lambda ctx: ctx.input).wait_for_signal("ask", "approved")
    return Durable(database_url(), [approval, *workflows(settings.FOLDER)])


def run_gated(request: HttpRequest) -> JsonResponse:
    """A view that waits for a run, and gives its results."""
    return JsonResponse(runs().run("gated", key=request.headers["Idempotency-Key"]))


urlpatterns = [path("gated/", run_gated), path("admin/", admin.site.urls)]
