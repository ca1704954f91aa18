"""`--quick`: the selection that `make quick` runs, in memory and on SQLite files, without a server.

A test outside these folders, with the parameter "postgres", or marked `slow`, is left out. A test that is left in and
starts a PostgreSQL fails, so the marks stay true.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.postgres import QUICK_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

FOLDERS = {"unit", "architecture", "api", "conformance"}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the option."""
    parser.addoption("--quick", action="store_true", help="only what needs no server, in under a minute")


def pytest_configure(config: pytest.Config) -> None:
    """Tells tests/postgres.py that no server is wanted; workers of xdist inherit it."""
    if config.getoption("quick"):
        os.environ[QUICK_VARIABLE] = "1"
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        # Under nohup. What is ignored is ignored by every process that is started, too; what is handled is not.
        signal.signal(signal.SIGHUP, lambda *_: None)


@pytest.hookimpl(optionalhook=True)  # Django's tests run in an environment without pytest-xdist
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two processes a core with `-n auto`: half of the time a test waits, for a lease, a server or a disk."""
    return 2 * (os.cpu_count() or 1)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what is not quick."""
    if config.getoption("quick"):
        left_out = [item for item in items if not _is_quick(item)]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if _is_quick(item)]


def _is_quick(item: pytest.Item) -> bool:
    callspec = getattr(item, "callspec", None)
    given: Sequence[object] = [*callspec.params.values()] if callspec is not None else []
    return item.path.parent.name in FOLDERS and "postgres" not in given and item.get_closest_marker("slow") is None
