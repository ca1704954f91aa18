"""The command line where a standard stream is closed, full, or read by nobody, and where its terminal is closed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.api.command_line import Shop, read_up_to, shop_in
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.slow

RUN = '"$run"'
PRINTING = ["list", f"status {RUN}", f"journal {RUN} --json", "run order 1", "run order 1 --json", "--help"]
needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    yield from shop_in(tmp_path, monkeypatch)


def in_shell(shop: Shop, command: str, streams: str) -> tuple[int, str, str]:
    """Exit code and outputs of `stepwell` with streams as a shell redirects them; in the shop there is a run."""
    started = json.loads(shop("--app", "shop:app", "start", "signoff", "--json").out)["run_id"]
    done = subprocess.run(
        ["/bin/bash", "-c", f'run={started}; "{sys.executable}" -m stepwell.cli --app shop:app {command} {streams}'],
        cwd=shop.folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert "Traceback" not in done.stdout + done.stderr
    assert "Exception ignored" not in done.stderr
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("command", PRINTING)
def test_what_a_closed_stdout_lost_is_told_by_message_and_exit_code(shop: Shop, command: str) -> None:
    code, _, said = in_shell(shop, command, ">&-")
    assert code == 5
    message = "The command succeeded, but standard output cannot be written: it is closed."
    if "--json" in command:
        assert json.loads(said.splitlines()[-1])["error"] == {"code": "output_lost", "message": message}
    else:
        assert said.splitlines()[-1] == f"Error: {message}"


@needs_full
@pytest.mark.parametrize("command", PRINTING)
def test_what_a_full_disk_under_stdout_lost_is_told_by_message_and_exit_code(shop: Shop, command: str) -> None:
    code, _, said = in_shell(shop, command, ">/dev/full")
    assert (code, "No space left on device" in said) == (5, True)


@pytest.mark.parametrize("command", PRINTING)
def test_a_reader_that_has_left_ends_a_command_as_it_does_others(shop: Shop, command: str) -> None:
    """With a reader that is certainly gone: `head` may leave before or after what is printed."""
    reader, writer = os.pipe()
    os.close(reader)
    started = json.loads(shop("--app", "shop:app", "start", "signoff", "--json").out)["run_id"]
    words = [word.replace(RUN, started) for word in command.split()]
    with os.fdopen(writer, "wb") as nobody:
        done = subprocess.run(
            [sys.executable, "-m", "stepwell.cli", "--app", "shop:app", *words],
            cwd=shop.folder,
            stdout=nobody,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    assert done.returncode == 141
    assert "Error" not in done.stderr
    assert "Traceback" not in done.stderr


@needs_full
@pytest.mark.parametrize("streams", ["<&-", "2>&-", "2>/dev/full", "<&- 2>&-"])
@pytest.mark.parametrize("command", ["list --json", "run order 1"])
def test_without_stdin_or_stderr_a_command_does_what_it_should(shop: Shop, command: str, streams: str) -> None:
    code, out, _ = in_shell(shop, command, streams)
    assert code == 0
    assert out


@pytest.mark.parametrize("streams", ["<&-", "</dev/null"])
def test_a_closed_stdin_is_an_empty_one(shop: Shop, streams: str) -> None:
    code, out, said = in_shell(shop, "start order -", streams)
    assert (code, out) == (2, "")
    assert said == "Error: INPUT from stdin is empty; to pass no value, write null or omit it.\n"


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="there is no /proc here")
def test_no_file_of_a_store_is_opened_as_a_standard_stream(shop: Shop) -> None:
    """Something may print into it."""
    worker = subprocess.Popen(
        ["/bin/bash", "-c", f'exec "{sys.executable}" -m stepwell.cli --app shop:app worker <&- >&- 2>&-'],
        cwd=shop.folder,
    )
    shop.begun.append(worker)
    until(lambda: (shop.folder / "shop.db").exists() and _workers(shop) == 1)
    for descriptor in range(3):
        assert Path(f"/proc/{worker.pid}/fd/{descriptor}").readlink() == Path(os.devnull)


@needs_full
def test_the_exit_code_of_what_failed_stands_although_its_output_is_lost(shop: Shop) -> None:
    assert in_shell(shop, "run order '\"declined\"' --json", ">/dev/full")[0] == 1
    assert in_shell(shop, "status 0197f0a0", "<&- >&- 2>&-")[0] == 3


@needs_full
def test_a_handler_that_prints_where_nothing_can_be_written_does_not_fail(shop: Shop) -> None:
    in_shell(shop, "run order 1", ">/dev/full")
    (run,) = [run for run in shop("--app", "shop:app", "list", "--json").json if run["workflow_name"] == "order"]
    assert run["status"] == "completed"
    entries = shop("--app", "shop:app", "journal", run["run_id"], "--json").json
    assert {entry["status"] for entry in entries} == {"completed"}


@needs_full
@pytest.mark.parametrize("options", ["", "--processes 2"])
@pytest.mark.parametrize("streams", [">&-", ">/dev/full", "<&- >&- 2>&-"])
def test_a_worker_needs_none_of_its_streams(shop: Shop, streams: str, options: str) -> None:
    started = json.loads(shop("--app", "shop:app", "start", "order", "--json").out)["run_id"]
    worker = subprocess.Popen(
        ["/bin/bash", "-c", f'exec "{sys.executable}" -m stepwell.cli --app shop:app worker {options} {streams}'],
        cwd=shop.folder,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    shop.begun.append(worker)
    until(lambda: _status_of(shop, started) == "completed")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE) == 0
    assert _workers(shop) == 0


@pytest.mark.parametrize("options", [[], ["--processes", "2"]])
def test_a_worker_whose_terminal_is_closed_stops_cleanly(shop: Shop, options: list[str]) -> None:
    """A terminal that is closed sends SIGHUP twice: by the shell, and by itself."""
    shop("--app", "shop:app", "start", "slow")
    worker = shop.begin("--app", "shop:app", "worker", *options)
    until((shop.folder / "begun").exists)
    worker.send_signal(signal.SIGHUP)
    read_up_to(worker, "Stopping")
    worker.send_signal(signal.SIGHUP)
    (shop.folder / "let").touch()
    assert worker.wait(PATIENCE) == 0
    assert _workers(shop) == 0
    (run,) = shop("--app", "shop:app", "list", "--json").json
    entries = shop("--app", "shop:app", "journal", run["run_id"], "--json").json
    assert [(entry["node"], entry["attempt"]) for entry in entries][:1] == [("work", 1)]


def test_a_run_whose_terminal_is_closed_goes_on_with_the_next_worker(shop: Shop) -> None:
    begun = shop.begin("--app", "shop:app", "run", "slow")
    until((shop.folder / "begun").exists)
    begun.send_signal(signal.SIGHUP)
    read_up_to(begun, "Stopping")
    (shop.folder / "let").touch()
    assert begun.wait(PATIENCE) == 128 + signal.SIGHUP
    assert _workers(shop) == 0


def test_under_nohup_a_closed_terminal_stops_no_worker(shop: Shop) -> None:
    worker = subprocess.Popen(
        ["nohup", sys.executable, "-m", "stepwell.cli", "--app", "shop:app", "worker"],
        cwd=shop.folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    shop.begun.append(worker)
    until(lambda: (shop.folder / "shop.db").exists() and _workers(shop) == 1)
    worker.send_signal(signal.SIGHUP)
    started = json.loads(shop("--app", "shop:app", "start", "order", "--json").out)["run_id"]
    until(lambda: _status_of(shop, started) == "completed")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE) == 0


def until(condition: Callable[[], object]) -> None:
    """Wait until it is so."""
    asyncio.run(eventually(condition))


def _status_of(shop: Shop, run_id: str) -> str:
    with closing(sqlite3.connect(shop.folder / "shop.db")) as connection:
        return str(connection.execute("SELECT status FROM stepwell_runs WHERE id = ?", (run_id,)).fetchone()[0])


def _workers(shop: Shop) -> int:
    try:
        with closing(sqlite3.connect(shop.folder / "shop.db")) as connection:
            found: int = connection.execute("SELECT count(*) FROM stepwell_workers").fetchone()[0]
            return found
    except sqlite3.OperationalError:  # its tables are being made
        return -1
