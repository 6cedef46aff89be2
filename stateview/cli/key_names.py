"""A bounded sample of a namespace's keys, in which completion finds what is not at their start."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple
from weakref import WeakKeyDictionary

from ..backends.names_only import names_only
from ..backends.protocol import Backend, KeySummary
from ..manager import StateManager
from ..states.matching.name_search import NameSearch
from ..states.matching.ranking import lowered

FIRST_KEYS = 5000  # are all in the sample, which is whole for a namespace that has no more
FOLDER_KEYS = 2500  # at most, from the folders of the rest
_READ_KEYS = 500  # of one read: a busy server answers it within the patience of a menu
_PAGE_KEYS = 50  # of a folder that has no folders
_KEYS_PER_FOLDER = 500  # of a folder with all below it
_SHARE = 20  # the sample is read again after this multiple of the time that reading it took
_DIVIDERS = ":/."  # characters that end a segment of a key
_FOLDER_ENDS = ":/._-#@| "  # of the sample, which is to reach every group of keys
AFTER_SEGMENT = "\U0010ffff" * 256  # a segment and this sort after every key that starts with the segment

Candidate = tuple[str, str]


class _Sample(NamedTuple):
    search: NameSearch
    rows: list[KeySummary]
    revision: int
    stale_at: float


_kept: WeakKeyDictionary[StateManager, _Sample] = WeakKeyDictionary()


def keys_with(manager: StateManager, word: str, similar: bool) -> Iterator[Candidate]:
    """Yield the keys of the sample that contain a word behind their start.

    If `similar`, also those that start with it in another case, and without any those that are like it. Keys that share
    the segment of the word are a single candidate, as for completion from the start.
    """
    if len(word) < 2:
        return
    search, rows, *_ = _sample(manager)
    offered: set[str] = set()
    for number in search(word) if similar else search.inside(word):
        key = rows[number].key
        segment = _shared_segment(rows, number, word)
        if segment not in offered:
            offered.add(segment)
            yield (segment, "…") if segment != key else (key, _summary(rows[number]))


def _shared_segment(rows: list[KeySummary], number: int, word: str) -> str:
    """Return a key up to the end of the segment with the word in it, if its neighbours share that; else the key."""
    key = rows[number].key
    at = lowered(key).find(lowered(word))
    end = segment_end(key, at + len(word)) if at >= 0 else 0
    beside = [rows[near].key for near in (number - 1, number + 1) if 0 <= near < len(rows)]
    return key[:end] if end and any(other.startswith(key[:end]) for other in beside) else key


def _sample(manager: StateManager) -> _Sample:
    """Return the sample of a manager's namespace. It is kept until the revision changes.

    While others write all the time, reading it takes at most a twentieth of the time.
    """
    kept, started = _kept.get(manager), time.monotonic()
    if kept is not None and (started < kept.stale_at or manager.revision == kept.revision):
        return kept
    revision = manager.revision
    rows = list(_rows(names_only(manager.backend)))
    search = NameSearch([row.key for row in rows])
    ended = time.monotonic()
    _kept[manager] = sample = _Sample(search, rows, revision, ended + _SHARE * (ended - started))
    return sample


def segment_end(key: str, start: int) -> int:
    """Return the end of the segment of a key that goes on at a position; 0 if no divider ends it."""
    return min((at for sign in _DIVIDERS if (at := key.find(sign, start)) >= 0), default=-1) + 1


def _summary(row: KeySummary) -> str:
    return f"revision {row.revision}, {row.size:,} bytes{', sealed' if row.sealed else ''}"


def _rows(backend: Backend) -> Iterator[KeySummary]:
    """Yield the first keys, and then some of each folder. A page costs O(log n + its keys)."""
    page: list[KeySummary] = []
    for _ in range(0, FIRST_KEYS, _READ_KEYS):
        page = backend.list_keys(after=page[-1].key if page else "", limit=_READ_KEYS)
        yield from page
        if len(page) < _READ_KEYS:
            return
    left = FOLDER_KEYS
    read: Counter[str] = Counter()
    while left > 0:
        page = backend.list_keys(after=_next_place([row.key for row in page[-_PAGE_KEYS:]], read), limit=_PAGE_KEYS)
        yield from page
        left -= _PAGE_KEYS
        if len(page) < _PAGE_KEYS:
            return


def _next_place(keys: list[str], read: Counter[str]) -> str:
    """Return the key to read on after, from a page of keys and the numbers of keys read of each folder.

    It is behind the largest folder that enough was read of, or else behind the folder that the whole page is of.
    """
    last = keys[-1]
    folders = [last[: at + 1] for at, sign in enumerate(last) if sign in _FOLDER_ENDS]
    for folder in folders:
        read[folder] += sum(key.startswith(folder) for key in keys)
    full = next((folder for folder in folders if read[folder] >= _KEYS_PER_FOLDER), "")
    if not full and folders and keys[0].startswith(folders[-1]):
        full = folders[-1]
    return full + AFTER_SEGMENT if full else last
