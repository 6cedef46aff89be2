"""Compress bytes by Zstandard (RFC 8878), alone or relative to other bytes."""

from __future__ import annotations

from functools import cache
from types import ModuleType

_LEVEL = 4  # of values that are compressed alone, and of those over `_LONG_DISTANCE_BYTES`
_BASE_LEVEL = 1  # half of the time; it finds what is far back in a base by a table larger than that of the level
_LONG_DISTANCE_BYTES = 1 << 20  # larger values exceed the tables of both levels
_MAX_WINDOW_LOG, _MAX_HASH_LOG = 31, 20  # a table of 4 MB
_DESCRIPTOR, _HAS_CHECKSUM = 4, 0b100  # where a frame says that it ends with a checksum of 4 bytes
# glibc returns the pages of freed blocks to the system above two thresholds, which the largest block that was mapped
# and freed raises. This block does so, untouched. Otherwise each chain of deltas faults its pages in again.
_RAISING_BYTES = 4 << 20


@cache
def _zstd() -> ModuleType:
    try:
        from compression import zstd  # type: ignore[import-not-found, unused-ignore]  # Python 3.14
    except ImportError:
        from backports import zstd
    bytes(_RAISING_BYTES)
    return zstd  # type: ignore[no-any-return, unused-ignore]


def compress(value: bytes, base: bytes | None = None) -> bytes:
    """Compress a value, relative to a base if there is one. O(size of both): 0.2 ms for 300 KB."""
    zstd = _zstd()
    parameter = zstd.CompressionParameter
    window = max(10, min(_MAX_WINDOW_LOG, (len(value) + len(base or b"")).bit_length()))
    options = {
        parameter.compression_level: _LEVEL,
        parameter.window_log: window,
        parameter.checksum_flag: 1,
    }
    if len(value) > _LONG_DISTANCE_BYTES:
        options[parameter.enable_long_distance_matching] = 1
    elif base is not None:
        options |= {parameter.compression_level: _BASE_LEVEL, parameter.hash_log: min(_MAX_HASH_LOG, window - 1)}
    prefix = None if base is None else zstd.ZstdDict(base, is_raw=True).as_prefix
    data: bytes = zstd.compress(value, options=options, zstd_dict=prefix)
    return data


def decompress(data: bytes, base: bytes | None, size: int, checked: bool = True) -> bytes:
    """Return the value of compressed data. O(size): 0.07 ms for 300 KB, and 0.04 ms unchecked.

    Args:
        data: what `compress` returned.
        base: the base that it was given.
        size: bytes of the value.
        checked: whether to compare the checksum of the value.

    Raises:
        ValueError: the data is not what `compress` returned for this base, as far as its checksum of 32 bits tells.

    """
    zstd = _zstd()
    prefix = None if base is None else zstd.ZstdDict(base, is_raw=True).as_prefix
    options = {zstd.DecompressionParameter.window_log_max: _MAX_WINDOW_LOG}
    try:
        if zstd.get_frame_size(data) != len(data) or zstd.get_frame_info(data).decompressed_size != size:
            raise ValueError("a delta has another size")
        if not checked and data[_DESCRIPTOR] & _HAS_CHECKSUM:
            data = b"%b%c%b" % (data[:_DESCRIPTOR], data[_DESCRIPTOR] & ~_HAS_CHECKSUM, data[_DESCRIPTOR + 1 : -4])
        value: bytes = zstd.decompress(data, zstd_dict=prefix, options=options)
    except zstd.ZstdError as error:
        raise ValueError("a delta is not what was written") from error  # Zstandard's text is about its own calls
    return value
