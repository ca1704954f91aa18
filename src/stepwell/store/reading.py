"""What the edges may read of a store, and what only reads of an engine; nothing here changes anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stepwell.core.journal import JournalRow
    from stepwell.core.statuses import Status
    from stepwell.store.records import Changes, Filter, KeyedMessage, Leased, Page, Situation, Snapshot


class Reader(Protocol):
    """What the edges read; every method sees one moment of the store."""

    async def snapshot(self, run_id: str) -> Snapshot | None:
        """The run with its journal and children."""

    async def result(self, run_id: str) -> Snapshot | None:
        """The run with its journal, without its children and messages: what tells the results of one that has ended."""

    async def journal(self, run_id: str) -> list[JournalRow] | None:
        """The run's journal in order; None when there is no such run."""

    async def page(self, wanted: Filter) -> Page:
        """Runs, newest first, without inputs."""

    async def situation(self, run_ids: Sequence[str]) -> Situation:
        """What tells why these runs do not move; those that are not stored are left out."""

    async def ended(self, run_ids: Sequence[str]) -> Mapping[str, Status | None]:
        """Those of the runs that have ended, with their status; None for one that is not stored."""

    async def keyed_message(self, run_id: str, key: str) -> KeyedMessage | None:
        """The message by which the run accepted this key; None when there is none."""

    async def outline(self, lane: int) -> bytes | None:
        """The outline of the workflow whose runs wait in this lane."""

    async def lane(self, run_id: str) -> int | None:
        """The lane of a run; None when there is no such run."""

    async def leased(self, worker_id: str) -> Leased:
        """The runs leased to a worker."""

    async def changed(self) -> Changes | None:
        """What other processes may have changed since the last call, anything when in doubt; None: nothing; cheap."""
