"""A workflow's outline as stored: what a reader knows of a run without its code, and where two versions differ."""

from __future__ import annotations

from functools import lru_cache
from itertools import zip_longest
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence


class NodeOutline(msgspec.Struct):
    """A stored node's outline."""

    name: str
    kind: str
    entries: list[str] | None = None
    branches: list[str] | None = None
    signal: str | None = None
    workflow: str | None = None

    @property
    def names(self) -> list[str]:
        """The names of its results."""
        return self.entries or [self.name]

    @property
    def awaited(self) -> str | None:
        """The signal that it can wait for."""
        return self.name if self.kind == "step" else self.signal


read_outline = msgspec.json.Decoder(list[NodeOutline]).decode
"""Raises ValueError or RecursionError for what is no outline."""
read_again = lru_cache(maxsize=256)(read_outline)
"""The same for a page of runs, most of which have one outline; what it gives is everybody's, and not to be changed."""
_MAY_SUSPEND = frozenset({"step", "loop", "route"})


def waited_for(outline: Sequence[NodeOutline]) -> list[str]:
    """The signals for which a node waits, in order, each once."""
    return list(dict.fromkeys(node.signal for node in outline if node.signal is not None))


def expected_signals(outline: Sequence[NodeOutline]) -> list[str]:
    """Those that some node can use: first the waits', then the names of what may suspend itself; each once."""
    names = waited_for(outline)
    for node in outline:
        names += [node.name] if node.kind in _MAY_SUSPEND else node.entries or []
    return list(dict.fromkeys(names))


def difference(old: Sequence[NodeOutline], new: Sequence[NodeOutline]) -> str:
    """Where two versions of a workflow first differ, seen from the old one; empty where they do not."""
    for place, (was, now) in enumerate(zip_longest(old, new), 1):
        if was == now:
            continue
        if was is None:
            return f"node {place} is new: {now.name}"
        if now is None:
            return f"node {place} is gone: {was.name}"
        if was.name != now.name:
            return f"node {place} is {now.name}, not {was.name}"
        if was.kind != now.kind:
            return f"node {was.name} is a {now.kind}, not a {was.kind}"
        return f"node {was.name} {_detail(was, now)}"
    return ""


def _detail(was: NodeOutline, now: NodeOutline) -> str:
    if was.signal != now.signal:
        return f"waits for {now.signal}, not for {was.signal}"
    if was.workflow != now.workflow:
        return f"starts {now.workflow}, not {was.workflow}"
    before, after = set(was.entries or was.branches or ()), set(now.entries or now.branches or ())
    what = "entries" if was.entries else "branches"
    changed = sorted(before ^ after)
    return f"has other {what}: {', '.join(changed)}" if changed else f"has its {what} in another order"
