"""Runs a demo and verifies its result; the command reads the options."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from stepwell.cli.output import print_json
from stepwell.demo.display import TerminalDisplay
from stepwell.demo.driver import DemoDriver
from stepwell.demo.findings import BAD
from stepwell.demo.verification import Artifacts, Check, check_all, faults_of, kills_of, load_artifacts, ran_again

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepwell.demo.config import DemoConfig, DemoDirectory, Fault
    from stepwell.demo.packages import Package


def run_demo(
    directory: DemoDirectory,
    config: DemoConfig,
    packages: list[Package] | None,
    *,
    as_json: bool,
    faults: Sequence[Fault] = (),
    keeps_store: bool = True,
) -> bool:
    """Runs the demo on these packages, or only checks an earlier one (None); returns whether all checks passed."""
    display = TerminalDisplay(quiet=as_json, keeps_store=keeps_store)
    try:
        return asyncio.run(_run_and_verify(directory, config, packages, faults, display, as_json=as_json))
    except KeyboardInterrupt:
        display.show_stopped(config.store_url(directory))
        raise


async def _run_and_verify(
    directory: DemoDirectory,
    config: DemoConfig,
    packages: list[Package] | None,
    faults: Sequence[Fault],
    display: TerminalDisplay,
    *,
    as_json: bool,
) -> bool:
    seconds = None
    if packages is not None:
        display.show_introduction(len(packages), config, faults)
        with display.live_progress():
            seconds = await DemoDriver(directory, config, packages, display, faults).run()
    return await _verify(directory, config, display, seconds, as_json=as_json)


async def _verify(
    directory: DemoDirectory, config: DemoConfig, display: TerminalDisplay, seconds: float | None, *, as_json: bool
) -> bool:
    with display.status("Auditing the same packages sequentially, then comparing"):
        artifacts = await load_artifacts(directory, config)
        checks = check_all(artifacts)
    if as_json:
        print_json(_summary(artifacts, checks, seconds))
    display.show_result(artifacts, checks, seconds)
    return all(check.passed for check in checks)


def _summary(artifacts: Artifacts, checks: list[Check], seconds: float | None) -> dict[str, Any]:
    """The result of the demo, as it is printed as JSON."""
    lines, reports = artifacts.lines, artifacts.reports
    return {
        "directory": str(artifacts.directory.root),
        "url": artifacts.config.store_url(artifacts.directory),
        "workers": artifacts.config.workers,
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
        "kills": [{"pid": kill.pid, "interrupted": len(kill.interrupted)} for kill in kills_of(lines)],
        "faults": [{"name": name, "in_flight": count} for name, count in faults_of(lines)],
        "ran_again": len(ran_again(lines)),
        "ran": len({line.call for line in lines if line.event == "started"}),
        "checks": [asdict(check) | {"passed": check.passed} for check in checks],
        "passed": all(check.passed for check in checks),
    }
