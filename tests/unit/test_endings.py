"""How an attempt ends, by its own calls: which row an ending or an exception becomes, and when the next attempt is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stepwell import Abort, Backoff, PayloadError, Retry, durable
from stepwell.core.attempts import failed as failed_attempt
from stepwell.core.attempts import gives_up, settled
from stepwell.core.decide import decide
from stepwell.core.decisions import Answer, Call, Done, Ending, Refused, Snapshot, SpawnWith, WaitUntil
from stepwell.workflow.policy import Policy
from tests.unit.states import NO, heard, in_words, retrying, row, run_of

if TYPE_CHECKING:
    from stepwell.core.journal import JournalRow
    from stepwell.core.state import RunState

NOW = 1_000_000
SECOND = 1_000_000
AGAIN = Policy(max_retries=2, backoff=Backoff(initial=1, factor=10, maximum=3600, jitter=0))


def attempt(*rows: JournalRow, policy: Policy = AGAIN) -> tuple[RunState, Call]:
    """A run and the attempt of its step that is next, begun at 7."""
    state = run_of(durable("flow").step("work", print), *rows)
    (call,) = decide(state, NOW)
    assert isinstance(call, Call)
    call.policy, call.started_at = policy, 7
    return state, call


@pytest.mark.parametrize(
    ("ending", "recorded"),
    [
        (Done(b"1"), "record work completed"),
        (Snapshot(b"1"), "record work suspended"),
        (Refused("Suspended", "not here"), "record work failed Suspended"),
        (Answer(holds=False), "record work skipped"),
        (WaitUntil(NOW), "record work completed"),
        (WaitUntil(NOW + 1), f"park until {NOW + 1}"),
        (SpawnWith("leaf", b"1"), "spawn leaf"),
    ],
)
def test_an_ending_becomes_a_decision(ending: Ending, recorded: str) -> None:
    state, call = attempt()
    decision = settled(state, call, ending, NOW)
    assert decision is not None
    assert in_words(decision) == recorded


def test_a_condition_that_holds_is_not_recorded() -> None:
    state, call = attempt()
    assert settled(state, call, Answer(holds=True), NOW) is None


def test_a_row_has_the_times_the_attempt_and_the_value_of_its_call() -> None:
    state, call = attempt(retrying(1, "work", until=0))
    record = settled(state, call, Done(b"9", b"end"), NOW)
    assert record is not None
    kept = record.row  # type: ignore[union-attr]  # a `Done` is recorded
    assert (kept.seq, kept.attempt, kept.n) == (2, 2, 0)
    assert (kept.value, kept.detail, kept.error) == (b"9", b"end", None)
    assert (kept.started_at, kept.finished_at, kept.worker) == (7, NOW, "ann")


@pytest.mark.parametrize("ending", [Done(b"1"), Snapshot(b"1"), Refused("Suspended", "not here")])
def test_the_message_that_entered_a_step_again_is_used_up_with_its_outcome(ending: Ending) -> None:
    state = run_of(durable("flow").step("work", print), row(1, "work", status="suspended", n=1))
    heard(state, "work")
    (call,) = decide(state, NOW)
    assert isinstance(call, Call)
    decision = settled(state, call, ending, NOW)
    assert decision is not None
    assert in_words(decision).endswith("using message 1")


def test_a_message_is_kept_for_the_next_attempt_and_used_up_by_the_last() -> None:
    state = run_of(durable("flow").step("work", print), row(1, "work", status="suspended", n=1))
    heard(state, "work")
    (call,) = decide(state, NOW)
    assert isinstance(call, Call)
    assert failed_attempt(state, call, ValueError(), NO, now=NOW, draw=0).consumed == ()
    assert failed_attempt(state, call, Abort("no"), NO, now=NOW, draw=0).consumed == (1,)


@pytest.mark.parametrize(
    ("before", "error", "status", "retry_at"),
    [
        (0, ValueError(), "retrying", NOW + 1 * SECOND),
        (1, ValueError(), "retrying", NOW + 10 * SECOND),
        (2, ValueError(), "failed", None),
        (0, Abort("no"), "failed", None),
        (0, PayloadError("results.n", "no"), "failed", None),
        (0, Retry("later", after=60), "retrying", NOW + 60 * SECOND),
        (0, Retry("at once", after=0), "retrying", NOW),
        (2, Retry("later", after=60), "failed", None),
        (0, KeyboardInterrupt(), "failed", None),
    ],
)
def test_a_failed_attempt_is_followed_by_another_until_the_policy_gives_up(
    before: int, error: BaseException, status: str, retry_at: int | None
) -> None:
    state, call = attempt(*(retrying(n, "work", n, until=0) for n in range(1, before + 1)))
    kept = failed_attempt(state, call, error, NO, now=NOW, draw=0).row
    assert (kept.status, kept.retry_at, kept.attempt, kept.error) == (status, retry_at, before + 1, NO)
    assert kept.n == (before + 1 if status == "retrying" else 0)


def test_a_suspension_begins_the_attempts_of_the_next_entry_at_one() -> None:
    rows = [retrying(1, "work", until=0), row(2, "work", status="suspended", n=2, attempt=2)]
    state = run_of(durable("flow").step("work", print), *rows)
    heard(state, "work")
    (call,) = decide(state, NOW)
    assert isinstance(call, Call)
    assert (call.attempt, call.key) == (1, "run-7/work/~1")


TAKES_VALUE = Policy(retry_on=ValueError)
GIVES_UP_ON_KEY = Policy(give_up_on=KeyError)


@pytest.mark.parametrize(
    ("policy", "error", "final"),
    [
        (Policy(), ValueError(), False),
        (Policy(), Abort("no"), True),
        (Policy(), PayloadError("results.n", "no"), True),
        (Policy(), SystemExit(), True),
        (Policy(), Retry("later"), False),
        (TAKES_VALUE, ValueError(), False),
        (TAKES_VALUE, UnicodeError(), False),
        (TAKES_VALUE, KeyError(), True),
        (TAKES_VALUE, Retry("later"), False),
        (GIVES_UP_ON_KEY, KeyError(), True),
        (GIVES_UP_ON_KEY, LookupError(), False),
        (Policy(), ExceptionGroup("", [ValueError(), OSError()]), False),
        (Policy(), ExceptionGroup("", [ValueError(), Abort("no")]), True),
        (Policy(), ExceptionGroup("", [ExceptionGroup("", [Abort("no")])]), True),
        (TAKES_VALUE, ExceptionGroup("", [ValueError(), UnicodeError()]), False),
        (TAKES_VALUE, ExceptionGroup("", [ValueError(), OSError()]), True),
        (Policy(retry_on=ExceptionGroup), ExceptionGroup("", [OSError()]), False),
        (Policy(retry_on=ExceptionGroup), ExceptionGroup("", [Abort("no")]), True),
    ],
)
def test_whether_a_policy_gives_up_after_an_exception(policy: Policy, error: BaseException, *, final: bool) -> None:
    assert gives_up(policy, error) is final


def test_of_several_delays_in_a_group_the_longest_is_kept() -> None:
    state, call = attempt()
    group = ExceptionGroup("", [Retry("", after=5), ExceptionGroup("", [Retry("", after=60)]), Retry(""), OSError()])
    assert failed_attempt(state, call, group, NO, now=NOW, draw=0).row.retry_at == NOW + 60 * SECOND


def test_a_delay_is_added_to_the_latest_instant_that_it_may_be() -> None:
    """A claim took long: the core's instant is behind the store's clock by up to `lag`, and no wait may be short."""
    state, call = attempt()
    state.lag = 500
    kept = failed_attempt(state, call, ValueError(), NO, now=NOW, draw=0).row
    assert (kept.finished_at, kept.retry_at) == (NOW + 500, NOW + 500 + SECOND)
