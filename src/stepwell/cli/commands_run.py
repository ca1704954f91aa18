"""`run`, `worker` and `start`: the commands that need workflow code."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import TYPE_CHECKING, Any, TextIO

import click

from stepwell import RunFailedError, RunStatus
from stepwell.cli.loading import app_with_workflows, opened
from stepwell.cli.logs import log_options, logging_to_stderr
from stepwell.cli.output import console, machine_quiet, print_json, print_lines, remark, say
from stepwell.cli.problems import Exit, Reported, report
from stepwell.cli.processes import WorkerOptions, supervise
from stepwell.cli.settings import Settings, shared_options
from stepwell.cli.stopping import Stopping, stopping_words
from stepwell.cli.streams import STREAMS
from stepwell.cli.text import counted, span
from stepwell.cli.values import JSON_VALUE, SECONDS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from stepwell import Durable, RunSnapshot, Workflow
    from stepwell.cli.progress import Progress

GRACE_SECONDS = 10
MOST_HANDLERS = 100_000
MOST_THREADS = 10_000
MOST_PROCESSES = 64
PATIENCE_SECONDS = 1
LEAVING = f"Other runs' handlers have {GRACE_SECONDS} s to end. Ctrl-C to stop at once."
INPUT_HELP = "INPUT is JSON, @FILE, or - for stdin; without it, null."


def complete_workflow(context: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """The names of the app's workflows that begin with what was typed, for the shell's completion."""
    settings = context.find_object(Settings) or Settings()

    async def names() -> list[str]:
        async with opened(app_with_workflows(settings), settings) as app:
            return [name for name in app.workflows if name.startswith(incomplete)]

    try:
        return asyncio.run(names())
    except Exception:  # noqa: BLE001  whatever a user's module raises is told in a line
        return []


@click.command(
    short_help="Start a run and work here until it has ended.",
    help=f"""Start one run of WORKFLOW and be a worker in this process until it has ended, showing how its nodes get on.

    {INPUT_HELP} It ends with the results, and exit code 0; 1 if the run failed or was canceled.

    Ctrl-C stops this worker, not the run: that goes on where it stood as soon as a worker runs.
    """,
    epilog="""\b
    Examples:
      stepwell --app shop:app run order '{"id": 42}'
      stepwell --app shop:app run order @order.json
      stepwell --app shop:app run order --json < /dev/null | jq .results
    """,
)
@click.argument("workflow", shell_complete=complete_workflow)
@click.argument("input", required=False, type=JSON_VALUE)
@log_options
@shared_options
@click.pass_obj
def run(settings: Settings, workflow: str, input: Any) -> None:
    """Start one run and be a worker until it has ended."""
    found = app_with_workflows(settings)
    level = logging.CRITICAL if settings.as_json else logging.WARNING
    with machine_quiet(as_json=settings.as_json) as out, logging_to_stderr(settings, level, of_runs=False):
        code = asyncio.run(_run(found, settings, workflow, input, out))
    if code:
        raise Reported(code)


async def _run(found: Durable | Awaitable[Any], settings: Settings, workflow: str, input: Any, out: TextIO) -> int:
    """The exit code of the run, which is told as soon as it has ended."""
    from stepwell.cli.progress import follow

    tell = _silent if settings.as_json else remark
    async with opened(found, settings) as app:
        definition = app.workflow(workflow)  # an unknown one is told before a worker takes up other runs
        with Stopping() as stopping:
            async with app.worker(grace=GRACE_SECONDS):
                started = await app.start(workflow, input)
                tell(f"{workflow}  {started.run_id}")
                with _progress(definition, settings) as progress:
                    end = asyncio.ensure_future(follow(app, started.run_id, progress))
                    asked = asyncio.ensure_future(stopping.asked())
                    await asyncio.wait([end, asked], return_when=asyncio.FIRST_COMPLETED)
                    asked.cancel()
                has_ended = end.done()
                if has_ended:
                    code = _tell_end(await end, settings, out)
                    stopping.end_at_next_signal()
                    asyncio.get_running_loop().call_later(PATIENCE_SECONDS, tell, LEAVING)
                else:
                    end.cancel()
                    code = stopping.exit_code
                    tell(stopping_words(GRACE_SECONDS))
            if not has_ended:
                tell(f"Stopped; run {started.run_id} goes on with the next worker.")
            return code


def _log_line(message: str) -> None:
    logging.getLogger("stepwell.worker").info("%s", message)


def _silent(_message: str) -> None:
    """Machines are told the end only."""


def _tell_end(ended: RunSnapshot, settings: Settings, out: TextIO) -> int:
    """Say how the run ended, with its results or its error, and give the exit code."""
    if settings.as_json:
        print_json(ended, out)
    if ended.status == RunStatus.COMPLETED:
        if not settings.as_json:
            _show_results(ended)
        return Exit.DONE
    code, message = _how_it_ended(ended)
    report(code, message, as_json=settings.as_json)
    return Exit.FAILED


def _progress(definition: Workflow, settings: Settings) -> Progress:
    from stepwell.cli.progress import Lines, LiveView, Silence

    if settings.as_json:
        return Silence()
    if not sys.stderr.isatty():
        return Lines()
    return LiveView(definition.nodes)


def _show_results(ended: RunSnapshot) -> None:
    from stepwell.cli.views import results_view

    took = span((ended.finished_at or ended.updated_at) - ended.created_at)
    say(f"Completed in {took}." if not ended.results else f"Completed in {took}:")
    print_lines(results_view(ended, console(sys.stdout).width))


def _how_it_ended(ended: RunSnapshot) -> tuple[str, str]:
    if ended.status == RunStatus.CANCELED or ended.error is None:
        return "run_canceled", f"Run {ended.run_id} was canceled."
    failed = RunFailedError(
        ended.run_id,
        ended.error,
        ended.compensated,
        attempt=ended.attempt,
        failed_compensations=ended.failed_compensations,
    )
    return failed.code, str(failed)


@click.command(
    short_help="Work until stopped.",
    help="""Be a worker: claim runs that are due and advance them, until Ctrl-C, SIGTERM or SIGHUP.

    Any number of workers may share one store, on one machine or on several. The first signal stops cleanly: nothing
    more is claimed, handlers get the grace to end, and their runs are given back. A second one stops at once; another
    worker then takes over, as after any crash.

    One process uses one core. With --processes this command starts so many, and replaces those that die.
    """,
    epilog="""\b
    Examples:
      stepwell --app shop:app worker
      stepwell --app shop:app worker --concurrency 256
      stepwell --app shop:app worker --processes 4
      STEPWELL_APP=shop:app STEPWELL_URL=postgresql://db/shop stepwell worker
    """,
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, MOST_HANDLERS),
    default=100,
    show_default=True,
    metavar="N",
    help="Handlers at a time.",
)
@click.option(
    "--threads",
    type=click.IntRange(1, MOST_THREADS),
    default=32,
    show_default=True,
    metavar="N",
    help="Threads for plain handlers.",
)
@click.option(
    "--grace",
    type=SECONDS,
    default=GRACE_SECONDS,
    show_default=True,
    metavar="S",
    help="Seconds that handlers have to end.",
)
@click.option(
    "--processes",
    type=click.IntRange(1, MOST_PROCESSES),
    default=1,
    show_default=True,
    metavar="N",
    help="Worker processes; one that dies is replaced.",
)
@click.option("--supervised", type=int, hidden=True, help="The pipe that closes when this process is to stop.")
@click.option("--queue", "queues", multiple=True, metavar="NAME", help="Work on this queue; repeatable.")
@log_options
@shared_options
@click.pass_obj
def worker(settings: Settings, /, processes: int, supervised: int | None, **options: Any) -> None:
    """Be a worker until stopped."""
    STREAMS.forgive()
    found = app_with_workflows(settings)
    tell: Callable[[str], None] = _silent if settings.as_json or supervised is not None else remark
    if settings.log_format == "json":  # what machines read line by line is JSON altogether
        tell = _log_line
    chosen = WorkerOptions(**options)
    level = logging.WARNING if settings.as_json else logging.INFO
    if processes > 1:
        with logging_to_stderr(settings, level):
            code = asyncio.run(supervise(found, settings, processes, chosen, tell))
        if code:
            raise Reported(code)
        return
    with logging_to_stderr(settings, level):
        asyncio.run(_work(found, settings, chosen, supervised, tell))


async def _work(
    found: Durable | Awaitable[Any],
    settings: Settings,
    options: WorkerOptions,
    supervised: int | None,
    tell: Callable[[str], None],
) -> None:
    async with opened(found, settings) as app:
        with Stopping() as stopping:
            if supervised is not None:
                stopping.ask_at_end_of(supervised)
            async with options.worker(app):
                tell(f"Working on {app.safe_url}: {counted(app.workflows)}. Ctrl-C to stop.")
                await stopping.asked()
                tell(stopping_words(options.grace))
            tell("Stopped.")


@click.command(
    short_help="Start a run and return at once.",
    help=f"""Write a run of WORKFLOW to the store and return at once; a worker will run it.

    {INPUT_HELP} With --key, a run of that workflow and key that is stored already is given back as it stands, and
    nothing new is started: the same command twice is one run.
    """,
    epilog="""\b
    Examples:
      stepwell --app shop:app start order '{"id": 42}' --key order-42
      stepwell --app shop:app start report --delay 1h
      jq .order event.json | stepwell --app shop:app start order -
    """,
)
@click.argument("workflow", shell_complete=complete_workflow)
@click.argument("input", required=False, type=JSON_VALUE)
@click.option("--key", metavar="K", help="At most one run of this workflow has this key.")
@click.option("--delay", type=SECONDS, metavar="S", help="Begin in so many seconds; 5m, 2h and 30d are understood.")
@shared_options
@click.pass_obj
def start(settings: Settings, workflow: str, input: Any, key: str | None, delay: float | None) -> None:
    """Start one run and return at once."""

    async def call() -> Any:
        async with opened(found, settings) as app:
            return await app.start(workflow, input, key=key, delay=delay)

    found = app_with_workflows(settings)
    started = asyncio.run(call())
    if settings.as_json:
        print_json(started)
    else:
        say(f"{workflow}  {started.run_id}  {started.status}")
