"""`why`, and what `status` and `list` say of runs that do not move."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from stepwell import Backoff, Explanation, Failure, Part, Reason, RunSnapshot, RunStatus, durable
from stepwell.cli.choosing import first_id_after
from stepwell.cli.views import run_view, runs_table, why_view
from stepwell.runtime.system import SystemRuntime
from tests.api.command_line import Shop, shop_in
from tests.api.shown import NOW, shown_run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stepwell import Context, Durable

RUN = shown_run(
    current_step=1,
    current_node="charge",
    wake_at=NOW + timedelta(seconds=4),
    attempt=3,
    last_error=Failure("charge", "OSError", "no line"),
    retry_at=NOW + timedelta(seconds=4),
    unread_signals={"go": 2, "stop": 1},
    failed_compensations=("mail",),
    definition="0123456789abcdef01234567",
    waits_for="retry",
)
CARELESS = """
from stepwell import Abort, Backoff, Durable, durable

def charge(ctx):
    raise Abort("declined") if ctx.attempt > 1 else OSError("no line")

def release(ctx):
    raise Abort("gone")

careless = durable("careless")
careless.step("reserve", lambda ctx: 1, compensate=release).step("pack", lambda ctx: 1, compensate=lambda ctx: None)
careless.step("charge", charge, retry_backoff=Backoff(initial=0.01))
app = Durable("sqlite:///careless.db", [careless])
"""
SENTENCE = "charge: attempt 2 failed with OSError: no line; next try at 2026-05-04 12:00:04 UTC."
WHY = Explanation(Reason.RETRYING, SENTENCE, NOW, RUN.retry_at, (Part(SENTENCE),), "attempt 2 of charge failed", ())


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """A shop in a folder of its own."""
    yield from shop_in(tmp_path, monkeypatch)


def test_a_status_says_first_which_attempt_failed_and_when_the_next_one_comes() -> None:
    lines = [line.plain for line in run_view(RUN, 80, NOW, WHY)]

    assert lines[1] == "running  at charge, 2 of 7: attempt 2 failed with OSError: no line; next attempt in 4 s"
    assert " ".join(lines[2:4]) == f"{SENTENCE.removesuffix('.')} (in 4 s)."
    assert all(len(line) <= 80 for line in lines[2:])
    assert "last error       charge: OSError: no line" in lines
    assert "unused signals   go (2), stop" in lines
    assert "not compensated  mail" in lines
    assert not any("wakes" in line for line in lines)


def test_a_try_under_way_is_told_with_the_error_before_it() -> None:
    lines = [line.plain for line in run_view(replace(RUN, wake_at=None, waits_for=None), 100, NOW)]

    assert lines[1] == "running  at charge, 2 of 7: attempt 3, after OSError: no line"


def test_a_list_has_keys_and_versions_where_any_differ() -> None:
    def head(*runs: RunSnapshot) -> str:
        return runs_table(runs, 200, NOW)[0].plain

    other = replace(RUN, run_id=RUN.run_id.replace("0193a5c2", "0193a5c3"))
    assert "KEY" not in head(RUN, other)
    assert "VERSION" not in head(RUN, replace(other, workflow_name="refund", definition="9" * 24))
    keyed, newer = replace(other, key="k-1"), replace(other, definition="9" * 24)
    assert head(RUN, keyed).split() == ["RUN", "AGE", "WORKFLOW", "KEY", "STATUS", "AT"]
    assert head(RUN, newer).split() == ["RUN", "AGE", "WORKFLOW", "VERSION", "STATUS", "AT"]
    assert "99999999 " in runs_table([RUN, newer], 200, NOW)[2].plain
    undone = replace(keyed, definition="9" * 24, status=RunStatus.COMPENSATING)
    both = runs_table([RUN, undone], 80, NOW)
    assert all(line.cell_len <= 80 for line in both)


def test_a_list_says_which_compensators_failed() -> None:
    failed = replace(RUN, status=RunStatus.FAILED, error=RUN.last_error, retry_at=None, wake_at=None, waits_for=None)

    assert runs_table([failed], 200, NOW)[1].plain.endswith("not compensated: mail; charge: OSError: no line")


def test_run_says_in_its_last_line_what_was_not_undone(tmp_path: Path) -> None:
    (tmp_path / "careless.py").write_text(CARELESS, encoding="utf-8")
    command = [sys.executable, "-m", "stepwell.cli", "--app", "careless:app", "run", "careless"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)

    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].endswith(
        " failed at charge: Abort: declined (attempt 2). Undone: pack."
        " Not undone, since their compensators failed: reserve."
    )


def test_why_says_a_sentence_and_the_commands_that_would_move_it() -> None:
    lines = [line.plain for line in why_view(WHY, 80, NOW)]

    assert " ".join(lines[:2]) == f"{SENTENCE.removesuffix('.')} (in 4 s)."
    assert lines[2:] == ["", "since  2026-05-04 12:00:00 UTC (0 s ago)"]


def test_why_of_a_run_for_people_and_for_machines(shop: Shop) -> None:
    run_id = shop.start("signoff")
    due = shop("why", run_id, "--url", shop.url)
    shop.work(run_id, until="suspended")
    told = shop("why", run_id, "--url", shop.url)
    machine = shop("why", run_id, "--url", shop.url, "--json")
    missing = shop("why", "0197f0a0-0000-7000-8000-000000000000", "--url", shop.url)

    assert (due.code, told.code, missing.code) == (0, 0, 3)
    assert due.out.splitlines()[0] == "It is due. No living worker serves its queue durable; none is alive."
    assert told.out.splitlines()[0].startswith("It waits at decision for signal founder-signoff.")
    assert f"stepwell signal {run_id} founder-signoff DATA" in told.out
    assert list(machine.json) == ["reason", "sentence", "since", "until", "parts", "brief", "actions"]
    assert machine.json["reason"] == "awaiting_signal"
    assert "".join(part["text"] for part in machine.json["parts"]) == machine.json["sentence"]


def test_status_says_why_a_run_does_not_move(shop: Shop) -> None:
    run_id = shop.start("order")
    answer = shop("status", run_id, "--url", shop.url)

    assert "It is due. No living worker serves its queue durable; none is alive." in answer.out.splitlines()[2]


def test_stuck_runs_are_listed_with_their_reason(shop: Shop) -> None:
    waiting = shop.start("signoff")
    shop.work(waiting, until="suspended")
    stuck = shop.start("order")
    answer = shop("list", "--stuck", "--url", shop.url)
    machine = shop("list", "--stuck", "--url", shop.url, "--json")

    assert [run["run_id"] for run in machine.json] == [stuck]
    assert answer.out.splitlines()[1].endswith("no worker")


def test_runs_are_listed_by_their_age(shop: Shop) -> None:
    run_id = shop.start("order")
    old = shop("list", "--older-than", "1h", "--url", shop.url, "--json")
    all_of_them = shop("list", "--older-than", "0", "--url", shop.url, "--json")

    assert (old.json, [run["run_id"] for run in all_of_them.json]) == ([], [run_id])


def test_an_id_of_an_instant_sorts_before_those_made_from_then_on() -> None:
    before = SystemRuntime().new_id()
    border = first_id_after(datetime.now(UTC) + timedelta(seconds=1))

    assert before < border
    assert first_id_after(datetime.now(UTC) - timedelta(seconds=1)) < before


async def fail(ctx: Context) -> None:
    """Fail each attempt."""
    raise ValueError("no luck")


def test_a_run_that_retries_is_listed_with_its_error(shop: Shop) -> None:
    flow = durable("order").step("charge", fail, retry_backoff=Backoff(initial=3600))

    async def work(_app: Durable) -> str:
        from stepwell import Durable as Made  # noqa: PLC0415  the module's own name is for types alone
        from tests.waiting import eventually  # noqa: PLC0415  only here

        async with Made(shop.url, [flow]) as app, app.worker():
            run_id = (await app.start("order")).run_id

            async def tried() -> bool:
                return (await app.status(run_id)).waits_for == "retry"

            await eventually(tried)
            return run_id

    run_id = shop.ask(work)
    listed = shop("list", "--url", shop.url).out
    status = shop("status", run_id, "--url", shop.url).out

    assert "charge: attempt 1 failed with ValueError: no luck; next attempt in" in listed
    assert "charge: attempt 1 failed with ValueError: no luck; next try at" in status
