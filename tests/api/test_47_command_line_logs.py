"""The log of `run` and `worker` at the command line: `--log-format`, `--log-level`, and what they leave alone."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from tests.api.command_line import Shop, finish, shop_in
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """A shop in a folder of its own."""
    yield from shop_in(tmp_path, monkeypatch)


def lines(text: str) -> list[dict[str, Any]]:
    """The JSON objects, one a line."""
    return [json.loads(line) for line in text.splitlines()]


async def ended(shop: Shop, run_id: str) -> None:
    """Wait until the run has ended."""

    async def look() -> bool:
        answer = await asyncio.to_thread(shop, "status", run_id, "--url", shop.url, "--json")
        return answer.json["finished_at"] is not None

    await eventually(look)


def test_a_worker_logs_json_lines_and_nothing_else_on_stderr(shop: Shop) -> None:
    run_id, failed = shop.start("call"), shop.start("order", '"declined"')
    process = shop.begin("--app", "shop:app", "worker", "--log-format", "json", "--log-level", "INFO")
    asyncio.run(ended(shop, run_id))
    asyncio.run(ended(shop, failed))
    told = lines(finish(process, signal.SIGTERM).err)

    for line in told:
        assert list(line)[:4] == ["time", "level", "logger", "message"]
        assert datetime.fromisoformat(line["time"]).utcoffset() is not None
    (attempt,) = (line for line in told if line.get("event") == "attempt_failed" and line["run_id"] == run_id)
    assert (attempt["level"], attempt["logger"], attempt["node"]) == ("WARNING", "stepwell.run", "dial")
    assert (attempt["attempt"], attempt["error_type"]) == (1, "ConnectionError")
    assert datetime.fromisoformat(attempt["next_try_at"]).utcoffset() is not None
    (end,) = (line for line in told if line.get("event") == "run_ended" and line["run_id"] == failed)
    assert (end["level"], end["status"], end["failed_compensations"]) == ("ERROR", "failed", [])
    assert "in charge" in end["traceback"]
    assert {line["run_id"] for line in told if line.get("event") == "run_started"} == {run_id, failed}


@pytest.mark.parametrize("level", ["error", "CRITICAL"])
def test_what_is_less_grave_than_asked_is_not_logged(shop: Shop, level: str) -> None:
    answer = shop.process("--app", "shop:app", "run", "order", '"declined"', "--json", "--log-level", level)

    assert (answer.code, answer.json["status"]) == (1, "failed")
    *logged, error = answer.err.splitlines()
    assert json.loads(error)["error"]["code"] == "run_failed"
    assert ("failed at charge, attempt 1: ValueError" in "\n".join(logged)) is (level == "error")
    assert "attempt 1 failed" not in answer.err


def test_a_run_that_is_followed_is_not_logged_twice(shop: Shop) -> None:
    answer = shop.process("--app", "shop:app", "run", "call")

    assert answer.code == 0
    assert "stepwell.run" not in answer.err
    assert answer.err.count("ConnectionError") == 1


def test_the_log_of_a_run_does_not_touch_its_results(shop: Shop) -> None:
    options = ("--log-format", "json", "--log-level", "debug")
    answer = shop.process("--app", "shop:app", "run", "call", "--json", *options)

    assert answer.json["results"] == {"dial": "reached"}
    assert {"claimed", "committed", "attempt_failed"} <= {line.get("event") for line in lines(answer.err)}


def test_an_unknown_level_or_format_is_told_with_those_there_are(shop: Shop) -> None:
    level = shop("--app", "shop:app", "run", "call", "--log-level", "loud")
    form = shop("--app", "shop:app", "worker", "--log-format", "xml")

    assert (level.code, form.code) == (2, 2)
    assert "'debug', 'info', 'warning', 'error', 'critical'" in level.complaint
    assert "'text', 'json'" in form.complaint


def test_a_command_leaves_logging_as_it_found_it(shop: Shop) -> None:
    names = ("", "stepwell", "stepwell.run")
    before = [(logging.getLogger(name).level, list(logging.getLogger(name).handlers)) for name in names]
    assert shop("--app", "shop:app", "run", "call", "--log-level", "debug").code == 0

    assert [(logging.getLogger(name).level, list(logging.getLogger(name).handlers)) for name in names] == before


@pytest.mark.slow
def test_processes_of_a_worker_log_as_the_supervisor_was_told(shop: Shop) -> None:
    run_id = shop.start("call")
    process = shop.begin("--app", "shop:app", "worker", "--processes", "2", "--log-format", "json")
    asyncio.run(ended(shop, run_id))
    told = lines(finish(process, signal.SIGTERM).err)

    assert [line["node"] for line in told if line.get("event") == "attempt_failed"] == ["dial"]
