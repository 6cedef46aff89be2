"""Moving a namespace of a million keys with three checkpoints: the whole of `migrate`, against the bare work.

`migrate` copies, reads the copy back, compares all of it with the source, and makes it the namespace. The bare side
reads and writes the same bytes with the formats' own libraries and nothing else: all versions, live and past, with key
and value, no more, and reads nothing back. Each side runs in a process of its own, whose peak memory is told. Run it
with `python -m benchmarks.transfer [KEYS]` or `python benchmarks/transfer.py [KEYS]`.
"""

from __future__ import annotations

import json
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import redis

sys.path.insert(0, str(Path(__file__).parent))
from timing import redis_server, spell

from stateview.backends import open_backend
from stateview.backends.protocol import CheckpointWrite, CommitRequest, Write
from stateview.transfer.migrate import migrate

KEYS = 1_000_000
CHANGED = 20_000  # keys written anew between two checkpoints
BATCH = 50_000  # keys of a commit
PAGE = 4000

Pair = tuple[str, bytes]


def value(number: int, turn: int) -> bytes:
    """About a hundred bytes."""
    entry = {"id": number, "turn": turn, "name": f"task {number}", "done": False, "text": "x" * 50}
    return json.dumps(entry, separators=(",", ":")).encode()


def make(store: str, keys: int) -> None:
    """The source: all keys, and three checkpoints with changes between them."""
    backend = open_backend(store, "main")
    try:
        batch = keys if backend.kind == "json" else BATCH  # a commit of JSON files writes them all
        for start in range(0, keys, batch):
            numbers = range(start, min(keys, start + batch))
            backend.commit(CommitRequest({f"task:{n:07}": Write(value(n, 0)) for n in numbers}, reason="made"))
        for turn in range(1, 4):
            some = range(turn, keys, max(1, keys // CHANGED))
            backend.commit(CommitRequest(marks=(CheckpointWrite(f"checkpoint-{turn}"),)))
            backend.commit(CommitRequest({f"task:{n:07}": Write(value(n, turn)) for n in some}, reason=f"turn {turn}"))
    finally:
        backend.close()


def ours(source: str, target: str) -> dict[str, float]:
    """Move it; seconds by part."""
    one, other = open_backend(source, "main", read_only=True), open_backend(target, "main")
    began: dict[str, float] = {}
    started = time.perf_counter()
    report = migrate(one, other, progress=lambda step: began.setdefault(step.doing, time.perf_counter()) and None)
    ended = time.perf_counter()
    assert other.head().count == one.head().count == report.keys
    compared = ended - began["comparing"]
    return {"all": ended - started, "copying": ended - started - compared, "comparing": compared}


def bare_json(source: str) -> Iterator[Pair]:
    """Both files of a JSON namespace, parsed by the standard library. All versions are in its history."""
    folder = Path(source.partition(":")[2]) / "main"
    json.loads((folder / "state.json").read_bytes())
    with open(folder / "history.jsonl", "rb") as lines:
        for line in lines:
            for key, entry in json.loads(line).get("set", {}).items():
                yield key, json.dumps(entry["value"]).encode()


def bare_sqlite(source: str) -> Iterator[Pair]:
    with sqlite3.connect(Path(source.partition(":")[2]) / "main" / "state.db") as db:
        for table in ("entries", "versions"):
            for key, text in db.execute(f"SELECT key, value FROM {table} WHERE value IS NOT NULL ORDER BY key"):
                yield key, text.encode()


def bare_redis(source: str) -> Iterator[Pair]:
    with redis.Redis.from_url(source) as client:
        for name in ("live", "history"):
            for key, packed in client.hscan_iter(f"stateview:{{main}}:{name}", count=PAGE):
                yield key.decode(), packed.split(b" ", 3)[3].removeprefix(b"V")


def write_json(target: str, pairs: Iterator[Pair]) -> None:
    folder = Path(target.partition(":")[2]) / "bare"
    folder.mkdir(parents=True)
    with open(folder / "bare.json", "w") as file:
        json.dump({key: json.loads(text) for key, text in pairs}, file)
        file.flush()
        os.fsync(file.fileno())


def write_sqlite(target: str, pairs: Iterator[Pair]) -> None:
    folder = Path(target.partition(":")[2]) / "bare"
    folder.mkdir(parents=True)
    db = sqlite3.connect(folder / "bare.db")
    db.execute("CREATE TABLE bare (number INTEGER PRIMARY KEY, key TEXT NOT NULL, value TEXT NOT NULL)")
    db.execute("CREATE INDEX keys ON bare (key)")
    with db:
        db.executemany("INSERT INTO bare (key, value) VALUES (?, ?)", ((key, text.decode()) for key, text in pairs))
    db.close()


def write_redis(target: str, pairs: Iterator[Pair]) -> None:
    with redis.Redis.from_url(target) as client:
        turn = 0
        while some := list(islice(pairs, PAGE)):
            turn += 1
            with client.pipeline(transaction=False) as pipe:
                pipe.hset("bare:values", mapping=dict(some))
                pipe.zadd("bare:keys", dict.fromkeys((key for key, _ in some), 0))
                pipe.execute()


READ: dict[str, Callable[[str], Iterator[Pair]]] = {"json": bare_json, "sqlite": bare_sqlite, "redis": bare_redis}
WRITE: dict[str, Callable[[str, Iterator[Pair]], None]] = {
    "json": write_json, "sqlite": write_sqlite, "redis": write_redis,
}  # fmt: skip


def bare(source: str, target: str) -> dict[str, float]:
    started = time.perf_counter()
    WRITE[target.partition(":")[0]](target, READ[source.partition(":")[0]](source))
    return {"all": time.perf_counter() - started}


def run(act: str, *given: str) -> dict[str, float]:
    """One act in a process of its own; what it says, and its peak memory in MB."""
    done = subprocess.run([sys.executable, __file__, act, *given], stdout=subprocess.PIPE, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def child(act: str, *given: str) -> None:
    acts: dict[str, Callable[..., Any]] = {"make": make, "ours": ours, "bare": bare}
    told = acts[act](*(int(one) if one.isdigit() else one for one in given)) or {}
    print(json.dumps({**told, "MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def main(keys: int) -> None:
    heads = "| way | migrate | bare | ratio | copying | comparing | peak MB | bare MB |"
    print(f"{keys:,} keys, 3 checkpoints\n\n{heads}\n|{'---|' * 8}", flush=True)
    with tempfile.TemporaryDirectory() as folder, redis_server() as port:
        assert port is not None, "redis-server is not on PATH"
        stores = {"json": f"json:{folder}/json", "sqlite": f"sqlite:{folder}/sqlite"}
        stores["redis"] = f"redis://localhost:{port}/0"
        run("make", stores["json"], str(keys))
        ways = [("json", "sqlite"), ("sqlite", "redis"), ("redis", "sqlite"), ("redis", "json")]
        made = {"json"}
        for number, (source, target) in enumerate(ways):
            place = f"redis://localhost:{port}/1" if target == "redis" else f"{target}:{folder}/copy-{number}"
            if source not in made:
                run("make", stores[source], str(keys))
                made.add(source)
            plain = run("bare", stores[source], place)
            mine = run("ours", stores[source], place)
            cells = [spell(mine["all"]), spell(plain["all"]), f"{mine['all'] / plain['all']:.2f}×",
                     spell(mine["copying"]), spell(mine["comparing"]),
                     f"{mine['MB']:.0f}", f"{plain['MB']:.0f}"]  # fmt: skip
            print(f"| {source} → {target} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        child(*sys.argv[1:])
    else:
        main(int(sys.argv[1]) if len(sys.argv) == 2 else KEYS)
