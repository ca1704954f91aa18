"""A streaming standby of a server, for tests: a copy of its data that follows it until it is cut off or promoted."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import asyncpg

from tests.postgres import Server, apart

if TYPE_CHECKING:
    from pathlib import Path

_FOLLOWS = "primary_conninfo = 'host=127.0.0.1 port={port} user=postgres'\n"


class Standby(Server):
    """A server that follows another one, asynchronously, and can take its place; the other is restarted once."""

    def __init__(self, primary: Server) -> None:
        self._primary = primary
        super().__init__()

    def cut_off(self) -> None:
        """Follows no more; what it has received by now is all that it will ever know."""
        apart(self._ask("ALTER SYSTEM SET primary_conninfo = ''"))
        apart(self._ask("SELECT pg_reload_conf()"))
        while apart(self._ask("SELECT count(*) FROM pg_stat_wal_receiver")) > 0:
            pass

    def promote(self) -> None:
        """Takes writes from now on."""
        assert apart(self._ask("SELECT pg_promote(true, 60)"))

    def _initialise(self) -> None:
        """Copies the data of the primary while that is stopped: with any binaries, with nothing to wait for."""
        source: Path = self._primary._folder / "data"
        target = self._folder / "data"
        self._primary.stop()
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("postmaster.*"))
        self._primary.start()
        with (target / "postgresql.auto.conf").open("a") as settings:
            settings.write(_FOLLOWS.format(port=self._primary.port))
        (target / "standby.signal").touch()
        if self._user is not None:
            for path in (target, *target.rglob("*")):
                shutil.chown(path, self._user.pw_uid, self._user.pw_gid)

    async def _ask(self, statement: str) -> object:
        connection = await asyncpg.connect(self.dsn)
        try:
            answer: object = await connection.fetchval(statement)
            return answer
        finally:
            await connection.close()
