"""Tests of how the texts of secrets are masked in messages."""

from __future__ import annotations

from stepwell import Secret
from stepwell.workflow.secret import masked


def test_the_text_of_a_living_secret_is_masked() -> None:
    password, pin = Secret("correct horse"), Secret(471_108)

    assert masked("refused correct horse, pin 471108.") == "refused ***, pin ***."
    assert password.reveal() + str(pin.reveal()) == "correct horse471108"


def test_the_text_of_a_short_secret_hides_no_counts_or_places() -> None:
    secrets = [Secret(0), Secret(""), Secret("a"), Secret("abc")]

    assert masked("results.a[0] took 0 s: abc") == "results.a[0] took 0 s: abc"
    assert len(secrets) == 4


def test_the_longest_of_the_texts_is_masked_first() -> None:
    secrets = [Secret("horse"), Secret("horse battery")]

    assert masked("horse battery") == "***"
    assert len(secrets) == 2
