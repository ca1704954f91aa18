"""Runs functions of a module once Django is set up: `python -m tests.programs.django_check MODULE FUNCTION…`."""

from __future__ import annotations

import importlib
import sys

import django

if __name__ == "__main__":
    django.setup()
    checks = importlib.import_module(sys.argv[1])
    for name in sys.argv[2:]:
        getattr(checks, name)()
    print(f"checked {', '.join(sys.argv[2:])}")  # noqa: T201  says that it came to its end
