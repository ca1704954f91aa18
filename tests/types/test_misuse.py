"""What the type checkers of users say of programs: right ones pass, and each misuse is refused where it stands."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import stepwell

pytestmark = pytest.mark.slow

HEAD = """\
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import timedelta

from stepwell import Backoff, Branch, Context, Durable, Suspended, Workflow, durable


@dataclass
class Order:
    id: int


@dataclass
class Receipt:
    payment: str


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


def reserve(ctx: Context[Order]) -> Receipt:
    return Receipt(str(ctx.input.id))


async def charge(ctx: Context[Order]) -> Receipt | Suspended:
    held: Receipt = ctx.result(reserve)
    return held


def later(ctx: Context[Order]) -> Awaitable[Receipt]:
    raise NotImplementedError


def counted(value: int, ctx: Context[Order]) -> int:
    return value + ctx.input.id


def of_int(ctx: Context[int]) -> int:
    return ctx.input


flow = durable("flow")
order = durable("order", input=Order)
app = Durable("sqlite://", [flow, order])
"""

RIGHT = [
    """\
async def fetch(page: int, *, of: str) -> list[str]:
    return [of]


def count(page: int) -> int:
    return page


async def with_sub_steps(ctx: Context) -> int:
    first: list[str] = await ctx.run("page", fetch, 1, of="book")
    second: int = await ctx.run("count", count, 2, key="two")
    return len(first) + second


def with_plain_sub_steps(ctx: Context) -> int:
    return ctx.run_blocking("count", count, 2)
""",
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
    'order.step("n", reserve, compensate=plain, result=Receipt).step("m", charge, snapshot=Order, resume=Receipt)',
    'order.step("n", later, when=lambda ctx: ctx.input.id > 3).wait_for_signal("w", "go", payload=Receipt | None)',
    'order.loop("n", counted, max_iterations=2, result=int)',
    'order.parallel("n", {"a": reserve, "b": Branch(charge, result=Receipt)})',
    'order.route("n", lambda ctx: str(ctx.input.id), {"a": reserve}, result=Receipt)',
    'typed: Workflow[Order] = durable("typed", input=Order).step("n", reserve)',
    'of_list: Workflow[list[int]] = durable("typed", input=list[int])',
    """\
@order.step("decorated")
async def told(ctx: Context[Order]) -> str:
    first: Receipt = ctx.result(reserve)
    second: Receipt = ctx.result(charge)
    third: Receipt = ctx.result(later)
    number: int = ctx.input.id
    return f"{first} {second} {third} {number}"


async def own(ctx: Context[Order]) -> None:
    text: str = ctx.result(told)
    print(text)
""",
    """\
async def starts() -> None:
    await app.start(order, Order(1), key="k")
    await app.start("order", {"id": 1})
    await app.start(flow)
    await order.run(Order(1))
    await flow.run()
    await flow.run(5)
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
    "a sub-step as another type": 'async def mistyped(ctx: Context) -> None:\n    n: str = await ctx.run("p", none)',
    "a sub-step without its function": 'async def without(ctx: Context) -> None:\n    await ctx.run("p")',
    "an option that is not accepted": 'Durable("sqlite://", [flow], on_drift="maybe")',
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
    "a handler of another input": 'order.step("n", of_int)',
    "a decorated handler of another input": 'order.step("n")(of_int)',
    "a compensator of another input": 'order.step("n", reserve, compensate=of_int)',
    "an entry of another input": 'order.parallel("n", {"a": of_int})',
    "a condition on a field that is not there": 'order.step("n", reserve, when=lambda ctx: ctx.input.ident > 3)',
    "an input of another type": "app.start(order, 5)",
    "an input that is left out": "app.start(order)",
    "an input in memory of another type": "order.run(5)",
    "a field of the input that is not there": "def field_of(ctx: Context[Order]) -> int:\n    return ctx.input.ident",
    "a result taken for another type": "def g(ctx: Context[Order]) -> int:\n    return ctx.result(reserve)",
    "a misspelt type of a result": 'order.step("n", reserve, resutl=Receipt)',
    "a misspelt type of a branch": "Branch(reserve, resutl=Receipt)",
    "a misspelt type of an input": 'durable("other", inptu=Order)',
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


def test_every_public_type_is_known(tmp_path: Path) -> None:
    """Run as for an installed package: it is not asked of one that lies in the folder of the check."""
    found = os.pathsep.join([str(Path(stepwell.__file__).parents[1]), sysconfig.get_path("purelib")])
    command = ["--pythonpath", sys.executable, "--verifytypes", "stepwell", "--ignoreexternal", "--outputjson"]
    checked = subprocess.run(
        [sys.executable, "-m", "basedpyright", *command],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": found},
    )
    counted = json.loads(checked.stdout)["typeCompleteness"]
    wrong = {
        (one["name"], fault["message"])
        for one in counted["symbols"]
        if one["isExported"]
        for fault in one["diagnostics"]
        if "partially unknown" not in fault["message"]
    }
    assert wrong == set()
    assert counted["exportedSymbolCounts"]["withKnownType"] > 1_000
    assert counted["completenessScore"] == 1.0
