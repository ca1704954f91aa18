"""What can go wrong at the command line, as a line for people or JSON for machines, and its exit code."""

from __future__ import annotations

import json
from enum import IntEnum

import click

from stepwell import (
    DefinitionError,
    DurableError,
    PayloadError,
    RunNotFoundError,
    SchemaError,
    StoreUnavailableError,
    WorkflowNotRegisteredError,
)
from stepwell.cli.text import one_line


class Exit(IntEnum):
    """The exit codes, the same for every command."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    UNREACHABLE = 4
    OUTPUT_LOST = 5
    SIGNALED = 128
    """Plus the number of the signal that stopped it, as shells count."""


class CommandError(Exception):
    """A command cannot go on: the message for a person, a stable code for a machine, the exit code for a shell."""

    def __init__(self, code: str, message: str, exit_code: Exit = Exit.USAGE) -> None:
        super().__init__(message)
        self.code = code
        self.exit_code = exit_code


class Reported(Exception):  # noqa: N818  no error: it says that one was told already
    """Ends the command with this exit code and prints nothing more."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


def exit_code_of(error: DurableError) -> Exit:
    """The exit code that tells what kind of error this was."""
    match error:
        case RunNotFoundError() | WorkflowNotRegisteredError():
            return Exit.NOT_FOUND
        case StoreUnavailableError() | SchemaError():
            return Exit.UNREACHABLE
        case DefinitionError() | PayloadError():
            return Exit.USAGE
        case _:
            return Exit.FAILED


def report(code: str, message: str, *, as_json: bool) -> None:
    """Print one error on stderr, in one line."""
    if as_json:
        click.echo(json.dumps({"error": {"code": code, "message": message}}), err=True)
    else:
        click.echo(f"Error: {one_line(message)}", err=True)


def usage_message(error: click.UsageError) -> str:
    """What click found wrong with the arguments, and where to read how they are used, in one line."""
    message = one_line(error.format_message())
    if not message.endswith((".", "?", "!")):
        message += "."
    path = error.ctx.command_path if error.ctx else "stepwell"
    return f"{message} Try '{path} --help'."
