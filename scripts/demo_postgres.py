"""Runs the demo on PostgreSQL with four worker processes: kills two of them and crashes the server once.

The script starts its own server on a free port with a temporary data directory, and removes both at the end.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import click

from stepwell.cli.problems import CommandError
from stepwell.demo.command import folders_of, run_new_demo
from stepwell.demo.config import DemoConfig, Fault
from stepwell.testing.postgres import NoPostgresError, PostgresServer

WORKERS = 4
KILLS = 2
CONCURRENCY = 4
LEASE_SECONDS = 5
"""On PostgreSQL, silence is the only sign of death: after this time other workers take over a killed worker's runs."""


@click.command(help=__doc__)
@click.option(
    "--directory", type=click.Path(file_okay=False, path_type=Path), help="Empty directory for log and reports."
)
@click.option("--path", "paths", type=click.Path(exists=True, file_okay=False, path_type=Path), multiple=True)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def main(directory: Path | None, paths: tuple[Path, ...], *, as_json: bool) -> None:
    """Starts the server and runs the demo on it."""
    keeps_store = sys.stdin.isatty() and sys.stdout.isatty() and not as_json
    try:
        with PostgresServer() as server:
            fault = Fault(
                "PostgreSQL",
                "PostgreSQL itself will be crashed once and started again.",
                lambda: server.restart(signal.SIGQUIT),
            )
            config = DemoConfig(
                folders_of(paths),
                KILLS,
                CONCURRENCY,
                workers=WORKERS,
                url=server.dsn,
                lease=LEASE_SECONDS,
                faults=(fault.name,),
            )
            passed = run_new_demo(config, directory, as_json=as_json, faults=[fault], keeps_store=keeps_store)
            if keeps_store:
                click.pause("\nThe server runs until you press a key.")
    except (CommandError, NoPostgresError) as error:
        raise click.ClickException(str(error)) from error
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
