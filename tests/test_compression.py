"""The memory that a chain of deltas is unpacked in."""

from __future__ import annotations

import marshal
import platform
import random
import subprocess
import sys

import pytest

from stateview.compression import compress

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
