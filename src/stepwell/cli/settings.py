"""The options every command takes, before or after its name: which app, which store, output for whom."""

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
    """What `--app`, `--url` and `--json` said; what stands after the command beats what stands before it."""

    app: str | None = None
    url: str | None = None
    as_json: bool = False
    log_format: str | None = None
    log_level: str | None = None


def shared_options(command: F) -> F:
    """Give a command `--app`, `--url` and `--json`."""
    return _options(command, from_environment=False)


def root_options(command: F) -> F:
    """Give the root command the same, read from the environment where they are not on the line."""
    return _options(command, from_environment=True)


def _options(command: F, *, from_environment: bool) -> F:
    app = click.option(
        "--app",
        metavar="MODULE:ATTR",
        envvar=APP_VARIABLE if from_environment else None,
        help=f"The Durable, or a function giving one.  [env var: {APP_VARIABLE}]",
        expose_value=False,
        callback=_keep_app,
    )
    url = click.option(
        "--url",
        metavar="URL",
        envvar=URL_VARIABLE if from_environment else None,
        help=f"The store; beats the app's own.  [env var: {URL_VARIABLE}]",
        expose_value=False,
        callback=_keep_url,
    )
    as_json = click.option(
        "--json", is_flag=True, help="Print JSON, errors too.", expose_value=False, callback=_keep_json
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
