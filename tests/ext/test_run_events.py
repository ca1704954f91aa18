"""The events of a run: all entries in order, once, then its end; readers share their looks."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import Context, Durable, StoreUnavailableError, durable
from stepwell.ext import run_events
from stepwell.ext.run_events import RunEvents, TooManyReadersError, seq_of
from tests.ext.serving import ADA, events_in, order, served, shop_of
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepwell import RunSnapshot


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Looks follow each other at once."""
    monkeypatch.setattr(run_events, "LOOK_EVERY", 0.001)
    return iter([None])


async def read(events: RunEvents, run: RunSnapshot, after: int = 0) -> list[tuple[str, str | None, str]]:
    """All events until the stream ends."""
    async with aclosing(events.follow(run, after)) as stream:
        return events_in(b"".join([event async for event in stream]).decode())


async def test_the_stream_of_a_run_that_has_ended_has_every_entry_then_its_end() -> None:
    shop = shop_of()
    async with served(shop) as client:
        run_id = (await shop.start("order", {"text": "a\n\nevent: end\ndata: b\r\u2028c"})).run_id
        await shop.signal(run_id, "approval", "yes")
        await shop.result(run_id, PATIENCE)
        response = await client.get(f"/runs/{run_id}/events", headers=ADA)
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert response.headers["cache-control"] == "no-cache"
        found = events_in(response.text)
        assert [(name, number) for name, number, _ in found] == [
            ("entry", "1"),
            ("entry", "2"),
            ("entry", "3"),
            ("status", None),
            ("end", None),
        ]
        entries = [json.loads(data) for name, _, data in found if name == "entry"]
        assert [(entry["seq"], entry["node"]) for entry in entries] == [(1, "price"), (2, "approval"), (3, "ship")]
        assert entries[0]["result"] == {"text": "a\n\nevent: end\ndata: b\r\u2028c"}
        end = json.loads(found[-1][2])
        assert (end["status"], end["results"]["ship"]) == ("completed", "yes")


@pytest.mark.parametrize(("last", "expected"), [("0", ["1", "2", "3"]), ("2", ["3"]), ("3", []), ("99", [])])
async def test_a_reader_that_comes_back_gets_what_it_has_not_seen(last: str, expected: list[str]) -> None:
    shop = shop_of()
    async with served(shop) as client:
        run_id = (await shop.start("order")).run_id
        await shop.signal(run_id, "approval")
        await shop.result(run_id, PATIENCE)
        response = await client.get(f"/runs/{run_id}/events", headers={**ADA, "Last-Event-ID": last})
        found = events_in(response.text)
        assert [number for name, number, _ in found if name == "entry"] == expected
        assert found[-1][0] == "end"


@pytest.mark.parametrize("given", ["-1", "1.5", "x", "9" * 20, "1\u0661", "0x1"])
async def test_a_last_event_id_that_is_no_number_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match="Last-Event-ID"):
        seq_of(given)
    shop = shop_of()
    async with served(shop) as client:
        run_id = (await shop.start("order")).run_id
        headers = [(b"x-user", b"ada"), (b"last-event-id", given.encode())]
        assert (await client.get(f"/runs/{run_id}/events", headers=headers)).status_code == 422


async def test_readers_of_a_run_share_its_looks_and_see_the_same() -> None:
    shop = shop_of()
    async with shop, shop.worker():
        run = await shop.status((await shop.start("order")).run_id)
        asked = _counted(shop)
        events = RunEvents(shop)
        readers = [asyncio.create_task(read(events, run)) for _ in range(20)]
        await eventually(lambda: run.run_id in events._watched and events._watched[run.run_id].looks >= 3)
        watched = events._watched[run.run_id]
        assert watched.readers == 20
        late = asyncio.create_task(read(events, run, after=1))
        await shop.signal(run.run_id, "approval")
        found = await asyncio.gather(*readers)
        assert len({str(_entries(one)) for one in found}) == 1
        assert [number for number, _ in _entries(found[0])] == ["1", "2", "3"]
        assert _entries(await late) == _entries(found[0])[1:]
        assert asked == {"status": watched.looks, "journal": asked["journal"]}
        assert asked["journal"] <= 1 + 3 * 2
        assert events._watched == {}


def _entries(found: list[tuple[str, str | None, str]]) -> list[tuple[str | None, str]]:
    return [(number, data) for name, number, data in found if name == "entry"]


def _counted(shop: Durable) -> dict[str, int]:
    """How often the app was asked for a status and a journal from now on."""
    asked = {"status": 0, "journal": 0}

    def counting(name: str) -> Any:
        ask = getattr(shop, name)

        async def counted(run_id: str) -> Any:
            asked[name] += 1
            return await ask(run_id)

        return counted

    for name in asked:
        setattr(shop, name, counting(name))
    return asked


async def test_a_reader_that_leaves_while_it_looks_leaves_the_look_to_the_next() -> None:
    shop = shop_of()
    async with shop:
        run = await shop.status((await shop.start("order")).run_id)
        events = RunEvents(shop)
        held, looks = asyncio.Event(), 0
        status = shop.status

        async def slow(run_id: str) -> Any:
            nonlocal looks
            looks += 1
            if looks == 1:
                await held.wait()
            return await status(run_id)

        shop.status = slow  # type: ignore[method-assign]  # the first look is held up
        first, second = (asyncio.create_task(read(events, run)) for _ in range(2))
        await eventually(lambda: looks == 1)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        await shop.cancel(run.run_id)
        assert [name for name, _, _ in await second] == ["status", "end"]
        assert events._watched == {}


async def test_a_store_that_is_not_available_for_a_while_ends_no_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = shop_of()
    async with shop, shop.worker():
        run = await shop.status((await shop.start("order")).run_id)
        events = RunEvents(shop)
        failures = 0

        async def fail(run_id: str) -> None:
            nonlocal failures
            failures += 1
            raise StoreUnavailableError("sqlite://", "a test")

        with monkeypatch.context() as patched:
            patched.setattr(shop, "status", fail)
            reader = asyncio.create_task(read(events, run))
            await eventually(lambda: failures >= 3)
        await shop.signal(run.run_id, "approval")
        assert [name for name, _, _ in await reader][-1] == "end"


async def test_a_comment_is_sent_while_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_events, "QUIET_LOOKS", 2)
    shop = shop_of()
    async with shop:
        run = await shop.status((await shop.start("order")).run_id)
        async with aclosing(RunEvents(shop).follow(run, 0)) as stream:
            found = [await anext(stream) for _ in range(3)]
        assert found[0].startswith(b"event: status\n")
        assert found[1:] == [b": nothing new\n\n"] * 2


async def test_streams_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_events, "MOST_READERS", 1)
    shop = shop_of()
    async with shop:
        run = await shop.status((await shop.start("order")).run_id)
        events = RunEvents(shop)
        async with aclosing(events.follow(run, 0)) as stream:
            await anext(stream)
            with pytest.raises(TooManyReadersError):
                events.follow(run, 0)
        async with aclosing(events.follow(run, 0)) as stream:
            await anext(stream)


async def test_failures_are_told_without_tracebacks() -> None:
    async def refuse(ctx: Context) -> None:
        raise ValueError("card declined")

    shop = shop_of("sqlite://", durable("order").step("charge", refuse, max_retries=0))
    async with shop, shop.worker():
        run = await shop.status((await shop.start("order")).run_id)
        found = await read(RunEvents(shop), run)
        (entry,) = [json.loads(data) for _, data in _entries(found)]
        assert entry["error"] == {"node": "charge", "type": "ValueError", "message": "card declined"}
        assert "raise ValueError" not in str(found)


async def test_looks_are_half_a_second_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    slept: list[float] = []

    async def noted(seconds: float) -> None:
        slept.append(seconds)
        await asyncio.sleep(0)

    shop = Durable("sqlite://", [order()])
    async with shop:
        run = await shop.status((await shop.start("order")).run_id)
        patched = SimpleNamespace(Lock=asyncio.Lock, get_running_loop=asyncio.get_running_loop, sleep=noted)
        monkeypatch.setattr(run_events, "asyncio", patched)
        watched = run_events._Watched(shop, run)
        for seen in range(3):
            await watched.look(seen)
        monkeypatch.undo()
    assert slept[0] == 0
    assert all(0 < seconds <= 0.5 for seconds in slept[1:])
