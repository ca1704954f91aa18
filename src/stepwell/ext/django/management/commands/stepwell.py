"""`manage.py stepwell …`: the whole command line, for the app that the settings name."""

from __future__ import annotations

import os
import sys
from argparse import REMAINDER
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.management.base import CommandParser, handle_default_options

from stepwell.cli import cli

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepwell.ext.django.untyped import Untyped as BaseCommand
else:
    from django.core.management.base import BaseCommand

APP = "stepwell.ext.django:app"


class Command(BaseCommand):
    """Hands its arguments to the command line, with `--app` set to the app of the settings."""

    help: str = "Starts, works on, shows and cancels runs of workflows: the command line of stepwell."

    def run_from_argv(self, argv: Sequence[str]) -> None:
        """Runs it as `manage.py` does, with all arguments but Django's own, and exits with its code."""
        program = Path(argv[0]).name
        called = "python -m django" if program == "__main__.py" else program
        parser = CommandParser(prog=f"{called} {argv[1]}", add_help=False, allow_abbrev=False)
        parser.add_argument("--settings")
        parser.add_argument("--pythonpath")
        given, rest = parser.parse_known_args(argv[2:])
        handle_default_options(given)
        # Worker processes of `--processes` are started by module name: they find the project where manage.py is.
        folder = str(Path(argv[0]).absolute().parent)
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")]))
        cli.main(["--app", APP, *rest], prog_name=parser.prog)

    def add_arguments(self, parser: Any) -> None:
        """Takes all arguments as they are, for `call_command("stepwell", "list")`."""
        parser.add_argument("arguments", nargs=REMAINDER)

    def handle(self, *_: Any, **options: Any) -> None:
        """Runs it as `call_command` does; raises SystemExit with its code, if that is not 0."""
        try:
            cli.main(["--app", APP, *options["arguments"]], prog_name="manage.py stepwell")
        except SystemExit as ended:
            if ended.code:
                raise
        finally:
            sys.stdout.flush()
