"""Whether a copy holds what its source does: every kept version compared, and what each state shows counted and hashed.

The copy is read back whole. Of the source is read again only what may have changed since it was read for the copy, or
was read by another process: of all else a digest was remembered.
"""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import blake2b
from operator import attrgetter
from typing import NamedTuple, TypeVar

import msgspec

from ..backends.protocol import Backend, CheckpointRecord, Head, StateAt, StoredVersion
from ..errors import Damaged

VERSIONS_PER_PAGE = 4000  # versions of a page
KEYS_PER_CALL = 500  # keys of one call
SAMPLED_KEYS = 1000  # keys of a state that are read back as a user would read them
_ENDLESS = 1 << 62

T = TypeVar("T")
VersionId = tuple[str, int]  # a key and a revision of it, in the order of a dump
_revision, _until, _expires, _value = (attrgetter(name) for name in ("revision", "until", "expires", "value"))
_encode = msgspec.msgpack.Encoder().encode


class VerificationError(Damaged):
    """What was read back is not what the source holds."""


class PageDigest(NamedTuple):
    """What was copied of the source after a place, up to another: how many versions, and their digest."""

    after: VersionId
    last: VersionId
    versions: int
    digest: bytes


class StateDigest(NamedTuple):
    """What a state shows: the number of keys, and a digest of their values, revisions, times and expiry."""

    keys: int
    digest: str


class VerificationReport(NamedTuple):
    """What a copy was found to hold. `forgotten` counts what the source has forgotten meanwhile, and nothing needs."""

    versions: int
    bytes: int
    live: StateDigest
    checkpoints: dict[str, StateDigest]
    forgotten: int


def place(version: StoredVersion) -> VersionId:
    """Where a version stands in a dump."""
    return version.key, version.revision


def size(page: Sequence[StoredVersion]) -> int:
    """Return the bytes of all values."""
    return sum(map(len, filter(None, map(_value, page))))


def page_digest(after: VersionId, page: list[StoredVersion]) -> PageDigest:
    """Return what is remembered of a page that was copied."""
    return PageDigest(after, place(page[-1]), len(page), _digest(page))


def _digest(page: list[StoredVersion]) -> bytes:
    return blake2b(_encode(page), digest_size=16).digest()


def pages(
    backend: Backend, after: VersionId = ("", 0), keys: Iterable[str] | None = None
) -> Iterator[list[StoredVersion]]:
    """All kept versions, page by page; those of some keys."""
    wanted = None if keys is None else list(keys)
    while page := backend.versions_page(after, VERSIONS_PER_PAGE, wanted):
        yield page
        after = place(page[-1])


def prefetch(items: Iterator[T]) -> Iterator[T]:
    """Yield the same items, each made on a thread of its own while the one before it is worked with."""
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(next, items, None)
        while (item := following.result()) is not None:
            following = pool.submit(next, items, None)
            time.sleep(0)  # lets that thread ask its server before this one computes
            yield item


def as_of(versions: Iterable[StoredVersion], revision: int) -> list[StoredVersion]:
    """Versions as they were at a revision."""
    return [
        msgspec.structs.replace(one, until=0) if one.until > revision else one
        for one in versions if one.revision <= revision
    ]  # fmt: skip


class StateHasher:
    """What live, and each checkpoint, show of versions that come in the order of a dump."""

    def __init__(self, at: StateAt, marks: Sequence[CheckpointRecord]) -> None:
        self._points = [at, *(StateAt(mark.revision, mark.time) for mark in marks)]
        self._names = [f"{mark.name}@{mark.revision}" for mark in marks]
        self._oldest = min(point.revision for point in self._points)
        self._hashes = [blake2b(digest_size=16) for _ in self._points]
        self._counts = [0] * len(self._points)
        self.sample: list[str] = []  # keys of which there is more than one version, or that are not in every state

    def add(self, page: Sequence[StoredVersion]) -> None:
        """Take in some versions."""
        plain = max(map(_revision, page)) <= self._oldest and not any(map(_until, page))
        if plain and not any(map(_expires, page)) and None not in map(_value, page):
            shown = b"".join(map(_line, page))  # all of it, in every state
            for number, hash_ in enumerate(self._hashes):
                hash_.update(shown)
                self._counts[number] += len(page)
            return
        if len(self.sample) < SAMPLED_KEYS:
            self.sample += [one.key for one in page if one.until or one.expires]
        lines = [
            (one.revision, one.until or _ENDLESS, one.expires or _ENDLESS, _line(one))
            for one in page if one.value is not None
        ]  # fmt: skip
        for number, point in enumerate(self._points):
            at, moment = point.revision, point.time
            seen = [line for low, high, expires, line in lines if low <= at < high and expires > moment]
            self._hashes[number].update(b"".join(seen))
            self._counts[number] += len(seen)

    @property
    def keys(self) -> int:
        """How many live keys there were so far."""
        return self._counts[0]

    def content(self) -> tuple[StateDigest, dict[str, StateDigest]]:
        """Return what live shows, and what each checkpoint does."""
        found = [
            StateDigest(*pair) for pair in zip(self._counts, (one.hexdigest() for one in self._hashes), strict=True)
        ]
        return found[0], dict(zip(self._names, found[1:], strict=True))


def _line(one: StoredVersion) -> bytes:
    value = one.value or b""
    return b"%b\0%d %d %d %d %b" % (one.key.encode(), one.revision, one.time, one.expires, len(value), value)


def summarize(
    backend: Backend, at: StateAt, marks: Sequence[CheckpointRecord], tell: Callable[[int], None] = lambda _: None
) -> VerificationReport:  # fmt: skip
    """Return what a namespace holds, and live, at a point, and each checkpoint show. All of it is read. O(versions)."""
    found = StateHasher(at, marks)
    versions = total = 0
    for page in prefetch(pages(backend)):
        if some := as_of(page, at.revision):
            found.add(some)
            versions, total = versions + len(some), total + size(some)
        tell(found.keys)
    return VerificationReport(versions, total, *found.content(), 0)


class _VersionCursor:
    """The versions of a copy in their order, as many as are asked for."""

    def __init__(self, source: Iterator[list[StoredVersion]], url: str) -> None:
        self._pages = source
        self._url = url
        self._held: list[StoredVersion] = []

    def read_until(self, last: VersionId | None) -> list[StoredVersion]:
        """All that come next, up to a place; None: all that are left."""
        out: list[StoredVersion] = []
        while True:
            if not self._held:
                with reading_back(self._url):
                    self._held = next(self._pages, [])
            cut = len(self._held) if last is None else bisect_right(self._held, last, key=place)
            out += self._held[:cut]
            self._held = self._held[cut:]
            if self._held or not cut:
                return out

    def push_back(self, versions: list[StoredVersion]) -> None:
        """Give back what was taken last."""
        self._held = versions + self._held


@contextmanager
def reading_back(url: str) -> Iterator[None]:
    """Damage that is met here is the copy's, not the source's."""
    try:
        yield
    except VerificationError:
        raise
    except Damaged as error:
        raise differs(url, error.message) from error


def differs(url: str, what: str) -> VerificationError:
    """Return what was read back is not what was copied."""
    return VerificationError(f"what was read back from {url} is not what was copied: {what}")


class Verification:
    """A copy against its source, of which it holds the state at a head.

    Args:
        source: what was copied; others may write to it.
        copy: what is checked.
        head: what was copied of it.
        marks: the checkpoints that were copied.
        moment: by which expiry is judged on both sides.
        floor: from which revision on the history is compared, where the copy has forgotten more.

    """

    def __init__(
        self, source: Backend, copy: Backend, head: Head, marks: Sequence[CheckpointRecord], moment: int, floor: int = 0
    ) -> None:
        self._source, self._copy, self._head, self._marks = source, copy, head, marks
        self._at = StateAt(head.revision, moment)
        self._marked = sorted({mark.revision for mark in marks})
        self._floor = self._floor_at_first = max(head.floor, floor)
        self._states = StateHasher(self._at, marks)
        self._versions = self._bytes = self._forgotten = 0

    def all(
        self, parts: Sequence[PageDigest], changed: Sequence[str], tell: Callable[[int], None]
    ) -> VerificationReport:
        """Compare everything. O(versions); the source is read again where it must be.

        Args:
            parts: what is remembered of the source, in order.
            changed: the keys, sorted, of which that is no longer true.
            tell: told the number of live keys so far.

        Raises:
            Differs: something is not the same.
            Damaged: the source is.

        """
        copy = _VersionCursor(prefetch(pages(self._copy)), self._copy.url)
        after = "", 0
        for known in parts:
            if known.after > after:
                self._read_again(copy, after, known.after)
            found = copy.read_until(known.last)
            first = bisect_left(changed, known.after[0])
            touched = first < len(changed) and changed[first] <= known.last[0]
            if not touched and len(found) == known.versions and _digest(found) == known.digest:
                self._accept(found)
            else:
                copy.push_back(found)
                self._read_again(copy, known.after, known.last)
            after = known.last
            tell(self._states.keys)
        self._read_again(copy, after, None, tell)
        self._check_rest()
        live, checkpoints = self._states.content()
        return VerificationReport(self._versions, self._bytes, live, checkpoints, self._forgotten)

    def some(self, keys: Sequence[str]) -> int:
        """Compare the versions of some keys, and all that is not a version; returns how many are forgotten.

        Raises:
            Differs: something is not the same.

        """
        for start in range(0, len(keys), KEYS_PER_CALL):
            chunk = keys[start : start + KEYS_PER_CALL]
            theirs = [one for page in pages(self._source, keys=chunk) for one in page]
            with reading_back(self._copy.url):
                ours = [one for page in pages(self._copy, keys=chunk) for one in page]
            self._reconcile(theirs, ours)
        self._check_head()
        self._check_commits()
        return self._forgotten

    def _read_again(
        self,
        copy: _VersionCursor,
        after: VersionId,
        last: VersionId | None,
        tell: Callable[[int], None] = lambda _: None,
    ) -> None:
        for page in prefetch(pages(self._source, after)):
            cut = len(page) if last is None else bisect_right(page, last, key=place)
            if cut:
                found = copy.read_until(place(page[cut - 1]))
                if page[:cut] == found:
                    self._accept(found)
                else:
                    self._reconcile(page[:cut], found)
            tell(self._states.keys)
            if cut < len(page):
                break
        self._reconcile([], copy.read_until(last))

    def _accept(self, versions: Sequence[StoredVersion]) -> None:
        if versions:
            self._states.add(versions)
            self._versions += len(versions)
            self._bytes += size(versions)

    def _reconcile(self, theirs: list[StoredVersion], ours: list[StoredVersion]) -> None:
        """Compare one by one, where the source may have gone on, or forgotten, since it was copied."""
        left = {place(one): one for one in as_of(theirs, self._head.revision)}
        right = {place(one): one for one in ours}
        if left.keys() != right.keys():
            self._floor = max(self._floor, self._source.head().floor)
        for where in sorted(left.keys() | right.keys()):
            one, other = left.get(where), right.get(where)
            if one is None and other is not None and not self._needed(other):
                self._forgotten += 1
            elif other is None and one is not None and not self._needed(one):
                pass
            elif one is None or other is None or not self._same(one, other):
                raise differs(self._copy.url, f"key {where[0][:60]!r} at revision {where[1]}")
            else:
                self._accept([other])

    def _needed(self, one: StoredVersion) -> bool:
        """Whether a state that is kept shows it, or shows that it was deleted."""
        if one.value is None and not one.until:
            return one.revision > self._floor or (bool(self._marked) and self._marked[0] < one.revision)
        return (one.until or _ENDLESS) > self._floor or self._is_marked(one.revision, one.until)

    def _is_marked(self, low: int, high: int) -> bool:
        """Whether a checkpoint is of one of these revisions."""
        return bisect_left(self._marked, low) < bisect_left(self._marked, high)

    def _same(self, one: StoredVersion, other: StoredVersion) -> bool:
        if (one.value, one.time, one.expires) != (other.value, other.time, other.expires):
            return False
        low, high = sorted((one.until or _ENDLESS, other.until or _ENDLESS))
        return low == high or (high <= self._floor and not self._is_marked(low, high))

    # --- what is not a version ---------------------------------------------------------------------------------

    def _check_rest(self) -> None:
        self._check_head()
        self._check_commits()
        self._check_reads()

    def _check_head(self) -> None:
        with reading_back(self._copy.url):
            found, marks = self._copy.head(), self._copy.marks()
        wanted = self._head.revision, self._floor_at_first, self._head.lineage  # the time is the last commit's
        if (found.revision, found.floor, found.lineage) != wanted:
            raise differs(self._copy.url, f"it stands at revision {found.revision}")
        if marks != list(self._marks):
            raise differs(self._copy.url, "the checkpoints")

    def _check_commits(self) -> None:
        below = self._head.revision + 1
        while theirs := self._source.commits(1000, below):
            below, last = theirs[-1].revision, below
            theirs = [one for one in theirs if one.revision > self._floor_at_first]
            with reading_back(self._copy.url):
                ours = self._copy.commits(len(theirs), last) if theirs else []
            if theirs != ours:  # what the source has forgotten meanwhile is at the end of both
                raise differs(self._copy.url, f"the commits below revision {last}")

    def _check_reads(self) -> None:
        """Read some of each state as a user does, by other ways than all was read by."""
        live = self._states.content()[0]
        for at, total in [(self._at, live.keys), *((StateAt(mark.revision, mark.time), None) for mark in self._marks)]:
            with reading_back(self._copy.url):
                found = self._copy.scan(limit=SAMPLED_KEYS, at=at)
                keys = sorted({*(one.key for one in found), *self._states.sample[:SAMPLED_KEYS]})
                shown = self._copy.read(keys, at)
                kept = [one for page in pages(self._copy, keys=keys) for one in page]
                count = None if total is None else self._copy.count(at=at)
            expected = {
                one.key: (one.value, one.revision) for one in kept
                if one.revision <= at.revision < (one.until or _ENDLESS) and one.visible(at.time)
            }  # fmt: skip
            told = [{one.key: (one.value, one.revision) for one in some} for some in (shown.values(), found)]
            if expected != told[0] or not told[1].items() <= expected.items() or count != total:
                raise differs(self._copy.url, f"what is read at revision {at.revision}")
