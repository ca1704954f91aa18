"""The pages of signed answer links, for any web framework: what came of a link, as status, headers and HTML.

A page loads nothing: one inline stylesheet, named by its hash in the Content-Security-Policy, and no script. All that
comes from outside is escaped. A GET only shows a page with a button, so that what opens links in mails by itself
(previews, scanners) answers nothing; the button submits to the same URL.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from typing import TYPE_CHECKING, NamedTuple

from stepwell.errors import PayloadError
from stepwell.reading.links import AnswerLink, LinkStatus

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from stepwell.app import Durable

__all__ = ["AnswerLink", "LinkStatus", "Page", "answer_page", "page_of", "unavailable_page"]

_GONE = 410
_CONFLICT = 409
_UNPROCESSABLE = 422
_UNAVAILABLE = 503
_MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
_STYLE = (
    ":root{color-scheme:light dark}"
    "body{font:1.125rem/1.6 system-ui,sans-serif;margin:0 auto;max-width:34rem;padding:10vh 1.25rem}"
    "h1{font-size:1.6rem;line-height:1.25}"
    "pre{background:color-mix(in srgb,currentColor 8%,transparent);border-radius:.4rem;padding:.75rem 1rem;"
    "white-space:pre-wrap;overflow-wrap:anywhere}"
    "button{background:#1d4ed8;border:0;border-radius:.4rem;color:#fff;cursor:pointer;font:inherit;"
    "padding:.7rem 1.4rem}"
    "button:focus-visible{outline:3px solid #f59e0b;outline-offset:3px}"
)
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex, nofollow",
}


class Page(NamedTuple):
    """An answer to a browser: the HTTP status, the headers, and the body in UTF-8."""

    status: int
    headers: Mapping[str, str]
    body: bytes


async def answer_page(shop: Durable, token: str, *, submitted: bool) -> Page:
    """Returns the page of a link of `shop.signal_url`, and delivers its answer if it was submitted.

    - `token`: the last part of the URL.
    - `submitted`: True for a POST, False for a GET or HEAD, which deliver nothing.

    Raises StoreUnavailableError.
    """
    if not submitted:
        return page_of(await shop.read_link(token), submitted=False)
    try:
        return page_of(await shop.answer_link(token), submitted=True)
    except PayloadError as error:
        text = f"<p>The run does not accept what this link would deliver: {html.escape(str(error))}</p>"
        return _page(_UNPROCESSABLE, "This answer does not fit", text)


def unavailable_page() -> Page:
    """Returns the page that is shown while the store is not available."""
    text = "<p>Nothing is lost. Open this link again in a minute.</p>"
    return _page(_UNAVAILABLE, "Not available right now", text, {"Retry-After": "60"})


def page_of(link: AnswerLink, *, submitted: bool) -> Page:
    """Returns the page that shows this link; `submitted`: whether its answer was just submitted."""
    match link.status:
        case LinkStatus.OPEN:
            return _page(200, f"Answer “{link.key}”", _question(link))
        case LinkStatus.ANSWERED:
            is_late = submitted and not link.answered_here
            return _page(_CONFLICT if is_late else 200, "Answered", _answered(link, is_late=is_late))
        case LinkStatus.REFUSED:
            return _page(_CONFLICT, "This link cannot be used", _refused(link))
        case LinkStatus.ENDED:
            text = "<p>The run that this link belongs to has ended.</p>"
            return _page(
                _GONE, "This run has ended", text + (_answered(link, is_late=False) if link.answered_at else "")
            )
        case LinkStatus.EXPIRED:
            text = f"<p>It could be used until {_moment(link.expires_at)}.</p>"
            return _page(_GONE, "This link has expired", text)
        case LinkStatus.UNKNOWN:
            text = "<p>It is incomplete, was signed with a key that is not in use, or belongs to no run.</p>"
            return _page(_GONE, "This link is not valid", text)


def _question(link: AnswerLink) -> str:
    return (
        f"{_data('Your answer:', link.data)}"
        '<form method="post"><button type="submit">Send this answer</button></form>'
        f"<p>Nothing is sent until you press the button. The first answer counts. "
        f"This link can be used until {_moment(link.expires_at)}.</p>"
    )


def _answered(link: AnswerLink, *, is_late: bool) -> str:
    at = f" on {_moment(link.answered_at)}" if link.answered_at else ""
    if not link.answered_by_link:
        text = f"<p>An answer was delivered{at}, not by a link.</p>"
    elif link.answered_here:
        return f"<p>It was answered{at}, by this link.</p>{_data('The answer:', link.answered_with)}"
    else:
        text = f"<p>It was answered{at}, by another link.</p>{_data('The answer of that link:', link.answered_with)}"
    late = "<p>Your answer was not delivered: the first one counts.</p>" if is_late else ""
    return late + text


def _refused(link: AnswerLink) -> str:
    return (
        f"<p>Its key “{html.escape(str(link.key))}” was used by a message of another signal, so an answer to "
        f"“{html.escape(str(link.signal))}” cannot be delivered by it. Nothing was delivered.</p>"
    )


def _data(label: str, data: object) -> str:
    if data is None:
        return ""
    text = json.dumps(data, ensure_ascii=False, indent=2)
    return f"<p>{label}</p><pre>{html.escape(text)}</pre>"


def _moment(at: datetime | None) -> str:
    """The instant for people, with its exact form for programs."""
    if at is None:
        return "an unknown time"
    text = f"{at.day} {_MONTHS[at.month - 1]} {at.year}, {at:%H:%M:%S} UTC"
    return f'<time datetime="{at.isoformat()}">{text}</time>'


def _page(status: int, title: str, text: str, headers: Mapping[str, str] | None = None) -> Page:
    heading = html.escape(title)
    body = (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{heading}</title><style>{_STYLE}</style></head>"
        f"<body><main><h1>{heading}</h1>{text}</main></body></html>\n"
    )
    return Page(status, {**_HEADERS, **(headers or {})}, body.encode())
