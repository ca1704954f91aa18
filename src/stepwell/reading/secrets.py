"""What is declared to be secret, in values that are plain JSON: found by the schema of their type, shown as `***`.

A value that was given back as its type masks itself. A journal, and a value that does not fit its type any more, are
plain JSON; there only the schema tells which parts are not to be shown.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from stepwell.core.kinds import kind_of
from stepwell.workflow.secret_parts import hidden

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from stepwell.reading.records import Entry, RunSnapshot
    from stepwell.workflow.builder import Workflow


class Workflows(Protocol):
    """An app, of which it is asked what its workflows declare."""

    @property
    def workflows(self) -> tuple[str, ...]:
        """The names of those that are registered."""

    def workflow(self, name: str) -> Workflow[Any]:
        """One of them."""

    def schemas(self, workflow: str) -> dict[str, Any]:
        """The JSON schemas of what it declares."""


def hidden_in_run(run: RunSnapshot, known: Workflows) -> RunSnapshot:
    """The run with its secrets masked, also where its values do not fit their types."""
    if run.workflow_name not in known.workflows:
        return run
    schemas = known.schemas(run.workflow_name)
    results, children = run.results, _children(run.workflow_name, known)
    if results is not None:
        results = {
            name: _by_any(value, _schemas_for(name, schemas, children, known)) for name, value in results.items()
        }
    return replace(run, input=hidden(run.input, schemas.get("input")), results=results)


def hidden_in_entries(entries: Sequence[Entry], workflow: str, known: Workflows) -> list[Entry]:
    """The journal of a run of that workflow, its secrets masked."""
    if workflow not in known.workflows:
        return list(entries)
    schemas, children = known.schemas(workflow), _children(workflow, known)
    return [
        entry
        if entry.result is None
        else replace(entry, result=_by_any(entry.result, _schemas_for(entry.node, schemas, children, known)))
        for entry in entries
    ]


def _schemas_for(
    name: str, schemas: Mapping[str, Any], children: Mapping[str, str], known: Workflows
) -> Iterator[Mapping[str, Any]]:
    """Those of all that can be journaled under a name: results, snapshots, and the results of a child by theirs."""
    for place in ("results", "snapshots"):
        if name in schemas.get(place, {}):
            yield schemas[place][name]
    child = children.get(name)
    if child in known.workflows:
        yield {"properties": known.schemas(child).get("results", {})}


def _children(workflow: str, known: Workflows) -> dict[str, str]:
    """The workflows of child nodes, by the names of the nodes."""
    nodes = known.workflow(workflow).nodes
    return {node.name: child for node in nodes if (child := kind_of(node).child(node)) is not None}


def _by_any(value: Any, schemas: Iterator[Mapping[str, Any]]) -> Any:
    for schema in schemas:
        value = hidden(value, schema)
    return value
