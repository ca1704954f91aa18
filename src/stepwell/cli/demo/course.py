"""The demo from its opening words to its conclusion; the options are read by the command."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from stepwell.cli.demo.checks import Check, Remains, check_all, disturbances_of, kills_of, ran_again, remains_of
from stepwell.cli.demo.play import Play
from stepwell.cli.demo.screen import Screen
from stepwell.cli.demo.tally import BAD
from stepwell.cli.output import print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepwell.cli.demo.packages import Package
    from stepwell.cli.demo.script import Disturbance, Place, Script


def run_demo(
    place: Place,
    script: Script,
    packages: list[Package] | None,
    *,
    as_json: bool,
    disturbances: Sequence[Disturbance] = (),
    stays: bool = True,
) -> bool:
    """Plays the demo on these packages, or (None) only checks what an earlier one left; whether all checks hold."""
    screen = Screen(quiet=as_json, stays=stays)
    try:
        return asyncio.run(_course(place, script, packages, disturbances, screen, as_json=as_json))
    except KeyboardInterrupt:
        screen.stopped(script.store(place))
        raise


async def _course(
    place: Place,
    script: Script,
    packages: list[Package] | None,
    disturbances: Sequence[Disturbance],
    screen: Screen,
    *,
    as_json: bool,
) -> bool:
    seconds = None
    if packages is not None:
        screen.opening(len(packages), script, disturbances)
        with screen.live():
            seconds = await Play(place, script, packages, screen, disturbances).run()
    return await _conclude(place, script, screen, seconds, as_json=as_json)


async def _conclude(place: Place, script: Script, screen: Screen, seconds: float | None, *, as_json: bool) -> bool:
    with screen.waiting("Now the same straight through, and the comparison"):
        remains = await remains_of(place, script)
        checks = check_all(remains)
    if as_json:
        print_json(_summary(remains, checks, seconds))
    screen.outcome(remains, checks, seconds)
    return all(check.passed for check in checks)


def _summary(remains: Remains, checks: list[Check], seconds: float | None) -> dict[str, Any]:
    """What the demo came to, for machines."""
    lines, reports = remains.lines, remains.reports
    return {
        "directory": str(remains.place.root),
        "url": remains.script.store(remains.place),
        "workers": remains.script.workers,
        "seconds": seconds,
        "packages": len(reports),
        "files": sum(report["files"] for report in reports.values()),
        "bytes": sum(report["bytes"] for report in reports.values()),
        "verdicts": dict(Counter(report["verdict"] for report in reports.values())),
        "bad": [
            {"run_id": run_id, **report["package"], "verdict": report["verdict"], "names": report["names"]}
            for run_id, report in reports.items()
            if report["verdict"] in BAD
        ],
        "kills": [{"pid": kill.pid, "cut_off": len(kill.cut_off)} for kill in kills_of(lines)],
        "disturbances": [{"name": name, "in_flight": count} for name, count in disturbances_of(lines)],
        "ran_again": len(ran_again(lines)),
        "ran": len({line.call for line in lines if line.word == "begun"}),
        "checks": [asdict(check) | {"passed": check.passed} for check in checks],
        "passed": all(check.passed for check in checks),
    }
