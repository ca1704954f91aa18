"""`list`, `status`, `why` and `journal`: the commands that inspect runs and change nothing."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from stepwell import RunStatus
from stepwell.cli import text
from stepwell.cli.choosing import first_id_after, stuck_runs
from stepwell.cli.loading import app_of_store, settled
from stepwell.cli.output import console, print_json, print_lines, remark, say
from stepwell.cli.runs import complete_run, find_run
from stepwell.cli.settings import Settings, shared_options
from stepwell.cli.values import SECONDS
from stepwell.reading.secrets import hidden_in_entries, hidden_in_run

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from stepwell import Durable

RUN_HELP = "RUN is a run's id, or the start of it if no other run has the same."
DEFAULT_LIMIT = 20
LARGEST_LIMIT = 10_000


def ask(settings: Settings, question: Callable[[Durable], Awaitable[Any]], *, read_only: bool = True) -> Any:
    """Calls `question` with the store's app. Never creates a store; with `read_only`, never writes to it."""

    async def call() -> Any:
        app = await settled(found, settings)
        async with app.existing(read_only=read_only) as existing:
            return await question(existing)

    found = app_of_store(settings)
    return asyncio.run(call())


def ask_of_run(
    settings: Settings, run_id: str, question: Callable[[Durable, str], Awaitable[Any]], *, read_only: bool = True
) -> Any:
    """Calls `question` with the store's app and the full id of the run."""

    async def found(app: Durable) -> Any:
        return await question(app, await find_run(app, run_id))

    return ask(settings, found, read_only=read_only)


@click.command(
    "list",
    short_help="List runs, newest first.",
    help="""List runs, newest first, including child runs: the current node of each, and what it waits for.

    Ids are shortened if the line would be too long; every command accepts them. With --json they are complete.
    """,
    epilog="""\b
    Examples:
      export STEPWELL_URL=sqlite:///shop.db
      stepwell list
      stepwell list --status suspended --workflow order
      stepwell list --stuck --older-than 1h
      stepwell list --json | jq -r '.[].run_id'
    """,
)
@click.option("--status", type=click.Choice([str(status) for status in RunStatus]), help="Only runs with this status.")
@click.option("--workflow", metavar="W", help="Only runs of this workflow.")
@click.option("--key", metavar="K", help="Only runs started with this key.")
@click.option("--parent", metavar="RUN", shell_complete=complete_run, help="Only child runs of this run.")
@click.option(
    "--limit",
    type=click.IntRange(1, LARGEST_LIMIT),
    default=DEFAULT_LIMIT,
    show_default=True,
    metavar="N",
    help="The most runs to list.",
)
@click.option("--before", metavar="RUN", shell_complete=complete_run, help="Only runs older than this one.")
@click.option("--older-than", type=SECONDS, metavar="S", help="Only runs started longer ago than this.")
@click.option("--stuck", is_flag=True, help="Only runs that cannot continue until a worker starts or you act.")
@shared_options
@click.pass_obj
def list_runs(
    settings: Settings,
    /,
    *,
    parent: str | None,
    before: str | None,
    older_than: float | None,
    stuck: bool,
    limit: int,
    **filters: Any,
) -> None:
    """List runs, newest first."""

    async def question(app: Durable) -> Any:
        wanted = {**filters, "parent_run_id": None if parent is None else await find_run(app, parent)}
        last = [] if before is None else [await find_run(app, before)]
        if older_than is not None:
            last.append(first_id_after(text.now() - timedelta(seconds=older_than)))
        wanted["before"] = min(last, default=None)
        if stuck:
            return await stuck_runs(app, limit, wanted)
        return await app.list(**wanted, limit=limit), {}

    runs, why = ask(settings, question)
    if settings.as_json:
        print_json(runs)
        return
    if not runs:
        remark("No runs.")
        return
    from stepwell.cli.views import runs_table

    print_lines(runs_table(runs, console(sys.stdout).width, text.now(), why))
    if len(runs) == limit:
        remark(f"Showing the {len(runs)} newest. For older runs: --before {runs[-1].run_id}")


@click.command(
    short_help="Show a run.",
    help=f"""Show a run: why it does not move, its current node, its results so far, its child runs, and its error.

    {RUN_HELP}
    """,
    epilog="""\b
    Examples:
      export STEPWELL_URL=sqlite:///shop.db
      stepwell status 0193a5c2-7b1e-7c4d
      stepwell status 0193a5c2-7b1e-7c4d --json | jq .results
    """,
)
@click.argument("run_id", metavar="RUN", shell_complete=complete_run)
@click.option("--traceback", "with_traceback", is_flag=True, help="Also show the traceback of the error.")
@shared_options
@click.pass_obj
def status(settings: Settings, run_id: str, *, with_traceback: bool) -> None:
    """Show a run."""

    async def question(app: Durable, found: str) -> Any:
        run = hidden_in_run(await app.status(found), app)
        return run, None if settings.as_json else await app.explain(found)

    run, why = ask_of_run(settings, run_id, question)
    if settings.as_json:
        print_json(run)
        return
    from stepwell.cli.views import run_view

    print_lines(run_view(run, console(sys.stdout).width, text.now(), why, with_traceback=with_traceback))
    if run.awaiting_signals:
        remark("")
    for signal in run.awaiting_signals:
        remark(f"stepwell signal {run.run_id} {signal} DATA")


@click.command(
    short_help="Explain why a run does not move.",
    help=f"""Say why a run does not move, since when, and which command would move it.

    {RUN_HELP}
    """,
    epilog="""\b
    Examples:
      export STEPWELL_URL=sqlite:///shop.db
      stepwell why 0193a5c2-7b1e-7c4d
      stepwell why 0193a5c2-7b1e-7c4d --json | jq -r .reason
    """,
)
@click.argument("run_id", metavar="RUN", shell_complete=complete_run)
@shared_options
@click.pass_obj
def why(settings: Settings, run_id: str) -> None:
    """Explain why a run does not move."""
    explanation = ask_of_run(settings, run_id, lambda app, found: app.explain(found))
    if settings.as_json:
        print_json(explanation)
        return
    from stepwell.cli.views import why_view

    print_lines(why_view(explanation, console(sys.stdout).width, text.now()))


@click.command(
    short_help="Show the journal of a run.",
    help=f"""Show the journal of a run: every outcome and every failed attempt, in order.

    AT is relative to the start of the first entry; #3 is the third iteration of a loop, and
    NODE/fetch#2 the second sub-step fetch of a node. {RUN_HELP}
    """,
    epilog="""\b
    Examples:
      export STEPWELL_URL=sqlite:///shop.db
      stepwell journal 0193a5c2-7b1e-7c4d
      stepwell journal 0193a5c2-7b1e-7c4d --json | jq '.[] | select(.error)'
    """,
)
@click.argument("run_id", metavar="RUN", shell_complete=complete_run)
@shared_options
@click.pass_obj
def journal(settings: Settings, run_id: str) -> None:
    """Show the journal of a run."""

    async def question(app: Durable, found: str) -> Any:
        entries = await app.journal(found)
        # what is declared is known by the workflow's code alone
        return hidden_in_entries(entries, (await app.status(found)).workflow_name, app) if app.workflows else entries

    entries = ask_of_run(settings, run_id, question)
    if settings.as_json:
        print_json(entries)
        return
    if not entries:
        say("The journal is empty.")
        return
    from stepwell.cli.views import journal_table

    print_lines(journal_table(entries, console(sys.stdout).width))
