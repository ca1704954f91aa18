"""Tests that the tutorial can be followed word by word, and prints what it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scripts.tutorial import Save, Type, prints_as_expected, steps

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_every_command_of_the_tutorial_prints_what_the_page_says() -> None:
    command = [sys.executable, "-m", "scripts.tutorial", "--here"]
    followed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)

    assert followed.returncode == 0, followed.stdout + followed.stderr


def test_a_page_is_read_as_files_and_commands() -> None:
    page = (
        "Save this as `a.py`:\n\n```python\nprint(1)\n```\n\nThen:\n\n```console\n$ python \\\n  a.py\n1\n$ true\n```\n"
    )

    assert steps(page) == [Save("a.py", "print(1)\n"), Type("python \\\n  a.py", ["1"]), Type("true", [])]


@pytest.mark.parametrize(
    ("printed", "expected", "is_right"),
    [
        ("1\n2\n", ["1", "2"], True),
        ("took 3 ms\n", ["took … ms"], True),
        ("[1] 4711\n", [], True),
        ("1\n2\n", ["1"], False),
        ("2\n", ["1"], False),
        ("", ["1"], False),
        ("took 3 s\n", ["took … ms"], False),
    ],
)
def test_what_is_printed_is_compared_line_by_line(printed: str, expected: list[str], *, is_right: bool) -> None:
    assert prints_as_expected(printed, expected) is is_right
