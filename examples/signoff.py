"""A sign-off with escalation: if the manager does not answer in time, the director is asked.

    python examples/signoff.py

A run that waits for a signal is only a row in the store. It uses no thread and no memory, for minutes or for months,
and survives restarts. Here the manager has half a second, so that you see the timeout.

Note:
* The result of `wait_for_signal` is the payload, or `default` after `timeout`.
* `when` skips a node; the result of a skipped node is None.
* A signal may arrive early: the second invoice is signed before the run asks, and the signal is stored until then.
* Every signal here has a `key`, so sending it twice (for example after a lost answer) delivers it once.
"""

# ruff: noqa: D103  an example's functions are named for what they do

import asyncio
import tempfile
from datetime import timedelta

from stepwell import Context, Durable, durable


def ask_manager(ctx: Context) -> str:
    return f"asked the manager about {ctx.input['amount']} for {ctx.input['what']}"


def is_unanswered(ctx: Context) -> bool:
    return ctx.results["manager"] is None


def ask_director(ctx: Context) -> str:
    return f"no answer: asked the director about {ctx.input['what']}"


def decide(ctx: Context) -> str:
    answer = ctx.results["manager"] or ctx.results["director"]
    verdict = "approved" if answer["approved"] else "turned down"
    return f"{ctx.input['what']} {verdict} by {answer['by']}"


signoff = (
    durable("signoff")
    .step("ask_manager", ask_manager)
    .wait_for_signal("manager", "manager-signoff", timeout=timedelta(seconds=0.5), default=None)
    .step("ask_director", ask_director, when=is_unanswered)
    .wait_for_signal("director", "director-signoff", timeout=timedelta(days=14), when=is_unanswered)
    .step("decide", decide)
)


async def until_asked(app: Durable, run_id: str, signal: str) -> None:
    """Waits until the run awaits this signal."""
    while (await app.status(run_id)).awaiting_signal != signal:  # noqa: ASYNC110  another process may be the worker
        await asyncio.sleep(0.05)


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with Durable(f"sqlite:///{folder}/signoff.db", workflows=[signoff]) as app:
            laptop = await app.start(signoff, {"what": "a laptop", "amount": 1800})
            boat = await app.start(signoff, {"what": "a boat", "amount": 90_000})
            # Nothing runs yet: no worker is there. The signature is kept all the same.
            await app.signal(laptop.run_id, "manager-signoff", {"by": "the manager", "approved": True}, key="m-1")

            async with app.worker():
                print((await app.result(laptop.run_id, timeout=30))["decide"])
                await until_asked(app, boat.run_id, "director-signoff")
                for _ in range(2):  # the second one has the same key: it changes nothing
                    await app.signal(
                        boat.run_id, "director-signoff", {"by": "the director", "approved": False}, key="d-1"
                    )
                results = await app.result(boat.run_id, timeout=30)
                print(results["ask_director"])
                print(results["decide"])


if __name__ == "__main__":
    asyncio.run(main())
