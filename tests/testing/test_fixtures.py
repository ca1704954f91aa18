"""Tests of the fixtures for pytest: what they import, and when."""

from __future__ import annotations

import subprocess
import sys


def test_pytest_imports_nothing_of_stepwell_until_a_fixture_is_used() -> None:
    look = "import sys, pytest_stepwell; print([name for name in sys.modules if name.split('.')[0] == 'stepwell'])"
    looked = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)

    assert looked.stdout == "[]\n"
