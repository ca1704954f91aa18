"""Many histories one after the other, and what they came to together."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

from tests.simulation.reach import reached_by
from tests.simulation.shrink import raised
from tests.simulation.simulated_history import play


@dataclass(slots=True)
class Batch:
    """How many histories, what they took, what they reached, and which failed with what."""

    histories: int = 0
    runs: int = 0
    looks: int = 0
    virtual: float = 0.0
    cpu: float = 0.0
    reached: Counter[str] = field(default_factory=Counter)
    failed: dict[int, list[str]] = field(default_factory=dict)

    def add(self, other: Batch) -> None:
        """Takes in another batch."""
        self.histories += other.histories
        self.runs += other.runs
        self.looks += other.looks
        self.virtual += other.virtual
        self.cpu += other.cpu
        self.reached.update(other.reached)
        self.failed.update(other.failed)


def play_batch(first: int, count: int) -> Batch:
    """So many histories from this seed on."""
    batch, began = Batch(), time.process_time()
    for seed in range(first, first + count):
        batch.histories += 1
        try:
            ended = play(seed)
        except Exception as error:  # noqa: BLE001  it is told with its seed, and the others are played
            batch.failed[seed] = [raised(error)]
            continue
        batch.runs += len(ended.trace.snapshots)
        batch.looks += ended.looks
        batch.virtual += ended.seconds
        batch.reached.update(reached_by(ended))
        if ended.violations:
            batch.failed[seed] = ended.violations
    batch.cpu = time.process_time() - began
    return batch
