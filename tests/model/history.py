"""A history of calls to stores and to the model beside them; whoever draws the calls is elsewhere."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from typing import TYPE_CHECKING, Any

from tests.model.calls import WORKERS, Call, Calls
from tests.model.model import ENDED, FIRST_TURN, Model
from tests.model.stores import Kept, Stores

if TYPE_CHECKING:
    from collections.abc import Collection

    from tests.model.calls import Draw


class History:
    """Two workers and six runs to begin with; `reached` counts what was answered."""

    def __init__(self, *kinds: str) -> None:
        self.reached = Counter[str]()
        self.stores = Stores(kinds)
        self.model = Model(self.stores.clock.wall())
        self.calls = Calls(self.model)
        self.make(self.calls.enlist_this("ann"))
        self.make(self.calls.enlist_this("bob"))
        self.make(self.calls.start_these(0, [None, "k1", None, None]))
        self.make(self.calls.start_these(1, [None, None]))

    def end(self) -> None:
        """Removes the stores."""
        self.stores.end()

    def call(self, what: str, draw: Draw) -> None:
        """One call, and a look at everything after it."""
        if what == "time_passes":
            self.stores.clock.go_on(draw((1, 4, 11)))
            self.model.now = self.stores.clock.wall()
            return
        drawn: Call | None = getattr(self.calls, what)(draw)
        if drawn is not None:
            answer = self.make(drawn)
            told = answer if what.startswith("commit") else [bool(answer)]
            self.reached.update(f"{what} {one}" for one in told)
            self.look()

    def two_calls(self, one: str, other: str, draw: Draw) -> None:
        """Two calls that overlap; what they are answered is what one order of the two would be."""
        drawn = [
            self.calls.commit(draw, most=1) if what == "commit" else getattr(self.calls, what)(draw)
            for what in (one, other)
        ]
        both: list[Call] = [call for call in drawn if call is not None]
        answers = self.stores.ask(lambda kept: at_once(kept, both))
        told = list(zip(both, answers, strict=True))
        # *busy* and *message* leave nothing of a commit, and may only come of the other call's being under way: a
        # message of whatever name that the statement's snapshot lacks refuses a park. Asked again, it is as the model
        # says.
        self._explain([(call, answer) for call, answer in told if answer not in (["busy"], ["message"])])
        for call, answer in told:
            if answer in (["busy"], ["message"]):
                self.make(call)
                self.reached[answer[0]] += 1
        self.reached[f"{one} with {other}"] += 1
        self._take_turns()
        self.look()

    def make(self, call: Call) -> Any:
        """The stores answer as the model does."""
        expected = call.model(self.model)
        assert self.stores.ask(call.store) == expected
        return expected

    def look(self) -> None:
        """The stores hold what the model holds."""
        runs = self.model.runs
        seen = self.stores.ask(lambda kept: kept.seen(list(runs), WORKERS))
        assert seen["journals"] == {run_id: list(enumerate(run.nodes, 1)) for run_id, run in runs.items()}
        assert seen["message"] == {
            run_id: (run.messages, [(n, *message) for n, message in sorted(run.unread.items())])
            for run_id, run in runs.items()
            if run_id in seen["message"]
        }
        assert seen["runs"] == {
            run_id: (
                *(run.status, run.position, run.awaiting, None if run.worker else run.wake_at, run.new.key),
                run.cancel_requested_at,
            )
            for run_id, run in runs.items()
        }
        assert seen["leased"] == {worker: self.model.leased(worker) for worker in WORKERS}
        assert seen["workers"] == set(self.model.workers.items())
        assert all(run.worker is None for run in runs.values() if run.status in ENDED)

    def _take_turns(self) -> None:
        """Goes on with the turns that the store gave: which of two calls at once had the first is its to say."""
        turns = self.stores.ask(Kept.turns)
        due = {run_id for run_id, run in self.model.runs.items() if run.worker is None and (run.due_at or 1) <= 0}
        assert set(turns) == due
        for run_id, turn in turns.items():
            self.model.runs[run_id].due_at = turn
        self.model.turns = max([self.model.turns, *(turn + FIRST_TURN for turn in turns.values())])

    def _explain(self, told: list[tuple[Call, Any]]) -> None:
        """Goes on with the first order of the calls, each with or without what the other held."""
        touched = [call.touches | set(dict(answer[1]) if call.passing_over else ()) for call, answer in told]
        for order in itertools.permutations(range(len(told))):
            for meets in itertools.product((False, True), repeat=len(told)):
                tried = self.model.copy()
                others = [frozenset[str]().union(*touched[:at], *touched[at + 1 :]) for at in range(len(told))]
                given = {at: _gives(tried, told[at][0], others[at] if meets[at] else ()) for at in order}
                if all(_fits(tried, given[at], told[at][1]) for at in order):
                    self.model.runs, self.model.workers, self.model.turns = tried.runs, tried.workers, tried.turns
                    return
        raise AssertionError(f"no order of the two calls gives {[answer for _, answer in told]}")


def _fits(model: Model, given: Any, told: Any) -> bool:
    """Whether the model's answer is the store's.

    On PostgreSQL a start by key writes its runs and then reads how they stand: it may tell of a run that it wrote what
    the other call made of it since.
    """
    if not isinstance(told, list) or not all(isinstance(one, tuple) for one in told):
        return bool(given == told)
    return len(given) == len(told) and all(
        one == other or (one == (other[0], "pending") and model.runs[other[0]].status == other[1])
        for one, other in zip(given, told, strict=True)
    )


def _gives(model: Model, call: Call, held: Collection[str]) -> Any:
    return call.model(model) if call.passing_over is None else call.passing_over(model, set(held))


async def at_once(kept: Kept, calls: list[Call]) -> list[Any]:
    """The answers to calls that overlap."""
    return list(await asyncio.gather(*(call.store(kept) for call in calls)))
