"""Hosts for tests: network namespaces with addresses of their own on one bridge, whose links can be cut and healed."""

from __future__ import annotations

import contextlib
import random
import secrets
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Self

from tests.waiting import PATIENCE

ROOT = Path(__file__).resolve().parents[1]


class NotPermittedError(Exception):
    """There are no network namespaces to be had here; the message says why."""


class Network:
    """A context manager: hosts and the bridge between them, all of them gone afterwards; raises NotPermittedError."""

    def __init__(self) -> None:
        self._tag = f"sw{secrets.token_hex(3)}"
        self._subnet = f"10.{random.randrange(64, 250)}.{random.randrange(250)}"
        self._hosts: list[str] = []
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        if shutil.which("ip") is None:
            raise NotPermittedError("iproute2 is not installed")
        try:
            self._ip("link", "add", self._tag, "type", "bridge")
            self._ip("addr", "add", f"{self._subnet}.254/24", "dev", self._tag)
            self._ip("link", "set", self._tag, "up")
            self.add("probe")
        except subprocess.CalledProcessError as error:
            self._remove()
            raise NotPermittedError(f"network namespaces are not permitted here: {error.stderr.strip()}") from error
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()

    def add(self, host: str) -> str:
        """A new host on the bridge; its address."""
        self._hosts.append(host)
        space, address = f"{self._tag}-{host}", f"{self._subnet}.{len(self._hosts)}"
        self._ip("netns", "add", space)
        self._ip("link", "add", self._link(host), "type", "veth", "peer", "name", "eth0", "netns", space)
        self._ip("link", "set", self._link(host), "master", self._tag, "up")
        self._ip("-n", space, "addr", "add", f"{address}/24", "dev", "eth0")
        self._ip("-n", space, "link", "set", "eth0", "up")
        self._ip("-n", space, "link", "set", "lo", "up")
        return address

    def cut(self, host: str) -> None:
        """From now on nothing reaches the host, and nothing leaves it; nobody is told."""
        self._ip("link", "set", self._link(host), "down")

    def heal(self, host: str) -> None:
        """The host is reached again."""
        self._ip("link", "set", self._link(host), "up")

    def is_drained(self, host: str) -> bool:
        """Whether all that the host's programs have sent has arrived."""
        queues = ["ip", "netns", "exec", f"{self._tag}-{host}", "ss", "-Htna"]
        told = subprocess.run(queues, check=True, capture_output=True, text=True, timeout=PATIENCE).stdout
        return all(line.split()[2] == "0" for line in told.splitlines())

    def run(self, host: str, program: str, *words: str) -> subprocess.Popen[str]:
        """A program of this folder on that host, which ends when its input does; its first line has been printed."""
        process = subprocess.Popen(
            ["ip", "netns", "exec", f"{self._tag}-{host}", sys.executable, "-m", f"tests.programs.{program}", *words],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._processes.append(process)
        return process

    def _link(self, host: str) -> str:
        return f"{self._tag}v{self._hosts.index(host)}"

    def _ip(self, *words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=PATIENCE)

    def _remove(self) -> None:
        for process in self._processes:
            end(process)
        for words in [
            *(["netns", "del", f"{self._tag}-{host}"] for host in self._hosts),
            *(["link", "del", self._link(host)] for host in self._hosts),
            ["link", "del", self._tag],
        ]:
            with contextlib.suppress(subprocess.CalledProcessError):  # what went with its namespace is gone already
                self._ip(*words)


def said(process: subprocess.Popen[str]) -> str:
    """The next line that a program prints."""
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    assert line, f"{process.args!r} ended with {process.wait(PATIENCE)}"
    return line


def end(process: subprocess.Popen[str]) -> None:
    """Has a program end by itself, or kills it when it does not."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(PATIENCE)
    process.stdout.close()
