"""Ids and names of the system's runtime: ids are greater each time, never twice, in a forked child neither."""

from __future__ import annotations

import os
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from stepwell.runtime import system
from stepwell.runtime.system import SystemRuntime
from tests.waiting import PATIENCE

MANY = 2_000


def chance_of(run_id: str) -> str:
    """The part of an id that is drawn."""
    return run_id[20:]


def test_i10_ids_grow_and_none_comes_twice_though_their_chance_is_drawn_many_at_a_time() -> None:
    runtime = SystemRuntime()
    ids = [runtime.new_id() for _ in range(MANY)]
    assert ids == sorted(ids)
    assert len({chance_of(one) for one in ids}) == MANY


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_i10_a_forked_child_makes_other_ids_than_its_parent() -> None:
    runtime = SystemRuntime()
    runtime.new_id()
    reading, writing = os.pipe()
    child = os.fork()
    if not child:  # pragma: no cover  in the child
        os.write(writing, "".join(chance_of(runtime.new_id()) for _ in range(20)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reading, 4096).decode()
    ours = [chance_of(runtime.new_id()) for _ in range(20)]
    os.close(reading)
    os.close(writing)
    assert len(theirs) == 20 * len(ours[0])
    assert not any(one in theirs for one in ours)


def test_threads_that_ask_first_at_once_give_their_process_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    both = threading.Barrier(2)

    def urandom(size: int) -> bytes:
        both.wait(PATIENCE)
        return secrets.token_bytes(size)

    monkeypatch.setattr(system, "_NAMES", {})
    monkeypatch.setattr(os, "urandom", urandom)
    with ThreadPoolExecutor(2) as pool:
        names = list(pool.map(lambda _: SystemRuntime().process, range(2)))
    assert names[0] == names[1] == SystemRuntime().process
