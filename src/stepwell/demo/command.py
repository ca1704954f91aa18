"""The command `stepwell demo`: its options and its exit code."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stepwell.cli.problems import CommandError, Exit, Reported
from stepwell.cli.settings import Settings
from stepwell.demo.config import DemoConfig, DemoDirectory
from stepwell.demo.packages import find_packages, interpreter_folders

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from stepwell.demo.config import Fault

_MAX_KILLS = 50
_MAX_CONCURRENCY = 64
_MAX_WORKERS = 16


def _keep_json(context: click.Context, _option: click.Parameter, value: bool) -> None:  # noqa: FBT001  click passes options by position
    settings = context.ensure_object(Settings)
    settings.as_json = settings.as_json or value


@click.command(short_help="Audit the installed packages while workers are killed.")
@click.option(
    "--kills",
    type=click.IntRange(0, _MAX_KILLS),
    default=3,
    show_default=True,
    help="How often to kill a worker.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, _MAX_CONCURRENCY),
    default=8,
    show_default=True,
    help="Handlers that each worker runs concurrently.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, _MAX_WORKERS),
    default=1,
    show_default=True,
    help="Worker processes that run concurrently.",
)
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Empty or new directory for the store, the log and the reports. Default: a new temporary directory.",
)
@click.option(
    "--path",
    "paths",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    multiple=True,
    help="Directory of packages to audit. Default: this environment's and its base interpreter's. Repeatable.",
)
@click.option("--interactive", is_flag=True, help="Let runs with a bad verdict wait until you accept or reject it.")
@click.option("--check", "only_check", is_flag=True, help="Only verify again what an earlier demo left in --directory.")
@click.option("--json", is_flag=True, expose_value=False, callback=_keep_json, help="Print the result as JSON.")
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
    """Audit the Python packages installed on this machine while the workers are killed.

    One run audits one package: it hashes the package's files and compares them with its RECORD. Meanwhile the demo
    kills worker processes with SIGKILL and starts new ones. At the end it compares all results with a sequential
    computation, with the journal, and with a log that the handlers write themselves, which shows what ran twice.

    If the files of a package differ from its RECORD, the run fails and its report is withdrawn; the demo still
    succeeds. The exit code is 1 if a check fails.
    """
    as_json = context.ensure_object(Settings).as_json
    if interactive and as_json:
        raise click.UsageError("--interactive and --json cannot be used together.")
    if only_check:
        demo_directory, config = _earlier_demo(directory)
        from stepwell.demo.run_demo import run_demo

        passed = run_demo(demo_directory, config, None, as_json=as_json)
    else:
        config = DemoConfig(folders_of(paths), kills, concurrency, interactive, workers)
        passed = run_new_demo(config, directory, as_json=as_json)
    if not passed:
        raise Reported(Exit.FAILED)


def folders_of(paths: Iterable[Path]) -> tuple[str, ...]:
    """The folders whose packages are audited: `paths`, or this interpreter's if `paths` is empty."""
    return tuple(str(folder) for folder in [path.resolve() for path in paths] or interpreter_folders())


def run_new_demo(
    config: DemoConfig,
    directory: Path | None,
    *,
    as_json: bool,
    faults: Sequence[Fault] = (),
    keeps_store: bool = True,
) -> bool:
    """Runs a demo in an empty directory, or in a new one (None); returns whether all checks passed.

    `keeps_store` says whether the store can still be read afterwards.
    """
    packages = find_packages(map(Path, config.folders))
    if not packages:
        raise click.UsageError(f"No installed packages found in {', '.join(config.folders)}.")
    demo_directory = _new_directory(directory)
    config.write(demo_directory)
    from stepwell.demo.run_demo import run_demo

    return run_demo(demo_directory, config, packages, as_json=as_json, faults=faults, keeps_store=keeps_store)


def _new_directory(directory: Path | None) -> DemoDirectory:
    if directory is None:
        return DemoDirectory(Path(tempfile.mkdtemp(prefix="stepwell-demo-")))
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise click.UsageError(
                f"Directory {directory} is not empty. Choose a new one, or verify an earlier demo with --check."
            )
    except OSError as error:
        raise CommandError("directory", f"Cannot use directory {directory}: {error.strerror}.") from error
    return DemoDirectory(directory.resolve())


def _earlier_demo(directory: Path | None) -> tuple[DemoDirectory, DemoConfig]:
    if directory is None:
        raise click.UsageError("--check requires --directory with the directory of an earlier demo.")
    demo_directory = DemoDirectory(directory.resolve())
    try:
        return demo_directory, DemoConfig.read(demo_directory)
    except (OSError, ValueError, LookupError) as error:
        raise CommandError("no_demo", f"No demo found in {directory}: {error}", Exit.NOT_FOUND) from error
