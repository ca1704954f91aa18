"""What the tests of Django's tasks check, in a process of their own: see `tests/programs/django_check.py`."""

from __future__ import annotations

import os
import signal
import sys
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import async_to_sync
from django.conf import settings
from django.core.management import call_command
from django.db import connection, transaction
from django.tasks import TaskResultStatus, task_backends
from django.tasks.exceptions import InvalidTask, TaskResultDoesNotExist, TaskResultMismatch
from django.tasks.signals import task_enqueued, task_finished, task_started
from django.utils import timezone

from stepwell import DefinitionError, DurableError, RunCanceledError
from stepwell.ext.django import TaskBackend, runs
from tests.programs import django_tasks as tasks

if TYPE_CHECKING:
    from collections.abc import Sequence

READY, SUCCESSFUL, FAILED = TaskResultStatus.READY, TaskResultStatus.SUCCESSFUL, TaskResultStatus.FAILED


def done(*results: Any, queues: Sequence[str] | None = None) -> None:
    """Works until these have ended, and refreshes them."""
    with runs().worker(queues=queues):
        for result in results:
            while not result.is_finished:
                result.refresh()


def results() -> None:
    """A result is READY once it is enqueued, and has what the function gave once a worker has called it."""
    call_command("migrate", verbosity=0)
    plain = tasks.add.enqueue(1, other=2)
    awaited = async_to_sync(tasks.add_async.aenqueue)(1, other=2)
    with_context = tasks.attempt.enqueue(0)
    assert [one.status for one in (plain, awaited, with_context)] == [READY] * 3
    assert (plain.args, plain.kwargs, plain.started_at, plain.attempts) == ([1], {"other": 2}, None, 0)
    assert isinstance(plain.enqueued_at, datetime)
    with pytest.raises(ValueError, match="not finished"):
        _ = plain.return_value
    done(plain, awaited, with_context)
    assert (plain.return_value, awaited.return_value) == ([3], 3)
    assert with_context.return_value == [1, with_context.id, "RUNNING"]
    assert plain.enqueued_at <= plain.started_at == plain.last_attempted_at <= plain.finished_at
    assert (plain.attempts, plain.errors) == (1, [])
    again = tasks.add.get_result(plain.id)
    assert (again.return_value, again.task) == ([3], tasks.add)
    assert async_to_sync(tasks.add.aget_result)(plain.id).return_value == [3]


def errors() -> None:
    """A function that raises is called again as the options say; its errors keep their classes."""
    once, twice, builtin, unfit = (
        *(tasks.attempt.enqueue(1), tasks.attempt.enqueue(2)),
        *(tasks.fail_async.enqueue(), tasks.unfit.enqueue()),
    )
    done(once, twice, builtin, unfit)
    assert (once.status, once.return_value[0], once.attempts, len(once.errors)) == (SUCCESSFUL, 2, 2, 1)
    assert (twice.status, twice.attempts) == (FAILED, 2)
    assert [one.exception_class for one in (*once.errors, *twice.errors)] == [tasks.DeclinedError] * 3
    assert "attempt 2" in twice.errors[1].traceback
    assert {one.exception_class for one in builtin.errors} == {ValueError}
    assert {one.exception_class for one in unfit.errors} == {TypeError}
    with pytest.raises(ValueError, match="Task failed"):
        _ = twice.return_value
    canceled = tasks.add.enqueue(1)
    runs().cancel(canceled.id)
    canceled.refresh()
    assert (canceled.status, canceled.errors[0].exception_class) == (FAILED, RunCanceledError)


def times_and_queues() -> None:
    """`run_after` delays, and a queue waits for a worker that serves it."""
    now = timezone.now()
    later = tasks.add.using(run_after=now + timedelta(hours=1)).enqueue(1)
    wake_at = runs().status(later.id).wake_at
    assert wake_at is not None
    assert wake_at >= now + timedelta(hours=1)
    assert tasks.add.get_result(later.id).task.run_after == now + timedelta(hours=1)
    past, mail = tasks.add.using(run_after=now - timedelta(hours=1)).enqueue(1), tasks.in_another_queue.enqueue()
    done(past)
    assert [tasks.add.get_result(one.id).status for one in (later, past)] == [READY, SUCCESSFUL]
    assert tasks.in_another_queue.get_result(mail.id).status == READY
    done(mail, queues=["mail"])
    assert (mail.return_value, mail.task.queue_name) == ("sent", "mail")
    runs().cancel(later.id)


def refusals() -> None:
    """What the backend does not do is refused when it is asked for."""
    for change in ({"priority": 5}, {"queue_name": "unknown"}, {"run_after": datetime(2030, 1, 1)}):  # noqa: DTZ001  naive
        with pytest.raises(InvalidTask):
            tasks.add.using(**change)
    with pytest.raises(DurableError, match="input"):
        tasks.add.enqueue(float("nan"))
    backend = task_backends["default"]
    assert (backend.supports_priority, backend.supports_defer, backend.supports_get_result) == (False, True, True)
    for unknown in ("", "no-id", "01a230b7-b373-751f-b1a7-42aa17b67a77", runs().start("approval").run_id):
        with pytest.raises(TaskResultDoesNotExist):
            backend.get_result(unknown)
    added = tasks.add.enqueue(1)
    with pytest.raises(TaskResultMismatch):
        tasks.attempt.get_result(added.id)
    with pytest.raises(DefinitionError, match=r'unknown option "RETRIES"\. Known: MAX_RETRIES, TIMEOUT'):
        TaskBackend("x", {"OPTIONS": {"RETRIES": 1}})
    if connection.vendor == "sqlite":
        with transaction.atomic():
            with pytest.raises(DurableError, match=r"transaction\.on_commit"):
                tasks.add.enqueue(1)
            transaction.on_commit(lambda: tasks.add.enqueue(5))


def signals() -> None:
    """Django's signals come in their order, from an async function, too."""
    heard: list[tuple[str, str]] = []
    kinds = {"enqueued": task_enqueued, "started": task_started, "finished": task_finished}
    receivers = []
    for name, kind in kinds.items():

        def hear(task_result: Any, name: str = name, **_: Any) -> None:
            heard.append((task_result.id, f"{name} {task_result.status}"))

        receivers.append(hear)
        kind.connect(hear)
    for task, arguments, ended in ((tasks.attempt, [1], "SUCCESSFUL"), (tasks.fail_async, [], "FAILED")):
        result = task.enqueue(*arguments)
        done(result)
        told = [words for run_id, words in heard if run_id == result.id]
        assert told == ["enqueued READY", "started RUNNING", "started RUNNING", f"finished {ended}"]


def enqueue_and_die() -> None:
    """Enqueues, says the id, and kills its own process."""
    sys.stdout.write(f"{tasks.wait_until_let.enqueue().id}\n")
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGKILL)


def waited() -> None:
    """What was enqueued by the process that died has been called twice, and has ended once."""
    (entry,) = runs().list(workflow="django.tasks:default")
    result = tasks.wait_until_let.get_result(entry.run_id)
    calls = [int(line) for line in (settings.FOLDER / "calls").read_text(encoding="utf-8").splitlines()]
    assert len(calls) == 2
    assert (result.status, result.return_value, result.attempts, result.errors) == (SUCCESSFUL, calls[1], 1, [])
