"""Measurements of stepwell beside the raw limit of its database; nothing here asserts anything about time."""

NAMES = (
    "raw",
    "drain",
    "latency",
    "parked",
    "start_up",
    "history",
    "recovery",
    "writes",
    "crash_everywhere",
    "postgres",
    "fleet",
    "idle",
    "stored",
    "growth",
    "list",
)
"""The benchmarks, each a module with a TITLE, three sizes, and `measure(size)`, which gives the lines of the table."""
