"""What state on Redis costs beside bare commands of the same server: `python benchmarks/redis_backend.py [--quick]`.

With `--cluster` it fills a cluster of three primaries and three replicas instead, with `--namespaces` of 100 keys each.
A slow machine fails nothing: every ratio is printed beside the one to reach, where there is one.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import redis
from timing import Row, redis_server, show, spell

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support" / "servers"))
import redis_topologies
from redis_proxy import RedisProxy

from stateview import StateManager, codec
from stateview.backends.protocol import CommitRequest, Write

VALUE: dict[str, Any] = {"status": "building", "attempt": 3, "files": ["src/app.py", "src/db.py"], "took": 1.25}
SMALL = b'{"n":1234567}'  # of the entries whose memory is measured
PROCESSES = (1, 4, 16)
CHANGES = 10  # of the diff whose round trips are counted
KEYS_PER_NAMESPACE = 100  # on the cluster
FILLERS = 4  # processes that fill it
WORST_SECONDS = 0.5

Act = Callable[[int], object]
_processes = multiprocessing.get_context("fork")


def fresh(number: int) -> dict[str, Any]:
    return {**VALUE, "attempt": number}


def open_bare(url: str) -> Any:
    """A client of redis-py alone."""
    if url.startswith("redis+cluster://"):
        host, port = url.removeprefix("redis+cluster://").partition(",")[0].split(":")
        return redis.RedisCluster(host, int(port))
    return redis.Redis.from_url(url)


# --- throughput -------------------------------------------------------------------------------------------------------


class Race(NamedTuple):
    """What several processes did: the median seconds of a round of each side, and the worst call of ours."""

    ours: float
    bare: float
    worst: float


def race(
    url: str, processes: int, namespace: Callable[[int], str], make: Callable[[StateManager, int], Act], rounds: int,
    calls: int,
) -> Race:  # fmt: skip
    """Let processes call an act on a manager, and a bare SET of the same value, in turns.

    Args:
        url: the store URL.
        processes: how many.
        namespace: names the namespace of a process.
        make: makes the act of a process from its manager and its number.
        rounds: how often each side is timed.
        calls: how many calls each process makes in a round.

    """
    start, end = _processes.Barrier(processes + 1), _processes.Barrier(processes + 1)
    worst = _processes.Array("d", processes)

    def work(number: int) -> None:
        state = StateManager(url, namespace(number), quiet=True, timeout=60)
        client = open_bare(url)

        def bare(count: int) -> None:
            client.set(f"bare:{number}:{count % 100}", codec.encode(fresh(count)))

        acts = (make(state, number), bare)
        for act in acts:
            act(0)
        count = itertools.count(1)
        for side in _sides(rounds):
            start.wait()
            for _ in range(calls):
                began = time.perf_counter()
                acts[side](next(count))
                if side == 0:
                    worst[number] = max(worst[number], time.perf_counter() - began)
            end.wait()

    workers = [_processes.Process(target=work, args=(number,), daemon=True) for number in range(processes)]
    for worker in workers:
        worker.start()
    times: tuple[list[float], list[float]] = ([], [])
    for side in _sides(rounds):
        start.wait(60)
        began = time.perf_counter()
        end.wait(600)
        times[side].append(time.perf_counter() - began)
    for worker in workers:
        worker.join()
    return Race(median(times[0]), median(times[1]), max(worst))


def _sides(rounds: int) -> Iterator[int]:
    """Say whose turn it is: ours is 0; who is first alternates."""
    for number in range(rounds):
        yield from (0, 1) if number % 2 else (1, 0)


def saves(state: StateManager, number: int) -> Act:
    return lambda count: state.save(f"key-{number}-{count % 100}", fresh(count))


def updates(state: StateManager, number: int) -> Act:
    return lambda count: state.update("count", lambda before: before + 1, default=0)


def throughput(url: str, quick: bool) -> Iterator[Row]:
    rounds, calls = (15, 240) if quick else (41, 960)
    ways: tuple[tuple[str, Callable[[int], str]], ...] = (
        ("one namespace", lambda number: "one"),
        ("a namespace each", lambda number: f"many-{number}"),
    )
    for processes in PROCESSES:
        for way, namespace in ways:
            each = calls // processes
            found = race(url, processes, namespace, saves, rounds, each)
            who = "1 process" if processes == 1 else f"{processes} processes"
            yield rates(f"save, {who}, {way}: to bare SET", found, each * processes)


def contention(url: str, quick: bool) -> Iterator[Row]:
    processes, rounds, each = 16, 3 if quick else 10, 20 if quick else 100
    found = race(url, processes, lambda number: "contended", updates, rounds, each)
    yield rates(f"update of one key, {processes} processes: to bare SET", found, each * processes)
    ok = "yes" if found.worst <= WORST_SECONDS else "NO"
    slow = f"{found.worst / (found.ours / each):.1f}× the mean"
    yield Row("the worst call of these", spell(found.worst), spell(found.ours / each), slow, f"≤ {WORST_SECONDS} s", ok)


def rates(act: str, found: Race, calls: int) -> Row:
    ours, bare = calls / found.ours, calls / found.bare
    return Row(act, f"{ours:,.0f}/s", f"{bare:,.0f}/s", f"{ours / bare:.2f}×", "-", "-")


# --- round trips and bytes --------------------------------------------------------------------------------------------


class Trip(NamedTuple):
    """What went over the network."""

    trips: int
    data: int


def counted(proxy: RedisProxy, act: Callable[[], object]) -> Trip:
    """Act, and count what went over the network meanwhile, on all connections."""
    links = (proxy.plain, proxy.announcements)
    before = [(link.trips, link.sent + link.received) for link in links]
    act()
    after = [(link.trips, link.sent + link.received) for link in links]
    trips, data = (sum(new[i] - old[i] for new, old in zip(after, before, strict=True)) for i in (0, 1))
    return Trip(trips, data)


def round_trips(url: str) -> Iterator[Row]:
    """Count what each act sends, in a namespace of 100 keys, through a proxy.

    Another process did the same before, so the server has the scripts. After its first loads the process has its
    connections too.
    """
    with StateManager(url, "trips", quiet=True) as other:
        other.backend.commit(CommitRequest({f"key-{number}": Write(codec.encode(VALUE)) for number in range(100)}))
        other.checkpoint("before")
        for number in range(CHANGES):
            other.save(f"key-{number}", fresh(number))
    with RedisProxy(url) as proxy, redis.Redis.from_url(proxy.url) as client:
        client.ping()
        bare = counted(proxy, lambda: client.set("bare", codec.encode(VALUE)))
        with StateManager(url, "trips", quiet=True) as other:
            for _, act, _ in trip_acts(other):
                act()

        def trip_row(name: str, act: Callable[[], object], most: int | None) -> Row:
            found = counted(proxy, act)
            target, ok = ("-", "-") if most is None else (f"≤ {most}", "yes" if found.trips <= most else "NO")
            ratio = f"{found.data / bare.data:.1f}× the bytes"
            return Row(name, _spell_trip(found), f"SET: {_spell_trip(bare)}", ratio, target, ok)

        with StateManager(proxy.url, "trips", quiet=True) as state:
            yield trip_row("first load of a new process", lambda: state.load("key-50"), 4)
            yield trip_row("its second load", lambda: state.load("key-51"), None)
            for _, act, _ in trip_acts(state):
                act()
            for name, act, most in trip_acts(state):
                yield trip_row(name, act, most)


def trip_acts(state: StateManager) -> list[tuple[str, Callable[[], object], int | None]]:
    """The acts in turn, each with the round trips to reach."""
    return [
        ("load(fresh=True)", lambda: state.load("key-50", fresh=True), 1),
        ("load of a key after a commit", lambda: state.load("key-50"), 1),
        ("load of the same key", lambda: state.load("key-50"), 0),
        ("save", lambda: state.save("key-60", fresh(2)), 1),
        ("update", lambda: state.update("key-60", fresh_after), 2),
        ("checkpoint", lambda: state.checkpoint("now"), 1),
        (f"diff of {CHANGES} changes", lambda: list(state.diff("before")), 3),
        ("list_keys of 100", state.list_keys, 1),
        ("restore of one key", lambda: state.restore_checkpoint("before", keys=["key-3"]), None),
    ]


def fresh_after(value: dict[str, Any]) -> dict[str, Any]:
    return {**value, "attempt": value["attempt"] + 1}


def _spell_trip(found: Trip) -> str:
    return f"{found.trips} trip{'' if found.trips == 1 else 's'}, {found.data:,} B"


# --- memory -----------------------------------------------------------------------------------------------------------


def memory(url: str, quick: bool) -> Iterator[Row]:
    """Measure small entries, and then a superseded version of each, written 100 at a time; and what a commit adds."""
    count = 2_000 if quick else 20_000
    each: dict[int, list[float]] = {}  # by how many keys a commit has: of an entry, and of a superseded version
    with redis.Redis.from_url(url) as client:
        for number in range(count):
            client.set(f"bare:{number:08}", SMALL)
        bare = sum(client.memory_usage(f"bare:{number:08}") for number in range(count)) / count
        for size in (100, 1):
            name = f"memory-{size}"
            sizes = [0]
            with StateManager(url, name, quiet=True) as state:
                for _ in range(2):
                    for start in range(0, count, size):
                        keys = [f"key-{number:08}" for number in range(start, start + size)]
                        state.backend.commit(CommitRequest({key: Write(SMALL) for key in keys}))
                    sizes.append(sum(client.memory_usage(key, samples=0) for key in client.keys(f"*{{{name}}}*")))
            each[size] = [(after - before) / count for before, after in itertools.pairwise(sizes)]
    for act, ours, most in zip(("an entry", "a superseded version"), each[100], (300, 200), strict=True):
        ok = "yes" if ours <= most else "NO"
        sides = f"{ours:.0f} B", f"{bare:.0f} B"
        yield Row(f"memory of {act}, 100 a commit: to a bare SET", *sides, f"{ours / bare:.2f}×", f"≤ {most} B", ok)
    commit = (each[1][0] - each[100][0]) * 100 / 99
    yield Row(
        "memory of a commit: to a bare SET", f"{commit:.0f} B", f"{bare:.0f} B", f"{commit / bare:.2f}×", "-", "-"
    )


# --- large commits ----------------------------------------------------------------------------------------------------


def large_commits(url: str, quick: bool) -> Iterator[Row]:
    """Measure what the server spends on a commit of many keys, and how long another client waits for it."""
    count, size = (2_000, 200) if quick else (10_000, 1_000)
    with StateManager(url, "large", quiet=True) as state, redis.Redis.from_url(url) as client:

        def commit(number: int, batch_size: int | None = None) -> None:
            state.save_many(((f"key-{key:05}", fresh(number)) for key in range(count)), batch_size=batch_size)

        def set_bare(number: int) -> None:
            pipeline = client.pipeline(transaction=False)
            for key in range(count):
                pipeline.set(f"bare:{key:05}", codec.encode(fresh(number)))
            pipeline.execute()

        def spent(act: Callable[[int], None], number: int) -> float:
            before = client.info("cpu")
            act(number)
            after = client.info("cpu")
            return sum(after[name] - before[name] for name in ("used_cpu_user", "used_cpu_sys"))

        bare = median(spent(set_bare, number) for number in range(5))
        for number in range(1, 7):
            ours = spent(commit, number)
            what = {1: "new keys", 2: "superseded for the first time", 6: "superseded for the fifth time"}.get(number)
            if what:
                most = 10 if number <= 2 else None
                ok = "-" if most is None else "yes" if ours / bare <= most else "NO"
                yield Row(
                    f"processor of the server, a commit of {count:,} keys, {what}: to pipelined SET",
                    spell(ours), spell(bare), f"{ours / bare:.1f}×", f"≤ {most}×" if most else "batches", ok,
                )  # fmt: skip
        whole, parted = (longest_wait(url, partial(commit, 7 + at, one)) for at, one in enumerate((None, size)))
        yield Row(
            f"longest wait of another client: batches of {size:,} to one commit", spell(parted), spell(whole),
            f"{parted / whole:.2f}×", "-", "-",
        )  # fmt: skip


def longest_wait(url: str, act: Callable[[], object]) -> float:
    """Return the longest PING of another process while an act runs."""
    begun, done = _processes.Event(), _processes.Event()
    longest = _processes.Value("d", 0.0)

    def ping() -> None:
        with redis.Redis.from_url(url) as client:
            client.ping()
            begun.set()
            while not done.is_set():
                began = time.perf_counter()
                client.ping()
                longest.value = max(longest.value, time.perf_counter() - began)

    other = _processes.Process(target=ping, daemon=True)
    other.start()
    begun.wait(60)
    act()
    done.set()
    other.join()
    return longest.value


# --- a cluster --------------------------------------------------------------------------------------------------------


@contextmanager
def cluster_url(path: str) -> Iterator[str]:
    """Start a cluster; a server that gets no processor for seconds, since all are busy, is not replaced."""
    with redis_topologies.cluster(path, patience=15_000) as servers:
        yield servers.url


def on_cluster(url: str, namespaces: int) -> Iterator[Row]:
    entries = namespaces * KEYS_PER_NAMESPACE
    value = codec.encode(VALUE)
    with open_bare(url) as client:
        sizes = [used(client)]
        times = []
        for fill in (fill_namespaces, fill_bare):
            began = time.perf_counter()
            workers = [
                _processes.Process(target=fill, args=(url, range(number, namespaces, FILLERS), value), daemon=True)
                for number in range(FILLERS)
            ]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            times.append(time.perf_counter() - began)
            sizes.append(used(client))
    ours, bare = sizes[1] - sizes[0], sizes[2] - sizes[1]
    what = f"{namespaces:,} namespaces of {KEYS_PER_NAMESPACE} keys"
    yield Row(
        f"{what}: filled by {FILLERS} processes", *(f"{entries / one:,.0f} keys/s" for one in times),
        f"{times[1] / times[0]:.2f}×", "-", "-",
    )  # fmt: skip
    each = [f"{one / entries:.0f} B" for one in (ours, bare)]
    yield Row(f"{what}: memory of a key", *each, f"{ours / bare:.2f}×", "-", "-")
    yield from of_many(url, namespaces, what)


def fill_namespaces(url: str, numbers: range, value: bytes) -> None:
    for number in numbers:
        with StateManager(url, f"ns-{number}", quiet=True, timeout=60) as state:
            state.backend.commit(CommitRequest({f"key-{key}": Write(value) for key in range(KEYS_PER_NAMESPACE)}))


def fill_bare(url: str, numbers: range, value: bytes) -> None:
    with open_bare(url) as client:
        for number in numbers:
            pipeline = client.pipeline()
            for key in range(KEYS_PER_NAMESPACE):
                pipeline.set(f"bare:{{ns-{number}}}:{key}", value)
            pipeline.execute()


def of_many(url: str, namespaces: int, what: str) -> Iterator[Row]:
    """Time what a user does among many namespaces."""
    with StateManager(url, "ns-0", quiet=True) as state, open_bare(url) as client:
        state.load("key-1")
        began, spent = time.perf_counter(), time.process_time()
        names = state.namespaces()
        numbers = list(state.backend.numbers(names))
        took, spent = time.perf_counter() - began, time.process_time() - spent
        assert len(numbers) == namespaces, len(numbers)
        began = time.perf_counter()
        client.ping(target_nodes="primaries")
        ping = time.perf_counter() - began
        ok = "yes" if took <= 3 else "NO"
        yield Row(f"{what}: their numbers", spell(took), f"PING: {spell(ping)}", f"{took / ping:,.0f}×", "≤ 3 s", ok)
        yield Row(f"{what}: processor time of these", spell(spent), "-", f"{spent / took:.0%}", "-", "-")
    picked = range(0, namespaces, max(1, namespaces // 40))

    def first_load(number: int) -> float:
        began = time.perf_counter()
        with StateManager(url, f"ns-{number}", quiet=True) as one:
            one.load("key-1")
        return time.perf_counter() - began

    def first_get(number: int) -> float:
        began = time.perf_counter()
        with open_bare(url) as one:
            one.get(f"bare:{{ns-{number}}}:1")
        return time.perf_counter() - began

    times = [(first_load(number), first_get(number)) for number in picked]
    ours, bare = (median(one) for one in zip(*times, strict=True))
    yield Row(f"{what}: open and load, to GET", spell(ours), spell(bare), f"{ours / bare:.2f}×", "-", "-")


def used(client: Any) -> int:
    """The memory of all primaries."""
    return sum(int(one["used_memory"]) for one in client.info("memory", target_nodes="primaries").values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, and a small cluster")
    parser.add_argument("--cluster", action="store_true", help="measure a cluster in place of a server")
    parser.add_argument("--namespaces", type=int, help="how many on the cluster (10,000; 200 with --quick)")
    parser.add_argument("--server", default=shutil.which("redis-server"), help="the redis-server of the cluster")
    given = parser.parse_args()
    rows: list[Row] = []

    def add(found: Iterator[Row]) -> None:
        for row in found:
            print(f"  {row.act}: {row.ratio}", file=sys.stderr, flush=True)
            rows.append(row)

    if given.cluster:
        if given.server is None:
            parser.error("no redis-server was found on PATH: give --server PATH")
        with cluster_url(given.server) as url:
            add(on_cluster(url, given.namespaces or (200 if given.quick else 10_000)))
    else:
        with redis_server() as port:
            if port is None:
                parser.error("no redis-server was found on PATH")
            url = f"redis://127.0.0.1:{port}/0"
            add(throughput(url, given.quick))
            add(contention(url, given.quick))
            add(round_trips(url))
            add(memory(url, given.quick))
            add(large_commits(url, given.quick))
    print(show(rows))


if __name__ == "__main__":
    main()
