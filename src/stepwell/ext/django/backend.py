"""A backend for `django.tasks`, Django's own interface for work in the background: each call of it is a run.

A run of the workflow `django.tasks:ALIAS` has one step, which calls the function. `enqueue` returns once the run is
committed. If the process that calls the function dies, another worker calls it again.
"""

from __future__ import annotations

import functools
import os
import re
import socket
from datetime import datetime
from inspect import iscoroutinefunction
from traceback import format_exception
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import close_old_connections
from django.tasks import TaskContext, TaskResult, TaskResultStatus, task_backends
from django.tasks.base import TaskError
from django.tasks.exceptions import TaskResultDoesNotExist
from django.tasks.signals import task_enqueued, task_finished, task_started
from django.utils import timezone
from django.utils.json import normalize_json
from django.utils.module_loading import import_string

from stepwell.app import durable
from stepwell.errors import DefinitionError, RunNotFoundError
from stepwell.ext.django.configuration import runs
from stepwell.reading.records import RunStatus

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from stepwell.errors import Failure
    from stepwell.ext.django.configuration import Runs
    from stepwell.ext.django.untyped import Untyped as BaseTaskBackend
    from stepwell.reading.records import Entry, RunSnapshot
    from stepwell.workflow.builder import Workflow
    from stepwell.workflow.context import Context
else:
    from django.tasks.backends.base import BaseTaskBackend

CALL = "call"
"""The name of the step."""
KNOWN = ("MAX_RETRIES", "TIMEOUT")
DEFAULT_QUEUE = "default"
"""The queue of Django that is the app's own queue; each other one is a queue of that name."""


class TaskBackend(BaseTaskBackend):
    """Runs tasks durably: `TASKS = {"default": {"BACKEND": "stepwell.ext.django.TaskBackend"}}`.

    `QUEUES` as for every backend. `OPTIONS`: `MAX_RETRIES`, how often a task that raises is called again (0), and
    `TIMEOUT`, the time limit of a call in seconds (the app's). `run_after`, async functions and results are supported,
    priorities are not.
    """

    supports_defer: bool = True
    supports_async_task: bool = True
    supports_get_result: bool = True
    supports_priority: bool = False

    def __init__(self, alias: str, params: Mapping[str, Any]) -> None:
        super().__init__(alias, params)
        unknown = sorted(self.options.keys() - KNOWN)
        if unknown:
            raise DefinitionError(f'TASKS: unknown option "{unknown[0]}". Known: {", ".join(KNOWN)}.')

    @property
    def workflow_name(self) -> str:
        """The workflow whose runs are the tasks of this backend."""
        return f"django.tasks:{self.alias}"

    def workflow(self) -> Workflow:
        """Returns that workflow, to be registered with the app."""
        policy = {"max_retries": self._most_retries, "timeout": self.options.get("TIMEOUT")}
        return durable(self.workflow_name).step(CALL, self._handler, **policy)

    @property
    def _most_retries(self) -> int:
        return int(self.options.get("MAX_RETRIES", 0))

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        """Writes the run and returns its result, READY; raises InvalidTask and what `Durable.start` does."""
        self.validate_task(task)
        given = {"task": task.module_path, "args": normalize_json(args), "kwargs": normalize_json(kwargs)}
        options = {"queue": task.queue_name, "run_after": None}
        delay = None
        if task.run_after is not None:
            after = task.run_after if timezone.is_aware(task.run_after) else timezone.make_aware(task.run_after)
            options["run_after"] = after.isoformat()
            delay = max((after - timezone.now()).total_seconds(), 0)
        started = self._runs(task.queue_name).start(self.workflow_name, {**given, **options}, delay=delay)
        result = self._result(self._runs().status(started.run_id), task, ())
        task_enqueued.send(type(self), task_result=result)
        return result

    def get_result(self, result_id: str) -> Any:
        """The result as it is now; raises TaskResultDoesNotExist for what is no run of this backend."""
        try:
            run = self._runs().status(result_id)
            entries = self._runs().journal(result_id)
        except RunNotFoundError as error:
            raise TaskResultDoesNotExist(result_id) from error
        if run.workflow_name != self.workflow_name:
            raise TaskResultDoesNotExist(result_id)
        return self._result(run, self._task_of(run.input), entries)

    def _runs(self, queue: str = DEFAULT_QUEUE) -> Runs:
        return runs(None if queue == DEFAULT_QUEUE else queue)

    def _task_of(self, given: Mapping[str, Any]) -> Any:
        """The task that an input names, with what it was enqueued with."""
        after = given["run_after"]
        return import_string(given["task"]).using(
            backend=self.alias,
            queue_name=given["queue"],
            run_after=None if after is None else datetime.fromisoformat(after),
        )

    def _result(self, run: RunSnapshot, task: Any, entries: Sequence[Entry]) -> Any:
        status = _status_of(run)
        began = [entry.started_at for entry in entries]
        if not began and run.status != RunStatus.PENDING:
            began = [run.updated_at]
        result = TaskResult(
            task=task,
            id=run.run_id,
            status=status,
            enqueued_at=run.created_at,
            started_at=began[0] if began else None,
            last_attempted_at=began[-1] if began else None,
            finished_at=run.finished_at,
            args=run.input["args"],
            kwargs=run.input["kwargs"],
            backend=self.alias,
            errors=_errors_of(run, entries),
            worker_ids=[entry.worker for entry in entries],
        )
        if status == TaskResultStatus.SUCCESSFUL:
            object.__setattr__(result, "_return_value", (run.results or {}).get(CALL))
        return result

    def _handler(self, ctx: Context) -> Any:
        """Calls the function in a worker's thread; of an async one, gives what the worker's event loop awaits."""
        task = self._task_of(ctx.input)
        now = timezone.now()
        result = TaskResult(
            task=task,
            id=ctx.run_id,
            status=TaskResultStatus.RUNNING,
            enqueued_at=None,
            started_at=now,
            last_attempted_at=now,
            finished_at=None,
            args=ctx.input["args"],
            kwargs=ctx.input["kwargs"],
            backend=self.alias,
            errors=[],
            worker_ids=[f"{socket.gethostname()}:{os.getpid()}"] * ctx.attempt,
        )
        context = [TaskContext(task_result=result)] if task.takes_context else []
        call = functools.partial(task.func, *context, *result.args, **result.kwargs)
        is_last = ctx.attempt > self._most_retries
        if iscoroutinefunction(task.func):
            return self._awaited(result, call, is_last=is_last)
        return self._called(result, call, is_last=is_last)

    def _called(self, result: Any, call: Callable[[], Any], *, is_last: bool) -> Any:
        close_old_connections()
        try:
            task_started.send(type(self), task_result=result)
            value = normalize_json(call())
            task_finished.send(type(self), task_result=_succeeded(result, value))
        except Exception as error:
            if is_last:
                task_finished.send(type(self), task_result=_failed(result, error))
            raise
        finally:
            close_old_connections()
        return value

    async def _awaited(self, result: Any, call: Callable[[], Awaitable[Any]], *, is_last: bool) -> Any:
        await sync_to_async(close_old_connections)()
        try:
            await task_started.asend(type(self), task_result=result)
            value = normalize_json(await call())
            await task_finished.asend(type(self), task_result=_succeeded(result, value))
        except Exception as error:
            if is_last:
                await task_finished.asend(type(self), task_result=_failed(result, error))
            raise
        finally:
            await sync_to_async(close_old_connections)()
        return value


def workflows() -> list[Workflow]:
    """The workflows of the backends in the setting `TASKS` that are of stepwell."""
    backends = [task_backends[alias] for alias in settings.TASKS]
    return [backend.workflow() for backend in backends if isinstance(backend, TaskBackend)]


def _succeeded(result: Any, value: Any) -> Any:
    _change(result, status=TaskResultStatus.SUCCESSFUL, finished_at=timezone.now(), _return_value=value)
    return result


def _failed(result: Any, error: Exception) -> Any:
    path = f"{type(error).__module__}.{type(error).__qualname__}"
    result.errors.append(TaskError(exception_class_path=path, traceback="".join(format_exception(error))))
    _change(result, status=TaskResultStatus.FAILED, finished_at=timezone.now())
    return result


def _change(result: Any, **fields: Any) -> None:
    """Sets fields of a result, which is frozen for those who are given it."""
    for name, value in fields.items():
        object.__setattr__(result, name, value)


def _status_of(run: RunSnapshot) -> Any:
    """READY also while it waits for the next attempt."""
    if run.status == RunStatus.COMPLETED:
        return TaskResultStatus.SUCCESSFUL
    if run.status in {RunStatus.FAILED, RunStatus.CANCELED}:
        return TaskResultStatus.FAILED
    is_ready = run.status == RunStatus.PENDING or run.waits_for is not None
    return TaskResultStatus.READY if is_ready else TaskResultStatus.RUNNING


def _errors_of(run: RunSnapshot, entries: Sequence[Entry]) -> list[Any]:
    errors = [_error_of(entry.error) for entry in entries if entry.error is not None]
    if run.status == RunStatus.CANCELED:
        errors.append(TaskError(exception_class_path="stepwell.RunCanceledError", traceback=""))
    return errors


def _error_of(failure: Failure) -> Any:
    """The failure with the path of its class, as the last line of its traceback with that name has it."""
    named = re.findall(rf"^((?:\w+\.)*{re.escape(failure.type)})(?::|$)", failure.traceback, re.MULTILINE)
    if not named:  # one of stepwell's own, such as a timeout: it has no class
        return TaskError(exception_class_path="stepwell.RunFailedError", traceback=failure.traceback or str(failure))
    path = named[-1] if "." in named[-1] else f"builtins.{named[-1]}"
    return TaskError(exception_class_path=path, traceback=failure.traceback)
