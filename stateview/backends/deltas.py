"""Deltas: how a superseded version of a key is kept relative to a newer version.

The older value is compressed by Zstandard (RFC 8878) with the newer value as its prefix, so that only the differences
take space. Without a newer value it is compressed alone.

Each delta of a key has a place: 0, 1, 2, … by revision. A delta is first relative to the next version. Once the place
of a newer delta is a multiple of `FANOUT`, the delta `FANOUT` places before is made relative to that; and so on for the
powers of `FANOUT`. So a value is at most about `FANOUT` steps for each power from a live or whole one: 47 steps of 500
versions, 68 of 10,000. Small deltas, such as those of a list that grows, hardly grow with the distance. The same
happens with them at the powers of `SMALL_FANOUT`: then it is 20 steps of 500 versions.

The delta of a version that goes hands its base on to those that were relative to it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from ..errors import Damaged
from ..model import SealedValue
from .protocol import StoredVersion

MIN_BYTES = 512  # smaller values are kept whole: a delta has a row, or a header, of its own
MIN_STORED_BYTES = 256  # smaller stored forms that are not plain take no less space as deltas
FANOUT = 16
SMALL_FANOUT = 4  # of deltas of up to `SMALL_BYTES`; `FANOUT` is a power of it
SMALL_BYTES = 256
_CACHE_BYTES = 32_000_000  # of values that later reads of a `Chain` are likely to pass


class DamagedDelta(ValueError):
    """A delta, or a version that it is relative to, is missing or not what was written."""


class Delta(NamedTuple):
    """A value in its packed form.

    Attributes:
        base: the revision of the version of the key that `data` is relative to; 0 if compressed alone.
        place: the place among the deltas of the key.
        size: bytes of the value.
        data: the compressed value.

    """

    base: int
    place: int
    size: int
    data: bytes


class CarriedVersion(StoredVersion, frozen=True, gc=False):
    """A version with the delta that its source keeps it as, for a copy that keeps it alike."""

    delta: Delta | None = None


def may_be_packed(version: StoredVersion) -> bool:
    """Return whether a version is superseded, and its value is large enough for a delta."""
    return bool(version.until) and version.value is not None and len(version.value) >= MIN_BYTES


def carried(versions: Iterable[StoredVersion], deltas: Mapping[tuple[str, int], Delta]) -> list[StoredVersion]:
    """Return versions with the deltas that can be copied: those whose base is copied with them.

    Args:
        versions: versions that are put into a copy at once.
        deltas: deltas of the source by key and revision.

    """
    versions = list(versions)
    present = {(version.key, version.revision) for version in versions if version.value is not None}

    def with_delta(version: StoredVersion) -> StoredVersion:
        delta = deltas.get((version.key, version.revision))
        if delta is None or not version.until or (delta.base and (version.key, delta.base) not in present):
            return version
        fields = (version.key, version.value, version.revision, version.time, version.expires, version.until)
        return CarriedVersion(*fields, delta)

    return [with_delta(version) for version in versions]


def make_delta(value: bytes, base: int, base_value: bytes | None, place: int) -> Delta | None:
    """Pack a value, relative to a newer version of its key or alone. None where it is better kept whole.

    Args:
        value: the value.
        base: the revision of the newer version.
        base_value: its value; None if there is none, or no value.
        place: the place among the deltas of the key.

    """
    if len(value) < MIN_BYTES:
        return None
    delta = rebase(value, base, base_value, place)
    return delta if len(delta.data) < len(value) * 3 // 4 else None


def rebase(value: bytes, base: int, base_value: bytes | None, place: int) -> Delta:
    """Pack a value relative to another base, or alone if `base` is 0. It gains space or not: its chain is shorter.

    A small base gains nothing, and Zstandard takes none of under 8 bytes. The value is packed alone then.
    """
    if base_value is None or len(base_value) < MIN_BYTES:
        base, base_value = 0, None
    from ..compression import compress  # a load imports this module

    return Delta(base, place, len(value), compress(value, base_value))


def rebased_steps(place: int, fanout: int = FANOUT) -> Iterator[int]:
    """Yield the powers of a fan-out that divide a place: deltas that far before it become relative to it."""
    step = fanout
    while place and place % step == 0:
        yield step
        step *= fanout


def spans(step: int, stored_bytes: int) -> bool:
    """Return whether a delta may span a power of `SMALL_FANOUT`: if it is small, each; else the powers of `FANOUT`.

    So the size of a delta is asked before it is made relative to another base, and the size of the new delta after it.
    """
    return stored_bytes <= SMALL_BYTES or step in rebased_steps(step)


class Chain:
    """The versions of one namespace while some of them are read: a version that was unpacked is the base of others.

    Args:
        fetch: returns a version of a key as it is kept: its `Delta`, or its value.
        is_lone: whether one version of a key is read. Then no value on the way to it is kept: fresh memory for it
            would cost more than the steps.

    """

    def __init__(self, fetch: Callable[[str, int], Delta | bytes], is_lone: bool = False) -> None:
        self._fetch = fetch
        self._cache: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._bytes = 0
        self._is_lone = is_lone

    def value(self, key: str, revision: int) -> bytes:
        """Return the value that a revision wrote. O(steps x size), and less for a version near the last ones.

        Raises:
            DamagedDelta: a delta of its chain is damaged, or missing.

        """
        deltas: list[tuple[int, Delta]] = []
        value: bytes | None = None
        while value is None:
            value = self._cache.get((key, revision))
            if value is not None:
                break
            try:
                kept = self._fetch(key, revision)
            except Damaged as error:  # a sealed form that does not open
                raise DamagedDelta(error.message) from error
            if isinstance(kept, SealedValue):
                return kept
            if isinstance(kept, bytes):
                value = kept
                self.put(key, revision, value)
                break
            if kept.base and kept.base <= revision:
                raise DamagedDelta("a delta is relative to an older version")
            if isinstance(kept.data, SealedValue):
                return SealedValue(kept.size)
            deltas.append((revision, kept))
            if not kept.base:
                break
            revision = kept.base
        if deltas:
            from ..compression import decompress
        for revision, delta in reversed(deltas):
            try:
                # Values on the way that nobody keeps need no check of their own: the last checksum covers them
                checked = not self._is_lone or revision == deltas[0][0]
                value = decompress(delta.data, value if delta.base else None, delta.size, checked)
            except ValueError as error:
                raise DamagedDelta(str(error)) from error
            if not self._is_lone:
                self.put(key, revision, value)
        assert value is not None
        return value

    def put(self, key: str, revision: int, value: bytes) -> None:
        """Remember a value that is known already."""
        self._bytes -= len(self._cache.pop((key, revision), b""))
        self._cache[key, revision] = value
        self._bytes += len(value)
        while self._bytes > _CACHE_BYTES and len(self._cache) > 1:
            self._bytes -= len(self._cache.popitem(last=False)[1])
