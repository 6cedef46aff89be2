"""What history takes and costs, in one run: `python benchmarks/storage.py [--quick] [--only PART] [--before FOLDER]`.

Bytes are those of the files after the store was closed, or what MEMORY USAGE says of the namespace's keys, against the
JSON of the live value. Where a row is against `before`, the other side is the release before history was packed: its
source comes from git, or from the folder that `--before` names, and runs in a process of its own. Without either,
packing is switched off there. A slow machine fails nothing: every ratio is printed beside the one to reach.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import redis
import storage_peers as peers
from storage_acts import messages, space
from timing import Row, redis_server, show, slower, spell

HERE = Path(__file__).resolve()
PACKING = "stateview/backends/deltas.py"  # the commit that added it began to pack
KINDS = ("sqlite", "json", "redis")
LIMITS = {"sqlite": 3, "json": 4, "redis": 4}  # of the growing list, times the live value
MAX_STORE_BYTES = 3_000_000_000  # a store that is going to be larger is not filled
Act = tuple[Any, ...]  # its name, the store URL, the namespaces of both sides, more arguments
LINEAR = 1.5  # the second half of the steps may add so many times what the first half adds; squares would add 3 times


class Side:
    """A process that does acts with one of the two releases."""

    def __init__(self, source: Path | None = None, options: tuple[str, ...] = ()) -> None:
        environment = {**os.environ, "PYTHONHASHSEED": "0", "STATEVIEW_QUIET": "1"}
        if source is not None:
            environment["PYTHONPATH"] = str(source)
        command = [sys.executable, str(HERE.with_name("storage_acts.py")), *options]
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def call(self, act: str, *given: Any) -> Any:
        assert self._process.stdin
        assert self._process.stdout
        print(json.dumps([act, given]), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{act}{given} failed, see above")
        return json.loads(line)

    def close(self) -> None:
        if self._process.poll() is None:
            self.call("close")
        self._process.communicate()


class Bench:
    """One run: where it works, how the two sides are started, and the rows so far."""

    def __init__(self, folder: Path, port: int | None, quick: bool) -> None:
        self.folder = folder
        self.port = port
        self.quick = quick
        self.rows: list[Row] = []
        self.kinds = KINDS if port is not None else KINDS[:2]
        self.packed: Callable[[], Side] = Side
        self.before: Callable[[], Side] = partial(Side, options=("--unpacked",))

    def use_before(self, source: str | None) -> str:
        """Choose the other side of comparisons; return its name."""
        tree = Path(source) if source else release_before(self.folder / "before")
        if tree is None:
            return "this release with packing switched off"
        self.before = partial(Side, tree)
        return f"the release in {source}" if source else "the release before history was packed"

    def url(self, kind: str, place: str = "stores", database: int = 0) -> str:
        if kind == "redis":
            return f"redis://127.0.0.1:{self.port}/{database}"
        return f"{kind}:{self.folder / place / kind}"  # a folder for each kind, since the bytes of all files count

    def clear(self) -> None:
        """Remove the stores of a part."""
        shutil.rmtree(self.folder / "stores", ignore_errors=True)
        if self.port is not None:
            with redis.Redis(port=self.port) as client:
                client.flushall()

    def add(self, *cells: str) -> None:
        row = Row(*cells)
        print("  " + " | ".join(row), file=sys.stderr, flush=True)
        self.rows.append(row)

    def compare(self, act: str, packed: int, before: int, limit: float | None, decimals: int = 1) -> None:
        """Add a row of bytes; without a limit it only informs."""
        ratio = packed / before
        target, ok = ("-", "-") if limit is None else (f"≤ {limit:g}×", "yes" if ratio <= limit else "NO")
        self.add(act, amount(packed), amount(before), f"{ratio:.{decimals}f}×", target, ok)


def release_before(folder: Path) -> Path | None:
    """Put the source of the release before packing into a folder; None where git does not have it."""
    root = HERE.parent.parent
    words = ("log", "--diff-filter=A", "--format=%H", "-1", "--", PACKING)
    if shutil.which("git") is None:
        return None
    first = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=False).stdout.strip()
    if not first:
        return None
    made = subprocess.run(["git", "archive", f"{first}^", "stateview"], cwd=root, capture_output=True, check=False)
    if made.returncode:
        return None
    folder.mkdir()
    subprocess.run(["tar", "-x"], cwd=folder, input=made.stdout, check=True)
    return folder


def amount(size: float) -> str:
    for unit, bytes_ in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if size >= bytes_:
            return f"{size / bytes_:.3g} {unit}"
    return f"{size:.0f} B"


def on_side(start: Callable[[], Side], act: str, *given: Any) -> Any:
    """Do one act in a process of its own."""
    side = start()
    try:
        return side.call(act, *given)
    finally:
        side.close()


def alternately(bench: Bench, pairs: int, rounds: int, acts: list[Act]) -> list[tuple[float, float]]:
    """Return the median seconds of each act on each side: packed and before.

    Rounds alternate, and so does who is first. Each pair of processes is new: where its memory lies changes short times
    by some percent.
    """
    times: list[tuple[list[float], list[float]]] = [([], []) for _ in acts]
    for _ in range(pairs):
        sides = bench.packed(), bench.before()
        for number, (act, url, names, *more) in enumerate(acts):
            for turn in range(-1, rounds):
                for place in (0, 1) if turn % 2 else (1, 0):
                    seconds = sides[place].call(act, url, names[place], *more)
                    if turn >= 0:
                        times[number][place].append(seconds)
        for side in sides:
            side.close()
    return [(median(packed), median(before)) for packed, before in times]


def at_once(acts: Iterable[Callable[[], Any]]) -> list[Any]:
    """Do acts of which no time is measured, two at a time."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda act: act(), acts))


def growing_list(bench: Bench) -> None:
    """Append 0.66 KB to a list and save it, 500 times; a checkpoint every tenth."""
    steps, size = 500, 660
    whole = messages(steps, size)
    ours = [partial(on_side, bench.packed, "grow", bench.url(kind), "growing", 0, steps, size) for kind in bench.kinds]
    theirs = [
        partial(peer, bench.folder / peer.__name__, whole) for peer in (peers.git, peers.langgraph, peers.diskcache)
    ]
    *found_by_kind, git, langgraph, diskcache = at_once(ours + theirs)
    for kind, found in zip(bench.kinds, found_by_kind, strict=True):
        label = f"{kind} growing list, {steps} steps: store to live value"
        bench.compare(label, found["store"], found["live"], LIMITS[kind])
        if kind != "redis":
            bench.compare(f"{label}, open, at most in the last ten saves", found["most"], found["live"], None)
        if kind == "json":
            bench.compare(f"{label}, with checkpoint copies", found["store"] + found["copies"], found["live"], None)
    loose, packed = git or (None, None)
    for name, store in (
        ("langgraph SqliteSaver", langgraph), ("diskcache, a key a version", diskcache), ("git, loose objects", loose),
        ("git after gc", packed),
    ):  # fmt: skip
        if store is None:
            bench.add(f"{name}: the same", "not installed", "-", "-", "-", "-")
        else:
            bench.compare(f"{name}: the same", store, found["live"], None)


def long_list(bench: Bench) -> None:
    """Append 2 KB to a list, 5,000 times: the ratio at half of the steps tells whether growth is linear."""
    at_once(partial(long_list_of, bench, kind) for kind in bench.kinds)


def long_list_of(bench: Bench, kind: str) -> None:
    steps, size = (200 if bench.quick else 5000), 2048
    first, half = steps // 10, steps // 2
    label = f"{kind} growing list, {steps:,} steps of 2 KB: store to live value"
    grow = partial(on_side, bench.packed, "grow", bench.url(kind), "long")
    store = grow(0, first, size)["store"]
    if store * 100 > MAX_STORE_BYTES:
        bench.add(label, f"{amount(store)} after {first}", "-", "not linear", "≤ 4×, linear", "NO")
        return
    middle = grow(first, half - first, size)
    found = grow(half, steps - half, size)
    ratio, growth = found["store"] / found["live"], found["store"] / middle["store"] - 1
    ok = ratio <= 4 and growth <= LINEAR
    told = f"{ratio:.1f}×, the second half added {growth:.2f} of the first"
    bench.add(label, amount(found["store"]), amount(found["live"]), told, "≤ 4×, linear", "yes" if ok else "NO")


def changed_leaves(bench: Bench) -> None:
    size, share, rounds = 1_000_000, 0.01, 10 if bench.quick else 200
    given = ("leaves", size, share, rounds)
    acts = (partial(on_side, bench.packed, "change_leaves", bench.url(kind), *given) for kind in bench.kinds)
    for kind, found in zip(bench.kinds, at_once(acts), strict=True):
        label = f"{kind} 1 MB document, 1% of leaves changed {rounds} times: store to live value"
        bench.compare(label, found["store"], found["live"], 5)


def small_keys(bench: Bench) -> None:
    keys = 100_000 if bench.quick else 1_000_000
    for kind in bench.kinds:
        acts = (
            partial(on_side, side, "rewrite_small", bench.url(kind), name, keys)
            for side, name in ((bench.packed, "small"), (bench.before, "small-before"))
        )
        sizes = [found["store"] for found in at_once(acts)]
        bench.compare(f"{kind} {keys:,} small keys rewritten once: store to before", *sizes, 1.02, decimals=3)


def short_acts(bench: Bench) -> None:
    rows = (  # each 16th save of a key shortens a chain of deltas
        ("save_small", 20, "save of 100 bytes, to before", 1.05),
        ("load_live", 1000, "load of live, to before", 1.05),
        ("save_large", 16, "save of 300 KB that changed by 1 KB, to before", 1.6),
    )
    for kind in bench.kinds:
        acts: list[Act] = [(act, bench.url(kind), (act, f"{act}-before"), calls) for act, calls, _, _ in rows]
        all_times = alternately(bench, 1 if bench.quick else 5, 6 if bench.quick else 20, acts)
        for (_, _, what, limit), times in zip(rows, all_times, strict=True):
            bench.add(*slower(f"{kind} {what}", *times, limit=limit))


def old_versions(bench: Bench) -> None:
    """Load the oldest of 500 versions of 300 KB, export them, migrate them."""
    versions = 30 if bench.quick else 500
    names = ("versions", "versions-before")
    for kind in bench.kinds:
        sides = zip((bench.packed, bench.before), names, strict=True)
        at_once(partial(on_side, start, "save_large", bench.url(kind), name, versions) for start, name in sides)
        found = on_side(bench.packed, "load_oldest", bench.url(kind), names[0], 9)
        load, fast, slow = (median(one) for one in found)
        label = f"{kind} load of the oldest of {versions} versions of 300 KB, to decoding it"
        ratios = f"{load / fast:.1f}× msgspec, {load / slow:.1f}× json"
        bench.add(label, spell(load), spell(fast), ratios, "≤ 5 ms", "yes" if load <= 0.005 else "NO")
    for kind in bench.kinds:
        carry_over(bench, kind, names, versions)


def carry_over(bench: Bench, kind: str, names: tuple[str, str], versions: int) -> None:
    url = bench.url(kind)
    targets = bench.kinds if kind == "sqlite" else ("sqlite",)
    places = [bench.url(target, f"from-{kind}", database=1) for target in targets]
    acts: list[Act] = [("export", url, names, str(bench.folder / "export.jsonl"))]
    acts += [("migrate", url, names, place) for place in places]
    exports, *migrations = alternately(bench, 1, 1 if bench.quick else 5, acts)
    bench.add(*slower(f"{kind} export, a version, to before", *(one / versions for one in exports), limit=1.3))
    for target, place, times in zip(targets, places, migrations, strict=True):
        way = f"{kind} → {target} migrate"
        bench.add(*slower(f"{way}, a version, to before", *(one / versions for one in times), limit=1.3))
        sizes = [space(place, name)["store"] for name in names]
        bench.compare(f"{way}: bytes of the copy, to before", *sizes, None, decimals=3)


PARTS = (growing_list, changed_leaves, small_keys, short_acts, old_versions, long_list)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what history takes and costs, and print one table.")
    parser.add_argument(
        "--quick", action="store_true", help="fewer rounds, steps and keys: less sure, and done in about a minute"
    )
    parser.add_argument("--only", choices=[part.__name__ for part in PARTS], help="one part of the table")
    parser.add_argument("--before", help="a checkout of the release to compare with, if not that of git")
    given = parser.parse_args()
    with redis_server() as port, tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), port, given.quick)
        print(f"before: {bench.use_before(given.before)}")
        if port is None:
            print("redis: not installed")
        for part in PARTS:
            if given.only in (None, part.__name__):
                part(bench)
                bench.clear()
    print(show(bench.rows))


if __name__ == "__main__":
    main()
