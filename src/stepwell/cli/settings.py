"""The options that every command accepts, before or after its name: the app, the store and JSON output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable

APP_VARIABLE = "STEPWELL_APP"
URL_VARIABLE = "STEPWELL_URL"

F = TypeVar("F", bound="Callable[..., Any] | click.Command")


@dataclass(slots=True)
class Settings:
    """The values of the shared options; an option after the command takes precedence over one before it."""

    app: str | None = None
    url: str | None = None
    as_json: bool = False
    log_format: str | None = None
    log_level: str | None = None


def shared_options(command: F) -> F:
    """Add `--app`, `--url` and `--json` to a command."""
    return _options(command, from_environment=False)


def root_options(command: F) -> F:
    """Add the same to the root command, with environment variables as their defaults."""
    return _options(command, from_environment=True)


def _options(command: F, *, from_environment: bool) -> F:
    app = click.option(
        "--app",
        metavar="MODULE:ATTR",
        envvar=APP_VARIABLE if from_environment else None,
        help=f"The Durable, or a function that returns one.  [env var: {APP_VARIABLE}]",
        expose_value=False,
        callback=_keep_app,
    )
    url = click.option(
        "--url",
        metavar="URL",
        envvar=URL_VARIABLE if from_environment else None,
        help=f"The store, instead of the app's.  [env var: {URL_VARIABLE}]",
        expose_value=False,
        callback=_keep_url,
    )
    as_json = click.option(
        "--json", is_flag=True, help="Print results and errors as JSON.", expose_value=False, callback=_keep_json
    )
    return app(url(as_json(command)))


def _keep_app(context: click.Context, _option: click.Parameter, value: str | None) -> None:
    if value is not None:
        context.ensure_object(Settings).app = value


def _keep_url(context: click.Context, _option: click.Parameter, value: str | None) -> None:
    if value is not None:
        context.ensure_object(Settings).url = value


def _keep_json(context: click.Context, _option: click.Parameter, value: bool) -> None:  # noqa: FBT001  click passes options by position
    settings = context.ensure_object(Settings)
    settings.as_json = settings.as_json or value
