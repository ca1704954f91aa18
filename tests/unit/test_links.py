"""Signed links: what verifies, what does not, and what is refused while one is made."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwell import DefinitionError, PayloadError
from stepwell.reading.links import MOST_TOKEN, LinkSigner, checked_base, new_link

LINK = new_link(
    "01a230bd-e7a1-7792-bdfb-29f046ae8bd5", "signoff", "signoff", b'{"approved":true}', 1_800_000_000_000_000
)


def test_a_token_is_verified_by_the_key_that_signed_it() -> None:
    signer = LinkSigner(["first"])
    assert signer.verified(signer.sign(LINK)) == LINK


def test_the_first_key_signs_and_all_of_them_verify() -> None:
    old, rotated, new = LinkSigner(["old"]), LinkSigner(["new", b"old"]), LinkSigner(["new"])
    assert rotated.verified(old.sign(LINK)) == LINK
    assert new.verified(rotated.sign(LINK)) == LINK
    assert old.verified(rotated.sign(LINK)) is None


def test_without_keys_nothing_is_signed_and_nothing_verifies() -> None:
    with pytest.raises(DefinitionError, match="signing_keys"):
        LinkSigner([]).sign(LINK)
    assert LinkSigner([]).verified(LinkSigner(["key"]).sign(LINK)) is None


@given(st.data())
def test_a_token_with_any_other_character_does_not_verify(data: st.DataObject) -> None:
    signer = LinkSigner(["key"])
    token = signer.sign(LINK)
    at = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.characters().filter(lambda character: character != token[at]))
    assert signer.verified(token[:at] + other + token[at + 1 :]) is None


@given(st.text() | st.builds(".".join, st.lists(st.text(max_size=20), min_size=1, max_size=4)))
def test_what_was_not_signed_does_not_verify(token: str) -> None:
    assert LinkSigner(["key"]).verified(token) is None


@pytest.mark.parametrize("change", [lambda one: one + "=", lambda one: one + ".", lambda one: " " + one, str.upper])
def test_a_token_has_one_form(change: object) -> None:
    signer = LinkSigner(["key"])
    assert callable(change)
    assert signer.verified(change(signer.sign(LINK))) is None


def test_a_body_of_another_form_does_not_verify_though_it_is_signed() -> None:
    signer = LinkSigner(["key"])
    token = signer.sign(LINK)
    for body in (b"{}", b"[]", b'["a"]', b"no JSON", b"[1,2,3,4,5]", b"\xff"):
        text = base64.urlsafe_b64encode(body).rstrip(b"=").decode()
        signer_of_text = LinkSigner(["key"])
        signature = _sign(signer_of_text, text)
        assert signer.verified(f"{text}.{signature}") is None
    assert signer.verified(token) == LINK


def _sign(signer: LinkSigner, body: str) -> str:
    from stepwell.reading.links import _signature  # noqa: PLC0415  what only a holder of the keys can do

    return _signature(signer._keys[0], body)


def test_a_link_whose_data_is_large_is_refused() -> None:
    large = LINK._replace(value=new_link("", "", "", b'"' + b"a" * MOST_TOKEN + b'"', 0).value)
    with pytest.raises(
        PayloadError, match=r"^data: its link would have a token of [0-9,]+ characters, above the limit"
    ):
        LinkSigner(["key"]).sign(large)


def test_a_token_that_is_too_long_is_not_looked_at() -> None:
    assert LinkSigner(["key"]).verified("a" * 10_000_000 + ".a") is None


@pytest.mark.parametrize("keys", [[""], [b""], [None], [3], "one key", b"one key"])
def test_keys_that_are_none_are_refused_without_being_shown(keys: object) -> None:
    with pytest.raises(DefinitionError, match="signing_keys") as refused:
        LinkSigner(keys)  # type: ignore[arg-type]  # what is tested is that it raises
    assert "one key" not in str(refused.value)


def test_keys_are_in_no_repr() -> None:
    assert "secret" not in repr(vars(LinkSigner(["secret"])))


@pytest.mark.parametrize("base", ["https://shop.example/runs", "http://127.0.0.1:8000/", "/runs", "/", "https://a"])
def test_a_base_is_a_url_or_a_path(base: str) -> None:
    assert checked_base(base) == base.rstrip("/")


@pytest.mark.parametrize(
    "base", ["", "runs", "javascript:alert(1)", "https://", "https://a/b?c", "https://a/#b", "/a b", "/a\n", '/"', None]
)
def test_a_base_that_is_neither_is_refused(base: object) -> None:
    with pytest.raises(DefinitionError, match=r"^signal_url: base must be an http or https URL or a path"):
        checked_base(base)
