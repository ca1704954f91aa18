"""Four thousand seeded histories: workers that die at any await, answers that are lost, clocks that jump, live burials.

More of them: `make simulate SEEDS=10000`. A failing one is played again, and made smaller, by
`python -m tests.simulation SEED`; the line that it prints belongs in `regressions.toml`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.simulation import loop
from tests.simulation.batch import play_batch
from tests.simulation.digests import FILE, trace_digest
from tests.simulation.loop import LivelockError, VirtualLoop, end_all, pause
from tests.simulation.plan import plan_of
from tests.simulation.reach import missing, missing_of_wide
from tests.simulation.regressions import Regression, command, plan_digest, regressions
from tests.simulation.shrink import failings, shrunk
from tests.simulation.simulated_history import play
from tests.simulation.wide import FIRST

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).resolve().parents[2]
SHARES = 16
SHARE = 250
WIDE_SHARES = 8
WIDE_SHARE = 100
DIGESTS = tomllib.loads(FILE.read_text(encoding="utf-8"))["digests"]


@pytest.mark.parametrize("share", range(SHARES))
def test_i1_to_i10_hold_after_every_transaction_of_four_thousand_histories(
    share: int, tmp_path_factory: pytest.TempPathFactory, testrun_uid: str
) -> None:
    batch = play_batch(share * SHARE, SHARE)

    assert {command(seed): found[:5] for seed, found in batch.failed.items()} == {}
    reached = _together(tmp_path_factory.getbasetemp().parent / f"reached-{testrun_uid}", share, batch.reached)
    if reached is not None:
        assert missing(reached) == []


@pytest.mark.parametrize("share", range(WIDE_SHARES))
def test_i1_to_i10_hold_among_crowds_large_values_other_definitions_and_full_disks(
    share: int, tmp_path_factory: pytest.TempPathFactory, testrun_uid: str
) -> None:
    """The second generation: `make simulate FIRST=1000000 SEEDS=20000` plays more of it."""
    batch = play_batch(FIRST + share * WIDE_SHARE, WIDE_SHARE)

    assert {command(seed): found[:5] for seed, found in batch.failed.items()} == {}
    folder = tmp_path_factory.getbasetemp().parent / f"reached-wide-{testrun_uid}"
    reached = _together(folder, share, batch.reached, WIDE_SHARES)
    if reached is not None:
        assert missing_of_wide(reached) == []


def _together(folder: Path, share: int, reached: Mapping[str, int], shares: int = SHARES) -> Counter[str] | None:
    """What all shares reached, for whoever is the last: they run in any order, in as many processes as there are."""
    folder.mkdir(exist_ok=True)
    written = folder / f"{share}.new"
    written.write_text(json.dumps(reached), encoding="utf-8")
    written.rename(folder / f"{share}.json")
    files = sorted(folder.glob("*.json"))
    if len(files) < shares:
        return None
    whole: Counter[str] = Counter()
    for file in files:
        whole.update(json.loads(file.read_text(encoding="utf-8")))
    return whole


@pytest.mark.parametrize("regression", regressions(), ids=lambda one: f"{one.seed}-{one.why[:30]}")
def test_a_history_that_once_went_wrong_does_so_no_more(regression: Regression) -> None:
    assert failings(regression.seed, regression.without) == [], command(regression.seed, regression.without)


@pytest.mark.parametrize("regression", regressions(), ids=lambda one: f"{one.seed}-{one.why[:30]}")
def test_a_kept_history_is_still_the_one_that_went_wrong(regression: Regression) -> None:
    assert plan_digest(regression.seed, regression.without) == regression.plan, (
        "the generator makes another history of this seed: break what the line says again, and find another one"
    )


@pytest.mark.parametrize("seed", [int(seed) for seed in DIGESTS])
def test_a_seed_is_the_same_history_everywhere(seed: int) -> None:
    assert trace_digest(seed) == DIGESTS[str(seed)]


def test_a_seed_is_the_same_history_in_processes_that_hash_differently() -> None:
    told = [
        subprocess.run(
            [sys.executable, "-m", "tests.simulation.digests", "4000", "12"],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]

    assert told[0].count("\n") == 12
    assert told[0] == told[1]


def test_a_seed_is_the_same_history_twice_in_one_process() -> None:
    first, second = play(7), play(7)

    assert first.trace == second.trace
    assert (first.seconds, first.met) == (second.seconds, second.met)


@pytest.mark.parametrize("seconds", [0, 1e-6])
def test_what_spins_for_ever_is_broken_off(seconds: float) -> None:
    """Whether virtual time stands still meanwhile, or hardly moves."""

    async def spin() -> None:
        while True:
            await pause(seconds)

    spinning = VirtualLoop()
    with pytest.raises(LivelockError, match=r"no end after [\d,]+ turns"):
        spinning.run_until_complete(spin())
    spinning.run_until_complete(end_all([]))
    spinning.close()


def test_a_history_without_an_end_is_a_violation_of_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "MOST_TURNS", 200)

    batch = play_batch(7, 1)

    assert [*batch.failed] == [7]
    assert batch.failed[7][0].startswith("raised: LivelockError: no end after 200 turns")


def test_a_failing_history_is_made_smaller_until_only_what_it_needs_is_left() -> None:
    elements = plan_of(7).elements
    needed = {elements[1], elements[-1]}

    taken_out = shrunk(7, fails=lambda out: not needed & {*out})

    assert {*taken_out} >= {*elements} - needed
    assert plan_of(7, taken_out).elements == [one for one in elements if one in needed]
