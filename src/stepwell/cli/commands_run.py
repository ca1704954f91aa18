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
from stepwell.cli.stopping import Stopping, stopping_message
from stepwell.cli.streams import STREAMS
from stepwell.cli.text import counted, span
from stepwell.cli.values import JSON_VALUE, SECONDS
from stepwell.workflow.declared import FromJson

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from stepwell import Durable, RunSnapshot, Workflow
    from stepwell.cli.progress import Progress

GRACE_SECONDS = 10
MOST_HANDLERS = 100_000
MOST_THREADS = 10_000
MOST_PROCESSES = 64
PATIENCE_SECONDS = 1
LEAVING = f"Waiting up to {GRACE_SECONDS} s for handlers of other runs. Press Ctrl-C to stop at once."
INPUT_HELP = "INPUT is JSON, @FILE, or - for stdin; the default is null."


def complete_workflow(context: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """The app's workflows whose names start with `incomplete`, for shell completion."""
    settings = context.find_object(Settings) or Settings()

    async def names() -> list[str]:
        async with opened(app_with_workflows(settings), settings) as app:
            return [name for name in app.workflows if name.startswith(incomplete)]

    try:
        return asyncio.run(names())
    except Exception:  # noqa: BLE001  a completion must never raise into the shell
        return []


@click.command(
    short_help="Start a run and work here until it has ended.",
    help=f"""Start one run of WORKFLOW and work in this process until it has ended, showing its progress.

    {INPUT_HELP} At the end, prints the results. The exit code is 1 if the run failed or was canceled.

    Ctrl-C stops this worker, not the run: the run continues as soon as another worker runs.
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
    """Start one run and work on it until it has ended."""
    found = app_with_workflows(settings)
    level = logging.CRITICAL if settings.as_json else logging.WARNING
    with machine_quiet(as_json=settings.as_json) as out, logging_to_stderr(settings, level, of_runs=False):
        code = asyncio.run(_run(found, settings, workflow, input, out))
    if code:
        raise Reported(code)


async def _run(found: Durable | Awaitable[Any], settings: Settings, workflow: str, input: Any, out: TextIO) -> int:
    """Run the worker until the run has ended, print its end, and return the exit code."""
    from stepwell.cli.progress import follow

    tell = _silent if settings.as_json else remark
    async with opened(found, settings) as app:
        definition = app.workflow(workflow)  # Report an unknown workflow before a worker claims other runs.
        with Stopping() as stopping:
            async with app.worker(grace=GRACE_SECONDS):
                started = await app.start(workflow, FromJson(input))
                tell(f"{workflow}  {started.run_id}")
                with _progress(definition, settings) as progress:
                    end = asyncio.ensure_future(follow(app, started.run_id, progress))
                    asked = asyncio.ensure_future(stopping.asked())
                    await asyncio.wait([end, asked], return_when=asyncio.FIRST_COMPLETED)
                    asked.cancel()
                has_ended = end.done()
                if has_ended:
                    code = _print_end(await end, settings, out)
                    stopping.end_at_next_signal()
                    asyncio.get_running_loop().call_later(PATIENCE_SECONDS, tell, LEAVING)
                else:
                    end.cancel()
                    code = stopping.exit_code
                    tell(stopping_message(GRACE_SECONDS))
            if not has_ended:
                tell(f"Stopped. The next worker will continue run {started.run_id}.")
            return code


def _log_line(message: str) -> None:
    logging.getLogger("stepwell.worker").info("%s", message)


def _silent(_message: str) -> None:
    """Prints nothing: JSON output contains only the end."""


def _print_end(ended: RunSnapshot, settings: Settings, out: TextIO) -> int:
    """Print how the run ended, with its results or its error; return the exit code."""
    if settings.as_json:
        print_json(ended, out)
    if ended.status == RunStatus.COMPLETED:
        if not settings.as_json:
            _show_results(ended)
        return Exit.DONE
    code, message = _failure_of(ended)
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


def _failure_of(ended: RunSnapshot) -> tuple[str, str]:
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
    help="""Run a worker: claim and run the runs that are due, until Ctrl-C, SIGTERM or SIGHUP.

    Any number of workers can share one store, on one machine or on several. The first signal stops the worker cleanly:
    it claims nothing more, lets handlers finish within the grace period, and gives their runs back. A second signal
    stops it at once; another worker then takes over, as after a crash.

    One process uses one core. With --processes, this command starts several processes and restarts those that die.
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
    help="Handlers that run concurrently.",
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
    help="Time that handlers have to finish, in seconds.",
)
@click.option(
    "--processes",
    type=click.IntRange(1, MOST_PROCESSES),
    default=1,
    show_default=True,
    metavar="N",
    help="Worker processes; one that dies is restarted.",
)
@click.option(
    "--supervised", type=int, hidden=True, help="File descriptor of the pipe that closes when this process must stop."
)
@click.option("--queue", "queues", multiple=True, metavar="NAME", help="Serve this queue; repeatable.")
@log_options
@shared_options
@click.pass_obj
def worker(settings: Settings, /, processes: int, supervised: int | None, **options: Any) -> None:
    """Run a worker until stopped."""
    STREAMS.forgive()
    found = app_with_workflows(settings)
    tell: Callable[[str], None] = _silent if settings.as_json or supervised is not None else remark
    if settings.log_format == "json":  # Every line must then be JSON.
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
                tell(f"Working on {app.safe_url}: {counted(app.workflows)}. Press Ctrl-C to stop.")
                await stopping.asked()
                tell(stopping_message(options.grace))
            tell("Stopped.")


@click.command(
    short_help="Start a run and return at once.",
    help=f"""Write a run of WORKFLOW to the store and return at once; a worker will run it.

    {INPUT_HELP} With --key, if a run of this workflow with this key is already stored, that run is returned unchanged
    and none is started. So the same command twice starts one run.
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
@click.option("--key", metavar="K", help="Start at most one run of this workflow with this key.")
@click.option("--delay", type=SECONDS, metavar="S", help="Start after this time: seconds, or 5m, 2h, 30d.")
@shared_options
@click.pass_obj
def start(settings: Settings, workflow: str, input: Any, key: str | None, delay: float | None) -> None:
    """Start one run and return at once."""

    async def call() -> Any:
        async with opened(found, settings) as app:
            return await app.start(workflow, FromJson(input), key=key, delay=delay)

    found = app_with_workflows(settings)
    started = asyncio.run(call())
    if settings.as_json:
        print_json(started)
    else:
        say(f"{workflow}  {started.run_id}  {started.status}")
