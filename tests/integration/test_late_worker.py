"""A worker that was silent for longer than its lease, and wakes again: what it still holds it may not write."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.programs import processes
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from pathlib import Path

LEASE_SECONDS = 1.0


async def test_i3_a_late_worker_cannot_write(tmp_path: Path) -> None:
    async with (
        processes.client(tmp_path, lease=LEASE_SECONDS) as app,
        processes.gated_worker(tmp_path, lease=LEASE_SECONDS) as late,
    ):
        started = await app.start("gated")
        await late.begun()
        late.freeze()
        async with processes.gated_worker(tmp_path, lease=LEASE_SECONDS) as owner:
            again = await owner.begun()
            assert [line.attempt for line in again] == [1]
            processes.let(tmp_path, late.pid)
            late.thaw()
            await eventually(lambda: late.log.lines("end", pid=late.pid))

            async def late_worker_moves_on() -> bool:
                await app.start("gated")
                return len(late.log.lines("begin", pid=late.pid)) > 2

            await eventually(late_worker_moves_on)
            assert [entry.node for entry in await app.journal(started.run_id)] == ["first"]
            processes.let(tmp_path, owner.pid)
            results = await app.result(started.run_id, timeout=PATIENCE)
            entries = await app.journal(started.run_id)
    assert results["work"]["pid"] == owner.pid
    assert [(entry.node, entry.status) for entry in entries] == [
        ("first", "completed"),
        ("work", "completed"),
        ("last", "completed"),
    ]
