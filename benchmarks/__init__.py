"""Measurements of stepwell beside the raw limit of its database and its peers; nothing here asserts a time."""

DETAILS = ("claims", "crash_everywhere", "growth", "idle", "list", "start_up", "writes")
"""Benchmarks of one thing each, in `details`: a module with a TITLE, three sizes, and `measure(size)`."""
