"""Passwords in store URLs: they are taken from environment variables, so that no file holds them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple
from urllib.parse import quote, unquote, unquote_plus

from . import SECRET_OPTION, VARIABLE, find_kind

_CODE = re.compile("%[0-9a-fA-F]{2}")
_VARIABLES_ALONE = re.compile(rf"(?:{VARIABLE})+")


class Password(NamedTuple):
    """A password that a URL holds in plain text: where, and the variable that would be a good place for it."""

    start: int
    end: int
    variable: str


def passwords(url: str) -> list[Password]:
    """List the passwords that a URL holds in plain text. A password that is a variable is not listed."""
    scheme, host = _parts(url)
    kind = find_kind(scheme)
    variable = f"STATEVIEW_{(kind.name if kind else scheme).upper().replace('-', '_')}_PASSWORD"
    return [
        Password(start, end, variable if option in ("", "password") else f"STATEVIEW_{option.upper()}")
        for start, end, option in _places(url, host)
        if not _VARIABLES_ALONE.fullmatch(url, start, end)
    ]


def has_login(url: str) -> bool:
    """Return whether a URL has a user or a password, also where these are variables."""
    _, host = _parts(url)
    return bool(host) and (url[host - 1] == "@" or any(_places(url, host)))


def with_variables(url: str, names: list[str]) -> str:
    """Return a URL with variables in place of its passwords, one name for each."""
    for password, name in reversed([*zip(passwords(url), names, strict=True)]):
        url = f"{url[: password.start]}${{{name}}}{url[password.end :]}"
    return url


def expand(url: str, value_of: Callable[[str], str]) -> str:
    """Return a URL with the values of its variables.

    A user, a password or an option's value may hold any character: what a URL cannot hold is percent-encoded. A value
    that is percent-encoded already stays as it is, and so does a variable that holds a larger part of the URL.
    """
    _, host = _parts(url)
    login = url.find("://") + 3
    is_pair = ":" in re.sub(VARIABLE, "", url[login : max(login, host)])

    def value(match: re.Match[str]) -> str:
        text = value_of(match[1])
        in_login = is_pair and match.start() < host
        in_option = match.start() >= host and re.search(r"[?&][^=&#]*=[^&]*$", url[host : match.start()])
        return _encoded(text) if host and (in_login or in_option) else text

    return re.sub(VARIABLE, value, url)


def _parts(url: str) -> tuple[str, int]:
    """Return the scheme, and where the host begins; 0 for the URL of a folder."""
    scheme, colon, rest = url.partition("://")
    kind = find_kind(scheme) if colon and scheme.isascii() and "$" not in scheme else None
    if not colon or (kind is not None and kind.in_folder):
        return scheme, 0
    return scheme, len(url) - len(rest.rpartition("@")[2])


def _places(url: str, host: int) -> Iterator[tuple[int, int, str]]:
    """Yield where passwords are: from, to, and the option that holds it, "" for the login's."""
    if not host:
        return
    start = url.index("://") + 3
    colon = url.find(":", start, host)
    if start <= colon < host - 2:
        yield colon + 1, host - 1, ""
    for match in re.finditer("([^?&=]+=)([^&]+)", url[host:]):
        if name := re.match(SECRET_OPTION, unquote_plus(match[1])):
            yield host + match.start(2), host + match.end(2), name[1].rstrip("=")


def _encoded(text: str) -> str:
    """Return a text as a URL can hold it. If each % begins the code of a character that needs it, it is encoded."""
    codes = _CODE.findall(text)
    needed = [code for code in codes if quote(sign := unquote(code), safe="") != sign]
    return text if codes and len(needed) == text.count("%") else quote(text, safe="")
