"""`run`, `worker` and `start`: the commands that need workflow code."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import TYPE_CHECKING

import pytest

from stepwell import RunStatus
from tests.api.command_line import Shop, finish, read_up_to, shop_in
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    yield from shop_in(tmp_path, monkeypatch)


def begun(shop: Shop, name: str = "begun") -> None:
    """Wait until a handler has said that it is at work."""
    asyncio.run(_file(shop.folder / name))


async def _file(path: Path) -> None:
    await eventually(path.exists)


def test_run_works_until_its_run_has_ended_and_prints_the_results(shop: Shop) -> None:
    answer = shop.process("--app", "shop:app", "run", "order", '{"id": 42}')

    assert answer.code == 0, answer
    assert 'reserve  {"seat": "12A", "for": {"id": 42}}' in answer.out
    assert 'charge   {"paid": true}' in answer.out
    assert "Completed in " in answer.out


def test_run_says_where_there_is_no_terminal_what_happens_in_lines_on_stderr(shop: Shop) -> None:
    answer = shop.process("--app", "shop:app", "run", "order")

    events = [line.split("  ")[0] for line in answer.err.splitlines()]
    assert events[0] == "order"
    assert events[1] == "reserve"
    assert sorted(events[2:4]) == ["email", "sms"]
    assert events[4:] == ["choose ship", "ship", "poll #1", "poll #2", "poll #3", "charge"]
    assert "\x1b" not in answer.err + answer.out


def test_a_failed_attempt_is_told_with_its_error(shop: Shop) -> None:
    answer = shop.process("--app", "shop:app", "run", "call")

    assert answer.code == 0
    assert "attempt 1: ConnectionError: the line is busy" in answer.err


def test_run_prints_the_run_for_machines_and_what_handlers_print_elsewhere(shop: Shop) -> None:
    answer = shop.process("run", "order", "3", "--app", "shop:app", "--json")

    assert answer.code == 0, answer
    assert answer.json["status"] == "completed"
    assert answer.json["results"]["reserve"] == {"seat": "12A", "for": 3}
    assert answer.json == shop("status", answer.json["run_id"], "--url", shop.url, "--json").json
    assert answer.err == "reserving\n"


def test_a_run_that_fails_exits_1_and_says_why_in_a_line(shop: Shop) -> None:
    answer = shop.process("--app", "shop:app", "run", "order", '"declined"')

    assert answer.code == 1
    assert answer.err.splitlines()[-1].startswith("Error: Run ")
    assert answer.err.splitlines()[-1].endswith(
        " failed at charge: ValueError: card declined by the bank. Undone: reserve."
    )
    assert "Traceback" not in answer.err


def test_a_run_that_fails_is_told_to_machines_on_both_streams(shop: Shop) -> None:
    answer = shop.process("--json", "--app", "shop:app", "run", "order", '"declined"')

    assert answer.code == 1
    assert answer.json["status"] == "failed"
    assert answer.json["error"]["type"] == "ValueError"
    assert answer.json["compensated"] == ["reserve"]
    error = json.loads(answer.err.splitlines()[-1])["error"]
    assert error["code"] == "run_failed"
    assert "card declined" in error["message"]


def test_run_tells_how_its_run_ended_before_it_waits_for_the_handlers_of_others(shop: Shop) -> None:
    other = shop.start("slow")
    process = shop.begin("--app", "shop:app", "run", "signoff")
    begun(shop)
    (run_id,) = asyncio.run(_suspended(shop))
    assert shop("signal", run_id, "founder-signoff", "1", "--url", shop.url).code == 0
    read_up_to(process, "Waiting up to 10 s for handlers of other runs.")
    (shop.folder / "let").touch()
    answer = finish(process)

    assert (answer.code, answer.out.splitlines()[1:]) == (0, ["  decision  1", "  close     1"])
    shop.work(other, until="completed")
    assert [entry["attempt"] for entry in shop("journal", other, "--url", shop.url, "--json").json] == [1, 1]


async def _suspended(shop: Shop) -> list[str]:
    async def look() -> list[str]:
        listed = await asyncio.to_thread(shop, "list", "--url", shop.url, "--status", "suspended", "--json")
        return [run["run_id"] for run in listed.json]

    return await eventually(look)


def test_a_run_that_is_canceled_exits_1(shop: Shop) -> None:
    process = shop.begin("--app", "shop:app", "run", "slow", "--json")
    begun(shop)
    (run,) = shop("list", "--url", shop.url, "--json").json
    assert shop("cancel", run["run_id"], "--url", shop.url).code == 0
    answer = finish(process)

    assert answer.code == 1
    assert answer.json["status"] == "canceled"
    assert answer.error["code"] == "run_canceled"


def test_ctrl_c_stops_the_worker_of_run_and_the_run_goes_on_with_another(shop: Shop) -> None:
    process = shop.begin("--app", "shop:app", "run", "slow")
    begun(shop)
    process.send_signal(signal.SIGINT)
    read_up_to(process, "Stopping")
    (shop.folder / "let").touch()  # the handler ends within the grace
    answer = finish(process)
    (run,) = shop("list", "--url", shop.url, "--json").json

    assert answer.code == 130
    assert "Traceback" not in answer.err
    shop.work(run["run_id"], until="completed")
    journal = shop("journal", run["run_id"], "--url", shop.url, "--json").json
    assert [(entry["node"], entry["attempt"]) for entry in journal] == [("work", 1), ("after", 1)]


def test_run_that_is_stopped_says_so_and_exits_as_shells_expect(shop: Shop) -> None:
    process = shop.begin("--app", "shop:app", "run", "signoff")
    hint = read_up_to(process, "  stepwell signal ")
    run_id = hint.split()[2]
    answer = finish(process, signal.SIGTERM)

    assert hint == f"  stepwell signal {run_id} founder-signoff DATA\n"
    assert answer.code == 143
    assert f"Stopped. The next worker will continue run {run_id}." in answer.err
    assert shop("status", run_id, "--url", shop.url, "--json").json["status"] == "suspended"


def test_a_worker_works_until_it_is_told_to_stop_and_exits_0(shop: Shop) -> None:
    run_id = shop.start("order")
    process = shop.begin("--app", "shop:app", "worker", "--concurrency", "2", "--threads", "2", "--grace", "5s")
    asyncio.run(_status(shop, run_id, "completed"))
    answer = finish(process, signal.SIGTERM)

    assert answer.code == 0, answer
    assert "Working on sqlite:///" in answer.err
    assert "order" in answer.err.splitlines()[0]
    assert answer.err.splitlines()[-1] == "Stopped."
    assert "Traceback" not in answer.err


async def _status(shop: Shop, run_id: str, status: str) -> None:
    async def look() -> bool:
        answer = await asyncio.to_thread(shop, "status", run_id, "--url", shop.url, "--json")
        return bool(answer.code == 0 and answer.json["status"] == status)

    await eventually(look)


def test_a_second_signal_stops_a_worker_at_once_and_its_run_is_given_to_another(shop: Shop) -> None:
    run_id = shop.start("slow")
    process = shop.begin("--app", "shop:app", "worker", "--grace", "1h")
    begun(shop)
    process.send_signal(signal.SIGINT)
    read_up_to(process, "Stopping")
    answer = finish(process, signal.SIGINT)

    assert answer.code == 130
    assert "Traceback" not in answer.err
    (shop.folder / "let").touch()
    shop.work(run_id, until="completed")


def test_a_second_signal_stops_a_worker_whose_thread_is_stuck(shop: Shop) -> None:
    shop.start("stuck")
    process = shop.begin("--app", "shop:app", "worker", "--grace", "1h")
    begun(shop)
    process.send_signal(signal.SIGTERM)
    read_up_to(process, "Stopping")

    assert finish(process, signal.SIGTERM).code == 143


def test_a_worker_for_machines_prints_nothing(shop: Shop) -> None:
    run_id = shop.start("order")
    process = shop.begin("worker", "--json", STEPWELL_APP="shop:app")
    asyncio.run(_status(shop, run_id, "completed"))
    answer = finish(process, signal.SIGINT)

    assert (answer.code, answer.err) == (0, "")


def test_start_writes_the_run_and_returns(shop: Shop) -> None:
    answer = shop("--app", "shop:app", "start", "order", '{"id": 42}')
    (run,) = shop("list", "--url", shop.url, "--json").json

    assert answer.code == 0, answer
    assert answer.out == f"order  {run['run_id']}  pending\n"
    assert shop("status", run["run_id"], "--url", shop.url, "--json").json["input"] == {"id": 42}


@pytest.mark.parametrize("before", [True, False])
def test_json_stands_before_or_after_the_command(shop: Shop, before: bool) -> None:  # noqa: FBT001  a parameter
    line = ["start", "order", "--app", "shop:app"]
    answer = shop(*(["--json", *line] if before else [*line, "--json"]))

    assert answer.code == 0
    assert list(answer.json) == ["run_id", "status", "created", "same_input"]
    assert answer.json["status"] == "pending"


def test_start_twice_with_a_key_is_one_run(shop: Shop) -> None:
    first = shop.start("order", "1", "--key", "order-42")
    again = shop.start("order", "2", "--key", "order-42")
    other = shop.start("order", "1", "--key", "order-43")

    assert first == again != other
    assert [run["key"] for run in shop("list", "--url", shop.url, "--json").json] == ["order-43", "order-42"]


@pytest.mark.parametrize(("given", "seconds"), [("90", 90), ("1.5", 1.5), ("5m", 300), ("2h", 7200), ("30d", 2592000)])
def test_start_with_a_delay_begins_later(shop: Shop, given: str, seconds: float) -> None:
    run_id = shop.start("order", "--delay", given)
    run = shop.ask(lambda app: app.status(run_id))

    assert run.status == RunStatus.PENDING
    assert abs((run.wake_at - run.created_at).total_seconds() - seconds) < 1


def test_the_input_comes_from_the_line_a_file_or_stdin(shop: Shop) -> None:
    (shop.folder / "order.json").write_text('\ufeff{"ä": [1, null]}\n', encoding="utf-8")
    ids = [
        shop.start("order", '{"ä": [1, null]}'),
        shop.start("order", "@order.json"),
        str(shop("--app", "shop:app", "--json", "start", "order", "-", stdin='{"ä": [1, null]}').json["run_id"]),
    ]
    inputs = [shop("status", run_id, "--url", shop.url, "--json").json["input"] for run_id in ids]

    assert inputs == [{"ä": [1, None]}] * 3


def test_without_input_it_is_null_and_a_negative_number_stands_after_two_dashes(shop: Shop) -> None:
    ids = [shop.start("order"), shop.start("order", "--", "-5")]

    assert [shop("status", run_id, "--url", shop.url, "--json").json["input"] for run_id in ids] == [None, -5]


@pytest.mark.parametrize("spec", ["shop:app", "shop:make", "shop:amake"])
def test_the_app_is_a_durable_or_a_function_plain_or_async(shop: Shop, spec: str) -> None:
    assert shop("start", "order", STEPWELL_APP=spec).code == 0
    assert len(shop("list", "--app", spec, "--json").json) == 1


def test_the_url_beats_the_apps_own_for_every_command(shop: Shop) -> None:
    other = f"sqlite:///{shop.folder / 'other.db'}"
    answer = shop("start", "order", "--app", "shop:app", "--url", other, "--json")
    from_environment = shop("start", "order", "--json", STEPWELL_APP="shop:amake", STEPWELL_URL=other)

    assert answer.code == from_environment.code == 0
    listed = [run["run_id"] for run in shop("list", "--url", other, "--json").json]
    assert listed == [from_environment.json["run_id"], answer.json["run_id"]]
    assert [run["run_id"] for run in shop("list", "--app", "shop:app", "--url", other, "--json").json] == listed
    assert shop("db", "upgrade", "--app", "shop:app").code == 0
    assert shop("list", "--app", "shop:app", "--json").json == []


def test_an_option_on_the_line_beats_its_variable_and_after_the_command_beats_before(shop: Shop) -> None:
    other = f"sqlite:///{shop.folder / 'other.db'}"
    shop.start("order")
    shop("db", "upgrade", "--url", other)

    assert len(shop("list", "--url", shop.url, "--json", STEPWELL_URL=other).json) == 1
    assert len(shop("--url", other, "list", "--url", shop.url, "--json").json) == 1
    assert shop("--url", shop.url, "list", "--url", other, "--json").json == []
