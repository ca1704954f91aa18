"""Signed links by which a person answers a run: what a token holds, how it is signed, and what became of its answer.

A token is `body.signature`, both in the alphabet of URLs: the body is JSON, the signature an HMAC-SHA256 of the body's
text under a key that is derived for this purpose alone. Nothing of a token is decoded before its signature has been
verified. All links of one run, signal and key deliver under the same signal key, `url/<key>`, so the store accepts the
first answer and no other, whatever happens at once, is repeated, or is killed in between. The link that was first is
read from the message itself: its receipt was written in the transaction that accepted it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from stepwell.core.statuses import ENDED
from stepwell.errors import DefinitionError, PayloadError
from stepwell.reading.entries import moment_of
from stepwell.workflow.numbers import shown

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from stepwell.store.codec import Codec
    from stepwell.store.records import KeyedMessage

MOST_TOKEN = 4_000
"""Characters of a token, so that its URL passes through every proxy and mail program."""
KEY_PREFIX = "url/"
"""What the signal key of a link begins with; the link's own key follows."""
_PURPOSE = b"stepwell answer link 1"
_BASE = re.compile(r"(https?://[^/\s?#\"'<>\\]+|/)[^\s?#\"'<>\\]*")


class LinkStatus(StrEnum):
    """What a link can still do.

    - `OPEN` (`open`): its answer can be delivered.
    - `ANSWERED` (`answered`): an answer was delivered, by this link or another one of the same key.
    - `REFUSED` (`refused`): its key belongs to a message of another signal, so its answer cannot be delivered.
    - `ENDED` (`ended`): the run has ended.
    - `EXPIRED` (`expired`): its time is over.
    - `UNKNOWN` (`unknown`): it was not signed by any of the app's keys, or its run is not stored.
    """

    OPEN = "open"
    ANSWERED = "answered"
    REFUSED = "refused"
    ENDED = "ended"
    EXPIRED = "expired"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class AnswerLink:
    """A link and what became of its answer, the return value of `Durable.read_link` and `answer_link`. Frozen.

    - `status`: a `LinkStatus`. The other fields are None where it is `unknown` or does not tell.
    - `run_id`, `signal`, `key`: what it answers; `key` is that of `signal_url`.
    - `data`: what it delivers.
    - `expires_at`: until when it can be used, an aware datetime in UTC.
    - `answered_at`: when an answer was accepted, an aware datetime in UTC; also for a run that has ended since.
    - `answered_here`: whether that was by this link, or one of the same data.
    - `answered_with`: the data of the link that was first; None if the answer did not come by a link.
    - `answered_by_link`: whether the answer came by a link at all.
    """

    status: LinkStatus
    run_id: str | None = None
    signal: str | None = None
    key: str | None = None
    data: Any = None
    expires_at: datetime | None = None
    answered_at: datetime | None = None
    answered_here: bool = False
    answered_with: Any = None
    answered_by_link: bool = False


class Link(NamedTuple):
    """What a token holds; `value` is encoded, `expires_at` in microseconds since 1970."""

    run_id: str
    signal: str
    key: str
    value: msgspec.Raw
    expires_at: int

    @property
    def signal_key(self) -> str:
        """The key under which its answer is delivered."""
        return KEY_PREFIX + self.key

    @property
    def receipt(self) -> bytes:
        """What is kept with its answer: that it came by a link, and by which."""
        return b'{"link":%b}' % bytes(self.value)


class _Receipt(msgspec.Struct):
    link: msgspec.Raw


_read_link = msgspec.json.Decoder(Link).decode
_read_receipt = msgspec.json.Decoder(_Receipt).decode


class LinkSigner:
    """Signs and verifies tokens: the first key signs, all of them verify. Its keys are in no repr."""

    def __init__(self, keys: Iterable[str | bytes]) -> None:
        if isinstance(keys, str | bytes):
            raise DefinitionError("signing_keys must be a list of keys, got a single one.")
        self._keys = [hmac.digest(_checked(key), _PURPOSE, hashlib.sha256) for key in keys]

    def sign(self, link: Link) -> str:
        """The token of a link; raises PayloadError where its data makes it too long."""
        if not self._keys:
            raise DefinitionError("signal_url needs Durable(signing_keys=[…]), got no signing keys.")
        body = _as_text(msgspec.json.encode(link))
        token = f"{body}.{_signature(self._keys[0], body)}"
        if len(token) > MOST_TOKEN:
            raise PayloadError(
                "data", f"its link would have a token of {len(token):,} characters, above the limit of {MOST_TOKEN:,}"
            )
        return token

    def verified(self, token: str) -> Link | None:
        """What a token holds; None for one that none of the keys has signed."""
        if len(token) > MOST_TOKEN or not token.isascii():
            return None
        body, _, signature = token.partition(".")
        # No early end: how long it takes tells neither how much of a signature is right, nor which key fits.
        fitting = [hmac.compare_digest(_signature(key, body), signature) for key in self._keys]
        if True not in fitting:
            return None
        try:
            return _read_link(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        except (ValueError, msgspec.MsgspecError):  # signed by a release that wrote them otherwise
            return None


def new_link(run_id: str, signal: str, key: str, value: bytes, expires_at: int) -> Link:
    """A link that delivers the encoded value."""
    return Link(run_id, signal, key, msgspec.Raw(value), expires_at)


def checked_base(base: object) -> str:
    """Where the pages of links are served, without a slash at its end; raises DefinitionError."""
    if isinstance(base, str) and _BASE.fullmatch(base):
        return base.rstrip("/")
    raise DefinitionError(
        f"signal_url: base must be an http or https URL or a path, without query or fragment, got {shown(base)}."
    )


def described(link: Link, codec: Codec, status: LinkStatus, message: KeyedMessage | None = None) -> AnswerLink:
    """A verified link in that status, with the answer that came, if one did."""
    answered_at, here, by_link, answered_with = None, False, False, None
    if message is not None and message.name == link.signal:
        answered_at = None if message.delivered_at is None else moment_of(link.run_id, message.delivered_at)
        first = _link_of(message.receipt)
        if first is not None:
            by_link, answered_with = True, codec.decode(first)
            here = codec.is_same(first, bytes(link.value))
    return AnswerLink(
        status,
        link.run_id,
        link.signal,
        link.key,
        codec.decode(bytes(link.value)),
        moment_of(link.run_id, link.expires_at),
        answered_at,
        here,
        answered_with,
        by_link,
    )


def status_with(link: Link, message: KeyedMessage | None, run_status: str | None) -> LinkStatus:
    """The status of a link that has not expired, by the message that holds its key and the status of its run."""
    if run_status in ENDED:
        return LinkStatus.ENDED
    if message is None:
        return LinkStatus.OPEN
    return LinkStatus.ANSWERED if message.name == link.signal else LinkStatus.REFUSED


def _checked(key: object) -> bytes:
    encoded = key.encode("utf-8", "surrogatepass") if isinstance(key, str) else key
    if not isinstance(encoded, bytes) or not encoded:
        raise DefinitionError("Each of signing_keys must be a string or bytes, not empty.")  # never shows a key
    return encoded


def _signature(key: bytes, body: str) -> str:
    return _as_text(hmac.digest(key, body.encode(), hashlib.sha256))


def _as_text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _link_of(receipt: bytes | None) -> bytes | None:
    """The encoded data of the link that a receipt is of."""
    try:
        return None if receipt is None else bytes(_read_receipt(receipt).link)
    except (ValueError, msgspec.MsgspecError):
        return None
