"""Where a store is, as its URL says it; nothing connects here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit, urlunsplit

from stepwell.errors import DefinitionError
from stepwell.store.urls import without_password

if TYPE_CHECKING:
    from collections.abc import Mapping

_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:@/,\[\]]+):[0-9]{1,5}")
_OPTION = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_NUMBER = re.compile(r"[0-9]{1,6}")
_OF_THE_SERVER = re.compile(r"(?:-c\s*|--)([A-Za-z0-9_.-]+)=((?:\\.|\S)*)")
_OURS = {"schema", "pooled", "listen", "connections", "connect_timeout"}
_NEEDED = {
    "default_transaction_isolation": ("read committed",),
    "default_transaction_read_only": ("off", "false", "no", "0"),
    "client_encoding": ("utf8", "utf-8"),
    "replication": ("off", "false", "no", "0"),
    "target_session_attrs": ("any", "primary", "read-write"),
}
"""What stepwell is wrong without: another value is refused. All else that a URL sets is the user's own choice."""
FEWEST, USUAL, MOST = 2, 10, 100
_APART = 2
"""Connections that are no calls': one to be notified, one for a worker's beat."""


class Location(NamedTuple):
    """The driver's DSN of each host, the schema of the tables, the DSN for notifications, the URL without password.

    `pooled`: a pooler in transaction mode stands between, which keeps nothing from one transaction to the next, so
    that notifications are only heard where `listen_dsn` is the server itself. `options`: what the URL sets, by name.
    """

    dsns: tuple[str, ...]
    schema: str
    safe_url: str
    pooled: bool = False
    listen_dsn: str | None = None
    options: Mapping[str, str] = {}
    connections: int = USUAL
    connect_seconds: float | None = None

    def __repr__(self) -> str:
        return f"<Location {self.safe_url}>"

    @property
    def several(self) -> bool:
        """Whether one of several hosts is to be found that takes writes."""
        return len(self.dsns) > 1 or "," in self.options.get("host", "")

    @property
    def for_calls(self) -> int:
        """How many connections calls may have at once."""
        return max(self.connections - _APART, 1)

    @property
    def notified(self) -> bool:
        """Whether there is a connection for notifications."""
        return self.connections > _APART

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
    theirs = [(name, value) for name, value in given if name not in _OURS]
    schema = ours.get("schema", "stepwell")
    if not _SCHEMA.fullmatch(schema):
        raise DefinitionError(f'The schema "{schema}" is not a name of lower-case letters, digits and _.')
    pooled = ours.get("pooled", "false")
    if pooled not in {"true", "false"}:
        raise DefinitionError(f'The store\'s URL says pooled="{pooled}". Known: true, false.')
    listen = ours.get("listen")
    if listen is not None and not _ADDRESS.fullmatch(listen):
        raise DefinitionError(f'The store\'s URL says listen="{listen}". It is the HOST:PORT of the server itself.')
    parts = parts._replace(scheme="postgresql", query=urlencode(theirs, quote_via=quote))
    user, at, hosts = parts.netloc.rpartition("@")
    return Location(
        tuple(_dsn(url, parts, user + at, host) for host in hosts.split(",")),
        schema,
        without_password(url),
        pooled == "true",
        None if listen is None else _dsn(url, parts, user + at, listen),
        _options(theirs),
        _number("connections", ours.get("connections"), FEWEST, MOST) or USUAL,
        _number("connect_timeout", ours.get("connect_timeout"), 1, 3600),
    )


def _options(given: list[tuple[str, str]]) -> dict[str, str]:
    """What the URL sets, also by `options=-c name=value`; raises DefinitionError for what would break stepwell."""
    options = dict(given)
    for name, value in _OF_THE_SERVER.findall(options.get("options", "")):
        options.setdefault(name.replace("-", "_"), value.replace("\\", ""))
    folded = {name.lower(): value for name, value in options.items()}
    for name, known in _NEEDED.items():
        if name in folded and folded[name].lower() not in known:
            raise DefinitionError(f'The store\'s URL says {name}="{folded[name]}". Accepted: {", ".join(known)}.')
    return folded


def _number(name: str, given: str | None, least: int, most: int) -> int | None:
    if given is None:
        return None
    if not _NUMBER.fullmatch(given) or not least <= int(given) <= most:
        raise DefinitionError(f'The store\'s URL says {name}="{given}". Accepted: {least} to {most}.')
    return int(given)


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
