"""The fixtures that pytest finds by itself where stepwell is installed; apart from it, so that nothing is imported yet.

pytest imports this module at every start. stepwell itself is imported when a fixture is used.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stepwell.testing import Harness


@pytest.fixture
def stepwell_harness(request: pytest.FixtureRequest) -> Callable[..., Harness]:
    """Makes a `stepwell.testing.Harness`, to be entered with `async with`; its seed is the test's own."""
    from stepwell.testing import Harness  # noqa: PLC0415  imported when it is used

    def make(workflows: Any, **options: Any) -> Harness:
        return Harness(workflows, **{"seed": zlib.crc32(request.node.nodeid.encode()), **options})

    return make


@pytest.fixture(scope="session")
def stepwell_postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server of this session's own; the test is skipped where there are no binaries."""
    from stepwell.testing.postgres import NoPostgresError, PostgresServer  # noqa: PLC0415  imported when it is used

    try:
        server = PostgresServer(fsync=False)
    except NoPostgresError as error:
        pytest.skip(str(error))
    with server:
        yield server.dsn
