"""The parts of `scripts/torture.py`: the workers of workers, what they run, and the client that troubles their runs."""
