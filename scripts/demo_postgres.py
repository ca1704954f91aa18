"""The demo on PostgreSQL: four worker processes, two of them killed, and the server crashed and restarted in between.

The server is one of our own, on a free port, with its data in a temporary folder; both are gone afterwards.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import click

from stepwell.cli.demo.command import folders_of, play_new
from stepwell.cli.demo.script import Disturbance, Script
from stepwell.cli.problems import CommandError
from stepwell.testing.postgres import NoPostgresError, PostgresServer

WORKERS = 4
KILLS = 2
CONCURRENCY = 4
LEASE_SECONDS = 5
"""How long a killed worker is silent before its runs go to others: nothing else tells of its death to other hosts."""


@click.command(help=__doc__)
@click.option("--directory", type=click.Path(file_okay=False, path_type=Path), help="Where log and reports are put.")
@click.option("--path", "paths", type=click.Path(exists=True, file_okay=False, path_type=Path), multiple=True)
@click.option("--json", "as_json", is_flag=True, help="Print what it came to as JSON.")
def main(directory: Path | None, paths: tuple[Path, ...], *, as_json: bool) -> None:
    """Starts the server and plays the demo on it."""
    stays = sys.stdin.isatty() and sys.stdout.isatty() and not as_json
    try:
        with PostgresServer() as server:
            disturbance = Disturbance(
                "PostgreSQL",
                "PostgreSQL itself will be stopped once, as if it had crashed, and started again.",
                lambda: server.restart(signal.SIGQUIT),
            )
            script = Script(
                folders_of(paths),
                KILLS,
                CONCURRENCY,
                workers=WORKERS,
                url=server.dsn,
                lease=LEASE_SECONDS,
                disturbances=(disturbance.name,),
            )
            passed = play_new(script, directory, as_json=as_json, disturbances=[disturbance], stays=stays)
            if stays:
                click.pause("\nThe server runs until you press a key.")
    except (CommandError, NoPostgresError) as error:
        raise click.ClickException(str(error)) from error
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
