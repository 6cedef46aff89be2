"""Read all versions of a Redis namespace, page by page."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from ...errors import Damaged, run
from ..deltas import Chain
from ..protocol import PAGE_BYTES, StoredVersion
from .packing import pieces_of, value_of
from .scripts.transfer import DUMP

if TYPE_CHECKING:
    from .reader import Reader

VERSIONS_PER_PAGE = 1000  # a script that runs long keeps all other clients waiting


def versions_page(
    backend: Reader, after: tuple[str, int], limit: int, keys: Iterable[str] | None
) -> list[StoredVersion]:
    """Return a page of all versions, or of the versions of some keys."""
    page = (after[0], f"{after[1]:016}", min(limit, VERSIONS_PER_PAGE), PAGE_BYTES)
    if keys is None:
        return _parse(backend, backend._eval(DUMP, *page))
    wanted = sorted({key for key in keys if key >= after[0]})
    for start in range(0, len(wanted), VERSIONS_PER_PAGE):
        if versions := _parse(backend, backend._eval(DUMP, *page, *wanted[start : start + VERSIONS_PER_PAGE])):
            return versions
    return []


def _parse(backend: Reader, reply: list[Any]) -> list[StoredVersion]:
    try:
        flat = msgspec.msgpack.decode(reply[0], type=list[str])
    except ValueError as error:
        raise _damaged(backend, "") from error
    return parse_versions(backend, zip(flat[::2], flat[1::2], strict=True), pieces_of(backend, reply[1]))


def parse_versions(backend: Reader, pairs: Iterable[tuple[str, str]], chain: Chain) -> list[StoredVersion]:
    """Parse keys with their entries, and fields of the history with their versions.

    Args:
        backend: the backend.
        pairs: names with what is stored; of a linked version no more than what comes before its value.
        chain: the reader of linked versions.

    """
    versions = []
    name = ""
    value: bytes | None
    unpack = backend._unpacked
    try:
        for name, packed in pairs:
            first, moment, expires, rest = packed.split(" ", 3)
            key, nul, revision = name.partition("\0")
            if not nul:  # a live entry, which begins with its revision; else a version, which begins with `until`
                value = unpack(rest.encode(), key, int(first))
                versions.append(StoredVersion(key, value, int(first), int(moment), int(expires)))
                continue
            if first[:1] == "*":
                first, value = first[1:], value_of(backend, chain, key, int(revision))
            else:
                value = None if rest == "D" else unpack(rest[1:].encode(), key, int(revision))
            versions.append(StoredVersion(key, value, int(revision), int(moment), int(expires), int(first)))
    except Damaged:
        raise  # of `unpack`, which names the version
    except ValueError as error:  # also msgspec's errors and UnicodeDecodeError
        raise _damaged(backend, name) from error
    return versions


def _damaged(backend: Reader, name: str) -> Damaged:
    return Damaged(f"{backend.url}: the entry {name[:60]!r} is not what was written", run("recover"))
