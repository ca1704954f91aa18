"""What an app sets for its workers, in the units that the engine uses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stepwell.engine.logging_observer import LoggingObserver
from stepwell.engine.observer import Observers

if TYPE_CHECKING:
    from stepwell.store.codec import Codec


def _logging() -> Observers:
    return Observers([LoggingObserver()])


@dataclass(frozen=True, slots=True)
class Settings:
    """Limits and times of one app; `_micros` are microseconds."""

    queue: str
    step_timeout_micros: int
    lease_micros: int
    max_crashes: int
    codec: Codec
    on_drift: str = "warn"
    """What a sub-step does that comes with other arguments than were journaled: `warn`, `fail` or `ignore`."""
    observers: Observers = field(default_factory=_logging)

    @property
    def lease_seconds(self) -> float:
        """How long a worker may be silent."""
        return self.lease_micros / 1_000_000
