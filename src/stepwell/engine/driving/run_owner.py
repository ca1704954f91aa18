"""What a drive needs of its owner: a worker's session, or a run in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from stepwell.core.mailbox import MessageName
    from stepwell.engine.driving.channels import Channels
    from stepwell.engine.driving.drive import Drive
    from stepwell.engine.driving.perform import Performer
    from stepwell.engine.driving.room import Room
    from stepwell.engine.observer import Observers
    from stepwell.runtime.protocol import Runtime
    from stepwell.store.codec import Codec
    from stepwell.store.readings import Readings
    from stepwell.store.records import Advance, Found, History, Lease, Verdict, Wanted


class RunOwner(Protocol):
    """The owner of runs that are driven: a worker's session, or a run in memory."""

    runtime: Runtime
    performer: Performer
    observers: Observers
    room: Room
    channels: Channels
    worker_id: str
    codec: Codec
    readings: Readings
    max_crashes: int

    @property
    def is_stopping(self) -> bool:
        """Whether nothing is to be begun any more."""

    def takes_flat(self, drive: Drive) -> bool:
        """Whether the flat path takes over the run, which is about to make its next call; the drive then ends."""

    def commit(self, advance: Advance) -> Awaitable[Verdict]:
        """The verdict on the advance; raises RefusedError."""

    async def reload(self, wanted: Wanted) -> History:
        """The run's past as it is stored now."""

    async def find_messages(self, lease: Lease, after: Mapping[MessageName, int]) -> Found:
        """The run's first unread message of each name behind its number."""

    def child_lane(self, lease: Lease, workflow: str) -> int:
        """The lane of a child of this run."""

    def on_committed(self, advance: Advance, workflow: str, results: Mapping[str, bytes] | None) -> None:
        """Hears of an advance that was committed."""
