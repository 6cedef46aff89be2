"""What pruning gives back: 100,000 keys, 20 checkpoints, between which a tenth of the keys, or all, are written anew.

Each backend in a store of its own, with another writer beside it. Of each the bytes before and after
(files; what the server says that the keys take), what the dry run promised, the times, and how long the writer waited
at most. Run it with `python benchmarks/prune.py [KEYS]`.
"""

from __future__ import annotations

import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from timing import redis_server

from stateview import StateManager
from stateview.backends.protocol import CommitRequest, Write

KEYS = 100_000
CHECKPOINTS = 20
BATCH = 20_000  # keys of a commit; of JSON files, which a commit rewrites, all


def fill(state: StateManager, keys: int, share: float) -> None:
    chance = random.Random(1)
    names = [f"task:{number:06}" for number in range(keys)]
    step = keys if state.backend.kind == "json" else BATCH
    for turn in range(CHECKPOINTS):
        some = chance.sample(names, int(keys * share)) if turn and share < 1 else names
        for start in range(0, len(some), step):
            writes = {
                key: Write(b'{"name":"%s","tries":%d}' % (chance.randbytes(60).hex().encode(), turn))
                for key in some[start : start + step]
            }
            state.backend.commit(CommitRequest(writes))
        state.checkpoint(f"nightly_{turn:02}")


@contextmanager
def another_writer(url: str) -> Iterator[list[float]]:
    """Saves a key again and again; how long each save took."""
    waits: list[float] = []
    stop = threading.Event()

    def write() -> None:
        with StateManager(url, "main") as other:
            while not stop.wait(0.01):
                started = time.perf_counter()
                other.save("other", len(waits))
                waits.append(time.perf_counter() - started)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield waits
    finally:
        stop.set()
        thread.join()


def measure(url: str, keys: int, share: float) -> None:
    with StateManager(url, "main", history=1_000_000) as state:
        fill(state, keys, share)
        started = time.perf_counter()
        planned = state.prune("nightly_*", keep=1, history=True, dry_run=True)
        planning = time.perf_counter() - started
        with another_writer(url) as waits:
            started = time.perf_counter()
            done = state.prune(previewed=planned)
            pruning = time.perf_counter() - started
        assert done.before is not None
        assert done.after is not None
        started = time.perf_counter()
        found = state.stats()
        counting = time.perf_counter() - started
    print(
        f"{state.backend.kind:7} {share:4.0%} {done.versions:>10,} {done.before:>13,} {done.after:>13,}"
        f" {1 - done.after / done.before:>6.0%} {planned.freed:>13,} {planning:>7.1f} s {pruning:>7.1f} s"
        f" {max(waits, default=0):>7.2f} s {counting:>7.2f} s",
        flush=True,
    )
    assert found.keys == keys + 1


def main() -> None:
    keys = int(sys.argv[1]) if len(sys.argv) > 1 else KEYS
    print(
        "backend anew   versions        bytes         after   less      promised   dry run     prune   waited    stats"
    )
    for share in (0.1, 1.0):
        for kind in ("sqlite", "redis", "json"):
            if kind == "json" and share == 1:
                continue  # two million versions in one document are not what JSON files are for
            if kind == "redis":
                with redis_server() as port:
                    if port is not None:
                        measure(f"redis://localhost:{port}/0", keys, share)
            else:
                with tempfile.TemporaryDirectory() as folder:
                    measure(f"{kind}:{folder}/store", keys, share)


if __name__ == "__main__":
    main()
