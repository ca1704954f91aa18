"""What an engine asks of a store, and what the edges may read of it; a store keeps, and never decides.

Rule 1: every method is exactly one transaction, and is retried whole; ids are made by the caller before the first try,
so a lost answer is safe. Rule 2: a commit names worker, token and journal length as captured at the claim, and is
answered run by run. Rule 3: what comes from outside a run is a message in its mailbox; a decision that rests on the
absence of a message names it, and is refused when one of that name came; other names do not touch it. Rule 4: what is
due is judged by the store's clock. Instants are microseconds since 1970.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from stepwell.store.records import CLAIM_BYTES, LOAD_BYTES, NO_OFFER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stepwell.core.mailbox import MessageName
    from stepwell.store.codec import Codec
    from stepwell.store.reading import Reader
    from stepwell.store.records import (
        Advance,
        Claimed,
        Definition,
        Delivered,
        Found,
        History,
        Lease,
        NewRun,
        Offer,
        Started,
        Verdict,
        Wanted,
        WorkerRow,
    )


class HeartbeatConnection(Protocol):
    """A worker's own connection for its beat, used by one thread."""

    def beat(self) -> dict[str, int] | None:
        """Says that the worker lives; gives the runs leased to it with their tokens, or None: it was declared dead."""

    def close(self) -> None:
        """Closes the connection."""


class SchemaStore(Protocol):
    """What opening a store and making its tables asks of it."""

    url: str
    codec: Codec
    """What makes its bytes of failures, and reads them."""
    latest: int
    """The newest schema version this store knows."""

    async def open(self) -> None:
        """Connects; raises StoreUnavailableError or SchemaError."""

    async def close(self) -> None:
        """Disconnects; what was acknowledged stays, and a call that comes later raises StoreUnavailableError.

        When it is cancelled, what is open closes by itself; it may be called again, to wait for that.
        """

    async def migrate(self) -> None:
        """Creates or upgrades the tables; other processes may do the same at the same time."""

    async def schema(self) -> tuple[int, tuple[str, ...]]:
        """The stored schema version, and the names of the migrations it lacks."""

    def statements(self, after: int) -> list[str]:
        """What `migrate` runs on tables of that version, in order; connects to nothing."""


class ClientStore(Protocol):
    """What those ask who start runs, send them signals, cancel them and look at them."""

    url: str

    @property
    def reader(self) -> Reader:
        """What the edges read."""

    async def define(self, definitions: Sequence[Definition]) -> list[int]:
        """The lanes' numbers, in order; unknown ones are stored with their definitions."""

    async def start(self, runs: Sequence[NewRun]) -> list[Started]:
        """Writes runs and makes them due, all or none; of a known key gives the first run; or UnknownLaneError."""

    async def deliver(
        self, run_id: str, name: str, value: bytes, *, key: str | None, waiting_only: bool, receipt: bytes | None = None
    ) -> Delivered | None:
        """Puts a signal into the run's mailbox; None when there is no such run.

        `receipt` is kept with the message, and stays when its value has been used.
        """

    async def cancel(self, run_id: str) -> list[str] | None:
        """Cancels the run and its descendants that have not ended; their ids, or None when there is no such run."""

    async def request_cancel(self, run_id: str) -> list[str] | None:
        """Notes that the run and its descendants that have not ended are to be undone, and canceled then.

        Those of them that no worker holds and that wait for no child are due at once. One that compensates already, or
        of which that was noted before, does not change. The ids of the others, or None when there is no such run.
        """


class WorkerStore(Protocol):
    """What a worker asks: to be registered, runs to drive, and to have its advances kept."""

    async def enlist(self, worker_id: str, host: str, offer: Offer = NO_OFFER) -> HeartbeatConnection:
        """Registers a worker, alive from now on, with what it serves."""

    async def serve(self, worker_id: str, lanes: Sequence[int]) -> None:
        """Notes that a registered worker serves these lanes now."""

    async def claim(
        self,
        worker_id: str,
        lanes: Sequence[int],
        limit: int,
        suspects: int,
        *,
        worst: bool = True,
        timers_first: bool = False,
        most_bytes: int = CLAIM_BYTES,
    ) -> Claimed:
        """Leases up to `limit` due runs of these lanes, one at least, and more while their inputs are within the bytes.

        What is due at once, and timers that are over, are each taken in their order, half of the room for each; an odd
        one, and the first of all, is as `timers_first` says. `suspects` runs may have crashed two workers; one that
        crashed more may come as the only suspect of the claim, and only if the `worst` may come at all.
        """

    async def load(self, wanted: Sequence[Wanted], most_bytes: int = LOAD_BYTES) -> Mapping[str, History]:
        """The past of the first of these claimed runs, as many as the bytes allow, one at least; messages first."""

    async def find_messages(self, lease: Lease, after: Mapping[MessageName, int]) -> Found:
        """The first unread message of each name behind its number; they are counted before the mailbox is read."""

    async def commit(self, worker_id: str, advances: Sequence[Advance]) -> list[Verdict]:
        """Applies each advance whose run is still owned as it says; answers in order."""

    async def give_back(self, worker_id: str, tokens: Mapping[str, int], delay: int = 0) -> None:
        """Frees runs leased to the worker under these tokens that it does not drive; due after `delay`, no blame."""

    async def park_damaged(self, worker_id: str, lease: Lease, reason: str, validator: str) -> int:
        """Gives back a run whose rows cannot be understood, due after a minute, or twice as long as the last time.

        Its status stays; `reason` and `validator`, the release and definition that refused them, are kept until a
        commit finds that the run is understood. The delay grows up to an hour. How many times it was parked since it
        was last understood; 0: the worker did not own it any more.
        """

    async def recheck_damaged(self, lanes: Sequence[int], validator: str) -> int:
        """Makes due at once the damaged runs of these lanes that another validator has parked; how many."""

    async def retire(self, worker_id: str) -> None:
        """Removes a worker and frees what it still holds, without blame."""


class FleetStore(Protocol):
    """What those ask who judge whether workers live, and free the runs of the dead."""

    shared: bool
    """Whether other processes can write to it, so that a worker must beat and look for their changes."""
    sees_death: bool
    """Whether it tells at once that a worker's process is gone, so that looking often pays."""

    async def workers(self) -> list[WorkerRow]:
        """Every registered worker; with `dead` set, also each that holds runs without being registered."""

    async def expire(self, worker_id: str, silent_for: int | None) -> int | None:
        """Removes a dead worker and frees its runs, counting the crash; `silent_for` is checked again, None: certain.

        The number of runs freed; None if it is alive after all, or was declared dead before.
        """

    async def sweep(self) -> int:
        """Makes due every run that should move but that nothing would move; how many."""


class Store(SchemaStore, ClientStore, WorkerStore, FleetStore, Protocol):
    """A whole store."""
