"""A refund that is paid twice: a process dies at every place of a workflow, and a compensator is found at fault.

    python examples/crashes.py

A trip is booked, a seat and a room, and paid; the payment fails, so the bookings are undone. The hotel's compensator
gives the money back and forgets that it did. Nothing shows that until a process dies between the refund and its commit:
then another worker undoes the room again. `crash_everywhere` kills the process at that place, as at every other, and
compares what the bank and the hotel have afterwards. What to notice:
* the probe tells what the outside world looks like, the reset makes it new: stepwell cannot know either;
* `failing` has a handler give up, so that the compensation is crossed by crashes, too;
* the cure is the key that both calls share: the bank takes it, and pays once.
"""

# ruff: noqa: D103  an example's functions are named for what they do

import asyncio
from typing import Any

from stepwell import Context, Workflow, durable
from stepwell.testing import crash_everywhere

seats: set[str] = set()
refunds: list[int] = []
paid_back: dict[str, int] = {}


def reset() -> None:
    seats.clear()
    refunds.clear()
    paid_back.clear()


def probe() -> dict[str, Any]:
    return {"seats": len(seats), "refunded": sum(refunds) + sum(paid_back.values())}


async def book_seat(ctx: Context) -> str:
    seats.add(ctx.idempotency_key)  # a set: booked twice under one key is booked once
    return ctx.idempotency_key


async def free_seat(ctx: Context) -> None:
    seats.discard(ctx.results["seat"])


async def book_room(ctx: Context) -> int:
    return 80


async def refund_room(ctx: Context) -> None:
    refunds.append(ctx.results["room"])


async def refund_room_once(ctx: Context) -> None:
    paid_back[ctx.idempotency_key] = ctx.results["room"]


async def pay(ctx: Context) -> None:
    raise NotImplementedError("the test says what becomes of it")


def trip(refund: Any) -> Workflow:
    return (
        durable("trip")
        .step("seat", book_seat, compensate=free_seat)
        .step("room", book_room, compensate=refund)
        .step("pay", pay)
    )


async def main() -> None:
    print(await crash_everywhere(trip(refund_room), failing="pay", probe=probe, reset=reset))
    print()
    report = await crash_everywhere(trip(refund_room_once), failing="pay", probe=probe, reset=reset)
    report.assert_ok()
    print(f"with the key: {report.reached} crash points, all {report.points[0].ended}")


if __name__ == "__main__":
    asyncio.run(main())
