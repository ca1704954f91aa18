"""Where a run stands that is loaded again while its worker keeps it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from stepwell import durable
from stepwell.engine.driving.restore import restored
from stepwell.store.codec import PLAIN
from stepwell.store.records import Lease


@pytest.mark.parametrize(("is_new", "crashes"), [(True, 3), (False, 0)])
def test_i4_what_is_loaded_again_after_a_commit_has_no_crashes_of_before(is_new: bool, crashes: int) -> None:  # noqa: FBT001  a case
    host: Any = SimpleNamespace(worker_id="ann", max_crashes=5, codec=PLAIN)
    plan: Any = durable("flow").step("one", lambda ctx: 1)
    lease = Lease("run", 1, 1, 1, 0, 3, 1, 0, "running", None, None, None, None, b"1")
    assert restored(host, lease, plan, None, "running", is_new=is_new).crashes == crashes
