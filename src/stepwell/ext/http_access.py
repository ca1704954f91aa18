"""What an HTTP interface to runs needs in any framework: identities, their keys, statuses of errors, JSON of runs.

Keys of different identities never meet: the name's `/` and `%` are escaped, and a name that is a prefix of the keys
that stepwell makes itself is escaped, too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeAlias

from stepwell.errors import (
    DefinitionError,
    DurableError,
    Failure,
    PayloadError,
    RunCanceledError,
    RunFailedError,
    RunNotFoundError,
    SchemaError,
    StoreUnavailableError,
    WorkflowNotRegisteredError,
)
from stepwell.reading.records import Entry, RunSnapshot
from stepwell.workflow.builder import Workflow
from stepwell.workflow.plain_json import encoded_for_display

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_KEY = 255
"""Characters of an Idempotency-Key."""
_STATUSES: Mapping[type[DurableError], int] = {
    RunNotFoundError: 404,
    WorkflowNotRegisteredError: 404,
    RunFailedError: 409,
    RunCanceledError: 409,
    PayloadError: 422,
    DefinitionError: 422,
    StoreUnavailableError: 503,
    SchemaError: 503,
}
INTERNAL = 500
_RESERVED = frozenset({"url", "event", "undo"})
"""Names that are prefixes of keys that stepwell makes itself."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The caller of an HTTP interface, as the app's `auth` found it. Frozen.

    - `name`: unique among callers; the keys that they give are kept apart by it.
    - `roles`: strings that `may` can decide by.
    """

    name: str
    roles: Collection[str] = ()


May: TypeAlias = Callable[[Identity, str, RunSnapshot | Workflow[Any]], bool | Awaitable[bool]]
"""`may(identity, action, run_or_workflow)`: the actions are `start` (of a `Workflow`), `read`, `signal`, `cancel`."""


class KeyRefusedError(ValueError):
    """An Idempotency-Key cannot be used; the message says why."""


def key_for(identity: Identity, given: str | None) -> str | None:
    """Returns the key `<identity>/<given>`, or None if none was given. Raises KeyRefusedError."""
    if given is None:
        return None
    if not 0 < len(given) <= MOST_KEY or not given.isascii() or not given.isprintable():
        raise KeyRefusedError(f"Idempotency-Key must be 1 to {MOST_KEY} printable ASCII characters.")
    name = identity.name.replace("%", "%25").replace("/", "%2F")
    if name in _RESERVED:
        name = f"%{ord(name[0]):02X}{name[1:]}"
    return f"{name}/{given}"


def status_for(error: DurableError) -> int:
    """Returns the HTTP status of an error of stepwell; 500 for one that no caller can mend."""
    return next((status for kind, status in _STATUSES.items() if isinstance(error, kind)), INTERNAL)


def detail_of(error: DurableError) -> dict[str, str]:
    """Returns `code` and `message`. What a server is to blame for has a message without its addresses and rows."""
    if status_for(error) >= INTERNAL:
        return {"code": error.code, "message": "The server cannot answer this now; its log says why."}
    return {"code": error.code, "message": str(error)}


def run_as_json(run: RunSnapshot) -> dict[str, Any]:
    """Returns the fields of a run; errors without their tracebacks, which show the server's code."""
    shown = {field.name: getattr(run, field.name) for field in fields(run)}
    for name in ("error", "last_error"):
        shown[name] = _failure(shown[name])
    shown["children"] = None if run.children is None else [run_as_json(child) for child in run.children]
    return shown


def entry_as_json(seq: int, entry: Entry) -> dict[str, Any]:
    """Returns the fields of a journal entry and its number, without the traceback of its error."""
    shown = {field.name: getattr(entry, field.name) for field in fields(entry)}
    return {"seq": seq, **shown, "error": _failure(entry.error)}


def encoded(value: Any) -> bytes:
    """Returns JSON for display: secrets are `***`, instants ISO 8601."""
    return encoded_for_display(value)


def _failure(failure: Failure | None) -> dict[str, str] | None:
    return None if failure is None else {"node": failure.node, "type": failure.type, "message": failure.message}
