"""Which of a list's filters its index answers; the others are asked of the few rows that it gives.

A plan is made without the values, and without statistics if the tables were never analysed. So the statement itself
says by its shape which index is to be used: what is not to be looked up is written so that no index fits it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from stepwell.store.records import Filter


class Lookup(NamedTuple):
    """The filters that an index answers, and whether it gives the rows newest first."""

    by: frozenset[str]
    ordered: bool


def lookup_of(wanted: Filter) -> Lookup:
    """A key finds one run of each workflow, a parent its children; else status and workflow have an index together.

    Beside a key the workflow is not looked up: if the tables were never analysed, its own index may be taken.
    """
    if wanted.key is not None:
        return Lookup(frozenset({"key"}), ordered=False)
    if wanted.parent_id is not None:
        return Lookup(frozenset({"parent_id", "before"}), ordered=True)
    return Lookup(frozenset({"status", "workflow", "before"}), ordered=True)
