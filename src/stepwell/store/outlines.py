"""A workflow's outline as stored beside its runs: what a reader knows of a run without the workflow's code."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from stepwell.core.plan import outline, outlined_plan
from stepwell.errors import PayloadError
from stepwell.store.codec import PLAIN

if TYPE_CHECKING:
    from stepwell.core.plan import Plan

_encode = msgspec.json.Encoder().encode


def encode_outline(plan: Plan) -> bytes:
    """The outline of a plan as stored."""
    return _encode(outline(plan.nodes))


@lru_cache(maxsize=256)
def read_outline(workflow: str, stored: bytes) -> Plan:
    """The plan of a stored outline, without functions; raises ValueError for what is no outline.

    It is kept: most runs of a page have one outline.
    """
    try:
        return outlined_plan(workflow, PLAIN.decode(stored))
    except PayloadError as error:
        raise ValueError(error.reason) from None
