"""`crash_everywhere`: runs a workflow once for each place where its process can die, and compares the ends."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from stepwell.errors import DefinitionError
from stepwell.testing.bench import MEMORY, Bench, StandstillError
from stepwell.testing.checks import (
    check_count,
    check_function,
    check_mapping,
    check_names,
    check_signals,
    workflows_of,
)
from stepwell.testing.harness import first_instant
from stepwell.testing.life import lives
from stepwell.testing.report import CrashReport, judged
from stepwell.testing.rounds import Round, RoundSetup, view_before
from stepwell.workflow.durations import Duration, micros
from stepwell.workflow.policy import Abort

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from stepwell.testing.ends import End
    from stepwell.workflow.builder import Workflow


async def crash_everywhere(
    workflow: Workflow,
    input: Any = None,
    *,
    workflows: Iterable[Workflow] | Workflow = (),
    fakes: Mapping[str, Any] | None = None,
    signals: Mapping[str, Any] | None = None,
    failing: str | None = None,
    probe: Callable[[], Any] | None = None,
    reset: Callable[[], Any] | None = None,
    awaits: int = 3,
    url: str = MEMORY,
    seed: int = 0,
    patience: Duration = 10,
    **options: Any,
) -> CrashReport:
    """Runs a workflow without a crash, then once for each place where its process can die; returns a `CrashReport`.

    The places are: before the first line of each handler and compensator, at its first `awaits` awaits, after its last
    line, and before and after each commit. At that place the worker freezes and writes nothing more; then another
    worker declares it dead and takes over.

    - `workflows`: the workflows of its children. `fakes`: as in `Harness`.
    - `signals`: payloads by name, sent whenever a run waits for one.
    - `failing`: a handler that aborts, so that the compensators run.
    - `probe`: returns the effects of the handlers outside the run, as JSON. `reset`: restores the initial state before
      each run.
    - `url`: a store for this purpose only. `patience`: as in `Harness`.

    Raises StandstillError if the run without a crash does not end, and DefinitionError for an invalid argument.
    """
    every = tuple({one.name: one for one in workflows_of([workflow, *workflows_of(workflows)])}.values())
    given = _fakes(fakes, failing, every)
    check_signals(signals or {}, every)
    check_count("awaits", awaits)
    _check_outside(probe, reset)
    setup = RoundSetup(workflow, every, input, given, signals or {}, probe, reset, awaits, options)
    began = time.perf_counter()
    benches = _Benches(url, seed, micros(patience, "patience") / 1_000_000)
    ends: dict[str, End] = {}
    async with benches:
        with lives():
            before = await view_before(setup)
            undisturbed = [await _undisturbed(benches, setup) for _ in range(2)]
            for place in undisturbed[0].places:
                ends[place] = await benches.round(setup, place)
    return judged(workflow.name, before, undisturbed, ends, seconds=time.perf_counter() - began)


async def _undisturbed(benches: _Benches, setup: RoundSetup) -> End:
    end = await benches.round(setup, None)
    if end.stuck is not None:
        raise StandstillError(f"The undisturbed run does not end: {end.stuck}.", (end.stuck,))
    return end


def _fakes(fakes: Mapping[str, Any] | None, failing: str | None, workflows: tuple[Workflow, ...]) -> dict[str, Any]:
    """The fakes, with one for the handler that aborts."""
    check_mapping("fakes", fakes or {})
    if failing is None:
        return dict(fakes or {})
    check_names("failing", [failing], workflows)
    return {**(fakes or {}), failing: Abort("failing, as crash_everywhere was asked")}


def _check_outside(probe: object, reset: object) -> None:
    check_function("probe", probe)
    check_function("reset", reset)
    if probe is not None and reset is None:
        raise DefinitionError("crash_everywhere: a probe needs a reset, because the workflow runs many times.")


class _Benches:
    """The benches of the rounds: a new one for each in memory, so that each has the same ids; else one for all."""

    def __init__(self, url: str, seed: int, patience: float) -> None:
        self._url = url
        self._given: dict[str, Any] = {"seed": seed, "begins": first_instant(None), "patience": patience}
        self._rounds = 0
        self._stack = AsyncExitStack()
        self._bench: Bench | None = None

    async def __aenter__(self) -> None:
        if self._url != MEMORY:
            self._bench = await self._stack.enter_async_context(Bench(self._url, **self._given))
            self._bench.clock.logs_runs = False

    async def __aexit__(self, *raised: object) -> None:
        await self._stack.aclose()

    async def round(self, setup: RoundSetup, place: str | None) -> End:
        """Runs one round in its own queue, so that rounds do not affect each other."""
        self._rounds += 1
        queue = f"crash-{self._rounds}"
        if self._bench is not None:
            return await Round(self._bench, setup, queue, place).run()
        async with Bench(self._url, **self._given) as bench:
            bench.clock.logs_runs = False
            return await Round(bench, setup, queue, place).run()
