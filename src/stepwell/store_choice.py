"""Which store a URL names: the one module that knows the concrete stores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepwell.errors import DefinitionError, DurableError
from stepwell.store.codec import PLAIN
from stepwell.store.sqlite.store import SqliteStore
from stepwell.store.urls import without_password

if TYPE_CHECKING:
    from stepwell.runtime.protocol import Runtime
    from stepwell.store.codec import Codec
    from stepwell.store.protocol import Store


def store_for(url: str, runtime: Runtime, codec: Codec = PLAIN, file_mode: int = 0o600) -> Store:
    """The store that the URL names, not opened; its files get `file_mode`. DefinitionError for a URL of no store."""
    if not isinstance(url, str):
        raise DefinitionError(f"A store's URL is a string, not of type {type(url).__name__}.")
    shown = without_password(url)
    if not shown.isprintable() or "%00" in url:
        raise DefinitionError(f"The store URL {shown!a} has characters in it that no name of a store has.")
    if url.startswith("sqlite://"):
        return SqliteStore(url, runtime, codec, permissions=file_mode)
    if url.startswith(("postgresql://", "postgres://")):
        return _postgres_store(url, runtime, codec)
    known = "sqlite:///file.db, sqlite://, postgresql://host/database"
    raise DefinitionError(f'No store for "{shown}". Known: {known}.')


def chosen_store(url: str | None, store: Store | None, runtime: Runtime, codec: Codec, file_mode: int) -> Store:
    """The store that is given, or the one that the URL names; raises DefinitionError for both and for neither."""
    if store is None:
        if url is None:
            raise DefinitionError("Durable needs a url, as in Durable('sqlite:///shop.db').")
        return store_for(url, runtime, codec, file_mode)
    if url is not None:
        raise DefinitionError(
            f"Durable takes a url or a store, got both: {without_password(str(url))!a} and {store!r}."
        )
    return store


def existing_store(store: Store, runtime: Runtime, *, read_only: bool) -> Store:
    """Another one of the same place, not opened, that creates nothing; with `read_only` a file is only read."""
    if isinstance(store, SqliteStore):
        return store.existing(read_only=read_only)
    return _postgres_store(store.url, runtime, store.codec)


def store_of_child(store: Store, runtime: Runtime) -> Store:
    """Another one of the same place, not opened, for a forked child process; raises DurableError for one in memory."""
    if isinstance(store, SqliteStore) and store.shared:
        return store.again()
    if not store.shared:
        raise DurableError(
            "This Durable's store is in the memory of the process from which this one was forked. "
            "Use a file or PostgreSQL, which processes can share."
        )
    return _postgres_store(store.url, runtime, store.codec)


def _postgres_store(url: str, runtime: Runtime, codec: Codec) -> Store:
    try:
        from stepwell.store.postgres.store import PostgresStore  # noqa: PLC0415  its driver is an extra
    except ModuleNotFoundError as error:
        if error.name != "asyncpg":
            raise
        raise DefinitionError("A store on PostgreSQL needs asyncpg: pip install stepwell[postgres].") from None
    return PostgresStore(url, runtime, codec)
