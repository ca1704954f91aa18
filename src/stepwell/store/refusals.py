"""What a store refuses, and its caller can mend."""

from __future__ import annotations


class UnknownLaneError(Exception):
    """A lane is not stored for the run's workflow, as when the tables were emptied or created again.

    No worker could read such a run, so nothing was written; the lane must be defined again.
    """
