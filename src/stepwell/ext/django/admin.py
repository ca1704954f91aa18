"""The admin of runs: a list, a page with the journal, and the actions `cancel` and `resume`; nothing is edited."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.utils.html import format_html, format_html_join

from stepwell.errors import DurableError, PayloadError
from stepwell.ext.django.configuration import app, database, runs
from stepwell.ext.django.models import WorkflowRun
from stepwell.reading.records import RunStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from stepwell.ext.django.untyped import Untyped as ActionForm
    from stepwell.ext.django.untyped import Untyped as ModelAdmin
    from stepwell.ext.django.untyped import Untyped as SimpleListFilter
else:
    from django.contrib.admin import ModelAdmin, SimpleListFilter
    from django.contrib.admin.helpers import ActionForm

RUN_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
MOST_ENTRIES = 1_000
"""The entries that a page shows: the last ones."""


class StatusFilter(SimpleListFilter):
    """Runs of one status; the statuses are known, so that no query looks for them."""

    title: str = "status"
    parameter_name: str = "status"

    def lookups(self, _request: Any, _model_admin: Any) -> list[tuple[str, str]]:
        """The statuses."""
        return [(status.value, status.value) for status in RunStatus]

    def queryset(self, _request: Any, queryset: Any) -> Any:
        """The runs that have it."""
        return queryset if self.value() is None else queryset.filter(status=self.value())


class WorkflowFilter(SimpleListFilter):
    """Runs of one of the workflows that the app knows."""

    title: str = "workflow"
    parameter_name: str = "workflow"

    def lookups(self, _request: Any, _model_admin: Any) -> list[tuple[str, str]]:
        """The names of the workflows."""
        return [(name, name) for name in app().workflows]

    def queryset(self, _request: Any, queryset: Any) -> Any:
        """The runs of it."""
        return queryset if self.value() is None else queryset.filter(workflow_name=self.value())


class DataForm(ActionForm):
    """The form of an action, with the data that `resume` delivers."""

    data: Any = forms.CharField(required=False, label="Data to resume with (JSON):")


@admin.register(WorkflowRun)
class WorkflowRunAdmin(ModelAdmin):
    """Runs to look at, to cancel and to resume; each needs its permission."""

    list_display: ClassVar[tuple[Any, ...]] = (
        "run_id",
        "workflow_name",
        "status",
        "key",
        "awaiting_signal",
        "created_at",
        "updated_at",
    )
    list_filter: ClassVar[tuple[Any, ...]] = (StatusFilter, WorkflowFilter)
    search_fields: ClassVar[tuple[Any, ...]] = ("run_id", "key")
    search_help_text: str = "The id or the key of a run, in full."
    show_full_result_count: bool = False
    actions: ClassVar[tuple[Any, ...]] = ("cancel", "resume")
    action_form: Any = DataForm
    fields: ClassVar[tuple[Any, ...]] = (
        *("run_id", "workflow_name", "key", "status", "why", "awaiting_signal", "wake_at", "damaged", "parent"),
        *("created_at", "updated_at", "finished_at", "shown_input", "journal"),
    )
    readonly_fields: ClassVar[tuple[Any, ...]] = fields

    def has_add_permission(self, _request: Any, _obj: Any = None) -> bool:
        """Runs are started in code."""
        return False

    def has_change_permission(self, _request: Any, _obj: Any = None) -> bool:
        """Runs are not edited."""
        return False

    def has_delete_permission(self, _request: Any, _obj: Any = None) -> bool:
        """Runs are not deleted."""
        return False

    def has_cancel_permission(self, request: Any) -> bool:
        """Whether the user may cancel runs."""
        return bool(request.user.has_perm("stepwell.cancel_workflowrun"))

    def has_resume_permission(self, request: Any) -> bool:
        """Whether the user may resume runs."""
        return bool(request.user.has_perm("stepwell.resume_workflowrun"))

    def get_queryset(self, request: Any) -> Any:
        """The runs in the database of the store."""
        return super().get_queryset(request).using(database())  # type: ignore[misc]  # Django has no types

    def get_object(self, request: Any, object_id: str, from_field: str | None = None) -> Any:
        """The run, or None, also for what is no id: PostgreSQL refuses to compare it."""
        if RUN_ID.fullmatch(object_id) is None:
            return None
        return super().get_object(request, object_id, from_field)  # type: ignore[misc]  # Django has no types

    def get_search_results(self, _request: Any, queryset: Any, search_term: str) -> tuple[Any, bool]:
        """The run of that id, or the runs of that key."""
        term = search_term.strip()
        if not term:
            return queryset, False
        return queryset.filter(run_id=term) if RUN_ID.fullmatch(term) else queryset.filter(key=term), False

    @admin.display(description="why it does not move")
    def why(self, run: WorkflowRun) -> str:
        """The sentence of `explain`, for a run that has not ended."""
        if run.has_ended:
            return "-"
        try:
            sentence: str = runs().explain(run.run_id).sentence
        except DurableError as error:
            return str(error)
        return sentence

    @admin.display(description="input")
    def shown_input(self, run: WorkflowRun) -> str:
        """The input as JSON."""
        return _shown(lambda: run.input)

    @admin.display
    def journal(self, run: WorkflowRun) -> str:
        """The last entries of the journal, as a table in their order."""
        last = list(run.entries.using(database()).order_by("-seq")[:MOST_ENTRIES])
        rows = [
            (
                one.seq,
                one.item or one.node,
                one.kind,
                one.attempt,
                one.status,
                _outcome(one),
                f"{one.finished_at:%F %T}",
            )
            for one in reversed(last)
        ]
        row = "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td><code>{}</code></td><td>{}</td></tr>"
        heads = ("", "node", "kind", "attempt", "status", "outcome", "finished (UTC)")
        head = format_html_join("", "<th>{}</th>", ((name,) for name in heads))
        return str(format_html("<table><tr>{}</tr>{}</table>", head, format_html_join("", row, rows)))

    @admin.action(description="Cancel the selected runs", permissions=["cancel"])
    def cancel(self, request: Any, queryset: Any) -> None:
        """Cancels those that have not ended."""
        self._act(request, queryset, "cancel", lambda run: runs().cancel(run.run_id))

    @admin.action(description="Resume the selected runs with the data", permissions=["resume"])
    def resume(self, request: Any, queryset: Any) -> None:
        """Delivers the data to the signal that each of them waits for."""
        given = request.POST.get("data", "").strip()
        try:
            data = json.loads(given) if given else None
        except ValueError as error:
            self.message_user(request, f"The data is not JSON: {error}.", messages.ERROR)
            return

        def resumed(run: WorkflowRun) -> None:
            if not runs().resume(run.run_id, run.awaiting_signal, data).accepted:
                raise DurableError("It does not wait any more.")

        self._act(request, queryset, "resume", resumed)

    def _act(
        self, request: Any, queryset: Sequence[WorkflowRun], action: str, call: Callable[[WorkflowRun], None]
    ) -> None:
        """Does it to each run, and says of how many it was done, and of each other why it was not."""
        done = 0
        for run in queryset:
            try:
                if run.can(action):
                    call(run)
                    done += 1
                else:
                    self.message_user(request, f'{run} is {run.status}: "{action}" is not possible.', messages.WARNING)
            except DurableError as error:
                self.message_user(request, f"{run}: {error}", messages.ERROR)
        self.message_user(request, f"{action}: done for {done} run{'' if done == 1 else 's'}.")


def _time(at: datetime) -> str:
    return f"{at:%F %T}"


def _outcome(entry: Any) -> str:
    return str(entry.error) if entry.error is not None else _shown(lambda: entry.result)


def _shown(read: Callable[[], Any]) -> str:
    try:
        return json.dumps(read(), ensure_ascii=False)
    except PayloadError as error:
        return str(error)
