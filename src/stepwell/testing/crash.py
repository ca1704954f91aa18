"""`crash_everywhere`: a user's workflow, run once for each place where its process can die, and compared."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from stepwell.errors import DefinitionError
from stepwell.testing.bench import MEMORY, Bench, StandstillError
from stepwell.testing.calls import check_names
from stepwell.testing.harness import first_instant
from stepwell.testing.life import lives
from stepwell.testing.report import CrashReport, judged
from stepwell.testing.rounds import Play, Round
from stepwell.workflow.durations import Duration, micros
from stepwell.workflow.policy import Abort

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from stepwell.testing.rounds import End
    from stepwell.workflow.builder import Workflow


async def crash_everywhere(
    workflow: Workflow,
    input: Any = None,
    *,
    workflows: Iterable[Workflow] = (),
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
    """Runs the workflow undisturbed, then once for each place where its process can die, and compares the ends.

    The places: before the first line of each handler and compensator, at the first `awaits` times that it waits for
    something, after its last line, and before and after each commit. At the death all stands still and nothing more is
    written; another worker buries the dead one and takes over. `workflows` are those of its children. `fakes` are as in
    `Harness`, `signals` payloads by name, delivered whenever a run waits for one. The handler `failing` gives up, so
    that places in the compensation are reached, too. `probe()` tells what the handlers did outside, as JSON; `reset()`
    makes the outside new before each run. `url`: a store of its own. Raises StandstillError when the undisturbed run
    does not end.
    """
    every = tuple({one.name: one for one in (workflow, *workflows)}.values())
    given = dict(fakes or {})
    if failing is not None:
        check_names("failing", [failing], every)
        given[failing] = Abort("failing, as crash_everywhere was asked")
    play = Play(workflow, every, input, given, signals or {}, probe, reset, awaits, options)
    if probe is not None and reset is None:
        raise DefinitionError("crash_everywhere: a probe needs a reset, since the workflow is run many times.")
    began = time.perf_counter()
    benches = _Benches(url, seed, micros(patience, "patience") / 1_000_000)
    ends: dict[str, End] = {}
    async with benches:
        with lives():
            undisturbed = [await benches.round(play, None) for _ in range(2)]
            stuck = undisturbed[0].stuck
            if stuck is not None:
                raise StandstillError(f"The undisturbed run does not end: {stuck}.", (stuck,))
            for place in undisturbed[0].places:
                ends[place] = await benches.round(play, place)
    return judged(workflow.name, undisturbed, ends, has_probe=probe is not None, seconds=time.perf_counter() - began)


class _Benches:
    """A bench for each round: of its own in memory, so that each has the same ids; elsewhere one for all."""

    def __init__(self, url: str, seed: int, patience: float) -> None:
        self._url = url
        self._given: dict[str, Any] = {"seed": seed, "begins": first_instant(None), "patience": patience}
        self._rounds = 0
        self._stack = AsyncExitStack()
        self._bench: Bench | None = None

    async def __aenter__(self) -> None:
        if self._url != MEMORY:
            self._bench = await self._stack.enter_async_context(Bench(self._url, **self._given))

    async def __aexit__(self, *raised: object) -> None:
        await self._stack.aclose()

    async def round(self, play: Play, place: str | None) -> End:
        """Plays one round in a queue of its own, so that it never meets what another left behind."""
        self._rounds += 1
        queue = f"crash-{self._rounds}"
        if self._bench is not None:
            return await Round(self._bench, play, queue, place).play()
        async with Bench(self._url, **self._given) as bench:
            return await Round(bench, play, queue, place).play()
