"""A kind of node that stepwell does not have goes through all there is, without a change outside its own pieces."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import Branch, Context, Durable, RunFailedError, Workflow, durable
from stepwell.core.kinds import KINDS
from stepwell.reading.node_states import node_states
from stepwell.store.outlines import read_outline
from stepwell.testing import crash_everywhere
from tests.ballot import Ballot, BallotKind, ballot
from tests.gates import Gate
from tests.postgres import fresh_url
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kind is in the list, as long as the test runs."""
    monkeypatch.setitem(KINDS, Ballot, BallotKind())
    read_outline.cache_clear()


@pytest.fixture(params=["file", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return fresh_url() if request.param == "postgres" else f"sqlite:///{tmp_path / 'store.db'}"


async def yes(ctx: Context) -> str:
    return "yes"


async def no(ctx: Context) -> str:
    return "no"


class Booth:
    """Votes, and their withdrawals, in order."""

    def __init__(self) -> None:
        self.did: list[str] = []

    async def vote(self, ctx: Context) -> str:
        self.did.append(ctx.idempotency_key.partition("/")[2])
        return ctx.step

    async def withdraw(self, ctx: Context) -> None:
        self.did.append(f"withdraw {ctx.step}, who said {ctx.results[ctx.step]}")


def order(ann: Any = yes, bob: Any = no) -> Workflow:
    """A step, a ballot of two, and a step."""
    flow = durable("order").step("begin", yes)
    return ballot(flow, "choose", {"ann": Branch(ann, yes), "bob": Branch(bob, yes)}).step("last", yes)


async def test_such_a_node_runs_in_memory() -> None:
    assert (await order().run()).results == {"begin": "yes", "choose": {"ann": "yes", "bob": "no"}, "last": "yes"}


async def test_such_a_run_goes_on_after_a_restart_from_the_vote_that_was_not_journaled(url: str) -> None:
    ann, bob = Gate("yes", holds=0), Gate("no")
    async with Durable(url, [order(ann.handler, bob.handler)]) as app:
        run_id = (await app.start("order")).run_id
        async with app.worker(grace=0):
            await bob.entered()
    again = Gate("perhaps", holds=0)
    async with Durable(url, [order(again.handler, again.handler)]) as app, app.worker():
        results = await app.result(run_id, timeout=PATIENCE)
    assert results["choose"] == {"ann": "yes", "bob": "perhaps"}
    assert (ann.begun, again.begun) == (1, 1)


async def test_status_and_progress_tell_of_it_without_the_workflows_code(url: str) -> None:
    bob = Gate("no")
    flow = order(yes, bob.handler)
    async with Durable(url, [flow]) as app, app.worker(), Durable(url) as other:
        run_id = (await app.start("order")).run_id
        await bob.entered()
        halfway = await other.status(run_id)
        states = node_states(flow.nodes, halfway, await other.journal(run_id), NOW)
        bob.let()
        await app.result(run_id, timeout=PATIENCE)
        ended = await other.status(run_id)
        (_, done, _) = node_states(flow.nodes, ended, await other.journal(run_id), NOW)
    assert (halfway.damaged, halfway.current_node, halfway.results) == (None, "choose", {"begin": "yes", "ann": "yes"})
    assert [(state.name, state.state, state.words) for state in states] == [
        ("begin", "done", ""),
        ("choose", "running", "vote 2 of 2"),
        ("last", "pending", ""),
    ]
    assert (ended.damaged, ended.results) == (
        None,
        {"begin": "yes", "choose": {"ann": "yes", "bob": "no"}, "last": "yes"},
    )
    assert (done.state, done.words) == ("done", "2 votes")


async def test_a_reader_without_the_kind_names_it_and_shows_the_rest(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Durable(url, [order()]) as app, app.worker():
        run_id = (await app.start("order")).run_id
        await app.result(run_id, timeout=PATIENCE)
    monkeypatch.delitem(KINDS, Ballot)
    read_outline.cache_clear()
    async with Durable(url) as other:
        snapshot = await other.status(run_id)
    assert "kind 'vote', which this version of stepwell does not know" in str(snapshot.damaged)
    assert (snapshot.status, snapshot.total_steps, snapshot.results) == ("completed", 3, {"begin": "yes"})


async def test_its_work_is_undone_newest_first(url: str) -> None:
    booth = Booth()

    async def fail(ctx: Context) -> None:
        raise ValueError("no")

    voters = {name: Branch(booth.vote, booth.withdraw) for name in ("ann", "bob")}
    flow = ballot(durable("order"), "choose", voters).step("last", fail, max_retries=0)
    async with Durable(url, [flow]) as app, app.worker():
        run_id = (await app.start("order")).run_id
        with pytest.raises(RunFailedError) as caught:
            await app.result(run_id, timeout=PATIENCE)
    assert caught.value.compensated == ("bob", "ann")
    assert booth.did == ["choose/ann", "choose/bob", "withdraw bob, who said bob", "withdraw ann, who said ann"]


async def test_a_false_condition_skips_it(url: str) -> None:
    flow = ballot(durable("order"), "choose", {"ann": Branch(yes)}, when=lambda ctx: False).step("last", yes)
    async with Durable(url, [flow]) as app, app.worker():
        run_id = (await app.start("order")).run_id
        assert await app.result(run_id, timeout=PATIENCE) == {"choose": None, "last": "yes"}


@pytest.mark.parametrize("failing", [None, "last"])
async def test_it_does_no_harm_wherever_its_process_dies(failing: str | None) -> None:
    report = await crash_everywhere(order(), failing=failing)
    assert report.ok, str(report)
