"""Writes the golden journals of this release: `python scripts/golden.py`, once a release, before it is tagged.

They are databases with runs in every state, kept in `tests/golden` and finished by every later release's tests. What
they hold is described in `tests/golden/writing.py`.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    print(asyncio.run(importlib.import_module("tests.golden.writing").write()))
