"""Workers' lock files: the operating system frees a lock when its process dies, so a free lock is a dead worker.

POSIX record locks (`lockf`) belong to the process and are not inherited, so a forked child of a killed worker does not
keep one alive, as it would a `flock`. A process never tests a lock of its own: opening and closing the file would drop
it. Where there is no `fcntl`, nothing is certain and the beat alone decides.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path
from typing import Any

fcntl: Any
try:
    fcntl = importlib.import_module("fcntl")
except ImportError:  # not a POSIX system
    fcntl = None


class LockFile:
    """The file that a living worker holds locked."""

    def __init__(self, database: Path, worker_id: str) -> None:
        self._path = database.with_name(f"{database.name}-worker-{worker_id}")
        self._handle: int | None = None

    def hold(self) -> None:
        """Creates the file and locks it until `release` or death."""
        if fcntl is None:
            return
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._handle = handle

    def release(self) -> None:
        """Removes the file and frees the lock."""
        if self._handle is not None:
            self.remove()
            os.close(self._handle)
            self._handle = None

    def remove(self) -> None:
        """Removes the file alone."""
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()

    def is_free(self) -> bool:
        """Whether the process that held it is certainly gone; False when in doubt."""
        if fcntl is None:
            return False
        try:
            handle = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        else:
            return True
        finally:
            os.close(handle)
