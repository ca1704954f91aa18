"""What the type checkers of users say of programs: right ones pass, and each misuse is refused where it stands."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

HEAD = """\
from datetime import timedelta

from stepwell import Backoff, Branch, Context, Durable, durable


def plain(ctx: Context) -> int:
    return ctx.attempt


async def waits(ctx: Context) -> str:
    return ctx.step


def none() -> int:
    return 1


def two(value: int, ctx: Context) -> int:
    return value + ctx.attempt


def three(value: int, ctx: Context, more: str) -> int:
    return value


def ended(result: int, iteration: int) -> bool:
    return result > iteration


flow = durable("flow")
app = Durable("sqlite://", [flow])
"""

RIGHT = [
    'flow.step("n", plain).step("m", waits, compensate=plain, timeout=5, max_retries=1)',
    'flow.step("n", lambda ctx: ctx.attempt, when=lambda ctx: True, retry_backoff=Backoff(1, 2, 3, 0))',
    'flow.step("n")(plain)',
    '@flow.step("n")\ndef decorated(ctx: Context) -> int:\n    return ctx.attempt',
    'flow.parallel("n", {"a": plain, "b": Branch(waits, compensate=plain)}, timeout=timedelta(seconds=1))',
    'flow.route("n", lambda ctx: "a", {"a": plain, "b": Branch(waits)})',
    'flow.loop("n", two, max_iterations=3, until=ended, feedback=lambda result: result, pause=1)',
    'flow.loop("n", max_iterations=3)(two)',
    'flow.sleep("n", timedelta(days=1)).sleep("m", lambda ctx: 5).wait_for_signal("w", "go", timeout=5, default=None)',
    'flow.child_workflow("n", "leaf", map_input=plain, compensate=plain)',
    'Durable("sqlite://", [flow], queue="q", lease=5, max_crashes=3)',
    """\
async def calls() -> None:
    async with app, app.worker(concurrency=2):
        started = await app.start(flow, {"a": 1}, key="k")
        results: dict[str, object] = await app.result(started.run_id, timeout=5)
        accepted: bool = (await app.signal(started.run_id, "go", 7)).accepted
""",
    """\
def blocking_calls() -> None:
    with app.blocking() as shop, shop.worker(concurrency=2) as worker:
        run_id: str = shop.start(flow, {"a": 1}, key="k").run_id
        results: dict[str, object] = shop.run("flow", timeout=5)
        accepted: bool = shop.signal(run_id, "go", 7).accepted
        nodes: list[str] = [entry.node for entry in shop.journal(run_id)]
        worker_id: str = worker.worker_id
""",
]
WRONG = {
    "a misspelt option of a step": 'flow.step("n", plain, timout=5)',
    "a misspelt option of a parallel": 'flow.parallel("n", {"a": plain}, max_retrys=2)',
    "a misspelt option of a loop": 'flow.loop("n", two, max_iteration=3)',
    "a misspelt option of an app": 'Durable("sqlite://", [flow], leese=5)',
    "a misspelt argument of a start": 'app.start(flow, kay="k")',
    "a misspelt argument of a blocking start": 'app.blocking().start(flow, kay="k")',
    "a blocking call as a value of another type": 'n: int = app.blocking().status("run")',
    "a handler without its context": 'flow.step("n", none)',
    "a handler with too many arguments": 'flow.step("n", two)',
    "a decorated handler without its context": 'flow.step("n")(none)',
    "a compensator without its context": 'flow.step("n", plain, compensate=none)',
    "a condition with too many arguments": 'flow.step("n", plain, when=two)',
    "an entry without its context": 'flow.parallel("n", {"a": none})',
    "a branch without its context": "Branch(none)",
    "a resolver without its context": 'flow.route("n", none, {"a": plain})',
    "a loop's handler without its value": 'flow.loop("n", plain, max_iterations=3)',
    "a loop's handler with too many arguments": 'flow.loop("n", three, max_iterations=3)',
    "a loop's decorated handler without its value": 'flow.loop("n", max_iterations=3)(plain)',
    "a loop's end without the iteration": 'flow.loop("n", two, max_iterations=3, until=plain)',
    "a duration that is text": 'flow.sleep("n", "5s")',
    "a timeout that is text": 'flow.step("n", plain, timeout="5s")',
    "a handler that is none": 'flow.step("n", 5)',
    "a workflow that is no workflow": 'Durable("sqlite://", ["flow"])',
    "a result as a value of its own type": 'async def f() -> None:\n    n: int = await app.result("run")',
}


def refused_by_mypy(program: Path) -> set[int]:
    """The lines with an error, by mypy."""
    told = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--config-file=", str(program)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.stderr == ""
    return {int(line) for line in re.findall(r"^[^:\n]+:(\d+): error:", told.stdout, re.MULTILINE)}


def refused_by_pyright(program: Path) -> set[int]:
    """The lines with an error, by pyright."""
    settings = program.with_name("pyrightconfig.json")
    settings.write_text('{"typeCheckingMode": "standard"}', encoding="utf-8")
    told = subprocess.run(
        [sys.executable, "-m", "basedpyright", "-p", str(settings), "--pythonpath", sys.executable, "--outputjson"],
        cwd=program.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    found = json.loads(told.stdout)["generalDiagnostics"]
    return {one["range"]["start"]["line"] + 1 for one in found if one["severity"] == "error"}


CHECKERS = {"mypy": refused_by_mypy, "pyright": refused_by_pyright}


@pytest.mark.parametrize("checker", CHECKERS)
def test_what_is_right_passes(checker: str, tmp_path: Path) -> None:
    program = tmp_path / "right.py"
    program.write_text("\n\n".join([HEAD, *RIGHT]) + "\n", encoding="utf-8")
    refused = CHECKERS[checker](program)
    lines = program.read_text(encoding="utf-8").splitlines()
    assert [lines[line - 1] for line in sorted(refused)] == []


@pytest.mark.parametrize("checker", CHECKERS)
def test_each_misuse_is_refused(checker: str, tmp_path: Path) -> None:
    program, text, places = tmp_path / "wrong.py", HEAD, dict[str, int]()
    for what, wrong in WRONG.items():
        text += f"\n{wrong}\n"
        places[what] = text.count("\n")
    program.write_text(text, encoding="utf-8")
    refused = CHECKERS[checker](program)
    assert [what for what, line in places.items() if line not in refused] == []
    assert refused <= {*places.values()}
