"""Exceptions of the user's that cannot be shown: their run fails with them all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepwell import durable
from tests.api.runs import InMemory

if TYPE_CHECKING:
    from stepwell import Context


class SecretiveError(Exception):
    """Tells nobody where it comes from."""

    @property
    def __cause__(self) -> BaseException | None:
        raise LookupError("it is a secret")

    @__cause__.setter
    def __cause__(self, cause: BaseException | None) -> None:
        """Keeps nothing."""


async def test_an_exception_that_cannot_be_formatted_fails_its_run_and_its_traceback_says_why_it_is_none() -> None:
    async def charge(ctx: Context) -> None:
        raise SecretiveError("declined")

    failure = (await InMemory()(durable("order").step("charge", charge, max_retries=0))).failure
    assert (failure.node, failure.type, failure.message) == ("charge", "SecretiveError", "declined")
    assert failure.traceback == "<no traceback: formatting it raised LookupError>"


async def test_of_a_very_long_traceback_the_beginning_and_the_end_are_kept() -> None:
    """Its end says what was raised, and where."""

    async def charge(ctx: Context) -> None:
        raise LookupError("\n".join(f"line {number}" for number in range(10_000)))

    failure = (await InMemory()(durable("order").step("charge", charge, max_retries=0))).failure
    assert failure.traceback is not None
    assert "in charge\n" in failure.traceback
    assert failure.traceback.endswith("line 9998\nline 9999\n")
    assert len(failure.traceback) < 20_000
