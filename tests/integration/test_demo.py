"""Tests of `stepwell demo` on packages made here: it ends well through kills, and its checks can fail."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

KILLS = 2
DEMO_POSTGRES = Path(__file__).resolve().parents[2] / "scripts" / "demo_postgres.py"

AS_EXPECTED = "every package has the report that the sequential computation expects"
AS_VERDICT = "every run ended as its verdict requires, with bad reports withdrawn"
COLLECTED = "the summary includes every report"
ONCE = "every outcome is journaled once and matches the handler log"
INTERRUPTED = "every handler that a kill interrupted ran again and finished"
NOTHING_ELSE = "no other handler ran again, and none after its outcome was journaled"


class Demo(NamedTuple):
    """A finished demo: its exit code, its summary, its folder, and the folder of the packages."""

    code: int
    summary: dict[str, Any]
    directory: Path
    packages: Path


def stepwell(*arguments: object, typed: str = "") -> subprocess.CompletedProcess[str]:
    """`stepwell` with these arguments, in a process of its own, with `typed` on its standard input."""
    return called("-m", "stepwell.cli", *arguments, typed=typed)


def called(*arguments: object, typed: str = "") -> subprocess.CompletedProcess[str]:
    """Python with these arguments, as `stepwell` above."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        input=typed,
        env=os.environ | {"COLUMNS": "80"},
        timeout=200,
        check=False,
    )


def install(folder: Path, name: str, files: dict[str, bytes], *, record: bool = True) -> None:
    """Puts a package into the folder as an installer would, with its RECORD."""
    metadata = folder / f"{name}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n\nText.\n", encoding="utf-8"
    )
    lines = [f"{metadata.name}/RECORD,,\n", f"{name}/__pycache__/code.pyc,,\n"]
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        quoted = f'"{path}"' if "," in path else path
        lines.append(f"{quoted},sha256={digest},{len(content)}\n")
    if record:
        (metadata / "RECORD").write_text("".join(lines), encoding="utf-8")


def some_packages(folder: Path) -> None:
    """Packages of every kind that a machine has: small, middling, large, huge, spoiled, and some without a RECORD."""
    for number in range(8):
        install(folder, f"middling{number}", {f"middling{number}/m{at}.py": bytes(60_000 + at) for at in range(60)})
    install(folder, "small", {"small/__init__.py": b"x = 1\n", "small/a,b.txt": b"", "../bin/small": b"#!python\n"})
    install(folder, "large", {f"large/l{at}.py": bytes(20_000 + at) for at in range(450)})
    install(folder, "huge", {"huge/huge.bin": bytes(30_000_000), "huge/__init__.py": b""})
    install(folder, "altered", {"altered/a.py": b"as installed", "altered/b.py": b"the same"})
    install(folder, "missing", {f"missing/m{at}.py": b"here" for at in range(50)})
    install(folder, "unreadable", {"unreadable/u.py": b"a file"})
    install(folder, "unrecorded", {"unrecorded/u.py": b""}, record=False)
    install(folder, "nothing", {})
    (folder / "altered/a.py").write_bytes(b"altered since")
    (folder / "missing/m7.py").unlink()
    (folder / "unreadable/u.py").unlink()
    os.mkfifo(folder / "unreadable/u.py")
    (folder / "old.egg-info").mkdir()
    (folder / "old.egg-info/PKG-INFO").write_text("Name: old\n", encoding="utf-8")
    (folder / "~rubbish-1.0.dist-info").mkdir()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    home = tmp_path_factory.mktemp("demo")
    packages, directory = home / "lib" / "packages", home / "a demo"
    packages.mkdir(parents=True)
    some_packages(packages)
    ran = stepwell("demo", "--json", "--kills", KILLS, "--directory", directory, "--path", packages)
    assert ran.stdout, ran.stderr
    return Demo(ran.returncode, json.loads(ran.stdout), directory, packages)


def test_it_ends_well_through_kills_with_handlers_in_flight(demo: Demo) -> None:
    assert (demo.code, [check["name"] for check in demo.summary["checks"] if not check["passed"]]) == (0, [])
    assert any(kill["interrupted"] for kill in demo.summary["kills"])  # the work may be over before the second kill
    assert demo.summary["ran_again"] > 0


def test_it_gives_each_package_its_verdict(demo: Demo) -> None:
    assert demo.summary["verdicts"] == {"ok": 11, "altered": 1, "missing": 1, "unreadable": 1, "unrecorded": 3}
    assert {bad["name"]: bad["names"] for bad in demo.summary["bad"]} == {
        "altered": ["altered/a.py"],
        "missing": ["missing/m7.py"],
        "unreadable": ["unreadable/u.py"],
    }
    assert demo.summary["packages"] == 17
    assert demo.summary["files"] == 8 * 60 + 3 + 450 + 2 + 2 + 50 + 1


def test_it_withdraws_the_bad_reports_and_keeps_the_others(demo: Demo) -> None:
    def names(folder: str) -> set[str]:
        return {path.name.split("-")[0] for path in (demo.directory / folder).glob("*.json")}

    assert names("withdrawn") == {"altered", "missing", "unreadable"}
    assert {"small", "large", "huge", "old", "unrecorded", "nothing"} < names("reports")
    assert len(names("reports")) == 14


def test_what_it_left_can_be_checked_again_and_looked_at(demo: Demo) -> None:
    checked = stepwell("demo", "--check", "--directory", demo.directory)
    listed = stepwell("--url", demo.summary["url"], "--json", "list", "--workflow", "hash")

    assert (checked.returncode, checked.stderr) == (0, "")
    assert "17 packages" in checked.stdout
    assert demo.summary["url"] in checked.stdout
    assert [run["status"] for run in json.loads(listed.stdout)] == ["completed"]


def test_on_postgres_it_ends_well_through_kills_and_a_crash_of_the_server(tmp_path: Path) -> None:
    packages = tmp_path / "lib" / "packages"
    packages.mkdir(parents=True)
    some_packages(packages)
    for number in range(40):
        install(packages, f"more{number}", {f"more{number}/m{at}.py": bytes(20_000 + at) for at in range(60)})

    ran = called(DEMO_POSTGRES, "--json", "--directory", tmp_path / "demo", "--path", packages)
    summary = json.loads(ran.stdout)

    assert (ran.returncode, failed_checks(ran.stdout)) == (0, set()), ran.stderr
    assert summary["workers"] == 4
    assert any(kill["interrupted"] for kill in summary["kills"])
    assert [fault["in_flight"] > 0 for fault in summary["faults"]] == [True]
    assert summary["packages"] == 57


def test_several_workers_share_the_work_on_one_file(demo: Demo, tmp_path: Path) -> None:
    options = ("--workers", 3, "--kills", 1, "--concurrency", 2)
    ran = stepwell("demo", "--json", *options, "--directory", tmp_path / "demo", "--path", demo.packages)

    assert (ran.returncode, failed_checks(ran.stdout)) == (0, set()), ran.stderr
    assert json.loads(ran.stdout)["workers"] == 3


def failed_checks(stdout: str) -> set[str]:
    return {check["name"] for check in json.loads(stdout)["checks"] if not check["passed"]}


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def spoil_a_report(copy: Path) -> None:
    edit_json(next(copy.glob("reports/small-*.json")), verdict="altered")


def put_a_withdrawn_report_back(copy: Path) -> None:
    withdrawn = next(copy.glob("withdrawn/altered-*.json"))
    withdrawn.rename(copy / "reports" / withdrawn.name)


def spoil_the_summary(copy: Path) -> None:
    edit_json(copy / "summary.json", packages=16)


def change_store(copy: Path, statement: str) -> None:
    """Changes what the store holds of one run, `:ref`."""
    with closing(sqlite3.connect(copy / "demo.db")) as database, database:
        (ref,) = database.execute("SELECT ref FROM stepwell_runs WHERE key LIKE 'nothing-%'").fetchone()
        assert database.execute(statement, {"ref": ref}).rowcount > 0


def forget_a_run(copy: Path) -> None:
    change_store(copy, "DELETE FROM stepwell_runs WHERE ref = :ref")


def forget_an_outcome(copy: Path) -> None:
    change_store(
        copy,
        "DELETE FROM stepwell_journal WHERE ref = :ref AND node = "
        "(SELECT number FROM stepwell_names WHERE name = 'record')",
    )


def spoil_an_outcome(copy: Path) -> None:
    change_store(
        copy,
        "UPDATE stepwell_journal SET value = CAST(replace(CAST(value AS TEXT), 'unrecorded', 'altered') AS BLOB)"
        " WHERE ref = :ref AND node = (SELECT number FROM stepwell_names WHERE name = 'report')",
    )


def lines_of(copy: Path) -> list[str]:
    return (copy / "handlers.log").read_text(encoding="utf-8").splitlines(keepends=True)


def write_lines(copy: Path, lines: list[str]) -> None:
    (copy / "handlers.log").write_text("".join(lines), encoding="utf-8")


def forget_an_end(copy: Path) -> None:
    lines = lines_of(copy)
    lines.remove(next(line for line in lines if " finished " in line and " publish " in line))
    write_lines(copy, lines)


def repeat_a_handler(copy: Path) -> None:
    lines = lines_of(copy)
    write_lines(copy, lines + [line for line in lines if " publish " in line])


def forget_a_kill(copy: Path) -> None:
    write_lines(copy, [line for line in lines_of(copy) if " killed " not in line])


def invent_a_handler(copy: Path) -> None:
    lines = lines_of(copy)
    ended = next(line for line in lines if " finished " in line and " publish " in line)
    write_lines(copy, [*lines, ended.replace(" finished ", " started ").replace(" publish ", " never ")])


def test_a_journal_that_lost_a_row_is_told_in_one_line(demo: Demo, tmp_path: Path) -> None:
    copy = tmp_path / "demo"
    shutil.copytree(demo.directory, copy)
    forget_an_outcome(copy)

    checked = stepwell("demo", "--json", "--check", "--directory", copy)

    assert checked.returncode != 0
    assert json.loads(checked.stderr)["error"]["code"] == "journal"


@pytest.mark.parametrize(
    ("spoil", "failing"),
    [
        (spoil_a_report, {AS_EXPECTED}),
        (put_a_withdrawn_report_back, {AS_EXPECTED}),
        (spoil_the_summary, {COLLECTED}),
        (forget_a_run, {AS_EXPECTED, ONCE}),
        (spoil_an_outcome, {AS_EXPECTED, AS_VERDICT}),
        (forget_an_end, {ONCE, INTERRUPTED}),
        (repeat_a_handler, {NOTHING_ELSE}),
        (forget_a_kill, {"workers were killed with handlers in flight", INTERRUPTED, NOTHING_ELSE}),
        (invent_a_handler, {INTERRUPTED}),
    ],
)
def test_it_fails_by_name_if_what_it_left_was_spoiled(
    demo: Demo, tmp_path: Path, spoil: Callable[[Path], None], failing: set[str]
) -> None:
    copy = tmp_path / "demo"
    shutil.copytree(demo.directory, copy)
    spoil(copy)

    checked = stepwell("demo", "--json", "--check", "--directory", copy)

    assert (checked.returncode, failed_checks(checked.stdout)) == (1, failing), checked.stderr


def test_it_fails_if_a_package_is_no_longer_as_it_was_audited(demo: Demo) -> None:
    spoiled = demo.packages / "small/__init__.py"
    spoiled.write_bytes(b"x = 2\n")
    try:
        checked = stepwell("demo", "--check", "--directory", demo.directory)
    finally:
        spoiled.write_bytes(b"x = 1\n")

    assert checked.returncode == 1
    assert "✗ every package has the report" in checked.stdout
    assert "small 1.0 in" in checked.stdout


def test_it_fails_if_a_package_was_not_audited(demo: Demo) -> None:
    metadata = demo.packages / "late-1.0.dist-info"
    install(demo.packages, "late", {"late.py": b"late"})
    try:
        checked = stepwell("demo", "--json", "--check", "--directory", demo.directory)
    finally:
        shutil.rmtree(metadata)

    assert (checked.returncode, failed_checks(checked.stdout)) == (1, {AS_EXPECTED, COLLECTED}), checked.stderr


def test_it_asks_a_person_about_bad_packages_where_it_is_interactive(tmp_path: Path) -> None:
    packages, directory = tmp_path / "lib" / "packages", tmp_path / "demo"
    packages.mkdir(parents=True)
    some_packages(packages)

    ran = stepwell(
        *("demo", "--interactive", "--kills", 0, "--directory", directory, "--path", packages), typed="y\nn\n"
    )

    assert (ran.returncode, ran.stderr) == (0, "")
    assert "altered 1.0 is altered: altered/a.py" in ran.stdout
    assert {path.name.split("-")[0] for path in directory.glob("withdrawn/*")} == {"missing", "unreadable"}


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--directory", "{full}"], 2, "not empty"),
        (["--check"], 2, "--directory"),
        (["--check", "--directory", "{empty}"], 3, "No demo found"),
        (["--path", "{empty}"], 2, "No installed packages"),
        (["--interactive", "--json"], 2, "cannot be used together"),
    ],
)
def test_a_mistake_is_told_in_a_line(tmp_path: Path, arguments: list[str], code: int, says: str) -> None:
    full, empty = tmp_path / "full", tmp_path / "empty"
    empty.mkdir()
    full.mkdir()
    (full / "mine.txt").touch()

    told = stepwell("demo", *(argument.format(full=full, empty=empty) for argument in arguments))

    assert (told.returncode, told.stdout) == (code, "")
    assert says in told.stderr
    assert "Traceback" not in told.stderr
