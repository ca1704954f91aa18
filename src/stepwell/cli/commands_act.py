"""`signal`, `resume`, `cancel` and `recover`: the commands that move runs without their workflow code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from stepwell import RunStatus
from stepwell.cli.commands_look import RUN_HELP, ask, ask_of_run
from stepwell.cli.output import print_json, remark, say
from stepwell.cli.problems import CommandError, Exit, Reported
from stepwell.cli.runs import complete_run
from stepwell.cli.settings import Settings, shared_options
from stepwell.cli.values import JSON_VALUE

if TYPE_CHECKING:
    from stepwell import Durable, ResumeResult

DATA_HELP = "DATA is JSON, @FILE, or - for stdin; without it, null."
ANY_HELP = "Deliver it even if no node of the run's workflow can use a signal of that name."
ENDED = (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELED)
MOST_NAMED = 20


@click.command(
    short_help="Send a run a signal, now or for later.",
    help=f"""Send the signal NAME to a run. It is kept until the run waits for it: nothing is lost, nothing used twice.

    {RUN_HELP} {DATA_HELP} Exit code 1 if the run has ended, or no node of it can use the signal.
    With --key, the same command twice is one signal.
    """,
    epilog="""\b
    Examples:
      export STEPWELL_URL=sqlite:///shop.db
      stepwell signal 0193a5c2-7b1e-7c4d founder-signoff '{"approved": true}'
      stepwell signal 0193a5c2-7b1e-7c4d paid @payment.json --key payment-7
    """,
)
@click.argument("run_id", metavar="RUN", shell_complete=complete_run)
@click.argument("name")
@click.argument("data", required=False, type=JSON_VALUE)
@click.option("--key", metavar="K", help="A signal with a key the run has accepted before changes nothing.")
@click.option("--any", "any_name", is_flag=True, help=ANY_HELP)
@shared_options
@click.pass_obj
def signal(settings: Settings, /, run_id: str, name: str, data: Any, *, key: str | None, any_name: bool) -> None:
    """Send a signal, kept for a run that does not wait yet."""

    async def question(app: Durable, found: str) -> Any:
        if not any_name:
            await _check_expected(app, found, name)
        return await app.signal(found, name, data, key=key)

    answer = ask_of_run(settings, run_id, question, read_only=False)
    _tell(settings, answer, name, "has ended")


@click.command(
    short_help="Signal a run that is suspended on it.",
    help=f"""Deliver SIGNAL to a run that is suspended on it. If it is not, nothing changes, and the exit code is 1.

    An agent's suspended step waits for a signal of the step's own name. {RUN_HELP} {DATA_HELP}
    """,
    epilog="""\b
    Examples:
      export STEPWELL_URL=sqlite:///shop.db
      stepwell resume 0193a5c2-7b1e-7c4d founder-signoff '{"approved": true}'
      stepwell resume 0193a5c2-7b1e-7c4d review '"looks good"'
    """,
)
@click.argument("run_id", metavar="RUN", shell_complete=complete_run)
@click.argument("signal_name", metavar="SIGNAL")
@click.argument("data", required=False, type=JSON_VALUE)
@click.option("--key", metavar="K", help="A signal with a key the run has accepted before changes nothing.")
@click.option("--any", "any_name", is_flag=True, help=ANY_HELP)
@shared_options
@click.pass_obj
def resume(settings: Settings, /, run_id: str, signal_name: str, data: Any, *, key: str | None, any_name: bool) -> None:
    """Deliver a signal to a run that is suspended on it."""

    async def question(app: Durable, found: str) -> Any:
        if not any_name:
            await _check_expected(app, found, signal_name)
        return await app.resume(found, signal_name, data, key=key)

    answer = ask_of_run(settings, run_id, question, read_only=False)
    _tell(settings, answer, signal_name, f"is not suspended on {signal_name}")


@click.command(
    short_help="End a run and its child runs, undoing nothing.",
    help=f"""Cancel a run and all its child runs that have not ended. Nothing is undone, and what is in flight can write
    nothing more. A run that has ended stays as it is. {RUN_HELP}
    """,
    epilog="""\b
    Examples:
      export STEPWELL_URL=sqlite:///shop.db
      stepwell cancel 0193a5c2-7b1e-7c4d
    """,
)
@click.argument("run_id", metavar="RUN", shell_complete=complete_run)
@shared_options
@click.pass_obj
def cancel(settings: Settings, run_id: str) -> None:
    """Cancel a run and its child runs."""

    async def question(app: Durable, found: str) -> Any:
        await app.cancel(found)
        return await app.status(found)

    run = ask_of_run(settings, run_id, question, read_only=False)
    if settings.as_json:
        print_json({"run_id": run.run_id, "status": run.status})
    elif run.status == RunStatus.CANCELED:
        say(f"{run.run_id}  canceled")
    else:
        say(f"{run.run_id}  {run.status}: it had ended before")


@click.command(
    short_help="Make stuck runs due again.",
    help="""Make every run that should move, but has nothing to move it, due again, and say how many there were.

    Normally none: workers do this by themselves.
    """,
    epilog="""\b
    Examples:
      export STEPWELL_URL=sqlite:///shop.db
      stepwell recover
    """,
)
@shared_options
@click.pass_obj
def recover(settings: Settings) -> None:
    """Make stuck runs due again."""
    count = ask(settings, lambda app: app.recover(), read_only=False)
    if settings.as_json:
        print_json(count)
    else:
        say(f"{count} run{'s' if count != 1 else ''} made due again.")


async def _check_expected(app: Durable, run_id: str, name: str) -> None:
    """Refuse a signal that no node of the run's workflow can use, before anything is delivered."""
    known = await app.expected_signals(run_id)
    if name in known or (await app.status(run_id)).status in ENDED:
        return
    some = ", ".join(known[:MOST_NAMED]) + (" …" if len(known) > MOST_NAMED else "")
    hint = f"Known: {some}." if known else "None of its nodes waits for a signal."
    message = f"No node of run {run_id} waits for signal {name}. {hint} With --any it is delivered all the same."
    raise CommandError("unexpected_signal", message, Exit.FAILED)


def _tell(settings: Settings, answer: ResumeResult, name: str, why_not: str) -> None:
    if settings.as_json:
        print_json(answer)
    elif answer.accepted:
        say(f"{name} accepted; the run is {answer.status}.")
    else:
        remark(f"Error: nothing accepted: the run {why_not} (it is {answer.status}).")
    if not answer.accepted:
        raise Reported(Exit.FAILED)
