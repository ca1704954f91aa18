"""Tests of what `import stepwell` offers: these names and no others, each with its promise, and no side effect."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import stepwell
from tests.architecture.sources import PACKAGE

PUBLIC = [
    "Abort",
    "Action",
    "AttemptEnded",
    "AttemptOverError",
    "AttemptStarted",
    "Backoff",
    "BatchCommitted",
    "BlockingDurable",
    "Branch",
    "Context",
    "DefinitionError",
    "Durable",
    "DurableError",
    "Entry",
    "Explanation",
    "Failure",
    "JournalError",
    "LeaseLost",
    "Observer",
    "Part",
    "PayloadError",
    "Reason",
    "ResumeResult",
    "Retry",
    "RunCanceledError",
    "RunEnded",
    "RunFailedError",
    "RunNotFoundError",
    "RunParked",
    "RunResult",
    "RunSnapshot",
    "RunStarted",
    "RunStatus",
    "RunsClaimed",
    "SchemaError",
    "SchemaStatus",
    "Secret",
    "StartResult",
    "StoreUnavailableError",
    "StoredValueError",
    "Suspended",
    "WorkerDead",
    "Workflow",
    "WorkflowNotRegisteredError",
    "durable",
]

NEVER_WITH_IT = ["asyncpg", "click", "rich"]
"""What only the edges or one of the stores need."""

LOOK = f"""
import json, sys, threading
sys.path.insert(0, {str(PACKAGE.parent)!r})
import stepwell
seen = {{"from": stepwell.__file__, "modules": sorted(sys.modules), "threads": threading.active_count()}}
json.dump(seen, sys.stdout)
"""


def own_docstring(name: str, thing: object) -> str | None:
    """The docstring that `thing` was written with: not one that was inherited, or made up from its fields."""
    docstring = vars(thing).get("__doc__") if isinstance(thing, type) else thing.__doc__
    return None if not docstring or docstring.startswith(f"{name}(") else docstring


def test_stepwell_exports_the_public_names_and_no_others() -> None:
    assert list(stepwell.__all__) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_says_that_it_is_of_stepwell(name: str) -> None:
    assert getattr(stepwell, name).__module__ == "stepwell"


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_there_and_says_what_it_promises(name: str) -> None:
    assert own_docstring(name, getattr(stepwell, name)) is not None


def test_importing_stepwell_starts_no_thread_and_loads_nothing_of_the_edges() -> None:
    looked = subprocess.run([sys.executable, "-I", "-c", LOOK], capture_output=True, text=True, check=True)
    seen = json.loads(looked.stdout)

    assert seen["from"] == str(PACKAGE / "__init__.py")
    assert seen["threads"] == 1
    assert set(NEVER_WITH_IT) & set(seen["modules"]) == set()
    assert [module for module in seen["modules"] if module.startswith("stepwell.cli")] == []
