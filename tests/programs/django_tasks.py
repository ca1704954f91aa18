"""Tasks of the site that tests run: what Django 6 calls work in the background."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.tasks import task

from tests.programs.gated import POLL_SECONDS

if TYPE_CHECKING:
    from django.tasks import TaskContext

CALLS: list[int] = []


class DeclinedError(Exception):
    """An error that only this module has."""


@task
def add(one: int, *, other: Any = 0) -> Any:
    """A plain function; a tuple that it gives becomes a list."""
    return (one + other,)


@task
async def add_async(one: int, other: int) -> int:
    """An async function."""
    return one + other


@task(takes_context=True)
def attempt(context: TaskContext, fails: int) -> list[Any]:
    """Fails that many times."""
    if context.attempt <= fails:
        raise DeclinedError(f"attempt {context.attempt}\nfailed")
    return [context.attempt, context.task_result.id, context.task_result.status]


@task
async def fail_async() -> None:
    """Fails with an error of Python's own."""
    raise ValueError("no")


@task
def unfit() -> object:
    """Gives what is no JSON."""
    return object()


@task(queue_name="mail")
def in_another_queue() -> str:
    """Waits for a worker that serves its queue."""
    return "sent"


@task
def wait_until_let() -> int:
    """Writes that it was called, and waits for a file; gives its process."""
    with (settings.FOLDER / "calls").open("a", encoding="utf-8") as calls:
        calls.write(f"{os.getpid()}\n")
    while not (settings.FOLDER / "let").exists():
        time.sleep(POLL_SECONDS)
    return os.getpid()
