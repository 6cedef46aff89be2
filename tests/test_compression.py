"""A chain of deltas: the memory that it is unpacked in, and its checksums."""

from __future__ import annotations

import marshal
import platform
import random
import subprocess
import sys

import pytest

from stateview.backends.deltas import Chain, DamagedDelta, Delta
from stateview.compression import _zstd, compress, decompress

SIZE, PAGE_BYTES = 300_000, 4096
UNPACK = """
import marshal, resource, sys
from stateview.compression import decompress
newest, deltas = marshal.load(sys.stdin.buffer)
def unpack():
    before, value = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, newest
    for delta in deltas:
        value = decompress(delta, value, len(value))
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
unpack()
print(unpack())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="others have no thresholds that rise")
def test_a_chain_of_deltas_is_unpacked_in_the_pages_of_the_chain_before() -> None:
    newest = value = random.Random(1).randbytes(SIZE)
    deltas = []
    for start in range(0, 3000, 1000):
        older = value[:start] + bytes(1000) + value[start + 1000 :]
        deltas.append(compress(older, value))
        value = older
    given = marshal.dumps((newest, deltas))
    found = subprocess.run([sys.executable, "-c", UNPACK], input=given, capture_output=True, check=True)
    assert int(found.stdout) < SIZE // PAGE_BYTES


@pytest.mark.parametrize("size", [600, 60_000, 1_000_000, 3_000_000])
def test_what_lies_far_back_in_a_base_takes_no_space(size: int) -> None:
    base = random.Random(1).randbytes(size)
    value = base[:200] + b"changed" + base[400:]
    delta = compress(value, base)
    assert len(delta) < 60 + size // 500
    assert decompress(delta, base, len(value)) == value


def _flipped(data: bytes, place: int) -> bytes:
    changed = bytearray(data)
    changed[place] ^= 1
    return bytes(changed)


def test_the_checksum_of_the_last_step_finds_damage_in_the_steps_before_it() -> None:
    values = [random.Random(seed).randbytes(2000) for seed in (1, 2, 3)]
    values[1] += values[0]
    values[2] += values[1]
    oldest, middle = compress(values[2], values[1]), compress(values[1], values[0])

    def read(oldest: bytes, middle: bytes) -> bytes:
        kept = {1: Delta(2, 0, len(values[2]), oldest), 2: Delta(3, 0, len(values[1]), middle), 3: values[0]}
        return Chain(lambda _, revision: kept[revision], is_lone=True).value("key", 1)

    assert read(oldest, middle) == values[2]
    assert read(oldest, _flipped(middle, -1)) == values[2]  # its own checksum alone is damaged, and is not computed
    assert read(oldest, _zstd().compress(values[1])) == values[2]  # a frame of another program, without a checksum
    for damaged in ((oldest, _flipped(middle, 100)), (_flipped(oldest, 100), middle), (_flipped(oldest, -1), middle)):
        with pytest.raises(DamagedDelta):
            read(*damaged)
