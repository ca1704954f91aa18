"""The fixture `keeper`: every test of this folder runs once over each store, and speaks the protocol alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conformance.keeper import KINDS, SHARED_KINDS, Keeper
from tests.moving_clock import MovingClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from stepwell.store.protocol import Store


@pytest.fixture
def clock() -> MovingClock:
    """The clock of the stores."""
    return MovingClock()


@pytest.fixture(params=KINDS)
async def keeper(request: pytest.FixtureRequest, tmp_path: Path, clock: MovingClock) -> AsyncIterator[Keeper]:
    """An open store of each kind, without runs."""
    async for opened in _open(request.param, tmp_path, clock):
        yield opened


@pytest.fixture(params=SHARED_KINDS)
async def shared_keeper(request: pytest.FixtureRequest, tmp_path: Path, clock: MovingClock) -> AsyncIterator[Keeper]:
    """An open store of each kind that several processes can share."""
    async for opened in _open(request.param, tmp_path, clock):
        yield opened


@pytest.fixture
def store(keeper: Keeper) -> Store:
    """The store of `keeper`."""
    return keeper.store


async def _open(name: str, folder: Path, clock: MovingClock) -> AsyncIterator[Keeper]:
    kind = KINDS[name]
    store = kind.make(folder, clock)
    await store.migrate()
    await store.open()
    keeper = Keeper(store, clock, kind)
    try:
        yield keeper
    finally:
        for heartbeat_connection in keeper.heartbeat_connections.values():
            heartbeat_connection.close()
        await store.close()
