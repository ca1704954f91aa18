"""Tests that the benchmarks still run, on tiny sizes; what they measure is looked at by people, never asserted."""

from __future__ import annotations

import importlib
import subprocess
import sys
from dataclasses import fields
from math import isfinite
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from benchmarks import DETAILS, results
from benchmarks.cases import CASES_BY_NAME, SIZES
from benchmarks.child import ROOT, call_in_child
from benchmarks.compare import FASTER, NOISE, SAME, SLOWER, compared
from benchmarks.figures import WIDTH, Figure, heading, quantile
from benchmarks.peers.installed import PEERS
from benchmarks.publish import BEGIN, END, published
from benchmarks.rounds import LIMIT, OURS, Rounds

if TYPE_CHECKING:
    from pathlib import Path


def command(*words: str) -> subprocess.CompletedProcess[str]:
    """What `python -m benchmarks` does with these words."""
    run = [sys.executable, "-m", "benchmarks", *words]
    return subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


def a_result(ours: list[float], limits: list[float]) -> results.Result:
    """A result with one case on SQLite, of these steps a second."""
    rounds = Rounds(
        {
            (OURS, "sqlite"): [{"steps_per_second": value} for value in ours],
            (LIMIT, "sqlite"): [{"steps_per_second": value} for value in limits],
        }
    )
    machine = {
        "cores": 2,
        "processor": "one",
        "python": "3.11",
        "sqlite": "3.40",
        "postgres": "no PostgreSQL",
        "load_before": 1,
    }
    return results.Result("abc", "2026-11-30T00:00:00Z", "short", machine, {}, {"drain": rounds})


def test_some_cases_are_measured_shown_saved_and_drawn(tmp_path: Path) -> None:
    words = ("drain", "lone-1", "--tiny", "--store", "sqlite", "--no-peers", "--save", "--folder", str(tmp_path))

    ended = command(*words)

    assert ended.returncode == 0, ended.stderr
    assert "of raw limit" in ended.stdout
    assert all(f"{peer.title}: missing" in ended.stdout for peer in PEERS)
    (file,) = tmp_path.glob("*.json")
    result = results.read(file)
    assert [case.name for case, _ in result.known_cases()] == ["drain", "lone-1"]
    assert result.machine["cores"]
    assert result.commit
    (tmp_path / "benchmarks.md").write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    chart, page = published(result, tmp_path)
    shown = ET.fromstring(chart.read_text(encoding="utf-8"))  # noqa: S314  our own chart
    assert "stepwell on SQLite" in "".join(shown.itertext())
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before")
    assert text.endswith("after\n")
    assert "of raw limit" in text
    assert "old" not in text


def test_a_figure_that_became_slower_is_told_from_noise_and_from_a_slower_machine() -> None:
    before = a_result([100, 101, 102], [200, 200, 200])
    half_as_fast_machine = a_result([50, 51, 52], [100, 100, 100])
    slower = a_result([70, 71, 72], [200, 200, 200])
    noisy = a_result([50, 80, 120], [200, 200, 200])

    verdicts = [[verdict for verdict, _ in compared(before, after)] for after in (half_as_fast_machine, slower, noisy)]

    assert verdicts == [[SAME], [SLOWER], [NOISE]]
    assert [verdict for verdict, _ in compared(slower, before)] == [FASTER]


def test_the_exit_status_says_that_something_became_slower(tmp_path: Path) -> None:
    fast = a_result([100], [200]).written(tmp_path / "fast.json")
    slow = a_result([50], [200]).written(tmp_path / "slow.json")

    assert command("compare", str(slow), str(fast)).returncode == 0
    ended = command("compare", str(fast), str(slow))
    assert ended.returncode == 1
    assert "0.500 -> 0.250 of the raw limit" in ended.stdout


def test_a_file_that_is_no_result_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("{}")

    ended = command("compare", str(tmp_path / "other.json"), str(tmp_path / "other.json"))

    assert ended.returncode == 2
    assert "other.json is no result" in ended.stderr


def test_this_checkout_beside_itself_is_measured_in_the_same_rounds() -> None:
    ended = command("versus", str(ROOT), "drain", "--tiny", "--store", "sqlite")

    assert ended.returncode == 0, ended.stderr
    assert "SQLite, steps/s" in ended.stdout


def test_a_checkout_without_an_interpreter_of_its_own_is_refused(tmp_path: Path) -> None:
    ended = command("versus", str(tmp_path), "drain", "--store", "sqlite")

    assert ended.returncode == 2
    assert "does not exist; make it with `make setup`" in ended.stderr


def test_an_unknown_case_is_refused_with_the_known_ones() -> None:
    ended = command("run", "drian")

    assert ended.returncode == 2
    assert "'drian'" in ended.stderr
    assert "'drain'" in ended.stderr


@pytest.mark.parametrize("name", CASES_BY_NAME)
def test_every_program_of_a_case_exists(name: str) -> None:
    one = CASES_BY_NAME[name]
    for program in (one.program, one.prepare or one.program, one.limit.program if one.limit else one.program):
        module, _, called = program.partition(":")
        assert callable(getattr(importlib.import_module(f"benchmarks.{module}"), called))
    function = one.program.partition(":")[2]
    for peer in PEERS:
        if peer.name in one.peers:
            source = (ROOT / "benchmarks" / "peers" / f"{peer.module}.py").read_text(encoding="utf-8")
            assert f"def {function}(" in source
    assert all(one.sized(size).keys() == one.options.keys() for size in SIZES)


@pytest.mark.parametrize("name", DETAILS)
def test_a_longer_form_of_a_detail_measures_at_least_as_much(name: str) -> None:
    benchmark = importlib.import_module(f"benchmarks.details.{name}")

    for shorter, longer in ((benchmark.TINY, benchmark.SHORT), (benchmark.SHORT, benchmark.FULL)):
        assert all(getattr(shorter, field.name) <= getattr(longer, field.name) for field in fields(shorter))


@pytest.mark.parametrize("name", ["crash_everywhere", "start_up", "writes"])
def test_a_detail_that_needs_no_server_measures_something(name: str) -> None:
    benchmark = importlib.import_module(f"benchmarks.details.{name}")

    lines = list(benchmark.measure(benchmark.TINY))

    figures = [line for line in lines if isinstance(line, Figure)]
    assert figures
    assert all(figure.values and all(isfinite(value) for value in figure.values) for figure in figures)
    assert all(len(shown) <= WIDTH for shown in (heading(benchmark.TITLE), *(line.shown() for line in lines)))


def test_every_detail_is_listed() -> None:
    found = {path.stem for path in (ROOT / "benchmarks" / "details").glob("*.py")} - {"__init__"}

    assert found == set(DETAILS)


def test_a_failure_in_a_child_is_raised_with_its_last_words() -> None:
    with pytest.raises(RuntimeError, match="steps_per_hour"):
        call_in_child("limits.writes:steps_per_hour")


def test_a_quantile_is_a_value_that_was_measured() -> None:
    values = [float(value) for value in range(100, 0, -1)]

    assert [quantile(values, share) for share in (0.5, 0.99, 1.0)] == [50, 99, 100]
    assert quantile([7.0], 0.5) == 7
