"""Split the values of many keys into batches, each for a commit of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .. import codec
from ..backends.protocol import Write
from ..errors import InvalidArgument, NotSerializable
from ..model import check_key

BATCH_BYTES = 8 * 1024 * 1024  # of encoded values: a Redis server takes 25 to 70 ms for so many


def batches(
    values: Mapping[str, Any] | Iterable[tuple[str, Any]], micros: int, size: int | None
) -> Iterator[dict[str, Write]]:
    """Yield the writes of values: all at once, or at most `size` keys and about `BATCH_BYTES` at a time. O(bytes).

    Of a key that comes twice in a batch, the last value counts. Pairs are read as they are needed.

    Raises:
        InvalidArgument: the size is below 1, or what should be a pair is none.
        InvalidName, NotSerializable: a key or a value is not allowed.

    """
    if size is not None and size < 1:
        raise InvalidArgument(f"batch_size={size}: give a positive number of keys, or None for a single commit")
    pairs = values.items() if isinstance(values, Mapping) else values
    writes: dict[str, Write] = {}
    held = 0
    for key, value in _checked(pairs):
        try:
            data = codec.encode(value)
        except NotSerializable as error:
            error.message = f"key {key!r}: {error.message}"
            raise
        writes[check_key(key)] = Write(data, micros)
        held += len(data)
        if size is not None and (len(writes) >= size or held >= BATCH_BYTES):
            yield writes
            writes, held = {}, 0
    if writes:
        yield writes


def _checked(pairs: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    if not isinstance(pairs, Iterable):
        raise InvalidArgument(f"values: give a dict, or pairs of a key and a value, not {type(pairs).__name__}")
    for pair in pairs:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise InvalidArgument(f"values: {repr(pair)[:60]} is no pair of a key and a value")
        yield pair[0], pair[1]
