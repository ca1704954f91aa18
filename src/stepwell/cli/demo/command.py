"""The command `stepwell demo`: its options, its order of events and its exit code."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stepwell.cli.demo.packages import find_packages, interpreter_folders
from stepwell.cli.demo.script import Place, Script
from stepwell.cli.problems import CommandError, Exit, Reported
from stepwell.cli.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from stepwell.cli.demo.script import Disturbance

_MOST_KILLS = 50
_MOST_CONCURRENT = 64
_MOST_WORKERS = 16


def _keep_json(context: click.Context, _option: click.Parameter, value: bool) -> None:  # noqa: FBT001  click passes options by position
    settings = context.ensure_object(Settings)
    settings.as_json = settings.as_json or value


@click.command(short_help="Audit the packages installed here, through kill -9.")
@click.option(
    "--kills", type=click.IntRange(0, _MOST_KILLS), default=3, show_default=True, help="How often a worker is killed."
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, _MOST_CONCURRENT),
    default=8,
    show_default=True,
    help="Handlers that a worker runs at a time.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, _MOST_WORKERS),
    default=1,
    show_default=True,
    help="Worker processes at a time.",
)
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the store, the log and the reports are put; a new temporary folder if not given. It must be empty.",
)
@click.option(
    "--path",
    "paths",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    multiple=True,
    help="A folder of packages to audit, instead of this environment's and its base interpreter's. May be repeated.",
)
@click.option("--interactive", is_flag=True, help="Runs with a bad verdict wait for you to accept or refuse it.")
@click.option("--check", "only_check", is_flag=True, help="Only check again what an earlier demo left in --directory.")
@click.option("--json", is_flag=True, expose_value=False, callback=_keep_json, help="Print what it came to as JSON.")
@click.pass_context
def demo(
    context: click.Context,
    *,
    kills: int,
    concurrency: int,
    workers: int,
    directory: Path | None,
    paths: tuple[Path, ...],
    interactive: bool,
    only_check: bool,
) -> None:
    """Audit the Python packages installed on this machine, durably, through kill -9.

    Each package is audited by a run of its own: its files are hashed and compared with its RECORD. Meanwhile a worker
    process is killed with SIGKILL and another one started, again and again. At the end all outcomes are held against a
    plain straight-through computation, the journal, and a log that the handlers keep themselves: it tells what ran
    twice.

    A package whose files are not as recorded fails its run, and its report is withdrawn, which is no failure of the
    demo. The exit code is 1 if any of the checks does not hold.
    """
    as_json = context.ensure_object(Settings).as_json
    if interactive and as_json:
        raise click.UsageError("--interactive asks a person, --json is for machines: one of the two.")
    if only_check:
        place, script = _earlier(directory)
        from stepwell.cli.demo.course import run_demo

        passed = run_demo(place, script, None, as_json=as_json)
    else:
        script = Script(folders_of(paths), kills, concurrency, interactive, workers)
        passed = play_new(script, directory, as_json=as_json)
    if not passed:
        raise Reported(Exit.FAILED)


def folders_of(paths: Iterable[Path]) -> tuple[str, ...]:
    """The folders whose packages are audited: those that were given, else this interpreter's."""
    return tuple(str(folder) for folder in [path.resolve() for path in paths] or interpreter_folders())


def play_new(
    script: Script,
    directory: Path | None,
    *,
    as_json: bool,
    disturbances: Sequence[Disturbance] = (),
    stays: bool = True,
) -> bool:
    """Plays a demo that keeps its files in an empty directory, or a new one; whether all checks hold.

    `stays` says whether the store can still be looked at afterwards.
    """
    packages = find_packages(map(Path, script.folders))
    if not packages:
        raise click.UsageError(f"No installed packages in {', '.join(script.folders)}.")
    place = _new_place(directory)
    script.write(place)
    from stepwell.cli.demo.course import run_demo

    return run_demo(place, script, packages, as_json=as_json, disturbances=disturbances, stays=stays)


def _new_place(directory: Path | None) -> Place:
    if directory is None:
        return Place(Path(tempfile.mkdtemp(prefix="stepwell-demo-")))
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise click.UsageError(
                f"{directory} is not empty: choose a new folder, or look at an earlier demo with --check."
            )
    except OSError as error:
        raise CommandError("directory", f"{directory} cannot be used: {error.strerror}") from error
    return Place(directory.resolve())


def _earlier(directory: Path | None) -> tuple[Place, Script]:
    if directory is None:
        raise click.UsageError("--check needs the --directory of an earlier demo.")
    place = Place(directory.resolve())
    try:
        return place, Script.read(place)
    except (OSError, ValueError, LookupError) as error:
        raise CommandError("no_demo", f"{directory} holds no demo: {error}", Exit.NOT_FOUND) from error
