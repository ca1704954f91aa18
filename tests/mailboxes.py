"""All that is unread in a run's mailbox, read as an engine reads it: name by name, one message after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepwell.core.mailbox import MessageName

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stepwell.core.mailbox import Message
    from stepwell.store.protocol import Store
    from stepwell.store.records import Lease

SIGNALS = ("go", "stop", "other", "another")
NODES = ("a", "b", "bill", "bob", "child", "cid", "lost")
"""Of children whose end is told."""
NAMES = [*(MessageName("signal", name) for name in SIGNALS), *(MessageName("child", name) for name in NODES)]


async def unread_of(store: Store, lease: Lease, names: Iterable[MessageName] = NAMES) -> list[Message]:
    """The unread messages of these names, in order."""
    messages: list[Message] = []
    for name in names:
        after = 0
        while found := (await store.find_messages(lease, {name: after})).found:
            messages += found
            after = found[0].n
    return sorted(messages)
