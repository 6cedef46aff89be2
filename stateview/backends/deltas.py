"""Deltas: how a superseded version of a key is kept relative to a newer version.

The older value is compressed by Zstandard (RFC 8878) with the newer value as its prefix, so that only the differences
take space. Without a newer value it is compressed alone.

Each delta of a key has a place: 0, 1, 2, … by revision. A delta is first relative to the next version. Once the place
of a newer delta is a multiple of `FANOUT`, the delta `FANOUT` places before is made relative to that; and so on for the
powers of `FANOUT`. So a value is at most about `FANOUT` steps for each power from a live or whole one: 47 steps of 500
versions, 68 of 10,000. The delta of a version that goes hands its base on to those that were relative to it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import cache
from types import ModuleType
from typing import NamedTuple

MIN_BYTES = 512  # smaller values are kept whole: a delta has a row, or a header, of its own
FANOUT = 16
_LEVEL = 3  # lower levels find no match that is further away than their small tables
_LONG_DISTANCE_BYTES = 1 << 20  # larger values exceed the tables of `_LEVEL`
_MAX_WINDOW_LOG = 31
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


@cache
def _zstd() -> ModuleType:
    try:
        from compression import zstd  # type: ignore[import-not-found, unused-ignore]  # Python 3.14
    except ImportError:
        from backports import zstd
    return zstd  # type: ignore[no-any-return, unused-ignore]


def compress(value: bytes, base: bytes | None = None) -> bytes:
    """Compress a value, relative to a base if there is one. O(size of both): 0.6 ms for 300 KB."""
    zstd = _zstd()
    parameter = zstd.CompressionParameter
    window = (len(value) + len(base or b"")).bit_length()
    options = {
        parameter.compression_level: _LEVEL,
        parameter.window_log: max(10, min(_MAX_WINDOW_LOG, window)),
        parameter.checksum_flag: 1,
    }
    if len(value) > _LONG_DISTANCE_BYTES:
        options[parameter.enable_long_distance_matching] = 1
    prefix = None if base is None else zstd.ZstdDict(base, is_raw=True).as_prefix
    data: bytes = zstd.compress(value, options=options, zstd_dict=prefix)
    return data


def decompress(data: bytes, base: bytes | None, size: int) -> bytes:
    """Return the value of compressed data. O(size): 0.1 ms for 300 KB.

    Raises:
        DamagedDelta: the data is not what `compress` returned for this base, as far as its checksum of 32 bits tells.

    """
    zstd = _zstd()
    prefix = None if base is None else zstd.ZstdDict(base, is_raw=True).as_prefix
    options = {zstd.DecompressionParameter.window_log_max: _MAX_WINDOW_LOG}
    try:
        if zstd.get_frame_size(data) != len(data) or zstd.get_frame_info(data).decompressed_size != size:
            raise DamagedDelta("a delta has another size")
        value: bytes = zstd.decompress(data, zstd_dict=prefix, options=options)
    except zstd.ZstdError as error:
        raise DamagedDelta("a delta is not what was written") from error  # Zstandard's text is about its own calls
    return value


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
    return Delta(base, place, len(value), compress(value, base_value))


def rebased_steps(place: int) -> Iterator[int]:
    """Yield the powers of `FANOUT` that divide a place: deltas that far before it become relative to it."""
    step = FANOUT
    while place and place % step == 0:
        yield step
        step *= FANOUT


class Chain:
    """The versions of one namespace while some of them are read: a version that was unpacked is the base of others.

    Args:
        fetch: returns a version of a key as it is kept: its `Delta`, or its value.

    """

    def __init__(self, fetch: Callable[[str, int], Delta | bytes]) -> None:
        self._fetch = fetch
        self._cache: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._bytes = 0

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
            kept = self._fetch(key, revision)
            if isinstance(kept, bytes):
                value = kept
                self.put(key, revision, value)
                break
            if kept.base and kept.base <= revision:
                raise DamagedDelta("a delta is relative to an older version")
            deltas.append((revision, kept))
            if not kept.base:
                break
            revision = kept.base
        for revision, delta in reversed(deltas):
            value = decompress(delta.data, value if delta.base else None, delta.size)
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
