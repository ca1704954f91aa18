"""How a store's URL may be shown: without what is, or may have been meant for, a password."""

from __future__ import annotations

import re

_AUTHORITY = re.compile(r"(?s)(?P<scheme>[^/?#]*//)(?P<authority>[^/?#]*)(?P<rest>.*)")
_SECRET = re.compile(r"(?is)((?:^|[?&;])[^=&;]*(?:password|secret|token)[^=&;]*=)[^&;]*")


def without_password(url: str) -> str:
    """The URL with every password in it hidden, also one whose special characters were not escaped."""
    found = _AUTHORITY.match(url)
    if found is None:
        return url
    scheme, authority, rest = found.group("scheme", "authority", "rest")
    if "@" in authority or ("@" in rest and ":" in authority):  # else a name of a file or an option has it
        users, _, hosts = (authority + rest).rpartition("@")
        user, colon, _ = users.partition(":")
        url = f"{scheme}{user}{':***' if colon else ''}@{hosts}"
    return _SECRET.sub(r"\1***", url)
