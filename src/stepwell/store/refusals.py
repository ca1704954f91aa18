"""What a store refuses, and whoever asked can mend."""

from __future__ import annotations


class UnknownLaneError(Exception):
    """A lane is not stored for the run's workflow, as when the tables were emptied or made anew.

    Nobody could read such a run, so that nothing was written; the lane must be defined again.
    """
