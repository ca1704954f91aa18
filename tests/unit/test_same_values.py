"""Stored values that are compared or looked at without being decoded first."""

from __future__ import annotations

import pytest

from stepwell.store.codec import PLAIN


@pytest.mark.parametrize("data", [b'"\xff"', b'{"a": "\xc3("}', b'["\xed\xa0\x80"]'])
def test_what_is_no_text_is_not_sound(data: bytes) -> None:
    """A run would be driven with a value that no handler can be given."""
    assert not PLAIN.is_sound(data)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (b'{"a":1,"b":[2]}', b'{"b":[2],"a":1}', True),
        (b"1", b"1.0", True),
        (b"[1,2]", b"[1,2,3]", False),
        (b"[1,2,3]", b"[1,2]", False),
        (b'{"a":1}', b'{"a":1,"b":2}', False),
        (b'{"a":1,"b":2}', b'{"a":1}', False),
        (b"[1]", b"[true]", False),
        (b"0", b"false", False),
        (b"null", b"0", False),
        (b"{}", b"[]", False),
    ],
)
def test_values_are_the_same_if_they_are_equal_as_json(one: bytes, other: bytes, *, same: bool) -> None:
    assert PLAIN.is_same(one, other) is same
