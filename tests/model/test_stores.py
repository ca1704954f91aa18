"""Both real stores against the model: the same calls, the same answers, the same state; and two calls at once."""

from __future__ import annotations

import os
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from tests.model.history import History

if TYPE_CHECKING:
    from collections.abc import Sequence

HISTORIES = int(os.environ.get("STEPWELL_MODEL_HISTORIES", "12"))
STEPS = 40
OFTEN = [*["claim"] * 6, *["commit"] * 7, *["deliver"] * 5, *["commit_again"] * 2, *["time_passes"] * 2]
CALLS = [*OFTEN, *["request_cancel"] * 2, "start", "enlist", "cancel", "give_back", "beat", "expire", "retire"]
AT_ONCE = ["claim", "claim", "commit", "commit", "deliver", "cancel", "request_cancel", "start"]
reached = Counter[str]()


class OneAfterTheOther(RuleBasedStateMachine):
    """A history of calls to both stores."""

    def __init__(self) -> None:
        super().__init__()
        self.history = History("sqlite", "postgres")

    def teardown(self) -> None:
        reached.update(self.history.reached)
        self.history.end()

    @rule(what=st.sampled_from(CALLS), data=st.data())
    def call(self, what: str, data: st.DataObject) -> None:
        def draw(among: Sequence[Any]) -> Any:
            return data.draw(st.sampled_from(among))

        self.history.call(what, draw)


def test_both_stores_answer_as_the_model_does() -> None:
    run_state_machine_as_test(
        OneAfterTheOther,
        settings=settings(
            max_examples=HISTORIES,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert {
        "commit ok",
        "commit lost",
        "commit message",
        "commit cancel",
        "commit_again done",
        "commit_again lost",
    } <= set(reached)


@pytest.mark.parametrize("seed", range(HISTORIES))
def test_two_calls_at_once_on_postgres_are_answered_as_one_after_the_other(seed: int) -> None:
    """Which of the two is first is the server's to say, so a history is drawn by a seed, and told when it fails."""
    chance = random.Random(seed)
    history = History("postgres")
    try:
        for _ in range(STEPS):
            if chance.random() < 0.5:
                history.two_calls(chance.choice(AT_ONCE), chance.choice(AT_ONCE), chance.choice)
            else:
                history.call(chance.choice(CALLS), chance.choice)
        assert sum(times for what, times in history.reached.items() if " with " in what) > STEPS / 4
    finally:
        history.end()
