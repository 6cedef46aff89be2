"""Measure a namespace: keys, history, checkpoints, the largest values, and growth."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Literal

from msgspec import Struct

from ..backends.protocol import Backend, KeySummary, ProgressText
from ..model import Commit, ProgressMessage, to_datetime
from ..states import retention
from .history import iter_commits, iter_superseded

MAX_LARGEST = 10
KEYS_PER_PAGE = 5000
HOURLY = timedelta(days=2)  # a kept history up to this long is counted by the hour, a longer one by the day
_KEYS_PER_REPORT = 20_000  # keys or versions between two progress reports


class Largest(Struct, frozen=True):
    """Name a large live value: its key, and its encoded size in bytes."""

    key: str
    size: int


class GrowthBucket(Struct, frozen=True):
    """Count the commits, keys and bytes written in one hour or day, with its start."""

    start: datetime
    commits: int
    keys: int
    bytes: int


class Stats(Struct, frozen=True):
    """Hold a namespace in numbers. All sizes are bytes of encoded values, except `space`.

    `keys` and `bytes` count the live entries. `versions` and `history` count the kept versions beside them: superseded
    versions and deletes. `commits`, `oldest` and `newest` describe the log, which reaches back to the revision `floor`.
    `growth` has one entry for each hour or day (`period`) with commits, oldest first. It leaves out commits below the
    floor. `automatic` counts the `checkpoints` that no person named. `space` is the size on the disk or in the server's
    memory, None if the server does not say. `checkpoint_files` is the part of `space` that the files
    `checkpoints/NAME.json` of JSON files take: copies for people, which `checkpoint_files = false` saves. If
    `sealed`, no key opens the values, and all sizes are of what is stored.
    """

    store: str
    namespace: str
    revision: int
    floor: int
    keys: int
    bytes: int
    versions: int
    history: int
    checkpoints: int
    automatic: int
    commits: int
    oldest: datetime | None
    newest: datetime | None
    largest: tuple[Largest, ...]
    period: Literal["hour", "day"]
    growth: tuple[GrowthBucket, ...]
    space: int | None
    checkpoint_files: int = 0
    sealed: bool = False


def stats(backend: Backend, progress: ProgressText | None = None) -> Stats:
    """Measure a namespace as `StateManager.stats` does."""
    head, marks = backend.head(), backend.marks()
    commits = list(iter_commits(backend))
    written: Counter[int] = Counter()  # bytes by revision
    keys = size = versions = past = 0
    largest: list[tuple[int, str]] = []
    is_sealed = False
    for row in _rows(backend):
        keys, size, is_sealed = keys + 1, size + row.size, is_sealed or row.sealed
        if row.revision > head.floor:
            written[row.revision] += row.size
        _push(largest, (row.size, row.key))
        if progress is not None and keys % _KEYS_PER_REPORT == 0:
            progress(ProgressMessage.of(keys, head.count, "keys read"))
    for version in iter_superseded(backend):
        versions, past = versions + 1, past + version.size
        if version.revision > head.floor:
            written[version.revision] += version.size
        if progress is not None and versions % _KEYS_PER_REPORT == 0:
            progress(f"{versions:,} versions read")
    period, growth = _growth(commits, written)
    usage = backend.disk_usage()
    return Stats(
        backend.url, backend.namespace, head.revision, head.floor, keys, size, versions, past, len(marks),
        sum(retention.kind_of(mark) != "named" for mark in marks), len(commits),
        min((commit.time for commit in commits), default=None),
        to_datetime(head.time) if head.revision else None,
        tuple(Largest(key, size) for size, key in sorted(largest, key=lambda pair: (-pair[0], pair[1]))),
        period, growth, None if usage is None else usage.total, 0 if usage is None else usage.copies, is_sealed,
    )  # fmt: skip


def _push(largest: list[tuple[int, str]], candidate: tuple[int, str]) -> None:
    if len(largest) < MAX_LARGEST:
        heapq.heappush(largest, candidate)
    elif candidate > largest[0]:
        heapq.heapreplace(largest, candidate)


def _rows(backend: Backend) -> Iterator[KeySummary]:
    after = ""
    while page := backend.list_keys(after=after, limit=KEYS_PER_PAGE):
        yield from page
        if len(page) < KEYS_PER_PAGE:
            return
        after = page[-1].key


def _growth(commits: list[Commit], written: Counter[int]) -> tuple[Literal["hour", "day"], tuple[GrowthBucket, ...]]:
    times = [commit.time for commit in commits]
    hourly = not times or max(times) - min(times) <= HOURLY
    buckets: dict[datetime, list[int]] = {}
    for commit in commits:
        start = commit.time.replace(minute=0, second=0, microsecond=0)
        sums = buckets.setdefault(start if hourly else start.replace(hour=0), [0, 0, 0])
        for column, number in enumerate((1, commit.keys, written[commit.revision])):
            sums[column] += number
    return "hour" if hourly else "day", tuple(GrowthBucket(start, *sums) for start, sums in sorted(buckets.items()))
