"""The setting `STEPWELL`, the app that it names, and that app's calls for views: one blocking face a process.

The app itself is left to `manage.py stepwell`, which enters it as a worker. Views use another one over the same store,
so that a handler in a worker can start runs, too.
"""

from __future__ import annotations

import functools
import importlib
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, unquote, urlencode

import django
from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import close_old_connections, connections

from stepwell.app import Durable
from stepwell.blocking import BlockingDurable
from stepwell.errors import DurableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

F = TypeVar("F", bound="Callable[..., Any]")

KNOWN = ("APP", "DATABASE", "SCHEMA")
OF_THE_DRIVER = (
    *("application_name", "connect_timeout", "passfile", "sslcert", "sslcrl", "sslkey", "sslmode", "sslrootcert"),
    "target_session_attrs",
)
"""The OPTIONS of a database that its URL can have, too."""
READS = frozenset({"result", "read_link", "expected_signals", "status", "explain", "explain_many", "list", "journal"})
APART = frozenset({"app", "open", "close", "worker", "schema_status"})
CHANGES = tuple(name for name in vars(BlockingDurable) if name[0] != "_" and name not in READS | APART)
"""The calls that write to the store: all that are not known to leave it as it is."""
_opening = threading.RLock()


def options() -> Mapping[str, Any]:
    """The setting `STEPWELL`; raises ImproperlyConfigured for a key that is not known."""
    given: Mapping[str, Any] = getattr(settings, "STEPWELL", {})
    unknown = sorted(given.keys() - KNOWN)
    if unknown:
        raise ImproperlyConfigured(f'STEPWELL has an unknown key "{unknown[0]}". Known: {", ".join(KNOWN)}.')
    return given


def database() -> str:
    """The alias in `DATABASES` of the database with the runs."""
    return str(options().get("DATABASE", "default"))


def database_url(alias: str | None = None) -> str:
    """The URL of the store in a database of `DATABASES`.

    `alias`: which one; None: `STEPWELL["DATABASE"]`, or else `default`. Raises ImproperlyConfigured for a database that
    is neither SQLite nor PostgreSQL, and for one in memory.
    """
    named = database() if alias is None else alias
    if named not in settings.DATABASES:
        raise ImproperlyConfigured(f'STEPWELL names the database "{named}". Known: {", ".join(settings.DATABASES)}.')
    given = {"HOST": "", "PORT": "", "USER": "", "PASSWORD": "", "OPTIONS": {}, **settings.DATABASES[named]}
    engine, name = str(given["ENGINE"]), str(given["NAME"])
    if "sqlite" in engine or "spatialite" in engine:
        if ":memory:" in name or "mode=memory" in name:
            raise ImproperlyConfigured(f'The database "{named}" is in memory. stepwell needs a file that stays.')
        return f"sqlite:///{quote(str(Path(name).absolute()))}"
    if "postg" not in engine:
        raise ImproperlyConfigured(f'The database "{named}" is {engine}. stepwell needs SQLite or PostgreSQL.')
    return _postgres_url(given, name)


def _postgres_url(given: Mapping[str, Any], name: str) -> str:
    user = quote(str(given["USER"]), safe="")
    password = f":{quote(str(given['PASSWORD']), safe='')}" if given["PASSWORD"] else ""
    host = str(given["HOST"])
    query = {key: str(value) for key, value in given["OPTIONS"].items() if key in OF_THE_DRIVER}
    if host.startswith("/"):
        query["host"], host = host, ""
    address = f"{host}:{given['PORT']}" if host and given["PORT"] else host
    if given["PORT"] and not host:
        query["port"] = str(given["PORT"])
    if "SCHEMA" in options():
        query["schema"] = str(options()["SCHEMA"])
    at = f"{user}{password}@" if user else ""
    return f"postgresql://{at}{address}/{quote(name)}" + (f"?{urlencode(query, quote_via=quote)}" if query else "")


@functools.cache
def app() -> Durable:
    """The app that the settings name, not entered: `STEPWELL["APP"]`, or else one over `database_url()`.

    `manage.py stepwell` uses it. Backends of tasks have added their workflows to it. Raises ImproperlyConfigured.
    """
    if not apps.ready:
        django.setup()
    path = options().get("APP")
    found = Durable(database_url()) if path is None else _imported(str(path))
    if getattr(settings, "TASKS", None) and django.VERSION >= (6, 0):
        from stepwell.ext.django.backend import workflows  # noqa: PLC0415  it needs django.tasks

        for workflow in workflows():
            found.register(workflow)
    return found


def _imported(path: str) -> Durable:
    module, _, names = path.partition(":")
    if not module or not names:
        raise ImproperlyConfigured(f'STEPWELL["APP"] is "{path}". It is written MODULE:ATTR, as in "shop.flows:app".')
    found: Any = importlib.import_module(module)
    for name in names.split("."):
        if not hasattr(found, name):
            raise ImproperlyConfigured(f'STEPWELL["APP"] is "{path}": {module} has no {name}.')
        found = getattr(found, name)
    found = found if isinstance(found, Durable) or not callable(found) else found()
    if not isinstance(found, Durable):
        raise ImproperlyConfigured(f'STEPWELL["APP"] is "{path}": that is of type {type(found).__name__}, no Durable.')
    return found


class Runs(BlockingDurable):
    """The calls of an app for views and scripts, from any thread; made by `runs`.

    On SQLite a call that changes something raises DurableError inside `atomic()` of the same file, since it would wait
    for the transaction that waits for it.
    """


def _checked(name: str) -> Callable[..., Any]:
    call = getattr(BlockingDurable, name)

    @functools.wraps(call)
    def outside_atomic(self: Runs, *args: Any, **options: Any) -> Any:
        _refuse_inside_atomic(self.app.url, name)
        return call(self, *args, **options)

    return outside_atomic


for _name in CHANGES:
    setattr(Runs, _name, _checked(_name))


def _refuse_inside_atomic(url: str, call: str) -> None:
    """Raises DurableError if this thread has a transaction open in the file of the store.

    SQLite has one writer. The transaction has its lock, or will want it after it has read: then either this call waits
    until it gives up, or the transaction fails with "database is locked".
    """
    if not url.startswith("sqlite:"):
        return
    file = os.path.realpath(unquote(url.removeprefix("sqlite:///").partition("?")[0]))
    for connection in connections.all(initialized_only=True):
        name = str(connection.settings_dict["NAME"])
        if connection.vendor == "sqlite" and connection.in_atomic_block and os.path.realpath(name) == file:
            raise DurableError(
                f'{call} inside atomic() would wait for the lock of its own transaction: "{connection.alias}" is the '
                f"same SQLite file. Call it when the transaction has ended: transaction.on_commit(lambda: …)."
            )


@functools.cache
def _opened(queue: str | None) -> Runs:
    found = app()
    _refuse_inside_atomic(found.url, "The first call of runs()")
    other = (
        found.at(found.url) if queue is None else Durable(found.url, map(found.workflow, found.workflows), queue=queue)
    )
    return Runs(other).open()


def runs(queue: str | None = None) -> Runs:
    """The calls of the app for views and scripts, open until the process exits; the first call opens the store.

    `queue`: the queue into which it starts runs; None: the app's. In async views call it in a thread, as in
    `await sync_to_async(lambda: runs().start("order"))()`. Raises what opening a blocking face does, and DurableError
    where the first call would open a SQLite file inside `atomic()`.
    """
    with _opening:
        return _opened(queue)


def fresh_connections(handler: F) -> F:
    """A plain handler that uses Django's ORM: its thread's connections are checked before and after, as for a request.

    Without it a connection that the server has closed meanwhile fails the handler, and one is kept for each thread.
    """

    @functools.wraps(handler)
    def checked(*args: Any, **options: Any) -> Any:
        close_old_connections()
        try:
            return handler(*args, **options)
        finally:
            close_old_connections()

    return checked  # type: ignore[return-value]  # it takes and returns what the handler does
