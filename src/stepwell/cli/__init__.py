"""The command line `stepwell`: reads arguments, calls a `Durable` and prints the result."""

from __future__ import annotations

from stepwell.cli.root import cli

__all__ = ["cli", "main"]


def main() -> None:
    """Run the command line on the arguments of this process and exit with its code."""
    cli.main(prog_name="stepwell")
