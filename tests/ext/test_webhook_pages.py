"""The pages of answer links: what they say, that they load nothing, and that nothing in them is taken for HTML."""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import pytest

from stepwell import Durable, PayloadError, durable
from stepwell.ext.webhooks import AnswerLink, LinkStatus, Page, answer_page, page_of, unavailable_page

AT = datetime(2026, 12, 1, 8, 30, tzinfo=UTC)
LINK = AnswerLink(LinkStatus.OPEN, "run", "signoff", "week 1", {"approved": True}, AT)
EVIL = "</pre><script>alert(1)</script>\"'&\N{RIGHT-TO-LEFT OVERRIDE}"


def link(status: LinkStatus, **facts: Any) -> AnswerLink:
    """A link in that status, with these facts instead of the usual ones."""
    values = {name: getattr(LINK, name) for name in AnswerLink.__slots__} | facts
    return AnswerLink(**{**values, "status": status})


EVERY = [
    *(link(status) for status in LinkStatus),
    AnswerLink(LinkStatus.UNKNOWN),
    link(LinkStatus.ANSWERED, answered_at=AT, answered_by_link=True, answered_with={"approved": False}),
    link(LinkStatus.ANSWERED, answered_at=AT, answered_by_link=True, answered_here=True, answered_with=True),
    link(LinkStatus.ENDED, answered_at=AT, answered_by_link=True, answered_with=EVIL),
    link(LinkStatus.OPEN, signal=EVIL, key=EVIL, data={EVIL: [EVIL]}),
    link(LinkStatus.REFUSED, signal=EVIL, key=EVIL, data=EVIL),
]


class Elements(HTMLParser):
    """The elements and attributes of a page, and whether each that is opened is closed."""

    def __init__(self, page: Page) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(page.body.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes an element."""
        self.found.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Notes the end of an element."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Notes text, but not that of the style."""
        if self.open and self.open[-1] != "style":
            self.text += data


@pytest.mark.parametrize("submitted", [False, True])
@pytest.mark.parametrize("one", EVERY, ids=lambda one: one.status)
def test_a_page_is_whole_loads_nothing_and_takes_nothing_for_html(one: AnswerLink, *, submitted: bool) -> None:
    page = page_of(one, submitted=submitted)
    elements = Elements(page)

    assert elements.open == []
    assert [tag for tag, _ in elements.found[:2]] == ["html", "head"]
    allowed = {"html", "head", "meta", "title", "style", "body", "main", "h1", "p", "pre", "form", "button", "time"}
    assert {tag for tag, _ in elements.found} <= allowed
    attributes = {name for _, given in elements.found for name in given}
    assert attributes <= {"lang", "charset", "name", "content", "method", "type", "datetime"}
    assert ("html", {"lang": "en"}) in elements.found
    assert "://" not in page.body.decode()
    assert [tag for tag, _ in elements.found].count("h1") == 1


@pytest.mark.parametrize("one", EVERY, ids=lambda one: one.status)
def test_the_policy_allows_the_style_of_the_page_and_nothing_else(one: AnswerLink) -> None:
    page = page_of(one, submitted=False)
    (style,) = re.findall("<style>(.*?)</style>", page.body.decode())
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()

    policy = page.headers["Content-Security-Policy"]
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digest}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    assert page.headers["Cache-Control"] == "no-store"
    assert page.headers["Referrer-Policy"] == "no-referrer"
    assert page.headers["X-Content-Type-Options"] == "nosniff"


def test_an_open_link_shows_what_it_sends_and_a_button_that_submits_to_the_same_url() -> None:
    page = page_of(LINK, submitted=False)
    elements = Elements(page)
    assert page.status == 200
    assert '"approved": true' in elements.text
    assert "1 December 2026, 08:30:00 UTC" in elements.text
    assert ("form", {"method": "post"}) in elements.found
    assert ("button", {"type": "submit"}) in elements.found


def test_a_late_answer_is_told_when_and_by_which_link_the_first_one_came() -> None:
    answered = link(LinkStatus.ANSWERED, answered_at=AT, answered_by_link=True, answered_with={"approved": False})
    page = page_of(answered, submitted=True)
    text = Elements(page).text
    assert page.status == 409
    assert "Your answer was not delivered" in text
    assert "1 December 2026, 08:30:00 UTC, by another link" in text
    assert '"approved": false' in text
    assert page_of(answered, submitted=False).status == 200


@pytest.mark.parametrize("submitted", [False, True])
def test_the_link_that_was_first_says_so(*, submitted: bool) -> None:
    page = page_of(
        link(LinkStatus.ANSWERED, answered_at=AT, answered_by_link=True, answered_here=True), submitted=submitted
    )
    assert page.status == 200
    assert "It was answered on 1 December 2026, 08:30:00 UTC, by this link." in Elements(page).text


def test_an_answer_that_did_not_come_by_a_link_is_told_as_that() -> None:
    page = page_of(link(LinkStatus.ANSWERED, answered_at=AT), submitted=True)
    assert page.status == 409
    assert "on 1 December 2026, 08:30:00 UTC, not by a link" in Elements(page).text


def test_a_page_is_shown_while_the_store_is_not_available() -> None:
    page = unavailable_page()
    assert (page.status, page.headers["Retry-After"]) == (503, "60")
    assert Elements(page).open == []
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]


@pytest.mark.parametrize("status", [LinkStatus.ENDED, LinkStatus.EXPIRED, LinkStatus.UNKNOWN])
@pytest.mark.parametrize("submitted", [False, True])
def test_what_cannot_be_used_any_more_is_gone(status: LinkStatus, *, submitted: bool) -> None:
    assert page_of(link(status), submitted=submitted).status == 410


async def test_a_page_that_is_looked_at_delivers_nothing_and_one_that_is_submitted_does() -> None:
    flow = durable("order").wait_for_signal("wait", "signoff")
    async with Durable("sqlite://", [flow], signing_keys=["key"]) as app:
        run_id = (await app.start(flow)).run_id
        token = app.signal_url("/runs", run_id, "signoff", data=True).rpartition("/")[2]
        assert (await answer_page(app, token, submitted=False)).status == 200
        assert (await app.status(run_id)).unread_signals == {}
        assert (await answer_page(app, token, submitted=True)).status == 200
        assert (await app.status(run_id)).unread_signals == {"signoff": 1}


async def test_data_that_the_run_does_not_accept_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise PayloadError("data.approved", "expected bool, got <b>str</b>")

    app = Durable("sqlite://", signing_keys=["key"])
    monkeypatch.setattr(app, "answer_link", refuse)
    page = await answer_page(app, "token", submitted=True)
    assert page.status == 422
    assert "data.approved: expected bool, got &lt;b&gt;str&lt;/b&gt;" in page.body.decode()
