"""Authoring, what it refuses: bad names, names twice, empty nodes and bad options, each with a DefinitionError."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from stepwell import Backoff, Branch, Context, DefinitionError, durable
from tests.api.handlers import nothing

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepwell import Workflow

LONGEST_NAME = "n" * 100
GOOD_NAMES = ["a", "A9", "_", "-", ".", ":", "0", "order.v2:eu-west_1", LONGEST_NAME]
BAD_NAMES = ["", " ", "two words", "naïve", "заказ", "a/b", "a\n", "\x00", "\uff11", "a,b", LONGEST_NAME + "n"]


def flow() -> Any:
    """A workflow with two nodes; untyped, since these tests pass what the types forbid."""
    return durable("order").step("reserve", nothing).parallel("notify", {"email": nothing, "sms": nothing})


def choose(ctx: Context) -> str:
    return "air"


async def again(input: Any, ctx: Context) -> Any:
    return input


NAMED: dict[str, Callable[[Any], Workflow]] = {
    "workflow": durable,
    "step": lambda name: flow().step(name, nothing),
    "decorated step": lambda name: flow().step(name)(nothing),
    "parallel": lambda name: flow().parallel(name, {"push": nothing}),
    "entry": lambda name: flow().parallel("more", {name: nothing}),
    "route": lambda name: flow().route(name, choose, {"air": nothing}),
    "branch": lambda name: flow().route("ship", choose, {name: nothing}),
    "loop": lambda name: flow().loop(name, again, max_iterations=1),
    "sleep": lambda name: flow().sleep(name, 1),
    "wait_for_signal": lambda name: flow().wait_for_signal(name, "signoff"),
    "signal": lambda name: flow().wait_for_signal("signoff", name),
    "child_workflow": lambda name: flow().child_workflow(name, "invoicing"),
    "child": lambda name: flow().child_workflow("invoice", name),
}


@pytest.mark.parametrize("place", NAMED)
@pytest.mark.parametrize("name", GOOD_NAMES)
def test_a_name_is_up_to_a_hundred_ascii_letters_digits_and_marks(place: str, name: str) -> None:
    NAMED[place](name)


@pytest.mark.parametrize("place", NAMED)
@pytest.mark.parametrize("name", [*BAD_NAMES, None, 7, b"bytes"])
def test_any_other_name_is_refused(place: str, name: Any) -> None:
    with pytest.raises(DefinitionError):
        NAMED[place](name)


@pytest.mark.parametrize("place", NAMED)
def test_the_refusal_of_a_name_shows_it_and_what_is_allowed(place: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        NAMED[place]("two words")
    assert "two words" in str(caught.value)
    assert "100" in str(caught.value)


# A name that two nodes or parallel entries share.


TAKEN: dict[str, Callable[[], object]] = {
    "node and node": lambda: flow().step("reserve", nothing),
    "decorated": lambda: flow().step("reserve")(nothing),
    "node and node of another kind": lambda: flow().sleep("notify", 1),
    "node and earlier entry": lambda: flow().step("email", nothing),
    "entry and earlier node": lambda: flow().parallel("more", {"push": nothing, "reserve": nothing}),
    "entry and earlier entry": lambda: flow().parallel("more", {"push": nothing, "sms": nothing}),
    "entry and its own parallel": lambda: flow().parallel("more", {"push": nothing, "more": nothing}),
    "wait": lambda: flow().wait_for_signal("sms", "signoff"),
    "child": lambda: flow().child_workflow("email", "invoicing"),
    "loop": lambda: flow().loop("reserve", again, max_iterations=1),
    "route": lambda: flow().route("notify", choose, {"air": nothing}),
}


@pytest.mark.parametrize("share", TAKEN)
def test_a_name_that_two_nodes_or_entries_share_is_refused(share: str) -> None:
    with pytest.raises(DefinitionError):
        TAKEN[share]()


def test_the_refusal_of_a_name_taken_says_which_and_what_is_known() -> None:
    with pytest.raises(DefinitionError) as caught:
        flow().step("sms", nothing)
    for known in ("order", "sms", "reserve", "notify", "email"):
        assert known in str(caught.value)


def test_branch_names_are_their_routes_own_affair() -> None:
    order = flow().route("ship", choose, {"reserve": nothing, "email": nothing, "ship": nothing})
    order.route("send", choose, {"reserve": nothing, "email": nothing})
    order.step("air", nothing)
    assert [node.name for node in order.nodes] == ["reserve", "notify", "ship", "send", "air"]


def test_a_signal_may_be_waited_for_twice_and_named_like_a_node() -> None:
    order = flow().wait_for_signal("one", "reserve").wait_for_signal("two", "reserve")
    assert [node.name for node in order.nodes][2:] == ["one", "two"]


# Options.


WITH_OPTIONS: dict[str, Callable[..., object]] = {
    "step": lambda **options: flow().step("close", nothing, **options),
    "parallel": lambda **options: flow().parallel("more", {"push": nothing}, **options),
    "route": lambda **options: flow().route("ship", choose, {"air": nothing}, **options),
    "loop": lambda **options: flow().loop("poll", again, max_iterations=1, **options),
    "sleep": lambda **options: flow().sleep("nap", 1, **options),
    "wait_for_signal": lambda **options: flow().wait_for_signal("signoff", "signoff", **options),
    "child_workflow": lambda **options: flow().child_workflow("invoice", "invoicing", **options),
}
BAD_OPTIONS: dict[str, Callable[[], object]] = {
    "parallel without entries": lambda: flow().parallel("more", {}),
    "parallel that is no mapping": lambda: flow().parallel("more", [nothing]),
    "parallel with an entry that is no handler": lambda: flow().parallel("more", {"push": "send"}),
    "parallel with an entry that is nothing": lambda: flow().parallel("more", {"push": None}),
    "route without branches": lambda: flow().route("ship", choose, {}),
    "route that is no mapping": lambda: flow().route("ship", choose, nothing),
    "route with a branch that is no handler": lambda: flow().route("ship", choose, {"air": 1}),
    "route without a resolver": lambda: flow().route("ship", "air", {"air": nothing}),
    "step with a handler that cannot be called": lambda: flow().step("close", "close_it"),
    "step decorating what cannot be called": lambda: flow().step("close")("close_it"),
    "step with a compensator that cannot be called": lambda: flow().step("close", nothing, compensate="undo"),
    "step with a condition that cannot be called": lambda: flow().step("close", nothing, when=True),
    "branch with a handler that cannot be called": lambda: flow().parallel("more", {"push": Branch("x")}),  # type: ignore[arg-type]
    "branch with a compensator that cannot be called": lambda: flow().parallel(
        "more",
        {"push": Branch(nothing, compensate=3)},  # type: ignore[arg-type]
    ),
    "loop without a limit": lambda: flow().loop("poll", again),
    "loop of no iterations": lambda: flow().loop("poll", again, max_iterations=0),
    "loop of fewer than no iterations": lambda: flow().loop("poll", again, max_iterations=-1),
    "loop of half an iteration": lambda: flow().loop("poll", again, max_iterations=1.5),
    "loop of a text of iterations": lambda: flow().loop("poll", again, max_iterations="3"),
    "loop with until that cannot be called": lambda: flow().loop("poll", again, max_iterations=1, until=True),
    "loop with feedback that cannot be called": lambda: flow().loop("poll", again, max_iterations=1, feedback=1),
    "loop with map_input that cannot be called": lambda: flow().loop("poll", again, max_iterations=1, map_input={}),
    "loop with a compensator that cannot be called": lambda: flow().loop("poll", again, max_iterations=1, compensate=1),
    "loop with a negative pause": lambda: flow().loop("poll", again, max_iterations=2, pause=-1),
    "loop with a text for a pause": lambda: flow().loop("poll", again, max_iterations=2, pause="long"),
    "loop with a naive pause": lambda: flow().loop("poll", again, max_iterations=2, pause=datetime(2030, 1, 1)),  # noqa: DTZ001
    "sleep until a naive instant": lambda: flow().sleep("nap", datetime(2030, 1, 1)),  # noqa: DTZ001
    "sleep of negative seconds": lambda: flow().sleep("nap", -1),
    "sleep of a negative timedelta": lambda: flow().sleep("nap", timedelta(seconds=-1)),
    "sleep of no number": lambda: flow().sleep("nap", float("nan")),
    "sleep without end": lambda: flow().sleep("nap", float("inf")),
    "sleep of a text": lambda: flow().sleep("nap", "1h"),
    "sleep of nothing": lambda: flow().sleep("nap", None),
    "wait with a negative timeout": lambda: flow().wait_for_signal("signoff", "signoff", timeout=-1),
    "wait with a text for a timeout": lambda: flow().wait_for_signal("signoff", "signoff", timeout="3d"),
    "wait with an instant for a timeout": lambda: flow().wait_for_signal("s", "signoff", timeout=datetime.now(UTC)),
    "child that is no workflow": lambda: flow().child_workflow("invoice", nothing),
    "child with map_input that cannot be called": lambda: flow().child_workflow("i", "invoicing", map_input={}),
    "child with a compensator that cannot be called": lambda: flow().child_workflow("i", "invoicing", compensate="x"),
}


@pytest.mark.parametrize("option", BAD_OPTIONS)
def test_a_bad_option_is_refused_while_building(option: str) -> None:
    with pytest.raises(DefinitionError):
        BAD_OPTIONS[option]()


@pytest.mark.parametrize("kind", WITH_OPTIONS)
def test_an_unknown_option_is_refused_naming_those_that_are_known(kind: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        WITH_OPTIONS[kind](max_retry=1)
    assert "max_retry" in str(caught.value)
    assert "when" in str(caught.value)


CONDITIONED: dict[str, Callable[[Any], Workflow]] = {
    "parallel": lambda when: flow().parallel("more", {"push": nothing}, when=when),
    "route": lambda when: flow().route("ship", choose, {"air": nothing}, when=when),
    "loop": lambda when: flow().loop("poll", again, max_iterations=1, when=when),
    "sleep": lambda when: flow().sleep("nap", 1, when=when),
    "wait_for_signal": lambda when: flow().wait_for_signal("signoff", "signoff", when=when),
    "child_workflow": lambda when: flow().child_workflow("invoice", "invoicing", when=when),
}


@pytest.mark.parametrize("kind", CONDITIONED)
def test_a_condition_that_cannot_be_called_is_refused_by_every_node(kind: str) -> None:
    CONDITIONED[kind](choose)
    with pytest.raises(DefinitionError, match="when"):
        CONDITIONED[kind]("yes")


WITH_POLICY: dict[str, Callable[..., Workflow]] = {
    "step": lambda **policy: flow().step("close", nothing, **policy),
    "decorated step": lambda **policy: flow().step("close", **policy)(nothing),
    "parallel": lambda **policy: flow().parallel("more", {"push": nothing}, **policy),
    "route": lambda **policy: flow().route("ship", choose, {"air": nothing}, **policy),
    "loop": lambda **policy: flow().loop("poll", again, max_iterations=1, **policy),
}
BAD_POLICIES: list[tuple[str, Any]] = [
    *(("max_retries", value) for value in (-1, 1.5, "3")),
    *(("retry_backoff", value) for value in ("quadratic", -1, timedelta(seconds=-1), object(), float("nan"))),
    *(("timeout", value) for value in (-1, timedelta(seconds=-1), "10", float("nan"))),
    *(("retry_on", value) for value in (ValueError("x"), "ValueError", int, (ValueError, 5))),
    *(("give_up_on", value) for value in (ValueError("x"), "ValueError", int, (ValueError, 5))),
]


@pytest.mark.parametrize("kind", WITH_POLICY)
@pytest.mark.parametrize(("option", "value"), BAD_POLICIES)
def test_a_bad_policy_is_refused_with_the_name_of_the_option(kind: str, option: str, value: Any) -> None:
    with pytest.raises(DefinitionError, match=option):
        WITH_POLICY[kind](**{option: value})


@pytest.mark.parametrize("kind", WITH_POLICY)
def test_every_node_with_a_policy_takes_the_same_keywords(kind: str) -> None:
    WITH_POLICY[kind](
        max_retries=0,
        retry_backoff=Backoff(initial=1, factor=2, maximum=300, jitter=0.1),
        timeout=timedelta(minutes=1),
        retry_on=(OSError, ValueError),
        give_up_on=KeyError,
    )
    for backoff in ("exponential", "linear", 1, 0.5, timedelta(seconds=2)):
        WITH_POLICY[kind](retry_backoff=backoff, give_up_on=(KeyError, TypeError), retry_on=OSError, timeout=None)


@pytest.mark.parametrize("bad", [{"initial": -1}, {"maximum": -1}, {"jitter": -0.1}, {"initial": "1"}, {"factor": -2}])
def test_a_backoff_that_makes_no_sense_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError):
        durable("order").step("close", nothing, retry_backoff=Backoff(**bad))


def test_the_refusal_of_a_backoff_names_those_that_are_known() -> None:
    with pytest.raises(DefinitionError) as caught:
        flow().step("close", nothing, retry_backoff="quadratic")
    for word in ("quadratic", "exponential", "linear"):
        assert word in str(caught.value)


def test_a_refused_node_leaves_the_workflow_as_it_was() -> None:
    order = flow()
    refusals: list[Callable[[], object]] = [
        lambda: order.step("sms", nothing),
        lambda: order.step("close", nothing, max_retries=-1),
        lambda: order.parallel("more", {"push": nothing, "sms": nothing}),
        lambda: order.route("ship", choose, {}),
    ]
    for refused in refusals:
        with pytest.raises(DefinitionError):
            refused()
    assert [node.name for node in order.nodes] == ["reserve", "notify"]
    order.step("push", nothing).step("more", nothing).step("close", nothing).step("ship", nothing)
