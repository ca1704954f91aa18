"""The runtime of the system, by the name under which the engine hands it out."""

from __future__ import annotations

from stepwell.runtime.system import SystemRuntime

__all__ = ["SystemRuntime"]
