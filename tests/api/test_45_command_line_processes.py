"""`worker --processes N`: processes that are started together, replaced when they die, and never left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from stepwell.cli import processes
from stepwell.cli.processes import Supervisor
from stepwell.cli.settings import Settings
from stepwell.cli.stopping import Stopping
from tests.api.command_line import Answer, Shop, read_up_to, shop_in
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    yield from shop_in(tmp_path, monkeypatch)


def begin(shop: Shop, *options: str) -> subprocess.Popen[str]:
    """A supervisor of two processes, in a process of its own."""
    return shop.begin("--app", "shop:app", "worker", "--processes", "2", *options)


def started(supervisor: subprocess.Popen[str]) -> int:
    """The next process that it says it has started."""
    return int(read_up_to(supervisor, "Process ").split()[1])


def ended(supervisor: subprocess.Popen[str]) -> Answer:
    """What it came to: its exit code, and what it and its processes went on to say until the last has ended."""
    assert supervisor.stderr is not None
    said = supervisor.stderr.read()
    return Answer(supervisor.wait(PATIENCE), "", said)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def workers_left(shop: Shop) -> int:
    """How many workers the store knows of: one that ends cleanly takes its row with it."""
    with closing(sqlite3.connect(shop.folder / "shop.db")) as database:
        found = database.execute("SELECT count(*) FROM stepwell_workers").fetchone()
    return int(found[0])


def until(condition: Callable[[], object]) -> None:
    asyncio.run(eventually(condition))


def until_completed(shop: Shop, run_id: str) -> None:
    async def is_completed() -> bool:
        answer = await asyncio.to_thread(shop, "status", run_id, "--url", shop.url, "--json")
        return bool(answer.code == 0 and answer.json["status"] == "completed")

    until(is_completed)


def test_processes_work_until_told_to_stop_and_stop_cleanly_with_0(shop: Shop) -> None:
    supervisor = begin(shop)
    assert "in 2 processes: call, order" in read_up_to(supervisor, "Working on sqlite:///")
    pids = [started(supervisor), started(supervisor)]
    until_completed(shop, shop.start("order"))
    supervisor.send_signal(signal.SIGTERM)
    answer = ended(supervisor)

    assert (answer.code, answer.err.splitlines()[-1]) == (0, "Stopped.")
    assert [line for line in answer.err.splitlines() if line.startswith(("Working", "Stop"))] == [
        "Stopping: handlers have 10 s to finish. Repeat to stop at once.",
        "Stopped.",
    ]
    assert [pid for pid in pids if is_alive(pid)] == []
    assert workers_left(shop) == 0


def test_a_process_that_is_killed_is_replaced_and_told_in_a_line(shop: Shop) -> None:
    supervisor = begin(shop)
    first, second = started(supervisor), started(supervisor)
    os.kill(first, signal.SIGKILL)
    told = read_up_to(supervisor, f"Process {first}")
    assert told == f"Process {first} was killed by SIGKILL; restarting in 1 s.\n"
    assert started(supervisor) not in (first, second)
    os.kill(second, signal.SIGKILL)
    until_completed(shop, shop.start("order"))
    supervisor.send_signal(signal.SIGINT)

    assert ended(supervisor).code == 0


def test_when_the_supervisor_is_killed_its_processes_stop_cleanly_by_themselves(shop: Shop) -> None:
    supervisor = begin(shop)
    pids = [started(supervisor), started(supervisor)]
    until(lambda: workers_left(shop) == 2)
    supervisor.kill()
    answer = ended(supervisor)

    until(lambda: not any(map(is_alive, pids)))
    assert "Traceback" not in answer.err
    assert workers_left(shop) == 0


def test_a_second_signal_ends_all_processes_at_once(shop: Shop) -> None:
    shop.start("stuck")
    supervisor = begin(shop, "--grace", "1h")
    pids = [started(supervisor), started(supervisor)]
    until((shop.folder / "begun").exists)
    supervisor.send_signal(signal.SIGTERM)
    read_up_to(supervisor, "Stopping")
    supervisor.send_signal(signal.SIGTERM)

    assert ended(supervisor).code == 143
    until(lambda: not any(map(is_alive, pids)))


def test_a_process_that_does_not_stop_cleanly_makes_the_exit_code_1(shop: Shop) -> None:
    shop.start("stuck")
    supervisor = begin(shop, "--grace", "1h")
    pids = [started(supervisor), started(supervisor)]
    until((shop.folder / "begun").exists)
    supervisor.send_signal(signal.SIGTERM)
    read_up_to(supervisor, "Stopping")
    for pid in filter(is_alive, pids):
        os.kill(pid, signal.SIGKILL)
    answer = ended(supervisor)

    assert answer.code == 1
    assert answer.err.splitlines()[-1] == "Stopped; at least one process did not stop cleanly."


def test_for_machines_nothing_is_printed(shop: Shop) -> None:
    supervisor = begin(shop, "--json")
    until_completed(shop, shop.start("order"))
    supervisor.send_signal(signal.SIGTERM)

    assert ended(supervisor) == Answer(0, "", "")


def test_what_is_wrong_is_told_once_and_no_process_is_started(shop: Shop) -> None:
    for options, code, words in (
        (("--app", "shop:explodes"), 2, "KeyError: 'DATABASE_URL'"),
        (("--app", "shop:app", "--url", "sqlite://"), 2, "is in memory"),
        (("--app", "shop:app", "--url", "sqlite:////no/folder/at/all.db"), 4, "no such folder"),
        (("--app", "shop:app", "--queue", "no queue"), 2, "queue"),
    ):
        answer = shop("worker", "--processes", "2", *options)
        assert answer.code == code, answer
        assert words in answer.complaint


async def played(seconds: float, command: list[str], at_most: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The pauses that a supervisor tells of, after each of so many deaths of its one process."""
    monkeypatch.setattr(processes, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(processes, "LONGEST_PAUSE_SECONDS", 0.006)
    monkeypatch.setattr(processes, "LIVED_SECONDS", seconds)
    told: list[str] = []

    def tell(line: str) -> None:
        if "restarting" in line:
            told.append(line.partition("; ")[2])
            if len(told) == at_most:
                os.kill(os.getpid(), signal.SIGTERM)

    with Stopping() as stopping:
        assert await Supervisor(command, Settings(), stopping, tell).run(1, "Stopping.", PATIENCE) == 0
    return told


async def test_pauses_double_up_to_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = await played(3600, ["false"], 5, monkeypatch)

    assert pauses == [f"restarting in {pause} s." for pause in ("0.001", "0.002", "0.004", "0.006", "0.006")]


async def test_a_process_that_lived_long_is_replaced_after_the_first_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(await played(0, ["false"], 3, monkeypatch)) == {"restarting in 0.001 s."}


async def test_a_process_that_cannot_be_started_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(await played(3600, ["/no/such/program"], 2, monkeypatch)) == 2


async def test_a_process_that_never_hears_that_it_should_stop_is_killed_in_the_end() -> None:
    told: list[str] = []

    def tell(line: str) -> None:
        told.append(line)
        if line.endswith("started."):
            os.kill(os.getpid(), signal.SIGTERM)

    command = [sys.executable, "-c", "import time; time.sleep(3600)"]
    with Stopping() as stopping:
        assert await Supervisor(command, Settings(), stopping, tell).run(1, "Stopping.", 0.01) == 1
    assert told[1:] == ["Stopping.", "Killed 1 process that did not stop. Others will continue their runs."]
