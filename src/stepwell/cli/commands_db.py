"""`db upgrade` and `db status`: the store's tables."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click

from stepwell.cli.loading import app_of_store, settled
from stepwell.cli.output import print_json, say
from stepwell.cli.settings import Settings, shared_options

if TYPE_CHECKING:
    from stepwell import SchemaStatus


@click.group(
    no_args_is_help=False,
    short_help="The store's tables.",
    help="""Look at the tables of the store, or create and upgrade them.

    An app does the same by itself when it opens the store; here it can be done beforehand, as when deploying.
    """,
    epilog="""\b
    Examples:
      export STEPWELL_URL=sqlite:///shop.db
      stepwell db status
      stepwell db upgrade
    """,
)
@shared_options
def db() -> None:
    """The store's tables."""


@db.command(
    short_help="Create or upgrade the tables.",
    help="Create the tables of the store, or upgrade them to what this stepwell needs. Does nothing if they are.",
    epilog="""\b
    Examples:
      export STEPWELL_URL=sqlite:///shop.db
      stepwell db upgrade
    """,
)
@shared_options
@click.pass_obj
def upgrade(settings: Settings) -> None:
    """Create or upgrade the tables."""

    async def call() -> tuple[SchemaStatus, SchemaStatus]:
        app = await settled(found, settings)
        before = await app.schema_status()
        await app.ensure_tables()
        return before, await app.schema_status()

    found = app_of_store(settings)
    before, after = asyncio.run(call())
    if settings.as_json:
        print_json(after)
    elif before.pending:
        say(f"Upgraded from version {before.version} to {after.version}: {', '.join(before.pending)}.")
    else:
        say(f"Nothing to do: the tables have version {after.version}, the latest.")


@db.command(
    short_help="The version of the tables.",
    help="Show which version the tables have, which one this stepwell needs, and what an upgrade would do.",
    epilog="""\b
    Examples:
      export STEPWELL_URL=sqlite:///shop.db
      stepwell db status
    """,
)
@shared_options
@click.pass_obj
def status(settings: Settings) -> None:
    """Show the version of the tables."""

    async def call() -> Any:
        return await (await settled(found, settings)).schema_status()

    found = app_of_store(settings)
    schema = asyncio.run(call())
    if settings.as_json:
        print_json(schema)
        return
    say(f"version  {schema.version} of {schema.latest}")
    say(f"pending  {', '.join(schema.pending) or 'nothing'}")
