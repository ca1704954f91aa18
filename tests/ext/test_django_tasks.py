"""Tests of the backend for Django's tasks, each with processes of its own; they need Django 6: `make django`."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from stepwell import Durable
from tests.programs.processes import ROOT
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from pathlib import Path

if importlib.util.find_spec("django.tasks") is None:
    pytest.skip("django.tasks needs Django 6 on Python 3.12: `make django` runs these tests", allow_module_level=True)

CHECKS = "tests.ext.django_task_checks"
TASKS = {
    "default": {
        "BACKEND": "stepwell.ext.django.TaskBackend",
        "QUEUES": ["default", "mail"],
        "OPTIONS": {"MAX_RETRIES": 1},
    }
}


def environment(folder: Path) -> dict[str, str]:
    """That of a process of the site, with tasks."""
    return {
        **os.environ,
        "SITE_FOLDER": str(folder),
        "SITE_SETTINGS": json.dumps({"TASKS": TASKS}),
        "DJANGO_SETTINGS_MODULE": "tests.programs.django_settings",
    }


def check(folder: Path, *names: str) -> subprocess.CompletedProcess[str]:
    """How a process with these checks ended."""
    command = [sys.executable, "-W", "error", "-m", "tests.programs.django_check", CHECKS, *names]
    return subprocess.run(command, cwd=ROOT, env=environment(folder), capture_output=True, text=True, check=False)


def test_the_backend_keeps_the_contract_of_djangos_tasks(tmp_path: Path) -> None:
    names = ("results", "errors", "times_and_queues", "refusals", "signals")
    ended = check(tmp_path, *names)
    assert (ended.returncode, ended.stdout) == (0, f"checked {', '.join(names)}\n"), ended.stdout + ended.stderr


async def test_a_task_is_not_lost_by_the_death_of_who_enqueues_it_and_of_who_calls_it(tmp_path: Path) -> None:
    ended = check(tmp_path, "enqueue_and_die")
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    calls = tmp_path / "calls"

    def worker() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "django", "stepwell", "worker"]
        return subprocess.Popen(command, cwd=ROOT, env=environment(tmp_path), stderr=subprocess.DEVNULL)

    first = worker()
    await eventually(lambda: calls.exists() and calls.read_text(encoding="utf-8").endswith("\n"))
    first.kill()
    first.wait(PATIENCE)
    (tmp_path / "let").touch()
    second = worker()

    try:
        async with Durable(f"sqlite:///{tmp_path / 'site.db'}") as app:
            await app.result(ended.stdout.strip())
    finally:
        second.send_signal(signal.SIGTERM)
        second.wait(PATIENCE)
    checked = check(tmp_path, "waited")
    assert checked.returncode == 0, checked.stderr
