"""`signal`, `resume`, `cancel` and `recover`: the commands that act on runs without their workflow code."""

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

DATA_HELP = "DATA is JSON, @FILE, or - for stdin; the default is null."
ANY_HELP = "Send it even if no node of the run's workflow can use a signal of that name."
ENDED = (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELED)
NAMES_SHOWN = 20


@click.command(
    short_help="Send a signal to a run, now or for later.",
    help=f"""Send the signal NAME to a run. It is stored until the run waits for it, and used once.

    {RUN_HELP} {DATA_HELP} The exit code is 1 if the run has ended, or if none of its nodes can use the signal. With
    --key, the same command twice sends one signal.
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
@click.option("--key", metavar="K", help="If the run has already accepted a signal with this key, change nothing.")
@click.option("--any", "any_name", is_flag=True, help=ANY_HELP)
@shared_options
@click.pass_obj
def signal(settings: Settings, /, run_id: str, name: str, data: Any, *, key: str | None, any_name: bool) -> None:
    """Send a signal, which is stored if the run does not wait for it yet."""

    async def question(app: Durable, found: str) -> Any:
        if not any_name:
            await _check_expected(app, found, name)
        return await app.signal(found, name, data, key=key)

    answer = ask_of_run(settings, run_id, question, read_only=False)
    _print_answer(settings, answer, name, "has ended")


@click.command(
    short_help="Send a signal to a run that is suspended on it.",
    help=f"""Send SIGNAL to a run that is suspended on it. Otherwise nothing changes, and the exit code is 1.

    What suspended itself waits for a signal with the name of its step, entry, loop or route. {RUN_HELP} {DATA_HELP}
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
@click.option("--key", metavar="K", help="If the run has already accepted a signal with this key, change nothing.")
@click.option("--any", "any_name", is_flag=True, help=ANY_HELP)
@shared_options
@click.pass_obj
def resume(settings: Settings, /, run_id: str, signal_name: str, data: Any, *, key: str | None, any_name: bool) -> None:
    """Send a signal to a run that is suspended on it."""

    async def question(app: Durable, found: str) -> Any:
        if not any_name:
            await _check_expected(app, found, signal_name)
        return await app.resume(found, signal_name, data, key=key)

    answer = ask_of_run(settings, run_id, question, read_only=False)
    _print_answer(settings, answer, signal_name, f"is not suspended on {signal_name}")


@click.command(
    short_help="Cancel a run and its child runs.",
    help=f"""Cancel a run and all its child runs that have not ended. Nothing is compensated, and handlers in flight can
    no longer write anything. A run that has ended does not change.

    With --compensate the cancel is requested: a worker cancels what is in flight, compensates the child runs and then
    the run, and cancels it. {RUN_HELP}
    """,
    epilog="""\b
    Examples:
      export STEPWELL_URL=sqlite:///shop.db
      stepwell cancel 0193a5c2-7b1e-7c4d
      stepwell cancel 0193a5c2-7b1e-7c4d --compensate
    """,
)
@click.argument("run_id", metavar="RUN", shell_complete=complete_run)
@click.option("--compensate", is_flag=True, help="Have a worker compensate the run before it is canceled.")
@shared_options
@click.pass_obj
def cancel(settings: Settings, run_id: str, *, compensate: bool) -> None:
    """Cancel a run and its child runs."""

    async def question(app: Durable, found: str) -> Any:
        await app.cancel(found, compensate=compensate)
        return await app.status(found)

    run = ask_of_run(settings, run_id, question, read_only=False)
    if settings.as_json:
        print_json({"run_id": run.run_id, "status": run.status})
    elif run.status == RunStatus.CANCELED:
        say(f"{run.run_id}  canceled")
    elif run.status not in ENDED:
        asked = "is compensating already" if run.cancel_requested_at is None else "will be compensated and canceled"
        say(f"{run.run_id}  {run.status}: it {asked}")
    else:
        say(f"{run.run_id}  {run.status}: it had already ended")


@click.command(
    short_help="Make stuck runs due again.",
    help="""Make due again every run that should move but that nothing would move, and print their number.

    Normally there are none, because workers do this themselves.
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
        say(f"Made {count} run{'s' if count != 1 else ''} due again.")


async def _check_expected(app: Durable, run_id: str, name: str) -> None:
    """Raise CommandError if no node of the run's workflow can use the signal."""
    known = await app.expected_signals(run_id)
    if name in known or (await app.status(run_id)).status in ENDED:
        return
    some = ", ".join(known[:NAMES_SHOWN]) + (" …" if len(known) > NAMES_SHOWN else "")
    hint = f"Known: {some}." if known else "None of its nodes waits for a signal."
    message = f"No node of run {run_id} waits for signal {name}. {hint} Pass --any to send it nevertheless."
    raise CommandError("unexpected_signal", message, Exit.FAILED)


def _print_answer(settings: Settings, answer: ResumeResult, name: str, why_not: str) -> None:
    if settings.as_json:
        print_json(answer)
    elif answer.accepted:
        say(f"{name} accepted; the run is {answer.status}.")
    else:
        remark(f"Error: {name} not accepted: the run {why_not} (it is {answer.status}).")
    if not answer.accepted:
        raise Reported(Exit.FAILED)
