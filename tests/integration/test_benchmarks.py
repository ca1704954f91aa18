"""Tests that every benchmark still runs, on tiny sizes; what it measures is looked at by people, never asserted."""

from __future__ import annotations

import importlib
import subprocess
import sys
from dataclasses import fields
from math import isfinite
from typing import TYPE_CHECKING

import pytest

from benchmarks import NAMES
from benchmarks.child import ROOT, call_in_child
from benchmarks.figures import WIDTH, Figure, heading, quantile

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_measures_something(name: str) -> None:
    benchmark = importlib.import_module(f"benchmarks.{name}")

    lines = list(benchmark.measure(benchmark.TINY))

    figures = [line for line in lines if isinstance(line, Figure)]
    assert figures
    assert all(figure.values and all(isfinite(value) for value in figure.values) for figure in figures)
    assert all(len(shown) <= WIDTH for shown in (heading(benchmark.TITLE), *(line.shown() for line in lines)))


@pytest.mark.parametrize("name", NAMES)
def test_a_longer_form_measures_at_least_as_much(name: str) -> None:
    benchmark = importlib.import_module(f"benchmarks.{name}")

    for shorter, longer in ((benchmark.TINY, benchmark.SHORT), (benchmark.SHORT, benchmark.FULL)):
        assert all(getattr(shorter, field.name) <= getattr(longer, field.name) for field in fields(shorter))


def test_every_module_that_measures_is_listed() -> None:
    found = {path.stem for path in (ROOT / "benchmarks").glob("*.py") if "def measure(" in path.read_text()}

    assert found == set(NAMES)


def test_the_command_prints_what_was_asked_for_within_80_columns() -> None:
    command = [sys.executable, "-m", "benchmarks", "start_up", "--tiny", "--rounds", "2"]

    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout

    assert "import stepwell" in printed
    assert " to " in printed
    assert "drain" not in printed
    assert all(len(line) <= WIDTH for line in printed.splitlines())


def test_the_command_refuses_an_unknown_name() -> None:
    command = [sys.executable, "-m", "benchmarks", "drian"]

    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)

    assert ended.returncode == 2
    assert 'no benchmark "drian"; known: raw, drain' in ended.stderr


def test_a_failure_in_a_child_is_raised_with_its_last_words() -> None:
    with pytest.raises(RuntimeError, match="steps_per_hour"):
        call_in_child("raw:steps_per_hour")


def test_a_quantile_is_a_value_that_was_measured() -> None:
    values = [float(value) for value in range(100, 0, -1)]

    assert [quantile(values, share) for share in (0.5, 0.99, 1.0)] == [50, 99, 100]
    assert quantile([7.0], 0.5) == 7


def test_this_checkout_beside_itself_is_measured_in_the_same_rounds() -> None:
    command = [sys.executable, "-m", "benchmarks", "versus", str(ROOT), "drain", "--size", "tiny", "--store", "sqlite"]

    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120).stdout

    assert "SQLite, steps/s" in printed
    assert "PostgreSQL, steps/s" not in printed


def test_a_checkout_without_an_interpreter_of_its_own_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "versus", str(tmp_path), "drain"]

    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)

    assert ended.returncode == 2
    assert "does not exist; make it with `make setup`" in ended.stderr
