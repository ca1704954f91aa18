"""KEEP, in one SQLite file or in memory: the store for one machine."""
