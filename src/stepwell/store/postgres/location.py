"""Where a store is, as its URL says it; nothing connects here."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit, urlunsplit

from stepwell.errors import DefinitionError
from stepwell.store.urls import without_password

_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:@/,\[\]]+):[0-9]{1,5}")
_OPTION = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_OURS = {"schema", "pooled", "listen"}


class Location(NamedTuple):
    """The driver's DSN of each host, the schema of the tables, the DSN for notifications, the URL without password.

    `pooled`: a pooler in transaction mode stands between, which keeps nothing from one transaction to the next, so
    that notifications are only heard where `listen_dsn` is the server itself.
    """

    dsns: tuple[str, ...]
    schema: str
    safe_url: str
    pooled: bool = False
    listen_dsn: str | None = None

    def __repr__(self) -> str:
        return f"<Location {self.safe_url}>"

    @property
    def several(self) -> bool:
        """Whether one of several hosts is to be found that takes writes."""
        return len(self.dsns) > 1

    def to_listen(self) -> Location:
        """Where notifications are sent and heard."""
        return self if self.listen_dsn is None else self._replace(dsns=(self.listen_dsn,), pooled=False)


def location_of(url: str) -> Location:
    """Reads `postgresql://user@host,host/database?schema=…&pooled=…&listen=…`; other options are the driver's."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise _unreadable(url) from None
    given = parse_qsl(parts.query, keep_blank_values=True)
    if parts.fragment or "@" in parts.path or not all(_OPTION.fullmatch(name) for name, _ in given):
        raise _unreadable(url)  # pieces of a password whose special characters are not escaped
    ours = {name: value for name, value in given if name in _OURS}
    schema = ours.get("schema", "stepwell")
    if not _SCHEMA.fullmatch(schema):
        raise DefinitionError(f'The schema "{schema}" is not a name of lower-case letters, digits and _.')
    pooled = ours.get("pooled", "false")
    if pooled not in {"true", "false"}:
        raise DefinitionError(f'The store\'s URL says pooled="{pooled}". Known: true, false.')
    listen = ours.get("listen")
    if listen is not None and not _ADDRESS.fullmatch(listen):
        raise DefinitionError(f'The store\'s URL says listen="{listen}". It is the HOST:PORT of the server itself.')
    rest = urlencode([(name, value) for name, value in given if name not in _OURS], quote_via=quote)
    parts = parts._replace(scheme="postgresql", query=rest)
    user, at, hosts = parts.netloc.rpartition("@")
    return Location(
        tuple(_dsn(url, parts, user + at, host) for host in hosts.split(",")),
        schema,
        without_password(url),
        pooled == "true",
        None if listen is None else _dsn(url, parts, user + at, listen),
    )


def _dsn(url: str, parts: SplitResult, user: str, host: str) -> str:
    dsn = parts._replace(netloc=user + host)
    try:
        _ = dsn.port
    except ValueError:
        raise _unreadable(url) from None
    return urlunsplit(dsn)


def _unreadable(url: str) -> DefinitionError:
    """Says nothing of what was read so far: it may be a piece of a password."""
    advice = "special characters in a name or password are written as %XX"
    return DefinitionError(f"The store's URL {without_password(url)} cannot be read; {advice}.")
