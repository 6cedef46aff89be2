"""Bounds of key ranges, in code point order. An empty string is no bound."""

from __future__ import annotations

import re


def prefix_end(prefix: str) -> str:
    """Return the first string above all strings with a prefix; "" if there is no such string."""
    stem = prefix.rstrip("\U0010ffff")
    if not stem:
        return ""
    last = ord(stem[-1]) + 1
    return stem[:-1] + chr(0xE000 if last == 0xD800 else last)  # past the surrogates, which no key holds


def key_range(prefix: str, after: str, before: str) -> tuple[str, str]:
    """Return the first key of a range, and the key that ends it, for the arguments of `Backend.list_keys`."""
    low = encodable_bound(max(prefix, after + "\0") if after else prefix)
    highs = [high for high in (prefix_end(prefix), before) if high]
    return low, encodable_bound(min(highs)) if highs else ""


def encodable_bound(text: str) -> str:
    """Return a bound that divides the keys as `text` does and that UTF-8 can encode.

    Keys hold neither NUL nor lone surrogates, so `text` can be cut at the first of these.
    """
    match = re.search("[\0\ud800-\udfff]", text)
    if match is None:
        return text
    return text[: match.start()] + ("\0" if match[0] == "\0" else "\ue000")
