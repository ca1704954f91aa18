"""Benchmarks of one thing each, with a table of their own; not part of `python -m benchmarks all`."""
