"""Mistakes at the command line: each is told in one line, or as JSON, with its exit code, and never a traceback."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, NoReturn

import pytest

from stepwell.cli import commands_db
from tests.api.command_line import Shop, shop_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stepwell.cli.settings import Settings


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    yield from shop_in(tmp_path, monkeypatch)


USAGE = {
    "an unknown command": (["lst"], "No command 'lst'. Did you mean list?"),
    "a command unlike any": (["xyzzy"], "No command 'xyzzy'."),
    "an unknown option": (["list", "--bogus"], "No such option"),
    "an unknown root option": (["--bogus", "list"], "No such option"),
    "a missing workflow": (["start"], "Missing argument 'WORKFLOW'"),
    "a missing run": (["status"], "Missing argument 'RUN'"),
    "a missing signal": (["resume", "x"], "Missing argument 'SIGNAL'"),
    "an argument too many": (["recover", "now"], "unexpected extra argument"),
    "an unknown status": (["list", "--status", "done"], "'completed'"),
    "a limit of nothing": (["list", "--limit", "0"], "--limit"),
    "a limit that is no number": (["list", "--limit", "many"], "--limit"),
    "a negative delay": (["start", "order", "--delay=-1"], "expected seconds >= 0"),
    "a delay that is no number": (["start", "order", "--delay", "soon"], "expected seconds >= 0"),
    "a delay without end": (["start", "order", "--delay", "nan"], "expected seconds >= 0"),
    "a delay of ages": (["start", "order", "--delay", "999999d"], "expected at most 100 years"),
    "no concurrency": (["worker", "--concurrency", "0"], "--concurrency"),
    "no threads": (["worker", "--threads", "0"], "--threads"),
    "no db command": (["db"], "Missing command"),
    "an unknown db command": (["db", "downgrade"], "No such command 'downgrade'"),
    "an option without its value": (["list", "--workflow"], "--workflow"),
}


@pytest.mark.parametrize(("line", "said"), USAGE.values(), ids=list(USAGE))
def test_bad_usage_exits_2_with_a_line_for_people_and_an_object_for_machines(
    shop: Shop, line: list[str], said: str
) -> None:
    plain = shop(*line, STEPWELL_APP="shop:app")
    machine = shop("--json", *line, STEPWELL_APP="shop:app")

    assert (plain.code, plain.out) == (2, ""), plain
    assert said in plain.complaint
    assert "--help'." in plain.complaint
    assert (machine.code, machine.out) == (2, "")
    assert (machine.error["code"], machine.error["message"]) == ("usage", plain.complaint)


def test_no_command_shows_the_help_and_exits_2(shop: Shop) -> None:
    answer, machine = shop(), shop("--json")

    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("Usage: stepwell")
    assert (machine.code, machine.error["code"]) == (2, "usage")


APPS = {
    "no module": ("nothing_here:app", "no module nothing_here in "),
    "no submodule": ("shop.parts:app", "no module shop.parts in "),
    "no package": ("nothing_here.parts:app", "no module nothing_here in "),
    "no attribute": ("shop:ap", "module shop has no attribute ap. Known: app."),
    "no attribute of an attribute": ("shop:order.app", "a Workflow has no attribute app."),
    "not a Durable": ("shop:number", "it is an int, not a Durable or a function that returns one."),
    "a class": ("shop:Durable", "it is the class Durable, not a Durable or a function that returns one."),
    "a function giving none": ("shop:gives_nothing", "the function returned None, not a Durable."),
    "a function that raises": ("shop:explodes", "calling it failed: KeyError: 'DATABASE_URL' (shop.py, line "),
    "an async one that raises": ("shop:explodes_later", "calling it failed: KeyError: 'DATABASE_URL' (shop.py, line "),
    "a function of something": ("shop:needs_more", "TypeError: needs_more() missing 1 required positional argument"),
    "no colon": ("shop", "expected MODULE:ATTR, for example shop:app."),
    "no name after the colon": ("shop:", "expected MODULE:ATTR, for example shop:app."),
    "no name before it": (":app", "expected MODULE:ATTR, for example shop:app."),
    "a file": ("shop.py:app", "expected a module name, not a file: shop:app."),
    "a path": ("./web/shop.py:app", "expected a module name, not a file: web.shop:app."),
}


@pytest.mark.parametrize(("spec", "said"), APPS.values(), ids=list(APPS))
def test_an_app_that_cannot_be_had_exits_2_and_says_why(shop: Shop, spec: str, said: str) -> None:
    plain = shop("start", "order", "--app", spec)
    machine = shop("run", "order", "--app", spec, "--json")

    assert (plain.code, plain.out) == (2, ""), plain
    assert plain.complaint.startswith(f"--app {spec}: ")
    assert said in plain.complaint
    assert (machine.code, machine.error) == (2, {"code": "app_not_loaded", "message": plain.complaint})


MODULES = {
    "raises": ("\n1 / 0\n", "importing broken failed: ZeroDivisionError: division by zero (broken.py, line 2)."),
    "is no Python": ("x = (\n", "importing broken failed: SyntaxError: '(' was never closed (broken.py, line 1)."),
    "needs a module": (
        "\n\nimport nothing_here\n",
        "importing broken failed: ModuleNotFoundError: No module named 'nothing_here' (broken.py, line 3).",
    ),
    "needs a name": ("from json import nothing", "importing broken failed: ImportError: cannot import name 'nothing'"),
    "exits": ("raise SystemExit(7)", "importing broken failed: SystemExit: 7 (broken.py, line 1)."),
    "defines it wrong": (
        "from stepwell import durable\ndurable('a b')\n",
        "importing broken failed: DefinitionError: ",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize(("source", "said"), MODULES.values(), ids=list(MODULES))
def test_a_module_that_fails_on_import_is_told_with_its_line(shop: Shop, source: str, said: str) -> None:
    (shop.folder / "broken.py").write_text(source, encoding="utf-8")
    answer = shop.process("worker", "--app", "broken:app")

    assert (answer.code, answer.out) == (2, "")
    assert answer.complaint.startswith("--app broken:app: ")
    assert said in answer.complaint


@pytest.mark.slow
def test_what_a_module_prints_on_import_does_not_mix_with_the_answer(shop: Shop) -> None:
    (shop.folder / "chatty.py").write_text("print('hello')\nfrom shop import app\n", encoding="utf-8")
    answer = shop.process("start", "order", "--app", "chatty:app", "--json")

    assert (answer.json["status"], answer.err) == ("pending", "hello\n")


@pytest.mark.parametrize("command", [["run", "order"], ["worker"], ["start", "order"]], ids=lambda line: line[0])
def test_a_command_that_needs_workflows_says_so(shop: Shop, command: list[str]) -> None:
    for answer in (shop(*command), shop(*command, "--url", shop.url)):
        assert answer.code == 2
        assert "Pass --app MODULE:ATTR or set STEPWELL_APP" in answer.complaint


def test_a_command_that_needs_a_store_says_so(shop: Shop) -> None:
    answer, machine = shop("list"), shop("db", "status", "--json")

    assert answer.code == machine.code == 2
    assert "Pass --url URL or --app MODULE:ATTR" in answer.complaint
    assert machine.error == {"code": "usage", "message": answer.complaint}


@pytest.mark.parametrize("command", ["run", "start"])
def test_an_unknown_workflow_exits_3_and_names_the_known_ones(shop: Shop, command: str) -> None:
    plain = shop("--app", "shop:app", command, "ordr")
    machine = shop("--app", "shop:app", "--json", command, "ordr")

    assert (plain.code, plain.out) == (3, "")
    assert plain.complaint == 'No workflow "ordr". Known: call, order, parent, signoff, slow, stuck.'
    assert (machine.code, machine.error["code"]) == (3, "workflow_not_registered")
    shop("db", "upgrade", "--url", shop.url)
    assert shop("list", "--url", shop.url, "--json").json == []


VALUES = {
    "text without quotes": ("yes", """INPUT is not JSON: Expecting value at line 1, column 1. Text needs quotes"""),
    "Python": ("{'a': 1}", "double quotes"),
    "a comma too many": ('{"a": [1,\n 2,, 3]}', "INPUT is not JSON: Expecting value at line 2, column 4."),
    "two values": ("1 2", "INPUT is not JSON: Extra data at line 1, column 3."),
    "nothing": ("", "INPUT is empty"),
    "not a number": ("NaN", "NaN is not a JSON number"),
    "infinity": ("[Infinity]", "Infinity is not a JSON number"),
    "a number too large for a float": ("1e999", "input"),
    "half a character": ('"\\ud800"', "input"),
    "no end of brackets": ("[" * 100_000, "nested too deeply"),
    "no file": ("@missing.json", "INPUT: cannot read missing.json: No such file or directory."),
    "a folder": ("@.", "INPUT: cannot read .: Is a directory."),
    "a file without an end": ("@/dev/zero", "INPUT from /dev/zero is larger than"),
    "no name of a file": ("@", "INPUT: cannot read a file without a name"),
    "a file that is not JSON": ("@bad.json", "INPUT from bad.json is not JSON: Expecting value at line 2, column 8."),
    "a file that is not UTF-8": ("@latin.json", "INPUT from latin.json is not UTF-8: byte 2 is 0xe4."),
    "stdin that is not JSON": ("-", "INPUT from stdin is not JSON: Expecting property name enclosed in double quotes"),
}


@pytest.mark.parametrize(("given", "said"), VALUES.values(), ids=list(VALUES))
def test_a_bad_value_exits_2_and_says_where_it_is_bad(shop: Shop, given: str, said: str) -> None:
    (shop.folder / "bad.json").write_text('{\n  "a": }\n', encoding="utf-8")
    (shop.folder / "latin.json").write_bytes('"ä"'.encode("latin-1"))
    plain = shop("start", "order", given, "--app", "shop:app", stdin="{a: 1}")
    machine = shop("start", "order", given, "--app", "shop:app", "--json", stdin="{a: 1}")

    assert (plain.code, plain.out) == (2, ""), plain
    assert said in plain.complaint
    assert len(plain.complaint) < 400
    assert machine.code == 2
    assert machine.error["code"] in ("usage", "payload")
    shop("db", "upgrade", "--url", shop.url)
    assert shop("list", "--url", shop.url, "--json").json == []


@pytest.mark.parametrize("command", ["signal", "resume"])
def test_bad_data_is_named_so(shop: Shop, command: str) -> None:
    assert shop(command, "x", "name", "yes", "--url", shop.url).complaint.startswith("DATA is not JSON: ")


LINES = [["list"], ["status", "x"], ["db", "status"], ["db", "upgrade"], ["recover"]]


@pytest.mark.parametrize("line", LINES, ids=" ".join)
def test_a_store_that_cannot_be_reached_exits_4(shop: Shop, line: list[str]) -> None:
    url = f"sqlite:///{shop.folder / 'no' / 'such' / 'folder' / 'runs.db'}"
    plain = shop(*line, "--url", url)
    machine = shop(*line, "--url", url, "--json")

    assert (plain.code, plain.out) == (4, "")
    assert "runs.db" in plain.complaint
    assert (machine.code, machine.error["code"]) == (4, "store_unavailable")


@pytest.mark.slow
def test_run_on_a_store_that_cannot_be_reached_exits_4(shop: Shop) -> None:
    answer = shop.process("run", "order", "--app", "shop:app", "--url", f"sqlite:///{shop.folder / 'no' / 'runs.db'}")

    assert answer.code == 4
    assert answer.complaint


def test_a_file_that_is_no_database_exits_4(shop: Shop) -> None:
    (shop.folder / "shop.db").write_bytes(b"no database at all, but long enough to have a header" * 100)

    assert shop("list", "--url", shop.url).code == 4
    assert shop("list", "--url", shop.url).complaint


def test_tables_of_a_newer_stepwell_exit_4(shop: Shop) -> None:
    shop.start("order")
    with sqlite3.connect(shop.folder / "shop.db") as connection:
        connection.execute("INSERT INTO stepwell_schema (version, name, applied_at) VALUES (999, '0999_later', 0)")
    connection.close()
    answer = shop("list", "--url", shop.url, "--json")

    assert (answer.code, answer.error["code"]) == (4, "schema")


@pytest.mark.parametrize("url", ["shop.db", "mysql://shop", "sqlite:shop.db", "http://[", ""])
def test_a_url_of_no_store_exits_2(shop: Shop, url: str) -> None:
    answer = shop("list", f"--url={url}")

    assert (answer.code, answer.out) == (2, "")
    assert answer.complaint


def test_a_defect_of_stepwell_keeps_its_traceback(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(settings: Settings) -> NoReturn:
        raise RuntimeError("not the person's fault")

    monkeypatch.setattr(commands_db, "app_of_store", broken)
    plain, machine = shop("db", "status", "--url", shop.url), shop("db", "status", "--url", shop.url, "--json")

    assert plain.code == machine.code == 1
    assert plain.err.startswith("Traceback")
    assert machine.error["code"] == "internal"
    assert "not the person's fault" in machine.error["message"]


@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_error(shop: Shop) -> None:
    shop.start("order")
    process = shop.begin("list", "--url", shop.url)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    process.wait(timeout=60)

    assert "Traceback" not in said
