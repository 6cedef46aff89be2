"""Export and import of a namespace of a million keys with three checkpoints, against the bare work on the same bytes.

The bare side reads the store with its own library and writes the same file, and reads the file, parses its lines and
writes keys and values into a store of the same kind; no digest, no history. Each side runs in a process of its own, of
which the peak memory is told. Run it with `python benchmarks/exchange.py [KEYS]`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from timing import redis_server
from transfer import KEYS, READ, WRITE, Pair, make

from stateview import StateManager


def bare_export(store: str, path: str) -> None:
    pairs = READ[store.partition(":")[0]](store)
    with open(path, "wb") as file:
        file.writelines(b'{"key":"%b","value":%b}\n' % (key.encode(), data) for key, data in pairs)
        file.flush()
        os.fsync(file.fileno())


def lines(path: str) -> Iterator[Pair]:
    """Keys and values of an export."""
    with open(path, "rb") as file:
        for line in file:
            found = json.loads(line)
            if "value" in found:
                yield found["key"], json.dumps(found["value"]).encode()


def act(what: str, store: str, path: str) -> None:
    started = time.perf_counter()
    if what == "bare export":
        bare_export(store, path)
    elif what == "bare import":
        WRITE[store.partition(":")[0]](store, lines(path))
    else:
        with StateManager(store, "copy" if what == "import" else "main") as state:
            if what == "import":
                state.import_from(path)
            else:
                state.export(path, layout="json" if what == "export json" else "jsonl")
    seconds = time.perf_counter() - started
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(json.dumps({"seconds": seconds, "peak": int(peak.split()[1]) // 1024}))


def measure(store: str, folder: Path) -> None:
    kind = store.partition(":")[0]
    for what, name in (
        ("export", "x.jsonl"), ("bare export", "bare.jsonl"), ("export json", "x.json"), ("import", "x.jsonl"),
        ("bare import", "x.jsonl"),
    ):  # fmt: skip
        path = folder / f"{kind}-{name}"
        done = subprocess.run([sys.executable, __file__, what, store, str(path)], check=True, capture_output=True)
        told = json.loads(done.stdout)
        size = path.stat().st_size / 1e6
        print(f"{kind:7} {what:12} {told['seconds']:6.1f} s  peak {told['peak']:5} MB  file {size:.0f} MB", flush=True)


def main() -> None:
    keys = int(sys.argv[1]) if len(sys.argv) > 1 else KEYS
    print(f"{keys:,} keys, values of about a hundred bytes, three checkpoints")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make(store := f"sqlite:{folder / 'store'}", keys)
        measure(store, folder)
        with redis_server() as port:
            if port is None:
                print("redis: no redis-server on PATH")
                return
            make(url := f"redis://127.0.0.1:{port}/0", keys)
            measure(url, folder)


if __name__ == "__main__":
    if len(sys.argv) == 4:
        act(*sys.argv[1:])
    else:
        main()
