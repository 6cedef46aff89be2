"""Processes that update one key at once: `python benchmarks/contended.py [--processes N] [--quick]`.

A slow machine fails nothing: every number is printed beside the one to reach. Run it on a quiet machine: the longest
call is the first number that suffers from other programs.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from typing import NamedTuple

import redis
from timing import Row, redis_server, show, spell

from stateview import StateManager

WORST_SECONDS = 0.5
SLOW_SECONDS = 0.005  # that the slow function sleeps


class Contended(NamedTuple):
    """What processes did together: updates a second, seconds of calls, and how many others came between two of one."""

    rate: float
    p99: float
    worst: float
    tries: float
    passed_over: int


def contended_update(url: str, processes: int, seconds: float, sleep: float = 0.0) -> Contended:
    """Let processes update one counter for some seconds, each as fast as it can."""
    start = multiprocessing.Barrier(processes)
    queue: multiprocessing.Queue[tuple[list[float], int, int]] = multiprocessing.Queue()
    workers = [
        multiprocessing.Process(target=_update, args=(url, start, seconds, sleep, queue)) for _ in range(processes)
    ]
    for worker in workers:
        worker.start()
    found = [queue.get() for _ in workers]
    for worker in workers:
        worker.join()
    calls = sorted(second for one, _, _ in found for second in one)
    with StateManager(url, "contended", quiet=True) as state:
        assert state.load("n") == len(calls), "an update was lost"
    tries = sum(number for _, number, _ in found) / len(calls)
    return Contended(
        len(calls) / seconds, calls[int(len(calls) * 0.99)], calls[-1], tries, max(passed for *_, passed in found)
    )


def _update(url: str, start: object, seconds: float, sleep: float, queue: object) -> None:
    calls: list[float] = []
    tries = passed_over = last = 0

    def add(number: int) -> int:
        nonlocal tries
        tries += 1
        if sleep:
            time.sleep(sleep)
        return number + 1

    with StateManager(url, "contended", quiet=True) as state:
        for _ in range(3):
            state.update("warm", lambda number: number + 1, 0)
        start.wait()  # type: ignore[attr-defined]
        end = time.monotonic() + seconds
        while (began := time.monotonic()) < end:
            number = state.update("n", add, 0)
            calls.append(time.monotonic() - began)
            passed_over = max(passed_over, number - last - 1 if len(calls) > 1 else 0)
            last = number
    queue.put((calls, tries, passed_over))  # type: ignore[attr-defined]


def bare_set(port: int, processes: int, seconds: float) -> float:
    """Return how many bare SET processes make a second."""
    with multiprocessing.Pool(processes) as pool:
        return sum(pool.starmap(_set, [(port, seconds)] * processes)) / seconds


def _set(port: int, seconds: float) -> int:
    with redis.Redis(port=port) as client:
        number, end = 0, time.monotonic() + seconds
        while time.monotonic() < end:
            client.set("bare", b"1")
            number += 1
    return number


def rows(kind: str, url: str, processes: int, seconds: float, against: float, what: str) -> list[Row]:
    """Two rows of a store: updates a second against another rate, and the longest call."""
    table = []
    for sleep in (0.0, SLOW_SECONDS):
        found = contended_update(url + ("-slow" if sleep and kind != "redis" else ""), processes, seconds, sleep)
        act = f"{kind}: {processes} processes update a key" + (f", {spell(sleep)} each" if sleep else "")
        ratio = f"{found.rate / against:.2f}× of {what}"
        table.append(Row(act, f"{found.rate:.0f}/s", f"{against:.0f}/s", ratio, "-", "-"))
        more = f"p99 {spell(found.p99)}, tries {found.tries:.1f}, passed over {found.passed_over}"
        limited = kind == "redis" and not sleep
        ok = ("yes" if found.worst <= WORST_SECONDS else "NO") if limited else "-"
        table.append(Row("  the longest call", spell(found.worst), more, "-", "≤ 500 ms" if limited else "-", ok))
        if kind == "redis":
            with redis.Redis.from_url(url) as client:
                client.flushdb()
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure updates of one key by many processes.")
    parser.add_argument("--processes", type=int, default=16)
    parser.add_argument("--quick", action="store_true", help="two seconds a row instead of five")
    given = parser.parse_args()
    seconds = 2.0 if given.quick else 5.0
    table: list[Row] = []
    with redis_server() as port, tempfile.TemporaryDirectory() as folder:
        if port is not None:
            bare = bare_set(port, given.processes, seconds)
            table += rows("redis", f"redis://127.0.0.1:{port}/0", given.processes, seconds, bare, "bare SET")
        for kind in ("sqlite", "json"):
            alone = contended_update(f"{kind}:{folder}/alone", 1, seconds).rate
            table += rows(kind, f"{kind}:{folder}/{kind}", given.processes, seconds, alone, "a process alone")
    print(show(table))


if __name__ == "__main__":
    main()
