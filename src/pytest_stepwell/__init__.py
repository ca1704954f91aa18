"""The pytest fixtures of stepwell, which pytest finds automatically.

They are in a separate package because pytest imports it at every start. stepwell is imported when a fixture is used.
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
    """Creates a `stepwell.testing.Harness` whose seed is derived from the test's name; enter it with `async with`."""
    from stepwell.testing import Harness  # noqa: PLC0415  imported when it is used

    def make(workflows: Any, **options: Any) -> Harness:
        return Harness(workflows, **{"seed": zlib.crc32(request.node.nodeid.encode()), **options})

    return make


@pytest.fixture(scope="session")
def stepwell_postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server that runs for the session; skips the test if no binaries are found."""
    from stepwell.testing.postgres import NoPostgresError, PostgresServer  # noqa: PLC0415  imported when it is used

    try:
        server = PostgresServer(fsync=False)
    except NoPostgresError as error:
        pytest.skip(str(error))
    with server:
        yield server.dsn
