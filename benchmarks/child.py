"""Calling a benchmark's function in a fresh process, so that nothing is inherited: no memory, threads or caches.

`python -m benchmarks.child MODULE:FUNCTION OPTIONS` calls it with those of the options that it names, and prints what
it returns; both are JSON. The interpreter may be another checkout's, with another stepwell: nothing of it is used here.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_SECONDS = 600.0


class Child:
    """A process that calls `MODULE:FUNCTION` and says line by line how it stands."""

    def __init__(self, function: str, options: dict[str, Any]) -> None:
        self._process = subprocess.Popen(
            _command(function, options), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.pid = self._process.pid

    def wait_for(self, word: str) -> None:
        """Reads its output until it says the word; raises RuntimeError if it ends before that."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.strip() == word:
                return
        raise RuntimeError(f'process {self.pid} ended before it said "{word}"')

    def kill(self) -> None:
        """Ends it with SIGKILL, and waits until it is gone."""
        self._process.kill()
        self._process.wait(PATIENCE_SECONDS)

    def close(self) -> None:
        """Ends its input, on which it ends by itself, and waits until it is gone."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE_SECONDS)
        self._process.stdout.close()


@contextlib.contextmanager
def child(function: str, **options: Any) -> Iterator[Child]:
    """A process that calls `MODULE:FUNCTION` and is gone in the end, whatever happened."""
    process = Child(function, options)
    try:
        yield process
    except BaseException:
        process.kill()
        raise
    finally:
        process.close()


def call_in_child(function: str, *, python: str = sys.executable, **options: Any) -> Any:
    """What `MODULE:FUNCTION` returns in a fresh process; raises RuntimeError with the end of its output if it fails."""
    ended = subprocess.run(
        _command(function, options, python),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    if ended.returncode != 0:
        raise RuntimeError(f"{function} ended with {ended.returncode}:\n{ended.stderr[-4000:]}")
    return json.loads(ended.stdout)


def say(word: str) -> None:
    """Says a word to the process that started this one."""
    print(word, flush=True)


async def input_ended() -> None:
    """Waits until the process that started this one wants it to end, or is gone."""
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)


def _command(function: str, options: dict[str, Any], python: str = sys.executable) -> list[str]:
    return [python, "-m", "benchmarks.child", function, json.dumps(options)]


def _main(function: str, options: str) -> None:
    logging.getLogger("stepwell").setLevel(logging.ERROR)  # that a killed worker is buried is what was asked for
    module, _, name = function.partition(":")
    called = getattr(importlib.import_module(f"benchmarks.{module}"), name)
    known = inspect.signature(called).parameters
    result = called(**{option: value for option, value in json.loads(options).items() if option in known})
    if inspect.iscoroutine(result):
        result = asyncio.run(result)
    if result is not None:
        print(json.dumps(result))


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2])
