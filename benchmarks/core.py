"""How fast the core is, as ratios that were measured in one run: `python benchmarks/core.py [--keys N] [--quick]`.

A slow machine fails nothing: every ratio is printed beside the one to reach.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import apsw
import diskcache
import msgspec
import redis
from sketch import SketchJSON, SketchRedis, SketchSQLite
from timing import Row, faster, in_turns, redis_server, show, slower

from stateview import StateManager
from stateview.backends.protocol import CommitRequest, Write

SMALL = 1000
FEW = 100  # keys of a workflow's state, and keys that a diff or a restore is about
SEED = {"sqlite": 50_000, "redis": 10_000}  # writes of one commit that fills a store
VALUE: dict[str, Any] = {
    "status": "building",
    "attempt": 3,
    "files": ["src/app.py", "src/db.py"],
    "took": 1.25,
    "owner": None,
}

# Another process that saves what it is told to, and says when it has.
_WRITER = """
import sys
from stateview import StateManager
with StateManager(sys.argv[1], "repeated") as state:
    for line in sys.stdin:
        state.save("key-7", {"round": int(line)})
        print("saved", flush=True)
"""


class Bench:
    """One run: where it works, how long it measures, and the rows so far."""

    def __init__(self, folder: str, port: int | None, keys: int, quick: bool) -> None:
        self.folder = folder
        self.port = port
        self.keys = keys
        self.quick = quick
        self.rows: list[Row] = []

    def rounds(self, number: int) -> int:
        return max(3, number // 5) if self.quick else number

    def add(self, row: Row) -> None:
        print(f"  {row.act}: {row.ratio}", file=sys.stderr, flush=True)
        self.rows.append(row)

    def missing(self, act: str, target: str) -> None:
        self.add(Row(act, "-", "-", "not there yet", target, "-"))

    def path(self, name: str) -> str:
        return os.path.join(self.folder, name)

    def stores(self) -> Iterator[tuple[str, str]]:
        """The kinds that are there, each with its URL."""
        yield "json", f"json:{self.path('stores')}"
        yield "sqlite", f"sqlite:{self.path('stores')}"
        if self.port is not None:
            yield "redis", f"redis://127.0.0.1:{self.port}/0"


_fresh = itertools.count()


def fresh() -> dict[str, Any]:
    """A value that was never saved before: SQLite writes nothing at all where a row stays as it is."""
    return {**VALUE, "attempt": next(_fresh)}


def names(count: int) -> list[str]:
    return [f"key-{number}" for number in range(count)]


def cycled(act: Callable[[str], object], keys: list[str]) -> Callable[[], object]:
    """`act` on one key after the other, in an order that no page or cache is made for."""
    turn = itertools.cycle([keys[number * 7919 % len(keys)] for number in range(len(keys))])
    return lambda: act(next(turn))


def seed(state: StateManager, keys: list[str]) -> None:
    """Fill a store through its own commits, large ones."""
    size = SEED[state.backend.kind]
    for start in range(0, len(keys), size):
        writes = {key: Write(b'{"n":%d}' % number) for number, key in enumerate(keys[start : start + size], start)}
        state.backend.commit(CommitRequest(writes, reason="seed"))


def bare_table(path: str) -> apsw.Connection:
    """The barest durable table of keys and values that SQLite has."""
    connection = apsw.Connection(path)
    connection.execute("PRAGMA journal_mode = WAL").fetchall()
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE state (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID")
    return connection


def sqlite_load_save(bench: Bench) -> None:
    keys = names(SMALL)
    state = StateManager(f"sqlite:{bench.path('plain')}", "plain")
    bare = bare_table(bench.path("bare.db"))
    cache = diskcache.Cache(bench.path("diskcache"), sqlite_synchronous=2, sqlite_journal_mode="wal")
    decode, encode = msgspec.json.decode, msgspec.json.encode
    select = "SELECT value FROM state WHERE key = ?"
    upsert = "INSERT INTO state VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"

    def bare_save(key: str) -> None:
        bare.execute("BEGIN IMMEDIATE")
        bare.execute(upsert, (key, encode(fresh()).decode()))
        bare.execute("COMMIT")

    for key in keys:
        state.save(key, fresh())
        bare_save(key)
        cache.set(key, fresh())
    load = cycled(state.load, keys)
    bare_load = cycled(lambda key: decode(bare.execute(select, (key,)).fetchone()[0]), keys)
    times = in_turns(load, bare_load, bench.rounds(100), 500)
    bench.add(slower("sqlite load, to bare SELECT + decode", *times, limit=2))
    times = in_turns(load, cycled(cache.get, keys), bench.rounds(100), 500)
    bench.add(faster("sqlite load, to diskcache get", *times, limit=3))
    save = cycled(lambda key: state.save(key, fresh()), keys)
    times = in_turns(save, cycled(bare_save, keys), bench.rounds(40), 50)
    bench.add(slower("sqlite save, to bare upsert", *times, limit=1.6))
    times = in_turns(save, cycled(lambda key: cache.set(key, fresh()), keys), bench.rounds(40), 50)
    bench.add(faster("sqlite save, to diskcache set, both FULL", *times, limit=1))
    state.close()
    bare.close()
    cache.close()


def redis_save(bench: Bench) -> None:
    acts = ("redis save, round trips", "redis save, to bare SET"), ("= 1", "≤ 1.8×")
    if bench.port is None:
        for act, target in zip(*acts, strict=True):
            bench.missing(act, target)
        return
    keys, encode = names(SMALL), msgspec.json.encode
    state = StateManager(f"redis://127.0.0.1:{bench.port}/0", "plain")
    client = redis.Redis(port=bench.port)
    for key in keys:
        state.save(key, fresh())
    trips = round_trips(client, lambda: [state.save(key, fresh()) for key in keys[:FEW]]) / FEW
    bench.add(Row(acts[0][0], f"{trips:g}", "1", f"{trips:g}×", acts[1][0], "yes" if trips == 1 else "NO"))
    save = cycled(lambda key: state.save(key, fresh()), keys)
    bare = cycled(lambda key: client.set(key, encode(fresh())), keys)
    bench.add(slower(acts[0][1], *in_turns(save, bare, bench.rounds(60), 100), limit=1.8))
    state.close()
    client.close()


def round_trips(client: redis.Redis, act: Callable[[], object]) -> int:
    """How many commands clients send while `act` runs, as the server sees them; those inside scripts are not sent."""
    sent = 0
    with client.monitor() as monitor:
        commands = monitor.listen()
        thread = threading.Thread(target=act)
        thread.start()
        thread.join()
        with redis.Redis(port=client.connection_pool.connection_kwargs["port"]) as other:
            other.echo("done")
        for command in commands:
            if "ECHO done" in command["command"]:
                return sent
            sent += command["client_type"] != "lua" and not command["command"].startswith(("CLIENT ", "HELLO"))
    raise AssertionError("unreachable: the server told of the ECHO")


def by_changes(bench: Bench) -> None:
    """Checkpoint, diff and restore: among many keys and among few, in turns."""
    for kind, url in bench.stores():
        if kind == "json":
            continue
        stores = [Store(url, "many", bench.keys), Store(url, "few", SMALL)]
        many, few = stores
        size = f"{kind} {{}}, {bench.keys:,} keys to {SMALL:,}"

        def changed(side: int, stores: list[Store] = stores) -> None:
            stores[side].change()

        times = in_turns(many.checkpoint, few.checkpoint, bench.rounds(200))
        bench.add(slower(size.format("checkpoint"), *times, limit=2))
        times = in_turns(many.diff, few.diff, bench.rounds(40), before=changed)
        bench.add(slower(size.format(f"diff of {FEW}"), *times, limit=3))
        times = in_turns(many.restore, few.restore, bench.rounds(40), before=changed)
        bench.add(slower(size.format(f"restore of {FEW}"), *times, limit=3))
        for store in stores:
            store.state.close()
    if bench.port is None:
        for act, limit in (("checkpoint", 2), (f"diff of {FEW}", 3), (f"restore of {FEW}", 3)):
            bench.missing(f"redis {act}", f"≤ {limit}×")


class Store:
    """A filled namespace, and what is done to it."""

    def __init__(self, url: str, name: str, count: int) -> None:
        self.state = StateManager(url, name)
        self.keys = names(count)
        self.turn = itertools.count()
        seed(self.state, self.keys)

    def checkpoint(self) -> None:
        self.state.checkpoint(f"at-{next(self.turn)}")

    def change(self) -> None:
        """Give a checkpoint `base`, and change keys all over the store since."""
        number = next(self.turn)
        for name in self.state.list_checkpoints():
            if name.startswith("before_restore"):  # many in one second make a restore look for a free name
                self.state.delete_checkpoint(name)
        self.state.checkpoint("base")
        step = len(self.keys) // FEW
        with self.state.transaction() as tx:
            for key in self.keys[number % step :: step][:FEW]:
                tx.save(key, {"turn": number})

    def diff(self) -> None:
        found = len(list(self.state.diff("base")))
        assert found == FEW, found

    def restore(self) -> None:
        self.state.restore_checkpoint("base")


def repeated_load(bench: Bench) -> None:
    values = dict.fromkeys(names(FEW), VALUE)
    for kind, url in bench.stores():
        sketch: Any = SketchRedis(bench.port or 0, "repeated") if kind == "redis" else (
            {"json": SketchJSON, "sqlite": SketchSQLite}[kind](bench.path("sketch"), f"repeated-{kind}")
        )  # fmt: skip
        sketch.fill(values)
        state = StateManager(url, "repeated")
        with state.transaction() as tx:
            for key, value in values.items():
                tx.save(key, value)
        seen = coherent(state, url)
        ours, theirs = cycled(state.load, list(values)), cycled(sketch.load, list(values))
        times = in_turns(ours, theirs, bench.rounds(100), 100)
        told = f"{kind} repeated load, to the sketch's ({'others seen' if seen else 'STALE'})"
        bench.add(faster(told, *times, limit=10, also=seen, note=", coherent"))
        state.close()
    if bench.port is None:
        bench.missing("redis repeated load, to the sketch's", "≥ 10× faster, coherent")


def coherent(state: StateManager, url: str) -> bool:
    """Whether each write of another process is seen by the very next load, of a key that was loaded just before."""
    command = [sys.executable, "-c", _WRITER, url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin and other.stdout
        for number in range(50):
            state.load("key-7")
            state.load("key-7")
            print(number, file=other.stdin, flush=True)
            if other.stdout.readline() != "saved\n" or state.load("key-7") != {"round": number}:
                other.stdin.close()
                return False
        other.stdin.close()
    return True


def whole_process(bench: Bench) -> None:
    script = shutil.which("stateview", path=os.path.dirname(sys.executable))
    ways = {"python -m stateview": [sys.executable, "-m", "stateview"], "stateview": [script] if script else None}
    for kind in ("json", "sqlite"):
        folder = bench.path(f"process-{kind}")
        url = f"{kind}:{folder}/store"
        os.mkdir(folder)
        with StateManager(url, "default") as state:
            state.save("k", VALUE)
        for name, command in ways.items():
            act = f"{kind} {name} load k, to python -c pass"
            environment = {**os.environ, "STATEVIEW_STORE": url, "PYTHONPYCACHEPREFIX": bench.path("compiled")}
            environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package is compiled
            whole = [*(command or []), "load", "k"]
            if command is None or not answers(whole, folder, environment):
                bench.missing(act, "≤ 5×")
                continue

            options = {"cwd": folder, "env": environment, "stdout": subprocess.DEVNULL, "check": True}
            ours = partial(subprocess.run, whole, **options)
            nothing = partial(subprocess.run, [sys.executable, "-c", "pass"], **options)
            times = in_turns(ours, nothing, bench.rounds(60))
            bench.add(slower(act, *times, limit=5))


def answers(command: list[str], folder: str, environment: dict[str, str]) -> bool:
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.returncode == 0 and "building" in done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the core, and print one table of ratios.")
    parser.add_argument("--keys", type=int, default=1_000_000, help="keys of the large stores (1,000,000)")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: less sure, and done in a fifth of the time")
    given = parser.parse_args()
    with redis_server() as port, tempfile.TemporaryDirectory() as folder:
        bench = Bench(folder, port, max(SMALL, given.keys), given.quick)
        for part in (sqlite_load_save, redis_save, repeated_load, whole_process, by_changes):
            part(bench)
    print(show(bench.rows))


if __name__ == "__main__":
    main()
