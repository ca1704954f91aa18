"""Answer links: one answer for each run, signal and key, told afterwards with its time and its link."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import DefinitionError, Durable, PayloadError, RunNotFoundError, StoreUnavailableError, durable
from stepwell.reading.links import LinkStatus
from stepwell.runtime.system import SystemRuntime
from tests.api import running_fixtures
from tests.api.running_fixtures import file_url
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from pathlib import Path

    from stepwell import Workflow

url = running_fixtures.url

YES, NO = {"approved": True}, {"approved": False}


def two_waits() -> Workflow:
    """A workflow that waits for two signals, one after the other."""
    return durable("order").wait_for_signal("first", "signoff").wait_for_signal("second", "delivery")


def token_of(link: str) -> str:
    """The last part of a URL."""
    return link.rpartition("/answer/")[2]


async def linked(app: Durable, run_id: str, signal: str = "signoff", **options: Any) -> str:
    """The token of a link."""
    return token_of(app.signal_url("https://shop.example/runs", run_id, signal, **options))


async def test_the_first_answer_is_delivered_and_the_second_link_tells_of_it(url: str) -> None:
    async with Durable(url, [two_waits()], signing_keys=["key"]) as app:
        run_id = (await app.start("order")).run_id
        yes, no = await linked(app, run_id, data=YES), await linked(app, run_id, data=NO)

        opened = await app.read_link(yes)
        assert (opened.status, opened.run_id, opened.signal, opened.key) == ("open", run_id, "signoff", "signoff")
        assert (opened.data, opened.answered_at) == (YES, None)
        first = await app.answer_link(yes)
        assert (first.status, first.answered_here, first.answered_with) == ("answered", True, YES)
        assert first.answered_at is not None
        again, late, read = await app.answer_link(yes), await app.answer_link(no), await app.read_link(no)
        assert again == first
        assert late == read
        assert (late.status, late.answered_here, late.answered_with) == ("answered", False, YES)
        assert (late.data, late.answered_at) == (NO, first.answered_at)

        async with app.worker():
            await app.signal(run_id, "delivery", "come in")
            assert await app.result(run_id, PATIENCE) == {"first": YES, "second": "come in"}
        ended = await app.read_link(no)
        assert (ended.status, ended.answered_with, ended.answered_at) == ("ended", YES, first.answered_at)
        assert (await app.answer_link(yes)).status == "ended"


async def test_to_read_a_link_delivers_nothing(url: str) -> None:
    async with Durable(url, [two_waits()], signing_keys=["key"]) as app:
        run_id = (await app.start("order")).run_id
        token = await linked(app, run_id)
        before = await app.status(run_id)
        for _ in range(3):
            assert (await app.read_link(token)).status is LinkStatus.OPEN
        assert await app.status(run_id) == before


async def test_answers_at_once_deliver_one(url: str) -> None:
    async with Durable(url, [two_waits()], signing_keys=["key"]) as app:
        run_id = (await app.start("order")).run_id
        tokens = [await linked(app, run_id, data=number) for number in range(8)]
        answers = await asyncio.gather(*(app.answer_link(token) for token in tokens))
        assert {answer.status for answer in answers} == {LinkStatus.ANSWERED}
        (first,) = (answer for answer in answers if answer.answered_here)
        assert {answer.answered_with for answer in answers} == {first.data}
        assert (await app.status(run_id)).unread_signals == {"signoff": 1}


async def test_a_key_that_another_signal_holds_is_refused_and_not_lost(url: str) -> None:
    async with Durable(url, [two_waits()], signing_keys=["key"]) as app:
        run_id = (await app.start("order")).run_id
        one = await linked(app, run_id, "signoff", key="week 1")
        other = await linked(app, run_id, "delivery", key="week 1", data="bell")
        assert (await app.answer_link(one)).status == "answered"
        assert (await app.read_link(other)).status == "refused"
        assert (await app.answer_link(other)).status == "refused"
        assert (await app.status(run_id)).unread_signals == {"signoff": 1}
        assert (await app.answer_link(await linked(app, run_id, "delivery", data="bell"))).status == "answered"
        assert (await app.status(run_id)).unread_signals == {"signoff": 1, "delivery": 1}


async def test_links_with_other_keys_and_of_other_runs_have_answers_of_their_own(url: str) -> None:
    async with Durable(url, [two_waits()], signing_keys=["key"]) as app:
        runs = [(await app.start("order")).run_id for _ in range(2)]
        for run_id in runs:
            for key in (None, "week 2"):
                answer = await app.answer_link(await linked(app, run_id, key=key))
                assert (answer.status, answer.answered_here) == ("answered", True)
        for run_id in runs:
            assert (await app.status(run_id)).unread_signals == {"signoff": 2}


async def test_the_signal_key_of_a_link_is_exactly_url_and_its_key(url: str) -> None:
    async with Durable(url, [two_waits()], signing_keys=["key"]) as app:
        run_id = (await app.start("order")).run_id
        await app.signal(run_id, "signoff", "by hand", key="url/signoff")
        answer = await app.answer_link(await linked(app, run_id, data=YES))
        assert (answer.status, answer.answered_by_link, answer.answered_here) == ("answered", False, False)
        assert answer.answered_at is not None
        assert (await app.status(run_id)).unread_signals == {"signoff": 1}


async def test_a_link_of_a_run_that_ended_without_an_answer_is_over(url: str) -> None:
    async with Durable(url, [two_waits()], signing_keys=["key"]) as app:
        run_id = (await app.start("order")).run_id
        token = await linked(app, run_id)
        await app.cancel(run_id)
        for link in (await app.read_link(token), await app.answer_link(token)):
            assert (link.status, link.answered_at) == ("ended", None)


async def test_a_link_of_a_run_that_is_not_stored_is_unknown(url: str) -> None:
    async with Durable(url, [two_waits()], signing_keys=["key"]) as app:
        token = await linked(app, "01a230bd-e7a1-7792-bdfb-29f046ae8bd5", data=YES)
        for link in (await app.read_link(token), await app.answer_link(token), await app.read_link(token + "A")):
            assert (link.status, link.data) == ("unknown", None)


class _LaterRuntime(SystemRuntime):
    later = 0

    def wall(self) -> int:
        """The instant, moved."""
        return super().wall() + self.later


async def test_an_expired_link_delivers_nothing() -> None:
    runtime = _LaterRuntime()
    async with Durable("sqlite://", [two_waits()], signing_keys=["key"], runtime=runtime) as app:
        run_id = (await app.start("order")).run_id
        token = await linked(app, run_id)
        short = await linked(app, run_id, expires=60)
        runtime.later = 61_000_000
        assert [(await app.answer_link(short)).status, (await app.read_link(short)).status] == ["expired"] * 2
        assert (await app.status(run_id)).unread_signals == {}
        runtime.later = timedelta(days=7, seconds=-60) // timedelta(microseconds=1)
        assert (await app.read_link(token)).status == "open"
        runtime.later += 61_000_000
        assert (await app.answer_link(token)).status == "expired"


async def test_other_apps_over_the_store_verify_with_their_own_keys(tmp_path: Path) -> None:
    url = file_url(tmp_path)
    async with Durable(url, [two_waits()], signing_keys=["new", "old"]) as app:
        run_id = (await app.start("order")).run_id
        old = token_of(Durable(url, signing_keys=["old"]).signal_url("/runs", run_id, "signoff"))
        foreign = token_of(Durable(url, signing_keys=["other"]).signal_url("/runs", run_id, "signoff"))
        assert (await app.answer_link(foreign)).status == "unknown"
        assert (await app.read_link(old)).status == "open"
        async with app.existing() as other:
            assert (await other.answer_link(old)).status == "answered"
        assert (await app.read_link(old)).answered_here


async def test_an_answer_whose_commit_was_not_answered_can_be_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Durable("sqlite://", [two_waits()], signing_keys=["key"]) as app:
        run_id = (await app.start("order")).run_id
        token = await linked(app, run_id, data=YES)
        deliver = app._store.deliver

        async def deliver_and_lose(*given: Any, **options: Any) -> Any:
            await deliver(*given, **options)
            raise StoreUnavailableError("sqlite://", "its answer was lost")

        with monkeypatch.context() as patched:
            patched.setattr(app._store, "deliver", deliver_and_lose)
            with pytest.raises(StoreUnavailableError):
                await app.answer_link(token)
        again = await app.answer_link(token)
        assert (again.status, again.answered_here) == ("answered", True)
        assert (await app.status(run_id)).unread_signals == {"signoff": 1}


def test_a_url_has_the_base_and_one_token() -> None:
    app = Durable("sqlite://", signing_keys=["key"])
    for base in ("https://shop.example/runs", "https://shop.example/runs/"):
        link = app.signal_url(base, "run", "signoff")
        assert link.startswith("https://shop.example/runs/answer/")
        assert link.count("/") == 5


def test_what_is_wrong_is_refused_where_the_url_is_made() -> None:
    app = Durable("sqlite://", signing_keys=["key"])
    with pytest.raises(
        DefinitionError, match=r"^signal_url needs Durable\(signing_keys=\[…\]\), got no signing keys\.$"
    ):
        Durable("sqlite://").signal_url("/runs", "run", "signoff")
    with pytest.raises(DefinitionError, match="name"):
        app.signal_url("/runs", "run", "sign off")
    with pytest.raises(DefinitionError, match="key must be a string"):
        app.signal_url("/runs", "run", "signoff", key="k" * 497)
    with pytest.raises(DefinitionError, match="key must be a string"):
        app.signal_url("/runs", "run", "signoff", key="")
    with pytest.raises(DefinitionError, match="expires must be >= 0"):
        app.signal_url("/runs", "run", "signoff", expires=-1)
    with pytest.raises(PayloadError, match=r"^data"):
        app.signal_url("/runs", "run", "signoff", data={1, 2})
    with pytest.raises(PayloadError, match=r"^data: its link would have a token of"):
        app.signal_url("/runs", "run", "signoff", data="a" * 4000)
    with pytest.raises(RunNotFoundError):
        app.signal_url("/runs", 7, "signoff")  # type: ignore[arg-type]  # what is tested is that it raises
