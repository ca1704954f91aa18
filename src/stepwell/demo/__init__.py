"""`stepwell demo`: audits installed packages, kills its own workers meanwhile, and verifies the result."""

from stepwell.demo.command import demo

__all__ = ["demo"]
