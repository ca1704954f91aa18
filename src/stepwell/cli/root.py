"""The root command: finds the commands and turns every error into one line and an exit code."""

from __future__ import annotations

import difflib
import errno
import importlib
import importlib.util
import sys
import traceback
from typing import TYPE_CHECKING, Any

import click

from stepwell import DurableError
from stepwell.cli.problems import CommandError, Exit, Reported, exit_code_of, report, usage_message
from stepwell.cli.settings import Settings, root_options
from stepwell.cli.streams import SIGPIPE, STREAMS, is_broken_pipe

if TYPE_CHECKING:
    from collections.abc import MutableMapping, Sequence

COMMANDS = {
    "run": "stepwell.cli.commands_run:run",
    "worker": "stepwell.cli.commands_run:worker",
    "start": "stepwell.cli.commands_run:start",
    "list": "stepwell.cli.commands_look:list_runs",
    "status": "stepwell.cli.commands_look:status",
    "why": "stepwell.cli.commands_look:why",
    "journal": "stepwell.cli.commands_look:journal",
    "signal": "stepwell.cli.commands_act:signal",
    "resume": "stepwell.cli.commands_act:resume",
    "cancel": "stepwell.cli.commands_act:cancel",
    "recover": "stepwell.cli.commands_act:recover",
    "db": "stepwell.cli.commands_db:db",
    "demo": "stepwell.demo:demo",
}
SECTIONS = {
    "Run": ("run", "worker", "start"),
    "Inspect": ("list", "status", "why", "journal"),
    "Act": ("signal", "resume", "cancel", "recover"),
    "Store": ("db",),
    "Demo": ("demo",),
}


class Root(click.Group):
    """A group that imports a command when it is used, and exits with stepwell's exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the commands, in the order of the help."""
        return [name for name in COMMANDS if self.get_command(ctx, name) is not None]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  click's signature
        """The command of that name, or None."""
        if cmd_name not in COMMANDS or not _is_there(cmd_name):
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        command = getattr(importlib.import_module(module), attribute, None)
        return command if isinstance(command, click.Command) else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the arguments start with; for an unknown name, suggests a similar one."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            near = difflib.get_close_matches(name, self.list_commands(ctx), n=1)
            raise click.UsageError(f"No command '{name}'.{f' Did you mean {near[0]}?' if near else ''}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the commands, grouped by section."""
        broad = max(len(name) for name in COMMANDS)
        for title, names in SECTIONS.items():
            found = [(name, self.get_command(ctx, name)) for name in names]
            rows = [(name.ljust(broad), command.get_short_help_str(60)) for name, command in found if command]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows, col_spacing=4)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,  # noqa: FBT001, FBT002  click's signature
        **extra: Any,
    ) -> Any:
        """Run the command and exit; without `standalone_mode`, let every exception propagate."""
        line = list(sys.argv[1:] if args is None else args)
        if not standalone_mode:
            return super().main(line, prog_name, complete_var, standalone_mode=False, **extra)
        STREAMS.repair()
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        as_json = "--json" in line[: line.index("--") if "--" in line else None]
        try:
            given = super().main(line, prog_name, complete_var, standalone_mode=False, **extra)
            code = given if isinstance(given, int) else Exit.DONE
        except Exception as error:  # noqa: BLE001  every error becomes a line and an exit code
            code = _report_error(error, as_json=as_json)
        sys.exit(code or _output_code(as_json=as_json))

    def _main_shell_completion(
        self, ctx_args: MutableMapping[str, Any], prog_name: str, complete_var: str | None = None
    ) -> None:
        """Answer a shell's completion request; report an invalid request in one line."""
        try:
            super()._main_shell_completion(ctx_args, prog_name, complete_var)
        except (KeyError, ValueError) as error:
            message = f"The completion request in the environment is invalid ({type(error).__name__}: {error})."
            raise CommandError("usage", message) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; Ctrl-C ends it with the exit code that shells expect."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Reported(Exit.SIGNALED + 2) from None


def _output_code(*, as_json: bool) -> int:
    """The exit code of a command that succeeded: not 0 if its output was lost, which is then reported."""
    lost = STREAMS.lost()
    if lost is None:
        return Exit.DONE
    if is_broken_pipe(lost):
        return Exit.SIGNALED + SIGPIPE
    why = "it is closed" if lost.errno == errno.EBADF else lost.strerror
    report("output_lost", f"The command succeeded, but standard output cannot be written: {why}.", as_json=as_json)
    return Exit.OUTPUT_LOST


def _report_error(error: Exception, *, as_json: bool) -> int:
    """Report the error; return its exit code."""
    match error:
        case Reported():
            return error.exit_code
        case CommandError():
            report(error.code, str(error), as_json=as_json)
            return error.exit_code
        case DurableError():
            report(error.code, str(error), as_json=as_json)
            return exit_code_of(error)
        case click.UsageError():
            report("usage", usage_message(error), as_json=as_json)
            return Exit.USAGE
        case click.ClickException():
            report("usage", error.format_message(), as_json=as_json)
            return Exit.USAGE
        case click.exceptions.Abort():
            return Exit.SIGNALED + 2
        case _:
            # Not a user's mistake but a bug in stepwell: print the traceback.
            if as_json:
                report("internal", "".join(traceback.format_exception(error)), as_json=True)
            else:
                traceback.print_exception(error)
            return Exit.FAILED


def _is_there(name: str) -> bool:
    return importlib.util.find_spec(COMMANDS[name].partition(":")[0]) is not None


@click.group(
    cls=Root,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100, "obj": None},
    invoke_without_command=True,
    help="""Durable workflows: start runs, work on them, inspect them, act on them.

    Set the app once, so that you need not repeat it in each command:

    \b
      export STEPWELL_APP=shop:app      # module shop contains app = Durable(...)
      stepwell run order '{"id": 42}'

    The commands under Inspect and Act need only the store, not the app: --url sqlite:///shop.db.
    You can put --app, --url and --json before or after the command.
    """,
    epilog="""\b
    Exit codes:
      0  success
      1  run: it failed or was canceled; signal, resume: not accepted
      2  invalid usage: an option, a value, or the app that --app names
      3  the run or workflow does not exist
      4  the store is unavailable or unusable
      5  success, but standard output could not be written

    \b
    Shell completion (zsh: zsh_source; fish: ... fish_source stepwell | source):
      eval "$(_STEPWELL_COMPLETE=bash_source stepwell)"
    """,
)
@root_options
@click.version_option(package_name="stepwell", message="stepwell %(version)s")
@click.pass_context
def cli(context: click.Context) -> None:
    """Durable workflows on the command line."""
    if context.invoked_subcommand is not None:
        return
    if context.ensure_object(Settings).as_json:
        raise click.UsageError("No command was given.", context)
    click.echo(context.get_help(), err=True)
    raise Reported(Exit.USAGE)
