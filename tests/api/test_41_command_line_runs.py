"""`list`, `status`, `journal`, `signal`, `resume`, `cancel`, `recover` and `db`: what needs only the store."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import Entry, RunSnapshot
from tests.api.command_line import UNKNOWN, Answer, Shop, shop_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    yield from shop_in(tmp_path, monkeypatch)


def at(shop: Shop, *arguments: str, stdin: str | None = None) -> Answer:
    """A call with the store's URL."""
    return shop("--url", shop.url, *arguments, stdin=stdin)


def json_of(shop: Shop, *arguments: str) -> Any:
    """What a call gives to machines; it must succeed."""
    answer = at(shop, *arguments, "--json")
    assert answer.code == 0, answer
    return answer.json


def test_list_shows_the_newest_runs_first(shop: Shop) -> None:
    ids = [shop.start("order"), shop.start("call"), shop.start("order")]

    assert [run["run_id"] for run in json_of(shop, "list")] == ids[::-1]
    shown = at(shop, "list").out.splitlines()
    assert shown[0].split() == ["RUN", "AGE", "WORKFLOW", "STATUS", "AT"]
    assert [line.split()[0] for line in shown[1:]] == ids[::-1]
    assert [line.split()[3] for line in shown[1:]] == ["order", "call", "order"]


def test_list_of_nothing_says_so(shop: Shop) -> None:
    at(shop, "db", "upgrade")
    answer = at(shop, "list")

    assert (answer.code, answer.out, answer.err) == (0, "", "No runs.\n")
    assert json_of(shop, "list") == []


QUESTIONS = {
    "list": ["list"],
    "status": ["status", UNKNOWN],
    "journal": ["journal", UNKNOWN],
    "signal": ["signal", UNKNOWN, "paid"],
    "resume": ["resume", UNKNOWN, "paid"],
    "cancel": ["cancel", UNKNOWN],
    "recover": ["recover"],
}
"""The commands that need a store which is there."""


@pytest.mark.parametrize("line", [*QUESTIONS.values(), ["db", "status"]], ids=" ".join)
def test_a_command_that_needs_a_store_makes_none_and_says_what_it_looked_for(shop: Shop, line: list[str]) -> None:
    before = {path.name for path in shop.folder.iterdir()}
    answer = at(shop, *line)
    machine = at(shop, *line, "--json")

    assert (answer.code, answer.out) == (4, "")
    assert answer.complaint.endswith(f"there is no file {shop.folder / 'shop.db'}")
    assert (machine.code, machine.error["code"]) == (4, "store_unavailable")
    assert {path.name for path in shop.folder.iterdir()} == before


@pytest.mark.parametrize("line", QUESTIONS.values(), ids=list(QUESTIONS))
def test_a_command_that_needs_tables_makes_none_and_says_which_command_does(shop: Shop, line: list[str]) -> None:
    (shop.folder / "shop.db").touch()
    answer = at(shop, *line)

    assert (answer.code, answer.out) == (4, "")
    assert "stepwell db upgrade" in answer.complaint
    assert json_of(shop, "db", "status")["version"] == 0


def test_list_filters_by_status_workflow_key_and_parent(shop: Shop) -> None:
    done, keyed, parent = shop.start("call"), shop.start("call", "--key", "k"), shop.start("parent")
    shop.work(parent, until="suspended")
    shop.work(keyed, until="completed")
    shop.work(done, until="completed")
    pending = shop.start("call")

    def ids(*options: str) -> set[str]:
        return {run["run_id"] for run in json_of(shop, "list", *options)}

    (child,) = ids("--parent", parent)
    assert ids() == {done, keyed, parent, pending, child}
    assert ids("--status", "completed") == {done, keyed}
    assert ids("--workflow", "call") == {done, keyed, pending}
    assert ids("--key", "k") == {keyed}
    assert ids("--workflow", "call", "--status", "pending") == {pending}


def test_list_goes_through_pages(shop: Shop) -> None:
    ids = [shop.start("order") for _ in range(5)][::-1]
    first = at(shop, "list", "--limit", "2")
    before = first.err.split()[-1]

    assert [line.split()[0] for line in first.out.splitlines()[1:]] == ids[:2]
    assert before == ids[1]
    assert [run["run_id"] for run in json_of(shop, "list", "--before", before)] == ids[2:]


def test_list_has_the_fields_of_a_snapshot_without_its_values(shop: Shop) -> None:
    shop.start("order", "1")
    (run,) = json_of(shop, "list")

    assert list(run) == list(RunSnapshot.__dataclass_fields__)
    assert (run["input"], run["results"], run["children"]) == (None, None, None)
    assert INSTANT.fullmatch(run["created_at"])


def test_status_is_what_the_call_returns(shop: Shop) -> None:
    run_id = shop.start("order", '{"id": 42}', "--key", "k")
    shop.work(run_id, until="completed")
    run = json_of(shop, "status", run_id)
    same = shop.ask(lambda app: app.status(run_id))

    assert list(run) == list(RunSnapshot.__dataclass_fields__)
    assert {name: run[name] for name in ("run_id", "key", "workflow_name", "status", "total_steps", "results")} == {
        name: getattr(same, name) for name in ("run_id", "key", "workflow_name", "status", "total_steps", "results")
    }
    assert run["finished_at"] == same.finished_at.isoformat().replace("+00:00", "Z")
    assert (run["error"], run["children"], run["compensated"]) == (None, [], [])


def test_status_tells_a_person_where_a_run_is_and_how_to_move_it(shop: Shop) -> None:
    run_id = shop.start("signoff", '{"id": 42}', "--key", "k-42")
    shop.work(run_id, until="suspended")
    answer = at(shop, "status", run_id)

    assert answer.out.splitlines()[0] == f"signoff  {run_id}"
    assert answer.out.splitlines()[1] == "suspended  at decision, 1 of 2: signal founder-signoff"
    assert re.search(r"^key +k-42$", answer.out, re.MULTILINE)
    assert re.search(r'^input +\{"id": 42\}$', answer.out, re.MULTILINE)
    assert answer.err.strip() == f"stepwell signal {run_id} founder-signoff DATA"


def test_status_tells_results_children_and_errors(shop: Shop) -> None:
    failed, parent = shop.start("order", '"declined"'), shop.start("parent")
    shop.work(failed, until="failed")
    shop.work(parent, until="suspended")
    shown, of_parent = at(shop, "status", failed).out, at(shop, "status", parent).out
    (child,) = json_of(shop, "status", parent)["children"]

    assert re.search(r"^error +charge: ValueError: card declined by the bank$", shown, re.MULTILINE)
    assert re.search(r"^compensated +reserve$", shown, re.MULTILINE)
    assert re.search(r'^ +reserve +\{"seat": "12A", "for": "declined"\}$', shown, re.MULTILINE)
    assert "Traceback" not in shown
    assert "raise ValueError" in at(shop, "status", failed, "--traceback").out
    assert re.search(rf"^{child['run_id']} +signoff +suspended", of_parent, re.MULTILINE)
    assert re.search(rf"^parent +{parent}$", at(shop, "status", child["run_id"]).out, re.MULTILINE)


def test_journal_is_what_the_call_returns(shop: Shop) -> None:
    run_id = shop.start("order")
    shop.work(run_id, until="completed")
    entries = json_of(shop, "journal", run_id)
    same = shop.ask(lambda app: app.journal(run_id))

    assert [list(entry) for entry in entries] == [list(Entry.__dataclass_fields__)] * len(same)
    for name in ("node", "kind", "iteration", "attempt", "status", "result", "worker"):
        assert [entry[name] for entry in entries] == [getattr(entry, name) for entry in same], name
    assert all(INSTANT.fullmatch(entry["started_at"]) for entry in entries)


def test_journal_shows_a_person_every_outcome_and_every_failed_attempt(shop: Shop) -> None:
    run_id = shop.start("order", '"declined"')
    call = shop.start("call")
    shop.work(run_id, until="failed")
    shop.work(call, until="completed")
    shown, of_call = at(shop, "journal", run_id).out, at(shop, "journal", call).out

    assert shown.splitlines()[0].split() == ["AT", "NODE", "KIND", "TRY", "STATUS", "TOOK", "RESULT"]
    assert [re.split(r"\s{2,}", line.strip())[1:5] for line in shown.splitlines()[-4:]] == [
        ["poll #2", "step", "1", "completed"],
        ["poll #3", "step", "1", "completed"],
        ["charge", "step", "1", "failed"],
        ["reserve", "compensate", "1", "completed"],
    ]
    assert "ValueError: card declined by the bank" in shown
    assert [re.split(r"\s{2,}", line.strip())[1:5] for line in of_call.splitlines()[1:]] == [
        ["dial", "step", "1", "retrying"],
        ["dial", "step", "2", "completed"],
    ]


def test_the_journal_of_a_run_that_has_not_begun_says_so(shop: Shop) -> None:
    run_id = shop.start("order")

    assert at(shop, "journal", run_id).out == "The journal is empty.\n"
    assert json_of(shop, "journal", run_id) == []


def test_a_signal_is_accepted_and_kept_until_it_is_waited_for(shop: Shop) -> None:
    run_id = shop.start("signoff")
    answer = at(shop, "signal", run_id, "founder-signoff", '{"ok": true}')
    shop.work(run_id, until="completed")

    assert (answer.code, answer.out) == (0, "founder-signoff accepted; the run is pending.\n")
    assert json_of(shop, "status", run_id)["results"]["decision"] == {"ok": True}


def test_a_signal_to_a_run_that_has_ended_exits_1(shop: Shop) -> None:
    run_id = shop.start("call")
    shop.work(run_id, until="completed")
    answer = at(shop, "signal", run_id, "founder-signoff")
    machine = at(shop, "signal", run_id, "founder-signoff", "--json")

    assert (answer.code, answer.out) == (1, "")
    assert answer.complaint == "founder-signoff not accepted: the run has ended (it is completed)."
    assert (machine.code, machine.json, machine.err) == (
        1,
        {"accepted": False, "status": "completed", "expected": False},
        "",
    )


def test_resume_is_accepted_only_by_a_run_that_is_suspended_on_it(shop: Shop) -> None:
    run_id = shop.start("signoff")
    early = at(shop, "resume", run_id, "founder-signoff", "1")
    shop.work(run_id, until="suspended")
    wrong = at(shop, "resume", run_id, "close", "1", "--json")
    right = at(shop, "resume", run_id, "founder-signoff", "-", "--json", stdin='{"ok": 1}')
    shop.work(run_id, until="completed")

    assert (early.code, early.complaint) == (
        1,
        "founder-signoff not accepted: the run is not suspended on founder-signoff (it is pending).",
    )
    assert (wrong.code, wrong.json) == (1, {"accepted": False, "status": "suspended", "expected": True})
    assert (right.code, right.json["accepted"]) == (0, True)
    assert json_of(shop, "status", run_id)["results"]["decision"] == {"ok": 1}


@pytest.mark.parametrize("command", ["signal", "resume"])
def test_a_key_the_run_has_accepted_changes_nothing(shop: Shop, command: str) -> None:
    run_id = shop.start("signoff")
    shop.work(run_id, until="suspended")
    first = at(shop, command, run_id, "founder-signoff", "1", "--key", "k")
    shop.work(run_id, until="completed")
    again = at(shop, command, run_id, "founder-signoff", "2", "--key", "k", "--json")

    assert first.code == 0
    assert (again.code, again.json) == (0, {"accepted": True, "status": "completed", "expected": True})
    assert json_of(shop, "status", run_id)["results"]["decision"] == 1


def test_cancel_ends_a_run_and_its_children(shop: Shop) -> None:
    parent = shop.start("parent")
    shop.work(parent, until="suspended")
    answer = at(shop, "cancel", parent)

    assert (answer.code, answer.out) == (0, f"{parent}  canceled\n")
    assert {run["status"] for run in json_of(shop, "list")} == {"canceled"}


def test_cancel_leaves_a_run_that_has_ended_as_it_is(shop: Shop) -> None:
    run_id = shop.start("call")
    shop.work(run_id, until="completed")
    answer = at(shop, "cancel", run_id)

    assert (answer.code, answer.out) == (0, f"{run_id}  completed: it had already ended\n")
    assert json_of(shop, "cancel", run_id) == {"run_id": run_id, "status": "completed"}


def test_recover_has_nothing_to_do_in_health(shop: Shop) -> None:
    shop.start("order")

    assert at(shop, "recover").out == "Made 0 runs due again.\n"
    assert json_of(shop, "recover") == 0


def test_db_status_tells_the_version_and_changes_nothing(shop: Shop) -> None:
    (shop.folder / "shop.db").touch()
    before = json_of(shop, "db", "status")
    again = json_of(shop, "db", "status")

    assert list(before) == ["version", "latest", "pending"]
    assert before["version"] == 0
    assert len(before["pending"]) >= 1
    assert again == before
    assert at(shop, "db", "status").out.splitlines() == [
        f"version  0 of {before['latest']}",
        f"pending  {', '.join(before['pending'])}",
    ]


def test_db_upgrade_makes_the_tables_once(shop: Shop) -> None:
    (shop.folder / "shop.db").touch()
    pending = json_of(shop, "db", "status")["pending"]
    first, second = at(shop, "db", "upgrade"), at(shop, "db", "upgrade")
    after = json_of(shop, "db", "upgrade")

    assert first.out == f"Upgraded from version 0 to {after['latest']}: {', '.join(pending)}.\n"
    assert second.out == f"Nothing to do: the tables have the latest version, {after['latest']}.\n"
    assert after == {"version": after["latest"], "latest": after["latest"], "pending": []}
    assert at(shop, "db", "status").out.endswith("pending  nothing\n")


@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_options_stand_before_within_and_after_a_group(shop: Shop, place: str) -> None:
    where = {"first": 0, "middle": 1, "last": 2}[place]
    line = ["db", "status"]
    (shop.folder / "shop.db").touch()

    assert shop(*line[:where], "--json", "--url", shop.url, *line[where:]).json["version"] == 0


@pytest.mark.parametrize(
    "line",
    [["status"], ["journal"], ["signal", "founder-signoff"], ["resume", "founder-signoff"], ["cancel"]],
    ids=lambda line: line[0],
)
def test_an_unknown_run_exits_3(shop: Shop, line: list[str]) -> None:
    shop.start("order")
    command, *rest = line
    for unknown in (UNKNOWN, "0197f0a0-0000", "no-such-run"):
        answer = at(shop, command, unknown, *rest)
        machine = at(shop, command, unknown, *rest, "--json")

        assert (answer.code, answer.out) == (3, "")
        assert answer.complaint == f'No run "{unknown}" in this store.'
        assert (machine.code, machine.error["code"]) == (3, "run_not_found")


def test_a_run_is_found_by_the_beginning_of_its_id(shop: Shop) -> None:
    ids = [shop.start("order") for _ in range(5)]

    for run_id in ids:
        others = [other for other in ids if other != run_id]
        least = next(n for n in range(8, 37) if not any(other.startswith(run_id[:n]) for other in others))
        beginning = run_id[:least]
        assert json_of(shop, "status", beginning)["run_id"] == run_id
        assert json_of(shop, "status", beginning.replace("-", "").upper())["run_id"] == run_id
        assert json_of(shop, "cancel", beginning)["run_id"] == run_id


def test_a_whole_id_is_found_in_capitals_and_without_dashes_too(shop: Shop) -> None:
    run_id = shop.start("order")

    for written in (run_id.upper(), run_id.replace("-", ""), f" {run_id.replace('-', '').upper()}"):
        assert json_of(shop, "status", written)["run_id"] == run_id
    assert shop("--url", shop.url, "why", f"{run_id}0").code == 3


def test_a_beginning_that_several_ids_have_is_told_with_some_of_them(shop: Shop) -> None:
    ids = [run.run_id for run in shop.ask(lambda app: app.start_many("order", [1, 2, 3]))]
    answer = at(shop, "status", ids[0][:8], "--json")

    assert answer.code == 2
    assert answer.error["code"] == "ambiguous_run"
    assert all(run_id in answer.error["message"] for run_id in ids)


def test_a_beginning_that_several_ids_have_is_told_with_how_many_digits_are_needed(shop: Shop) -> None:
    ids = [run.run_id for run in shop.ask(lambda app: app.start_many("order", list(range(30))))]
    told = at(shop, "status", ids[0][:8]).complaint
    found = re.search(r"30 runs start with .* and 25 more\. Give at least (\d+) digits", told)

    assert found is not None, told
    needed = int(found[1])
    beginnings = {run_id.replace("-", "")[:needed] for run_id in ids}
    assert len(beginnings) == len(ids)
    assert len({beginning[:-1] for beginning in beginnings}) < len(ids)
    for beginning in beginnings:
        assert at(shop, "status", beginning).code == 0


@pytest.mark.parametrize("command", ["signal", "resume"])
def test_a_signal_that_no_node_can_use_is_refused_before_it_is_delivered(shop: Shop, command: str) -> None:
    run_id = shop.start("signoff")
    shop.work(run_id, until="suspended")
    refused = at(shop, command, run_id, "founder-singoff", "1")
    machine = at(shop, command, run_id, "founder-singoff", "1", "--json")
    kept = shop.ask(lambda app: app.status(run_id))
    forced = at(shop, command, run_id, "founder-singoff", "1", "--any", "--json")

    assert (refused.code, refused.out) == (1, "")
    assert "No node" in refused.complaint
    assert "Known: founder-signoff, close." in refused.complaint
    assert (machine.code, machine.error["code"]) == (1, "unexpected_signal")
    assert kept.status == "suspended"
    accepted = command == "signal"
    assert (forced.code, forced.json) == (
        0 if accepted else 1,
        {"accepted": accepted, "status": "suspended", "expected": False},
    )


@pytest.mark.slow
def test_status_and_journal_need_no_workflow_code(shop: Shop) -> None:
    run_id = shop.start("order")
    shop.work(run_id, until="completed")
    (shop.folder / "shop.py").write_text("raise RuntimeError('not needed')", encoding="utf-8")

    assert shop.process("status", run_id, "--url", shop.url, STEPWELL_APP="shop:app").code == 0
    assert shop.process("journal", run_id, "--url", shop.url, STEPWELL_APP="shop:app").code == 0
