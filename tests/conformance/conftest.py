"""The fixture `keeper`: every test of this folder runs once over each store, and speaks the protocol alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conformance.keeper import KINDS, SHARED_KINDS, Keeper, opened
from tests.moving_clock import MovingClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from stepwell.store.protocol import Store


@pytest.fixture
def clock() -> MovingClock:
    """The clock of the stores."""
    return MovingClock()


@pytest.fixture(params=KINDS)
async def keeper(request: pytest.FixtureRequest, tmp_path: Path, clock: MovingClock) -> AsyncIterator[Keeper]:
    """An open store of each kind, without runs."""
    async with _opened(request.param, tmp_path, clock) as keeper:
        yield keeper


@pytest.fixture(params=SHARED_KINDS)
async def shared_keeper(request: pytest.FixtureRequest, tmp_path: Path, clock: MovingClock) -> AsyncIterator[Keeper]:
    """An open store of each kind that several processes can share."""
    async with _opened(request.param, tmp_path, clock) as keeper:
        yield keeper


@pytest.fixture
def store(keeper: Keeper) -> Store:
    """The store of `keeper`."""
    return keeper.store


def _opened(name: str, folder: Path, clock: MovingClock) -> AbstractAsyncContextManager[Keeper]:
    kind = KINDS[name]
    return opened(kind.make(folder, clock), clock, kind)
