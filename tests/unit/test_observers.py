"""Which events are made at all: those that some observer would do something with."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from stepwell.engine.logging_observer import LoggingObserver
from stepwell.engine.observer import Observer, Observers


class Counting(Observer):
    def run_ended(self, event: object) -> None:
        """Overrides it, which is enough."""


class HasEveryAttribute:
    """Answers every attribute of an instance, as a mock does."""

    def __getattr__(self, name: str) -> object:
        return bool

    def run_ended(self, event: object) -> None:
        """Overrides it, which is enough."""


@pytest.mark.parametrize("level", [logging.WARNING, logging.INFO])
def test_the_log_hears_of_what_goes_well_from_info_on(level: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(level, logger="stepwell.run")
    observers = Observers([LoggingObserver()])
    assert observers.are_heard(observers.run_started) is (level == logging.INFO)
    assert observers.are_heard(observers.run_ended) is (level == logging.INFO)


@pytest.mark.parametrize("kind", [Counting, HasEveryAttribute])
def test_an_observer_of_the_users_hears_whatever_the_log_does(
    kind: type[Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="stepwell.run")
    observers = Observers([LoggingObserver(), kind()])
    assert observers.are_heard(observers.run_ended)
