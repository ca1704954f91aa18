"""By which the handlers of a worker find the drives of their runs, while their attempts last."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from stepwell.engine.driving.sub_steps import SubCall, SubSteps
from stepwell.errors import AttemptOverError, DurableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from stepwell.engine.driving.channel import Desk, Question
    from stepwell.store.codec import Codec
    from stepwell.workflow.context import Facts

T = TypeVar("T")


class Channels:
    """Finds the channel of an attempt, from its context: by the run, among those that a worker drives now."""

    def __init__(self, desk_of: Callable[[str], Desk | None], codec: Codec, on_drift: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._desk_of = desk_of
        self._sub_steps = SubSteps(self, codec, on_drift)

    def run(self, run_id: str, facts: Facts, *asked: Any) -> Awaitable[Any]:
        """A sub-step of an async handler: its name, function, arguments by place and by name, and key."""
        return self._sub_steps.run(run_id, facts, SubCall(*asked))

    def run_blocking(self, run_id: str, facts: Facts, *asked: Any) -> Any:
        """The same of a plain handler in its thread."""
        return self._sub_steps.run_blocking(run_id, facts, SubCall(*asked))

    def desk(self, run_id: str, facts: Facts) -> Desk:
        """The drive of an attempt in flight; raises AttemptOverError. On the worker's event loop."""
        if asyncio.get_running_loop() is not self._loop:
            raise DurableError(f"{facts.step} of run {run_id} asked from another event loop than its worker's.")
        desk = self._desk_of(run_id)
        if desk is None or not desk.is_in_flight(facts):
            raise AttemptOverError(run_id, facts.step)
        return desk

    async def ask(self, run_id: str, facts: Facts, question: Question) -> Any:
        """The answer; raises AttemptOverError. On the worker's event loop."""
        return await self.desk(run_id, facts).channel().ask(facts, question)

    def ask_blocking(self, run_id: str, facts: Facts, question: Question) -> Any:
        """The same for a plain handler in its thread, which waits for the answer."""
        return self._blocking(run_id, facts, lambda: self.ask(run_id, facts, question))

    def call(self, run_id: str, facts: Facts, function: Callable[[], T]) -> T:
        """What the function gives on the worker's event loop, for a plain handler in its thread."""

        async def called() -> T:
            return function()

        return self._blocking(run_id, facts, called)

    def _blocking(self, run_id: str, facts: Facts, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise DurableError(f"{facts.step} of run {run_id} would block an event loop with its question.")
        return asyncio.run_coroutine_threadsafe(make(), self._loop).result()
