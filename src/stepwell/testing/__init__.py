"""Tools for testing workflows; running workflows does not need or import them."""

from stepwell.testing.bench import StandstillError
from stepwell.testing.calls import Call
from stepwell.testing.crash import crash_everywhere
from stepwell.testing.harness import Harness
from stepwell.testing.report import CrashPoint, CrashReport

__all__ = ["Call", "CrashPoint", "CrashReport", "Harness", "StandstillError", "crash_everywhere"]
