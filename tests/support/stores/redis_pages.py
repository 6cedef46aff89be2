"""The members of the lists in pages, see `scripts.paged_lists`, changed by hand."""

from __future__ import annotations

import re
from typing import Any

_SHAPES = {"hindex": (re.compile(rb"[^\0]+\0\d{16}"), b""), "writes": (re.compile(rb"[^\0]+"), b"\0")}


def unlist(client: Any, list_key: str, member: bytes) -> int:
    """Take a member out of its page; return whether it was there, as ZREM does."""
    shape, separator = _SHAPES[list_key.rpartition(":")[2]]
    for page in client.zrange(list_key, 0, -1):
        found = shape.findall(page)
        if member in found:
            client.zrem(list_key, page)
            found.remove(member)
            if found:
                client.zadd(list_key, {separator.join(found): 0})
            return 1
    return 0
