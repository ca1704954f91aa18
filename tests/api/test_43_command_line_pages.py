"""What a person sees: tables at 80 columns, the progress of `run`, relative times, and help that teaches."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import Entry, Failure, RunSnapshot, RunStatus, durable
from stepwell.cli import cli, text
from stepwell.cli.outline import node_lines
from stepwell.cli.tables import Column, table
from stepwell.cli.views import journal_table, run_view, runs_table
from tests.api.command_line import Shop, commands, shop_in
from tests.api.shown import NOW, shown_run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import click

RUN = shown_run()
FAILURE = Failure("charge", "ValueError", "card declined", "Traceback …")


def entry(node: str, kind: str = "step", status: str = "completed", **changes: Any) -> Entry:
    """An entry of the journal that took two seconds, a minute ago."""
    facts: dict[str, Any] = {
        "iteration": None,
        "attempt": 1,
        "result": None,
        "error": None,
        "started_at": NOW - timedelta(minutes=1),
        "finished_at": NOW - timedelta(seconds=58),
        "worker": "w",
    }
    return Entry(node=node, kind=kind, status=status, **{**facts, **changes})


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    yield from shop_in(tmp_path, monkeypatch)


def run_id_of(number: int) -> str:
    """An id that differs from that of the next number in its last digits alone."""
    return f"0193a5c2-7b1e-7c4d-8e5f-{number:012x}"


WIDE = [
    replace(
        RUN,
        run_id=run_id_of(number << 24),
        workflow_name="a-workflow-with-quite-a-long-name",
        status=status,
        current_node="a-node-with-a-long-name",
        awaiting_signal="a-signal-with-a-long-name" if status == RunStatus.SUSPENDED else None,
        awaiting_signals=("a-signal-with-a-long-name",) if status == RunStatus.SUSPENDED else (),
        error=replace(FAILURE, message="x" * 300) if status == RunStatus.FAILED else None,
    )
    for number, status in enumerate(RunStatus)
]


def test_a_list_is_as_wide_as_the_terminal_and_no_wider() -> None:
    for width in (80, 100, 132):
        lines = runs_table(WIDE, width, NOW)
        assert max(line.cell_len for line in lines) <= width
        assert len(lines) == len(WIDE) + 1


def test_a_list_shows_every_status_in_full_and_ids_that_no_other_line_has() -> None:
    rows = [str(line).split() for line in runs_table(WIDE, 80, NOW)][1:]

    assert [status for row, status in zip(rows, RunStatus, strict=True) if status in row] == list(RunStatus)
    for row, run in zip(rows, WIDE, strict=True):
        assert [other.run_id for other in WIDE if other.run_id.startswith(row[0])] == [run.run_id]


def test_ids_are_in_full_where_they_fit() -> None:
    narrow = [replace(RUN, workflow_name="pay", current_node="a")]

    assert str(runs_table(narrow, 80, NOW)[1]).startswith(f"{RUN.run_id}  ")
    assert str(runs_table(WIDE, 1000, NOW)[1]).startswith(f"{WIDE[0].run_id}  ")


def test_lists_and_status_at_80_columns_from_the_command_line(shop: Shop) -> None:
    run_id = shop.start("order", '"declined"')
    shop.work(run_id, until="failed")
    shop.start("order", f'"{"long " * 100}"')
    for line in (["list"], ["status", run_id], ["journal", run_id]):
        answer = shop(*line, "--url", shop.url, COLUMNS="80")
        assert answer.code == 0
        assert max(map(len, answer.out.splitlines())) <= 80, answer.out


def test_where_there_is_no_terminal_nothing_is_cut_off(shop: Shop) -> None:
    long = "long " * 100
    run_id = shop.start("order", f'"{long}"')
    shop.work(run_id, until="completed")

    assert long in shop("status", run_id, "--url", shop.url).out
    assert long in shop("journal", run_id, "--url", shop.url).out


def test_short_ids_are_the_shortest_that_tell_them_apart_and_at_least_18_long() -> None:
    ids = [run_id_of(1), run_id_of(2), "0193a5c2-7b1e-7c4e-8e5f-000000000000"]
    short = text.short_ids(ids)

    assert short == {ids[0]: ids[0], ids[1]: ids[1], ids[2]: "0193a5c2-7b1e-7c4e"}
    assert text.short_ids([]) == {}


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-1, "0 ms"),
        (0.0123, "12 ms"),
        (0.9996, "1.0 s"),
        (2.54, "2.5 s"),
        (59.97, "1 min"),
        (250, "4 min 10 s"),
        (7200, "2 h"),
        (7500, "2 h 5 min"),
        (266_400, "3 d 2 h"),
    ],
)
def test_a_span_has_two_units_at_most(seconds: float, shown: str) -> None:
    assert text.span(timedelta(seconds=seconds)) == shown


@pytest.mark.parametrize(
    ("seconds", "before", "after"),
    [
        (0, "0 s ago", "now"),
        (40.2, "40 s ago", "in 41 s"),
        (90, "1 min ago", "in 1 min 30 s"),
        (9e4, "1 d ago", "in 1 d 1 h"),
    ],
)
def test_times_are_told_from_now(seconds: float, before: str, after: str) -> None:
    assert text.ago(NOW - timedelta(seconds=seconds), NOW) == before
    assert text.until(NOW + timedelta(seconds=seconds), NOW) == after


def test_what_a_handler_says_cannot_move_the_cursor() -> None:
    evil = replace(RUN, status=RunStatus.FAILED, error=Failure("a", "Bad", "\x1b[2J\r\x07\u202e\nnext"), input="\x9b1m")
    lines = [
        *run_view(evil, 200, NOW),
        *runs_table([evil], 200, NOW),
        *journal_table([entry("a", status="failed", error=evil.error)], 200),
    ]

    assert all(str(line).isprintable() for line in lines)
    assert any(r"\x1b[2J \x07\u202e next" in str(line) for line in lines)


def test_a_column_shrinks_the_widest_first_and_those_that_may_not_never() -> None:
    lines = table([Column("A"), Column("B", least=3), Column("C", least=3)], [["a" * 10, "b" * 30, "c" * 8]], 32)

    assert str(lines[1]) == "aaaaaaaaaa  bbbbbbbbb…  cccccccc"
    assert str(table([Column("A"), Column("B", least=3)], [["a" * 10, "字" * 5]], 17)[1]) == "aaaaaaaaaa  字字…"


def lines_of(run: RunSnapshot, *entries: Entry) -> list[tuple[str, str, str]]:
    """Name, state and note of each line of the progress of an order."""
    order = (
        durable("order")
        .step("reserve", print)
        .parallel("notify", {"email": print, "sms": print})
        .route("ship", print, {"air": print, "sea": print})
        .loop("poll", print, max_iterations=3)
        .sleep("cool_off", 5)
        .wait_for_signal("signoff", "founder-signoff")
        .child_workflow("invoice", "invoicing")
    )
    return [(line.name, line.state, line.note) for line in node_lines(order.nodes, run, entries, NOW)]


def test_progress_has_a_line_for_each_node_from_the_beginning() -> None:
    assert [line[:2] for line in lines_of(replace(RUN, status=RunStatus.PENDING))] == [
        (name, "pending") for name in ("reserve", "notify", "ship", "poll", "cool_off", "signoff", "invoice")
    ]


def test_progress_tells_attempts_entries_branches_and_iterations() -> None:
    entries = [
        entry("reserve", status="retrying", error=FAILURE),
        entry("reserve", attempt=2),
        entry("sms"),
        entry("email"),
        entry("ship", kind="route", result="sea"),
        entry("ship"),
        entry("poll", iteration=1),
    ]
    lines = lines_of(replace(RUN, current_step=3, current_node="poll"), *entries)

    assert lines[:5] == [
        ("reserve", "done", "2 attempts"),
        ("notify", "done", "sms, email"),
        ("ship", "done", "sea"),
        ("poll", "running", "iteration 2"),
        ("cool_off", "pending", ""),
    ]


@pytest.mark.parametrize(
    ("run", "entries", "line"),
    [
        (replace(RUN, current_step=1), [entry("sms")], ("notify", "running", "1 of 2")),
        (
            replace(RUN, wake_at=NOW + timedelta(seconds=3)),
            [entry("reserve", status="retrying", error=FAILURE)],
            ("reserve", "waiting", "attempt 1 failed: ValueError: card declined; next attempt in 3 s"),
        ),
        (
            RUN,
            [entry("reserve", status="retrying", error=FAILURE)],
            ("reserve", "running", "attempt 2, after ValueError: card declined"),
        ),
        (replace(RUN, current_step=4, wake_at=NOW + timedelta(hours=1)), [], ("cool_off", "waiting", "wakes in 1 h")),
        (
            replace(
                RUN,
                current_step=5,
                status=RunStatus.SUSPENDED,
                awaiting_signal="founder-signoff",
                awaiting_signals=("founder-signoff",),
                wake_at=NOW + timedelta(days=3),
            ),
            [],
            ("signoff", "waiting", "waiting for signal founder-signoff, times out in 3 d"),
        ),
        (
            replace(RUN, current_step=6, status=RunStatus.SUSPENDED, children=(replace(RUN, run_id=run_id_of(7)),)),
            [],
            ("invoice", "waiting", "child run 0193a5c2-7b1e-7c4d running, at reserve"),
        ),
        (replace(RUN, current_step=4, status=RunStatus.CANCELED), [], ("cool_off", "canceled", "")),
        (
            replace(RUN, current_step=1, status=RunStatus.COMPENSATING),
            [entry("reserve"), entry("sms", status="failed", error=replace(FAILURE, node="sms"))],
            ("notify", "failed", "sms: ValueError: card declined"),
        ),
        (
            replace(RUN, current_step=1, status=RunStatus.COMPENSATING),
            [entry("reserve"), entry("reserve", kind="compensate")],
            ("reserve", "compensated", "compensated"),
        ),
        (
            replace(RUN, current_step=1, status=RunStatus.COMPENSATING),
            [entry("reserve"), entry("reserve", kind="compensate", status="failed", error=FAILURE)],
            ("reserve", "compensated", "compensation failed: ValueError: card declined"),
        ),
        (replace(RUN, current_step=2), [entry("notify", status="skipped")], ("notify", "skipped", "")),
    ],
)
def test_progress_tells_what_a_node_does_or_waits_for(
    run: RunSnapshot, entries: list[Entry], line: tuple[str, str, str]
) -> None:
    assert line in lines_of(run, *entries)


@pytest.mark.parametrize(("path", "command"), list(commands(cli, "stepwell")), ids=str)
def test_help_of_a_command_says_what_it_does_and_shows_how(shop: Shop, path: str, command: click.Command) -> None:
    answer = shop(*path.split()[1:], "--help", COLUMNS="80")

    assert answer.code == 0
    assert answer.out.startswith(f"Usage: {path}")
    assert max(map(len, answer.out.splitlines())) <= 80
    assert command.short_help
    if path != "stepwell demo":
        assert f"\n    {path}" in answer.out.partition("Examples:")[2].replace("stepwell --app shop:app", "stepwell")
        for option in ("--app", "--url", "--json"):
            assert option in answer.out


def test_help_of_all_lists_the_commands_in_their_order_and_the_exit_codes(shop: Shop) -> None:
    answer = shop("--help", COLUMNS="80")
    names = ["run", "worker", "start", "list", "status", "journal", "signal", "resume", "cancel", "recover", "db"]
    listed = [line.split()[0] for line in answer.out.splitlines() if line.startswith("  ") and line[2:3].isalpha()]

    assert [name for name in listed if name in names] == names
    for word in ("Exit codes:", "STEPWELL_APP", "STEPWELL_URL", "bash_source"):
        assert word in answer.out
    assert max(map(len, answer.out.splitlines())) <= 80
    assert shop("-h", COLUMNS="80").out == answer.out


def test_version_is_told(shop: Shop) -> None:
    answer = shop.process("--version")

    assert answer.code == 0
    assert answer.out.startswith("stepwell ")
    assert answer.out.split()[1][0].isdigit()


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_completion(shop: Shop, shell: str) -> None:
    answer = shop.process(_STEPWELL_COMPLETE=f"{shell}_source")

    assert answer.code == 0, answer
    assert "_STEPWELL_COMPLETE" in answer.out


def complete(shop: Shop, line: str, **environment: str) -> list[str]:
    """What bash is offered at the end of the line."""
    words = line.split(" ")
    answer = shop.process(
        _STEPWELL_COMPLETE="bash_complete", COMP_WORDS=line, COMP_CWORD=str(len(words) - 1), **environment
    )
    assert answer.err == ""
    return [offer.partition(",")[2] for offer in answer.out.splitlines() if offer]


@pytest.mark.slow
def test_commands_statuses_workflows_and_runs_are_completed(shop: Shop) -> None:
    runs = [shop.start("order"), shop.start("order")]

    assert complete(shop, "stepwell st") == ["start", "status"]
    assert complete(shop, "stepwell list --status co") == ["compensating", "completed"]
    assert complete(shop, "stepwell start s", STEPWELL_APP="shop:app") == ["signoff", "slow", "stuck"]
    assert complete(shop, "stepwell status ", STEPWELL_URL=shop.url) == runs[::-1]
    assert complete(shop, f"stepwell status {runs[1]}", STEPWELL_URL=shop.url) == [runs[1]]


@pytest.mark.slow
def test_completion_is_silent_about_mistakes(shop: Shop) -> None:
    assert complete(shop, "stepwell start s", STEPWELL_APP="nothing:here") == []
    assert complete(shop, "stepwell status ") == []
    assert complete(shop, "stepwell status ", STEPWELL_URL=shop.url) == []
    assert not (shop.folder / "shop.db").exists()
