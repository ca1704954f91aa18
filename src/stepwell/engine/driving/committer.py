"""Group commit: while one batch is on its way, the advances that end meanwhile gather for the next.

No timer: at most the batch on its way is waited for. A batch is at most 256 runs or 1 MB; what is larger alone goes
alone. A batch that fails through a row's fault is halved until the run at fault is alone. An unavailable
store is tried again, with longer and longer pauses, and no run is blamed for it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple, Protocol

from stepwell.engine.driving.telling import tell_lost
from stepwell.engine.observer import BatchCommitted, Observers
from stepwell.engine.outage import retry_while_unavailable
from stepwell.store.background import Cuts, begin

if TYPE_CHECKING:
    from stepwell.runtime.protocol import Runtime
    from stepwell.store.protocol import WorkerStore
    from stepwell.store.records import Advance, Verdict

_RUNS = 256
_BYTES = 1_000_000
_LARGE = 64_000
_BUSY_PAUSE = 0.005
_CANCELED_WITHIN = 1.0
"""How long to wait for the end of a commit that was given up; a server that still holds it up is not waited for."""


class RefusedError(Exception):
    """The store cannot keep this advance, whatever else is in its batch; its cause says why."""


class Receiver(Protocol):
    """Takes the store's answer to an advance; called by the committer, so it must not run a user's code."""

    def settle(self, verdict: Verdict) -> None:
        """The store's verdict; never *busy*."""

    def refuse(self, error: RefusedError) -> None:
        """The store cannot keep this very advance."""

    @property
    def is_over(self) -> bool:
        """Whether nothing waits for the answer any more."""


class _Waiting(NamedTuple):
    """An advance, what waits for its verdict, and the bytes of its values."""

    advance: Advance
    receiver: Receiver
    size: int


class _Answer:
    """The answer to an advance as a future."""

    __slots__ = ("future",)

    def __init__(self, future: asyncio.Future[Verdict]) -> None:
        self.future = future

    def settle(self, verdict: Verdict) -> None:
        """The store's verdict."""
        if not self.future.done():
            self.future.set_result(verdict)

    def refuse(self, error: RefusedError) -> None:
        """The store cannot keep it."""
        if not self.future.done():
            self.future.set_exception(error)

    @property
    def is_over(self) -> bool:
        """Whether nothing waits for it any more."""
        return self.future.done()


class Committer:
    """Takes one advance at a time from each run, and commits many together."""

    def __init__(
        self, store: WorkerStore, runtime: Runtime, worker_id: str, observers: Observers | None = None
    ) -> None:
        self._observers = Observers() if observers is None else observers
        self._store = store
        self._runtime = runtime
        self._worker_id = worker_id
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Waiting] = deque()
        self._large: deque[_Waiting] = deque()
        self._under_way: list[_Waiting] = []
        self._flushing: asyncio.Task[None] | None = None
        self._cuts = Cuts()
        self._is_large_next = False
        self._is_closed = False

    def commit(self, advance: Advance) -> asyncio.Future[Verdict]:
        """The store's verdict; raises RefusedError when this very advance cannot be stored."""
        size = 0
        for row in advance.rows:
            if row.value is not None:
                size += len(row.value)
        answer = _Answer(self._loop.create_future())
        self.submit(advance, size, answer)
        return answer.future

    def submit(self, advance: Advance, size: int, receiver: Receiver) -> None:
        """Has the advance committed, whose values have that many bytes, and the receiver told the answer."""
        if self._is_closed:
            receiver.settle("lost")
            return
        (self._large if size > _LARGE else self._waiting).append(_Waiting(advance, receiver, size))
        self._go_on()

    async def close(self, seconds: float) -> None:
        """Waits until nothing is on its way; what an unavailable store does not take by then is lost."""
        flushing = self._flushing
        try:
            if flushing is not None:
                await asyncio.wait({flushing}, timeout=seconds)
        finally:
            self._is_closed = True
            if flushing is not None:
                flushing.cancel()
            for one in (*self._under_way, *self._waiting, *self._large):
                if not one.receiver.is_over:
                    one.receiver.settle("lost")  # by us: nothing may wait for an answer that will never come
        if flushing is not None:
            await asyncio.wait({flushing}, timeout=_CANCELED_WITHIN)

    def _go_on(self) -> None:
        if (self._waiting or self._large) and (self._flushing is None or self._flushing.done()) and not self._is_closed:
            self._flushing = begin(self._flush, name="stepwell-committer")
            self._flushing.add_done_callback(self._after_flush)

    def _after_flush(self, flushing: asyncio.Task[None]) -> None:
        """Goes on where other code cancelled the task, even before its first step, which nothing in it would notice.

        After many cancels the loop is being ended: what is left waits for the next advance, or for another worker.
        """
        if flushing.cancelled():
            self._cuts.add()
        if not self._cuts.are_many:
            self._go_on()

    async def _flush(self) -> None:
        """Commits until nothing waits; large values and all others are first by turns, so that neither waits for long.

        While a batch is on its way the runs of the last one bring the next: one queue may never be empty.
        """
        try:
            while self._waiting or self._large:
                queues = (self._large, self._waiting) if self._is_large_next else (self._waiting, self._large)
                self._is_large_next = not self._is_large_next
                self._under_way = self._next_batch(queues[0]) or self._next_batch(queues[1])
                await self._commit(self._under_way)
        except asyncio.CancelledError:
            if not self._is_closed:  # by other code: the commit is repeated, and its fences tell what was applied
                self._waiting.extend(one for one in self._under_way if not one.receiver.is_over)
            raise

    def _next_batch(self, queue: deque[_Waiting]) -> list[_Waiting]:
        batch: list[_Waiting] = []
        size = 0
        while queue and len(batch) < _RUNS and (not batch or size + queue[0].size <= _BYTES):
            one = queue.popleft()
            size += one.size
            batch.append(one)
        return batch

    async def _commit(self, batch: list[_Waiting]) -> None:
        advances = [one.advance for one in batch]
        began = self._runtime.monotonic()
        try:
            verdicts = await retry_while_unavailable(
                self._runtime,
                f"{len(batch)} runs wait with their outcomes",
                lambda: self._store.commit(self._worker_id, advances),
            )
        except Exception as error:  # noqa: BLE001  some row in the batch is at fault: find which
            await self._halve(batch, error)
        else:
            self._answer(batch, verdicts)
            if "lost" in verdicts:
                answered = zip(advances, verdicts, strict=True)
                lost = (advance.run_id for advance, verdict in answered if verdict == "lost")
                tell_lost(self._observers, self._worker_id, lost)
            if self._observers.committed:
                took = timedelta(seconds=self._runtime.monotonic() - began)
                rows = sum(len(advance.rows) for advance in advances)
                event = BatchCommitted(self._worker_id, len(advances), rows, took)
                self._observers.tell(self._observers.committed, event)

    async def _halve(self, batch: list[_Waiting], error: Exception) -> None:
        if len(batch) == 1:
            refused = RefusedError(str(error))
            refused.__cause__ = error
            if not batch[0].receiver.is_over:
                batch[0].receiver.refuse(refused)
            return
        middle = len(batch) // 2
        await self._commit(batch[:middle])
        await self._commit(batch[middle:])

    def _answer(self, batch: list[_Waiting], verdicts: list[Verdict]) -> None:
        for one, verdict in zip(batch, verdicts, strict=True):
            if verdict == "busy":
                if not one.receiver.is_over:
                    self._loop.call_later(_BUSY_PAUSE, self._again, one)
            else:
                one.receiver.settle(verdict)

    def _again(self, one: _Waiting) -> None:
        if self._is_closed:
            if not one.receiver.is_over:
                one.receiver.settle("lost")  # it was in no batch while it paused, so that `close` did not see it
            return
        self._waiting.append(one)
        self._go_on()
