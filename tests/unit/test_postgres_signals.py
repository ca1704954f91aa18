"""Grouped delivery of signals on PostgreSQL where other code cancels what delivers them: every caller is answered."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest

from stepwell.errors import StoreUnavailableError
from stepwell.store.postgres.signals import Signal, Signals
from stepwell.store.records import Delivered
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from stepwell.store.postgres.connection import Connections
    from stepwell.store.postgres.sql import Queries

DELIVERED = Delivered(accepted=True, status="running", woken=True, lane=1)


class Server:
    """Stands for the connections; the next statement of the task that a test names is held up until it is let go."""

    def __init__(self) -> None:
        self.are_locked = False
        """Whether the runs are locked by others, so that each signal is delivered apart."""
        self.hold = ""
        self.is_holding = False
        self._let = asyncio.Event()

    async def run(self, work: object, *, repeatable: bool, waits: bool = False, blames_rows: bool = False) -> Any:
        """The answer to a statement of one signal."""
        del work, repeatable, blames_rows
        task = asyncio.current_task()
        assert task is not None
        if task.get_name() == self.hold:
            self.hold, self.is_holding = "", True
            await self._let.wait()
        return DELIVERED if waits else [(not self.are_locked, DELIVERED)]

    def let_go(self) -> None:
        """Answers what is held up."""
        self.is_holding = False
        self._let.set()
        self._let = asyncio.Event()

    def unavailable(self, reason: str) -> StoreUnavailableError:
        """An error."""
        return StoreUnavailableError("postgresql://", reason)


@pytest.fixture
async def server() -> Server:
    """A server that answers at once."""
    return Server()


@pytest.fixture
async def signals(server: Server) -> Signals:
    """The signals of an app."""
    return Signals(cast("Connections", server), cast("Queries", None))


def cancel(name: str) -> None:
    """Cancels all tasks of that name, as other code would."""
    for task in asyncio.all_tasks():
        if task.get_name() == name:
            task.cancel()


def a_signal(key: str | None) -> Signal:
    """A signal for the run."""
    return Signal("run", "go", b"1", key, waiting_only=False, receipt=None)


async def test_i4_a_cancel_before_the_first_step_delays_signals_and_loses_none(signals: Signals) -> None:
    first = asyncio.create_task(signals.deliver(a_signal(None)))
    for _ in range(3):
        await asyncio.sleep(0)
        cancel("stepwell-signals")
    async with asyncio.timeout(PATIENCE):
        assert await first == DELIVERED
        assert await signals.deliver(a_signal(None)) == DELIVERED


@pytest.mark.parametrize("apart", [False, True], ids=["together", "apart"])
async def test_i6_a_signal_with_a_key_is_delivered_again_and_one_without_is_an_error(
    server: Server, signals: Signals, *, apart: bool
) -> None:
    """What was under way may have arrived: only the key tells."""
    server.are_locked = apart
    name = "stepwell-signal" if apart else "stepwell-signals"
    for key in (None, "key"):
        server.hold = name
        waiting = asyncio.create_task(signals.deliver(a_signal(key)))
        await eventually(lambda: server.is_holding)
        cancel(name)
        server.let_go()
        async with asyncio.timeout(PATIENCE):
            if key is None:
                with pytest.raises(StoreUnavailableError, match="may have arrived"):
                    await waiting
            else:
                assert await waiting == DELIVERED
            assert await signals.deliver(a_signal(None)) == DELIVERED
