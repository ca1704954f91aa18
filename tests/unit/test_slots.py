"""Slots of a worker that stops: nothing begins in them any more, and nobody waits for one for ever."""

from __future__ import annotations

import asyncio

import pytest

from stepwell.engine.driving.slots import Slots
from stepwell.runtime.threads import ClosedError
from tests.waiting import PATIENCE


async def test_no_handler_begins_once_the_slots_are_closed_however_many_are_free() -> None:
    slots = Slots(1)
    slots.close()
    assert not slots.take_free()
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(ClosedError):
            await slots.take()


async def test_closing_turns_away_who_waits_although_another_was_cancelled_while_it_waited() -> None:
    slots = Slots(1)
    assert slots.take_free()
    canceled, waiting = (asyncio.create_task(slots.take()) for _ in range(2))
    await asyncio.sleep(0)
    canceled.cancel()
    slots.close()
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(ClosedError):
            await waiting
        with pytest.raises(asyncio.CancelledError):
            await canceled


async def test_a_slot_that_is_given_at_the_moment_of_a_cancel_is_passed_on() -> None:
    slots = Slots(1)
    assert slots.take_free()
    canceled, waiting = (asyncio.create_task(slots.take()) for _ in range(2))
    await asyncio.sleep(0)
    slots.give_back()
    canceled.cancel()
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(asyncio.CancelledError):
            await canceled
        await waiting
    slots.give_back()
    assert slots.take_free()


async def test_slots_are_given_in_the_order_in_which_they_were_asked_for() -> None:
    """Else the first of many that wait would wait for as long as others come."""
    slots, order = Slots(1), list[int]()

    async def take(number: int) -> None:
        await slots.take()
        order.append(number)
        slots.give_back()

    assert slots.take_free()
    waiting = [asyncio.create_task(take(number)) for number in range(3)]
    await asyncio.sleep(0)
    slots.give_back()
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*waiting)
    assert order == [0, 1, 2]


async def test_a_slot_that_becomes_free_before_its_waiter_begins_is_taken() -> None:
    """A task that is to wait begins a turn after it was made: by then nobody may be left to give a slot back."""
    slots = Slots(1)
    assert slots.take_free()
    waiting = asyncio.create_task(slots.take())
    slots.give_back()
    async with asyncio.timeout(PATIENCE):
        await waiting
    assert not slots.take_free()
    slots.give_back()
    assert slots.take_free()
