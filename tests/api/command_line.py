"""What the tests of the command line share: a shop with workflows in a folder, and ways to call `stepwell` there."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click
import pytest
from click.testing import CliRunner

from stepwell import Durable, durable
from stepwell.cli import cli
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    import signal
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

UNKNOWN = "0197f0a0-0000-7000-8000-000000000000"

SHOP = """
import asyncio
from pathlib import Path

from stepwell import Durable, durable


def reserve(ctx):
    print("reserving", flush=True)
    return {"seat": "12A", "for": ctx.input}


def release(ctx):
    pass


async def charge(ctx):
    if ctx.input == "declined":
        raise ValueError("card declined\\nby the bank")
    return {"paid": True}


async def call_once_more(ctx):
    if ctx.attempt == 1:
        raise ConnectionError("the line is busy")
    return "reached"


async def wait_for_file(ctx):
    Path("begun").touch()
    while not Path("let").exists():
        await asyncio.sleep(0.01)
    return "let"


def block(ctx):
    import time
    Path("begun").touch()
    time.sleep(300)


order = (
    durable("order")
    .step("reserve", reserve, compensate=release)
    .parallel("notify", {"email": lambda ctx: "sent", "sms": lambda ctx: "sent"})
    .route("ship", lambda ctx: "sea", {"air": lambda ctx: 1, "sea": lambda ctx: 2})
    .loop("poll", lambda input, ctx: ctx.iteration, max_iterations=3)
    .step("charge", charge, max_retries=0)
)
call = durable("call").step("dial", call_once_more, retry_backoff=0.01)
signoff = (
    durable("signoff")
    .wait_for_signal("decision", "founder-signoff")
    .step("close", lambda ctx: ctx.results["decision"])
)
slow = durable("slow").step("work", wait_for_file).step("after", lambda ctx: "done")
stuck = durable("stuck").step("block", block)
parent = durable("parent").child_workflow("child", "signoff")

WORKFLOWS = [order, call, signoff, slow, stuck, parent]
app = Durable("sqlite:///shop.db", workflows=WORKFLOWS)


def make():
    return Durable("sqlite:///shop.db", workflows=WORKFLOWS)


async def amake():
    await asyncio.sleep(0)
    return make()


def needs_more(url):
    return make()


def explodes():
    raise KeyError("DATABASE_URL")


async def explodes_later():
    raise KeyError("DATABASE_URL")


def gives_nothing():
    return None


number = 3
"""


@dataclass(frozen=True)
class Answer:
    """What a call of the command line came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The document on stdout."""
        assert self.out, self
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, str]:
        """The error on stderr, of a call with `--json`: exactly a code and a message."""
        (line,) = self.err.splitlines()
        error = json.loads(line)
        assert list(error) == ["error"]
        assert list(error["error"]) == ["code", "message"]
        return dict(error["error"])

    @property
    def complaint(self) -> str:
        """The error on stderr for a person: one line and no more."""
        (line,) = self.err.splitlines()
        assert line.startswith("Error: ")
        return line.removeprefix("Error: ")


class Shop:
    """A folder with a module `shop`, and a store beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.begun: list[subprocess.Popen[Any]] = []
        self.url = f"sqlite:///{folder / 'shop.db'}"
        (folder / "shop.py").write_text(SHOP, encoding="utf-8")

    def __call__(self, *arguments: str, stdin: str | bytes | None = None, **environment: str) -> Answer:
        """Call `stepwell` in this process."""
        result = CliRunner().invoke(
            cli, list(arguments), input=stdin, env=environment, prog_name="stepwell", catch_exceptions=False
        )
        return Answer(result.exit_code, result.stdout, result.stderr)

    def process(self, *arguments: str, stdin: str | None = None, **environment: str) -> Answer:
        """Call `stepwell` in a process of its own."""
        done = subprocess.run(
            [sys.executable, "-m", "stepwell.cli", *arguments],
            cwd=self.folder,
            env=_environment(environment),
            input=stdin,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=PATIENCE,
            check=False,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def begin(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Begin a call in a process of its own; it is ended with the test at the latest."""
        process = subprocess.Popen(
            [sys.executable, "-m", "stepwell.cli", *arguments],
            cwd=self.folder,
            env=_environment(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self.begun.append(process)
        return process

    def end(self) -> None:
        """End what still runs, and close what was opened."""
        for process in self.begun:
            process.kill()
            process.wait()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()

    def ask(self, question: Callable[[Durable], Awaitable[Any]]) -> Any:
        """What the store answers in Python, to compare with."""

        async def call() -> Any:
            async with Durable(self.url, [durable("order").step("reserve", lambda ctx: None)]) as app:
                return await question(app)

        return asyncio.run(call())

    def start(self, workflow: str, *arguments: str) -> str:
        """Start a run, and give its id."""
        answer = self("--app", "shop:app", "--json", "start", workflow, *arguments)
        assert answer.code == 0, answer
        return str(answer.json["run_id"])

    def work(self, run_id: str, until: str) -> None:
        """Be a worker in this process until the run has that status."""
        asyncio.run(self._work(run_id, until))

    async def _work(self, run_id: str, until: str) -> None:
        async with Durable(self.url, _workflows()) as app, app.worker():

            async def there() -> bool:
                return (await app.status(run_id)).status == until

            await eventually(there)


def _workflows() -> Any:
    import shop  # type: ignore[import-not-found]  # noqa: PLC0415  the module that the fixture wrote

    return shop.WORKFLOWS


def commands(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    """Each command under the group, with the words that call it."""
    context = click.Context(group, info_name=path)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def finish(process: subprocess.Popen[str], *signals: signal.Signals) -> Answer:
    """Send the signals, wait for the end, and give what it came to."""
    for number in signals:
        process.send_signal(number)
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        pytest.fail(f"it did not end; stderr: {err}")
    return Answer(process.returncode, out, err)


def read_up_to(process: subprocess.Popen[str], beginning: str) -> str:
    """Read what it says on stderr, up to the line that begins so."""
    assert process.stderr is not None
    said = []
    while line := process.stderr.readline():
        if line.startswith(beginning):
            return line
        said.append(line)
    pytest.fail(f"it ended without saying {beginning!r}: {said}")


def _environment(more: dict[str, str]) -> dict[str, str]:
    kept = {
        name: value for name, value in os.environ.items() if name not in ("STEPWELL_APP", "STEPWELL_URL", "COLUMNS")
    }
    return {**kept, "PYTHONUTF8": "1", **more}


def shop_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """A shop in the folder, which is where this process is until the test has ended."""
    monkeypatch.chdir(folder)
    for variable in ("STEPWELL_APP", "STEPWELL_URL", "COLUMNS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    before = set(sys.modules)
    shop = Shop(folder)
    yield shop
    shop.end()
    for name in set(sys.modules) - before:
        module_file = getattr(sys.modules[name], "__file__", None) or ""
        if module_file.startswith(str(folder)):
            del sys.modules[name]
