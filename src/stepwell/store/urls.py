"""How a store's URL may be shown: without what is, or may have been meant for, a password.

It fails closed: what might be a password is hidden, even where that hides a piece of a mistyped URL.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

_HIDDEN = "***"
_WITH_SLASHES = re.compile(r"(?s)(?P<scheme>[^/?#@]*//)(?P<authority>[^/?#]*)(?P<rest>.*)")
_WITHOUT_SLASHES = re.compile(r"(?is)(?P<scheme>sqlite:|postgres(?:ql)?:/?)?(?P<rest>.*)")
_ADDRESS = re.compile(r"(?:\[[^\]]*\]?|[^:,\[\]]*)(?::[0-9]{0,5})?(?:,(?:\[[^\]]*\]?|[^:,\[\]]*)(?::[0-9]{0,5})?)*")
_OPTIONS = (
    "application_name|connect_timeout|connections|database|dbname|host|hostaddr|listen|mode|options|passfile|pooled|"
    "port|schema|service|ssl(?!password)[a-z_]*|target_session_attrs|user"
)
_SECRET = re.compile(
    r"(?is)((?:^|[?&;\s])[^=&;?\s]*(?:pass(?!file)|pwd|secret|token)[^=&;?\s]*\s*=)"
    rf".*?(?=(?:&|\s)(?:{_OPTIONS})\s*=|$)"
)
"""A secret option up to the next option that is known: its value may have held a separator."""


def without_password(url: str) -> str:
    """The URL with every password in it hidden, also one whose special characters were not escaped."""
    hidden = _SECRET.sub(rf"\1{_HIDDEN}", _without_user_password(url))
    plain, _, options = hidden.partition("?")
    if len(_SECRET.findall(unquote(options))) > len(_SECRET.findall(options)):
        return f"{plain}?{_HIDDEN}"  # the name of an option is escaped itself
    return hidden


def _without_user_password(url: str) -> str:
    found = _WITH_SLASHES.match(url)
    if found is None:
        return _without_slashes(url)
    scheme, authority, rest = found.group("scheme", "authority", "rest")
    is_file = scheme.lower() == "sqlite://" and not authority
    if "@" in authority or ("@" in rest and not is_file and ":" in authority + rest.partition("?")[0]):
        users, _, hosts = (authority + rest).rpartition("@")
        user, colon, _ = users.partition(":")
        return f"{scheme}{user}{f':{_HIDDEN}' if colon else ''}@{hosts}"
    if "%40" in authority or ("%40" in rest and "%" in scheme):
        return f"{scheme}{_HIDDEN}"
    if not _ADDRESS.fullmatch(authority):  # a user and a password, and the host forgotten
        return f"{scheme}{authority.partition(':')[0]}:{_HIDDEN}{rest}"
    return url


def _without_slashes(url: str) -> str:
    """A URL, or something else, that has no `//`: all before an @ may be a password, and all after a colon."""
    found = _WITHOUT_SLASHES.fullmatch(url)
    scheme, rest = (found["scheme"] or "", found["rest"]) if found else ("", url)
    is_file = scheme.lower() == "sqlite:"
    if "@" in rest and (not is_file or ":" in rest):
        users, _, hosts = rest.rpartition("@")
        user, colon, _ = users.partition(":")
        return f"{scheme}{user if colon else ''}{':' if colon else ''}{_HIDDEN}@{hosts}"
    if ":" in rest and not is_file:
        return f"{scheme}{rest.partition(':')[0]}:{_HIDDEN}"
    if "%40" in rest and "%3a" in rest.lower():
        return f"{scheme}{_HIDDEN}"
    return url
