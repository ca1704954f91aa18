"""What an app sets for its workers, in the units that the engine uses."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Settings:
    """Limits and times of one app; `_micros` are microseconds."""

    queue: str
    step_timeout_micros: int
    lease_micros: int
    max_crashes: int
    max_value_bytes: int

    @property
    def lease_seconds(self) -> float:
        """How long a worker may be silent."""
        return self.lease_micros / 1_000_000
