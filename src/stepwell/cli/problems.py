"""Errors of the command line, printed as a line or as JSON, and their exit codes."""

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
    """Added to the number of the signal that stopped the command, as shells do."""


class CommandError(Exception):
    """A command cannot continue; has a message, a stable code and an exit code."""

    def __init__(self, code: str, message: str, exit_code: Exit = Exit.USAGE) -> None:
        super().__init__(message)
        self.code = code
        self.exit_code = exit_code


class Reported(Exception):  # noqa: N818  not an error: it says that one was already reported
    """Ends the command with this exit code without printing anything."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


def exit_code_of(error: DurableError) -> Exit:
    """The exit code for this kind of error."""
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
    """Print an error on stderr, in one line."""
    if as_json:
        click.echo(json.dumps({"error": {"code": code, "message": message}}), err=True)
    else:
        click.echo(f"Error: {one_line(message)}", err=True)


def usage_message(error: click.UsageError) -> str:
    """Click's message about invalid arguments and a reference to the help, in one line."""
    message = one_line(error.format_message())
    if not message.endswith((".", "?", "!")):
        message += "."
    path = error.ctx.command_path if error.ctx else "stepwell"
    return f"{message} Try '{path} --help'."
