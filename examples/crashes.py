"""A refund that is paid twice: `crash_everywhere` finds a compensator that is not safe to repeat.

    python examples/crashes.py

A trip consists of a seat, a room and a payment. The payment fails, so both bookings are compensated. The compensator of
the room refunds the money without a key. This is wrong only if the process dies between the refund and its commit,
because another worker then calls the compensator again. `crash_everywhere` crashes the process at this place, as at
every other, and compares the state of the bank and the hotel afterwards.

Note:
* `probe` returns the state outside the run, and `reset` restores the initial one: stepwell cannot know them.
* `failing` makes a handler abort, so that the compensators are tested, too.
* The fix is the idempotency key, which is the same in both calls: the bank then pays once.
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
