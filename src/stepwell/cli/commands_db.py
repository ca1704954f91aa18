"""`db upgrade`, `db status` and `db sql`: the store's tables."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click

from stepwell.cli.loading import app_of_store, settled
from stepwell.cli.output import print_json, remark, say
from stepwell.cli.settings import Settings, shared_options

if TYPE_CHECKING:
    from stepwell import SchemaStatus


@click.group(
    no_args_is_help=False,
    short_help="Inspect, create or upgrade the store's tables.",
    help="""Inspect the tables of the store, or create and upgrade them.

    An app creates and upgrades them itself when it opens the store; use these commands to do it beforehand, for
    example in a deployment.
    """,
    epilog="""\b
    Examples:
      export STEPWELL_URL=sqlite:///shop.db
      stepwell db status
      stepwell db upgrade
      stepwell db sql
    """,
)
@shared_options
def db() -> None:
    """The store's tables."""


@db.command(
    short_help="Create or upgrade the tables.",
    help="Create the tables of the store, or upgrade them to the latest version. Does nothing if they have it.",
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
        say(f"Nothing to do: the tables have the latest version, {after.version}.")


@db.command(
    short_help="Show the version of the tables.",
    help="Show the version of the tables, the version that this stepwell needs, and what an upgrade would do.",
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
        return await (await settled(found, settings)).existing(read_only=True).schema_status()

    found = app_of_store(settings)
    schema = asyncio.run(call())
    if settings.as_json:
        print_json(schema)
        return
    say(f"version  {schema.version} of {schema.latest}")
    say(f"pending  {', '.join(schema.pending) or 'nothing'}")


@db.command(
    short_help="Print the SQL of an upgrade.",
    help="""Print the SQL of an upgrade, so that a database administrator can run it.

    The SQL is one transaction and records the new version. The command does not connect to a database: it takes only
    the kind of store and the schema from the URL.
    """,
    epilog="""\b
    Examples:
      stepwell db sql --url 'postgresql:///?schema=s' | psql -v ON_ERROR_STOP=1
      stepwell db sql --url sqlite:///shop.db | sqlite3 -bail shop.db
      stepwell db sql --from 1
    """,
)
@click.option(
    "--from",
    "after",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="VERSION",
    help="Current version of the tables; 0 if there are none.",
)
@shared_options
@click.pass_obj
def sql(settings: Settings, after: int) -> None:
    """Print the SQL of an upgrade."""

    async def call() -> list[str]:
        return (await settled(found, settings)).schema_sql(after)

    found = app_of_store(settings)
    statements = asyncio.run(call())
    if settings.as_json:
        print_json(statements)
    elif statements:
        say("\n\n".join(["BEGIN;", *map(str.strip, statements), "COMMIT;"]))
    else:
        remark(f"Nothing to do: version {after} is the latest.")
