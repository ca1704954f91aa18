"""Both real stores against the model: the same calls, the same answers, the same state; and two calls at once."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tests.model.calls import WORKERS, Call, Calls
from tests.model.model import ENDED, Model
from tests.model.stores import Stores

if TYPE_CHECKING:
    from tests.model.stores import Kept

HISTORIES = int(os.environ.get("STEPWELL_MODEL_HISTORIES", "12"))
OFTEN = [*["claim"] * 6, *["commit"] * 7, *["deliver"] * 3, *["commit_again"] * 2, *["time_passes"] * 2]
CALLS = [*OFTEN, "start", "enlist", "cancel", "give_back", "beat", "bury", "retire"]
AT_ONCE = ("claim", "claim", "commit", "commit", "deliver", "cancel", "start")
SETTINGS = settings(
    max_examples=HISTORIES,
    stateful_step_count=50,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
    print_blob=False,
)
reached = Counter[str]()


class OneAfterTheOther(RuleBasedStateMachine):
    """A history of calls to both stores."""

    kinds: tuple[str, ...] = ("sqlite", "postgres")

    def __init__(self) -> None:
        super().__init__()
        self.stores = Stores(self.kinds)
        self.model = Model(self.stores.clock.wall())
        self.calls = Calls(self.model)

    def teardown(self) -> None:
        self.stores.end()

    @initialize()
    def something_to_do(self) -> None:
        self.make(self.calls.enlist_this("ann"))
        self.make(self.calls.enlist_this("bob"))
        self.make(self.calls.start_these(0, [None, "k1", None, None]))
        self.make(self.calls.start_these(1, [None, None]))

    @rule(what=st.sampled_from(CALLS), data=st.data())
    def call(self, what: str, data: st.DataObject) -> None:
        if what == "time_passes":
            self.stores.clock.go_on(data.draw(st.sampled_from([1, 4, 11])))
            self.model.now = self.stores.clock.wall()
            return
        drawn: Call | None = getattr(self.calls, what)(data.draw)
        if drawn is not None:
            self.note(what, self.make(drawn))
            self.look()

    def make(self, call: Call) -> Any:
        expected = call.model(self.model)
        assert self.stores.ask(call.store) == expected
        return expected

    def note(self, what: str, answer: Any) -> None:
        told = answer if what.startswith("commit") else [answer[:2]] if what == "deliver" else [bool(answer)]
        reached.update(f"{what} {one}" for one in told)

    def look(self) -> None:
        """The stores hold what the model holds."""
        runs = self.model.runs
        seen = self.stores.ask(lambda kept: kept.seen(list(runs), WORKERS))
        assert seen["journals"] == {run_id: list(enumerate(run.nodes, 1)) for run_id, run in runs.items()}
        assert seen["mail"] == {
            run_id: (run.mail, [(n, *letter) for n, letter in sorted(run.unread.items())])
            for run_id, run in runs.items()
            if run_id in seen["mail"]
        }
        assert seen["runs"] == {
            run_id: (run.status, run.position, run.awaiting, None if run.worker else run.wake_at, run.new.key)
            for run_id, run in runs.items()
        }
        assert seen["leased"] == {worker: self.model.leased(worker) for worker in WORKERS}
        assert seen["workers"] == set(self.model.workers.items())
        assert all(run.worker is None for run in runs.values() if run.status in ENDED)


class TwoAtOnce(OneAfterTheOther):
    """On PostgreSQL two calls overlap; their answers are those of one order of the two."""

    kinds = ("postgres",)

    @rule(one=st.sampled_from(AT_ONCE), other=st.sampled_from(AT_ONCE), data=st.data())
    def two_calls(self, one: str, other: str, data: st.DataObject) -> None:
        drawn = [
            self.calls.commit(data.draw, most=1) if what == "commit" else getattr(self.calls, what)(data.draw)
            for what in (one, other)
        ]
        both: list[Call] = [call for call in drawn if call is not None]
        answers = self.stores.ask(lambda kept: at_once(kept, both))
        late = [call for call, answer in zip(both, answers, strict=True) if answer == ["busy"]]
        prompt = [(call, answer) for call, answer in zip(both, answers, strict=True) if answer != ["busy"]]
        self.model_takes(prompt)
        for call in late:
            self.make(call)
        reached.update({f"{one} with {other}": 1, "busy": len(late)})
        self.look()

    def model_takes(self, told: list[tuple[Call, Any]]) -> None:
        """Goes on with the first order of the calls that explains the answers."""
        touched = frozenset[str]().union(*(call.touches for call, _ in told))
        for order in (told, told[::-1]):
            for held in (frozenset[str](), touched):
                tried = self.model.copy()
                if all(self.explains(tried, call, answer, held) for call, answer in order):
                    self.model.runs, self.model.workers = tried.runs, tried.workers
                    return
        raise AssertionError(f"no order of the two gives {[answer for _, answer in told]}")

    @staticmethod
    def explains(model: Model, call: Call, answer: Any, held: frozenset[str]) -> bool:
        given = call.model(model) if call.passing_over is None else call.passing_over(model, set(held))
        return bool(given == answer)


async def at_once(kept: Kept, calls: list[Call]) -> list[Any]:
    """The answers to calls that overlap."""
    return list(await asyncio.gather(*(call.store(kept) for call in calls)))


def test_both_stores_answer_as_the_model_does() -> None:
    run_state_machine_as_test(OneAfterTheOther, settings=SETTINGS)
    usual = {"commit ok", "commit lost", "commit mail", "commit_again done", "commit_again lost", "claim True"}
    assert usual <= set(reached)


def test_two_calls_at_once_are_answered_as_one_after_the_other() -> None:
    run_state_machine_as_test(TwoAtOnce, settings=SETTINGS)
    assert reached["claim with commit"] + reached["commit with claim"] > 0
