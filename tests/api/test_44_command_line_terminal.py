"""The command line at a terminal: the live progress of `run`, in 80 columns, on a pseudo-terminal."""

from __future__ import annotations

import asyncio
import codecs
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from typing import TYPE_CHECKING

import pytest

from tests.api.command_line import Shop, shop_in
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
SHOW_CURSOR = "\x1b[?25h"
HIDE_CURSOR = "\x1b[?25l"


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    yield from shop_in(tmp_path, monkeypatch)


class Terminal:
    """A process with a terminal of 80 columns for its output."""

    def __init__(self, shop: Shop, *arguments: str, lines: int = 24, **environment: str) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, 80, 0, 0))
        kept = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR", "STEPWELL_URL")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "stepwell.cli", "--app", "shop:app", *arguments],
            cwd=shop.folder,
            env={**kept, "TERM": "xterm", "PYTHONUTF8": "1", **environment},
            stdin=subprocess.DEVNULL,
            stdout=slave,
            stderr=slave,
        )
        shop.begun.append(self.process)
        os.close(slave)
        self.raw = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    @property
    def shown(self) -> str:
        """All that was shown so far, without colours and movements."""
        return ESCAPES.sub("", self.raw).replace("\r", "")

    def read(self, until: str) -> str:
        """Read up to where `until` is shown, and give all that was."""
        while until not in self.shown:
            assert self._read_more(), f"it ended without {until!r}: {self.shown}"
        return self.shown

    def end(self) -> int:
        """Read to the end, and give the exit code."""
        while self._read_more():
            pass
        os.close(self._master)
        return self.process.wait(PATIENCE)

    def _read_more(self) -> bool:
        try:
            piece = os.read(self._master, 65536)
        except OSError:  # the process has closed its end
            return False
        self.raw += self._decoder.decode(piece)
        return bool(piece)


def last_frame(shown: str) -> list[str]:
    """The lines of the nodes as they were drawn last."""
    lines = [line for line in shown.splitlines() if re.match(r"  \S ", line)]
    return lines[-5:]


def test_run_ends_with_a_line_for_each_node_and_the_results(shop: Shop) -> None:
    terminal = Terminal(shop, "run", "order", "1")
    code, shown = terminal.end(), terminal.shown

    assert code == 0, shown
    assert [line.split()[:2] for line in last_frame(shown)] == [
        ["✓", name] for name in ("reserve", "notify", "ship", "poll", "charge")
    ]
    assert re.search(r"✓ ship +\d+ ms +sea$", shown, re.MULTILINE)
    assert re.search(r"✓ poll +\d+ ms +3 iterations$", shown, re.MULTILINE)
    assert re.search(r'^  charge +\{"paid": true\}$', shown, re.MULTILINE)
    assert "reserving" in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert terminal.raw.count(HIDE_CURSOR) == terminal.raw.count(SHOW_CURSOR) == 1


def test_a_run_that_fails_shows_where_and_what_was_undone(shop: Shop) -> None:
    terminal = Terminal(shop, "run", "order", '"declined"')

    assert terminal.end() == 1
    shown = terminal.shown
    assert re.search(r"✗ charge +\d+ ms +ValueError: card declined by the bank", shown)
    assert re.search(r"↶ reserve +\d+ ms +compensated", shown)


def test_a_run_that_waits_shows_for_what_and_how_to_move_it(shop: Shop) -> None:
    terminal = Terminal(shop, "run", "signoff")
    shown = terminal.read(until="founder-signoff DATA")
    (run_id,) = set(re.findall(r"stepwell signal (\S+) founder-signoff DATA", shown))
    assert "waiting for signal founder-signoff" in shown
    assert shop("signal", run_id, "founder-signoff", "true", "--url", shop.url).code == 0

    assert terminal.end() == 0
    assert "✓ decision" in terminal.shown


def test_few_lines_show_the_nodes_around_the_one_it_is_at(shop: Shop) -> None:
    terminal = Terminal(shop, "run", "order", lines=8)

    assert terminal.end() == 0
    assert re.search(r"… \d above", terminal.shown)
    assert "✓ charge" in terminal.shown


def test_a_second_ctrl_c_gives_the_cursor_back(shop: Shop) -> None:
    terminal = Terminal(shop, "run", "stuck")
    terminal.read(until="block")
    asyncio.run(eventually((shop.folder / "begun").exists))
    terminal.process.send_signal(signal.SIGINT)
    terminal.read(until="Stopping")
    terminal.process.send_signal(signal.SIGINT)

    assert terminal.end() == 130
    assert terminal.raw.rindex(SHOW_CURSOR) > terminal.raw.rindex(HIDE_CURSOR)
    assert "Traceback" not in terminal.raw


def test_no_color_is_honoured(shop: Shop) -> None:
    terminal = Terminal(shop, "run", "order", NO_COLOR="1")

    assert terminal.end() == 0
    assert re.search(r"\x1b\[3[0-9]m", terminal.raw) is None


def test_json_is_indented_and_silent_at_a_terminal(shop: Shop) -> None:
    terminal = Terminal(shop, "start", "order", "--json")

    assert terminal.end() == 0
    fields = r'"status": "pending",\r\n  "created": true,\r\n  "same_input": true'
    assert re.fullmatch(rf'\{{\r\n  "run_id": "[0-9a-f-]{{36}}",\r\n  {fields}\r\n\}}\r\n', terminal.raw)
