"""`stepwell demo`: real work, killed in the middle of it, and held against the truth; only the command is exported."""

from stepwell.cli.demo.command import demo

__all__ = ["demo"]
