"""What there is in a namespace, in numbers: keys, history, checkpoints, the largest values, and how it grows."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Literal

from msgspec import Struct

from ..backends.protocol import Backend, KeySummary
from ..model import Commit, ProgressMessage, to_datetime
from ..states import retention
from .prune import iter_superseded

MAX_LARGEST = 10
VERSIONS_PER_PAGE = 5000
HOURLY = timedelta(days=2)  # of kept history, up to which growth is told by the hour
_KEYS_PER_REPORT = 20_000  # keys or versions between two words of progress


class Largest(Struct, frozen=True):
    """One of the largest live values: its key, and its size in bytes as it is encoded."""

    key: str
    size: int


class GrowthBucket(Struct, frozen=True):
    """An hour or a day in which there were commits: when it began, and the commits, keys and bytes written in it."""

    start: datetime
    commits: int
    keys: int
    bytes: int


class Stats(Struct, frozen=True):
    """A namespace in numbers. All sizes are bytes of encoded values, but for `space`.

    `keys` and `bytes` are of what is live; `versions` and `history` of what is kept beside it: superseded versions and
    deletes. `commits`, `oldest` and `newest` are of the log, which reaches back to the revision `floor`; what was
    written before is in no `growth`, which has one entry for each hour or day (`period`) with commits, oldest first.
    `automatic` counts those of the `checkpoints` that nobody gave a name. `space` is what it takes on the disk or in
    the server's memory, None where the server does not say.
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


def stats(backend: Backend, said: Callable[[str], None] | None = None) -> Stats:
    """See `StateManager.stats`."""
    head, marks = backend.head(), backend.marks()
    commits = [one for page in _commits(backend) for one in page]
    written: Counter[int] = Counter()  # bytes by revision
    keys = size = versions = past = 0
    largest: list[tuple[int, str]] = []
    for row in _rows(backend):
        keys, size = keys + 1, size + row.size
        if row.revision > head.floor:
            written[row.revision] += row.size
        _push(largest, (row.size, row.key))
        if said is not None and keys % _KEYS_PER_REPORT == 0:
            said(ProgressMessage.of(keys, head.count, "keys looked at"))
    for one in iter_superseded(backend):
        versions, past = versions + 1, past + one.size
        if one.revision > head.floor:
            written[one.revision] += one.size
        if said is not None and versions % _KEYS_PER_REPORT == 0:
            said(f"{versions:,} versions looked at")
    period, growth = _growth(commits, written)
    takes = backend.disk_usage()
    return Stats(
        backend.url, backend.namespace, head.revision, head.floor, keys, size, versions, past, len(marks),
        sum(retention.kind_of(mark) != "named" for mark in marks), len(commits),
        min((one.time for one in commits), default=None),
        to_datetime(head.time) if head.revision else None,
        tuple(Largest(key, size) for size, key in sorted(largest, key=lambda pair: (-pair[0], pair[1]))),
        period, growth, None if takes is None else takes.total,
    )  # fmt: skip


def _push(largest: list[tuple[int, str]], one: tuple[int, str]) -> None:
    if len(largest) < MAX_LARGEST:
        heapq.heappush(largest, one)
    elif one > largest[0]:
        heapq.heapreplace(largest, one)


def _rows(backend: Backend) -> Iterator[KeySummary]:
    after = ""
    while page := backend.list_keys(after=after, limit=VERSIONS_PER_PAGE):
        yield from page
        if len(page) < VERSIONS_PER_PAGE:
            return
        after = page[-1].key


def _commits(backend: Backend) -> Iterator[list[Commit]]:
    below = 0
    while page := backend.commits(1000, below):
        yield page
        below = page[-1].revision


def _growth(commits: list[Commit], written: Counter[int]) -> tuple[Literal["hour", "day"], tuple[GrowthBucket, ...]]:
    times = [one.time for one in commits]
    hourly = not times or max(times) - min(times) <= HOURLY
    found: dict[datetime, list[int]] = {}
    for one in commits:
        start = one.time.replace(minute=0, second=0, microsecond=0)
        sums = found.setdefault(start if hourly else start.replace(hour=0), [0, 0, 0])
        for place, number in enumerate((1, one.keys, written[one.revision])):
            sums[place] += number
    return "hour" if hourly else "day", tuple(GrowthBucket(start, *sums) for start, sums in sorted(found.items()))
