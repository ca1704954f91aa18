"""What the tests of Django check, each in a process of its own: see `tests/programs/django_check.py`.

Django keeps its settings, applications and connections in the process, and other tests must not see them.
"""

from __future__ import annotations

import re
from contextlib import ExitStack
from functools import partial
from typing import Any
from unittest.mock import patch

import pytest
from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import connection, transaction
from django.test import Client

from stepwell import DefinitionError, DurableError
from stepwell.ext.django import configuration, database_url, fresh_connections, runs
from stepwell.ext.django.models import JournalEntry, WorkflowRun
from tests.programs.django_site import make_app


def message_of(kind: type[Exception], call: Any) -> str:
    """What the error says that the call raises."""
    with pytest.raises(kind) as told:
        call()
    return str(told.value)


def changed_settings(**changes: Any) -> ExitStack:
    """Other settings, while it is entered; `override_settings` warns for databases."""
    stack = ExitStack()
    for name, value in changes.items():
        stack.enter_context(patch.object(settings, name, value))
    return stack


def waiting_run() -> str:
    """A run that waits for its signal; its id."""
    started = runs().start("approval", {"id": 7}, key="order-7")
    with runs().worker():
        while runs().status(started.run_id).awaiting_signal is None:
            pass
    run_id: str = started.run_id
    return run_id


def models() -> None:
    """The models have what the app tells, and change nothing."""
    run_id = waiting_run()
    told, entries = runs().status(run_id), runs().journal(run_id)
    run = WorkflowRun.objects.get(run_id=run_id)
    for name in ("key", "workflow_name", "status", "current_step", "awaiting_signal", "wake_at", "input", "damaged"):
        assert getattr(run, name) == getattr(told, name), name
    assert (run.created_at, run.updated_at, run.finished_at) == (told.created_at, told.updated_at, told.finished_at)
    assert [(one.node, one.result, one.error, one.iteration) for one in run.entries.all()] == [
        (one.node, one.result, one.error, one.iteration) for one in entries
    ]
    assert [one.run for one in JournalEntry.objects.filter(run=run_id)] == [run]
    assert (run.parent, list(run.children.all())) == (None, [])
    assert list(WorkflowRun.objects.in_status("suspended").filter(created_at__gte=told.created_at)) == [run]
    assert not WorkflowRun.objects.filter(created_at__gt=told.created_at).exists()
    (ahead,) = WorkflowRun.objects.filter(key="order-7").prefetch_related("entries", "children")
    assert [one.status for one in ahead.entries.all()] == ["completed"]
    assert run.available_transitions() == ("cancel", "resume")
    assert "one of pending" in message_of(DefinitionError, lambda: WorkflowRun.objects.in_status("faild"))
    for change in (
        run.save,
        run.delete,
        lambda: WorkflowRun.objects.update(status="failed"),
        lambda: WorkflowRun.objects.all().delete(),
        lambda: WorkflowRun.objects.create(run_id="x"),
        lambda: WorkflowRun.objects.bulk_create([WorkflowRun(run_id="x")]),
        lambda: run.children.create(run_id="x"),
        lambda: JournalEntry.objects.filter(run=run).update(node="x"),
    ):
        assert "read-only" in message_of(DurableError, change)
    call_command("makemigrations", check_changes=True, verbosity=0)
    call_command("check", "--fail-level", "WARNING", verbosity=0)


def admin() -> None:
    """The admin lists, finds and shows runs, edits none, and cancels and resumes those that it may."""
    call_command("migrate", verbosity=0)
    ours = Permission.objects.filter(content_type__app_label="stepwell")
    assert sorted(ours.values_list("codename", flat=True)) == [
        *("cancel_workflowrun", "resume_workflowrun", "view_journalentry", "view_workflowrun"),
    ]
    run_id, page = waiting_run(), "/admin/stepwell/workflowrun/"
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    for query, shown in (("", True), (f"?q={run_id}", True), ("?q=order-7", True), ("?q=order", False)):
        assert (f"{run_id}/change/" in client.get(page + query).content.decode()) is shown, query
    assert run_id in client.get(f"{page}?status=suspended&workflow=approval").content.decode()
    assert run_id not in client.get(f"{page}?status=failed").content.decode()
    text = client.get(f"{page}{run_id}/change/").content.decode()
    for words in ("It waits at ask for signal approved", "draft", "&quot;id&quot;: 7", "completed"):
        assert words in text, words
    assert "_save" not in text
    assert client.get(f"{page}no-id/change/").status_code == 302
    assert client.post(f"{page}{run_id}/change/", {"status": "failed"}).status_code == 403
    assert client.post(f"{page}{run_id}/delete/", {"post": "yes"}).status_code == 403
    assert client.get(f"{page}add/").status_code == 403

    def act(action: str, by: Client = client, **more: str) -> str:
        given = {"action": action, "_selected_action": run_id, **more}
        text: str = by.post(page, given, follow=True).content.decode()
        return text

    looker = Client()
    looker.force_login(User.objects.create_user("looker", is_staff=True))
    User.objects.get(username="looker").user_permissions.add(ours.get(codename="view_workflowrun"))
    act("cancel", looker)
    act("resume", looker)
    assert runs().status(run_id).status == "suspended"
    assert "The data is not JSON" in act("resume", data="{")
    assert "Resume: done for 1 run." in act("resume", data='{"by": "ada"}')
    assert re.search(r"is running: .*resume.* is not possible", act("resume"))
    with runs().worker():
        assert runs().result(run_id) == {"draft": {"id": 7}, "ask": {"by": "ada"}}
    assert "Cancel: done for 0 runs." in act("cancel")
    run_id = runs().start("approval").run_id
    assert "Cancel: done for 1 run." in act("cancel")
    assert runs().status(run_id).status == "canceled"


def atomic() -> None:
    """On SQLite a start inside `atomic()` of the same file is refused at once; after the transaction it is done."""
    call_command("migrate", verbosity=0)
    with transaction.atomic():
        User.objects.create_user("ada")
        assert message_of(DurableError, runs).startswith("The first call of runs() inside atomic() would wait")
    runs()
    with transaction.atomic():
        User.objects.create_user("bob")
        for name in configuration.CHANGES:
            assert "transaction.on_commit" in message_of(DurableError, partial(getattr(runs(), name), "approval"))
        assert runs().list(key="ada") == []
        transaction.on_commit(lambda: runs().start("approval", key="ada"))
    assert len(runs().list(key="ada")) == 1
    assert {"start", "run", "signal", "cancel", "answer_link"} <= {*configuration.CHANGES}


def outside() -> None:
    """On PostgreSQL a start inside `atomic()` is a transaction of its own."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        runs().start("approval", key="ada")
    assert len(runs().list(key="ada")) == 1


def command() -> None:
    """`call_command` runs the command line, which finds the app of the settings."""
    call_command("stepwell", "start", "approval", '{"id": 1}', "--key", "one")
    (run,) = WorkflowRun.objects.filter(key="one")
    assert (run.key, run.input) == ("one", {"id": 1})
    with pytest.raises(SystemExit, match="3"):
        call_command("stepwell", "status", "unknown")


def settings_of_the_app() -> None:
    """Each mistake in `STEPWELL` is told in a line, and the database of `DATABASES` gives the URL."""
    assert database_url() == f"sqlite:///{settings.FOLDER / 'site.db'}"
    postgres = {"ENGINE": "django.db.backends.postgresql", "NAME": "my shop", "USER": "a@b", "PASSWORD": "p:/w"}
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, "postgresql://a%40b:p%3A%2Fw@/my%20shop"),
        ({"HOST": "db", "PORT": 5433}, "postgresql://a%40b:p%3A%2Fw@db:5433/my%20shop"),
        ({"HOST": "/run/pg", "PASSWORD": ""}, "postgresql://a%40b@/my%20shop?host=%2Frun%2Fpg"),
        ({"HOST": "db", "OPTIONS": {"sslmode": "require", "pool": True}}, "…@db/my%20shop?sslmode=require"),
    ]
    for more, url in cases:
        with changed_settings(DATABASES={"default": {**postgres, **more}}):
            assert database_url() == url.replace("…", "postgresql://a%40b:p%3A%2Fw"), url
    mistakes: list[tuple[dict[str, Any], str]] = [
        ({"STEPWELL": {"APPS": "x"}}, 'unknown key "APPS". Known: APP, DATABASE, SCHEMA.'),
        ({"STEPWELL": {"DATABASE": "other"}}, 'the database "other". Known: default.'),
        ({"STEPWELL": {"APP": "shop"}}, "It is written MODULE:ATTR"),
        ({"STEPWELL": {"APP": "json:app"}}, "json has no app"),
        ({"STEPWELL": {"APP": "json:__name__"}}, "that is of type str, no Durable."),
        ({"DATABASES": {"default": {"ENGINE": "django.db.backends.mysql", "NAME": "x"}}, "STEPWELL": {}}, "mysql"),
        ({"DATABASES": {"default": {"ENGINE": "…sqlite3", "NAME": ":memory:"}}, "STEPWELL": {}}, "is in memory"),
    ]
    for changed, words in mistakes:
        configuration.app.cache_clear()
        with changed_settings(**changed):
            assert words in message_of(ImproperlyConfigured, configuration.app), words
    with changed_settings(STEPWELL={}):
        configuration.app.cache_clear()
        assert (configuration.app().workflows, configuration.app().url) == ((), database_url())
    assert make_app().workflows


def orm() -> None:
    """A handler with `fresh_connections` leaves no connection behind in its thread."""

    def handler(ctx: int) -> str:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        assert connection.connection is not None
        return f"{ctx}"

    assert fresh_connections(handler)(5) == "5"
    assert connection.connection is None
    assert fresh_connections(handler).__name__ == "handler"
