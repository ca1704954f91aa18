"""A server for other hosts: `python -m tests.programs.far_server` prints its port, and runs until its input ends."""

from __future__ import annotations

import sys

from tests.postgres import Server


class FarServer(Server):
    """A server that hosts of any address may use."""

    def _initialise(self) -> None:
        super()._initialise()
        with (self._folder / "data" / "pg_hba.conf").open("a") as rules:
            rules.write("host all all 0.0.0.0/0 trust\n")


if __name__ == "__main__":
    with FarServer(settings={"listen_addresses": "*"}) as server:
        print(server.port, flush=True)  # noqa: T201  whoever started it reads this
        sys.stdin.read()
