"""Two sides timed in turns, the table of what came out, and a Redis server of one's own."""

from __future__ import annotations

import gc
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import NamedTuple

import redis

HEADINGS = ("act", "ours", "against", "ratio", "to reach", "ok")


class Row(NamedTuple):
    """A line of the table, each cell as it is printed."""

    act: str
    ours: str
    against: str
    ratio: str
    target: str
    ok: str


def in_turns(
    ours: Callable[[], object], against: Callable[[], object], rounds: int, calls: int = 1,
    before: Callable[[int], object] = lambda side: None,
) -> tuple[float, float]:  # fmt: skip
    """The median seconds of one call of each side; rounds of `calls` alternate, and so does who is first.

    `before` gets a side, 0 or 1, ready for its next round, and is not timed.

    The machine is shared: what slows one side down slows the other as well.
    """
    times: tuple[list[float], list[float]] = ([], [])
    sides = (ours, against)
    for side in (0, 1):
        before(side)
        sides[side]()
    gc.collect()
    gc.disable()
    try:
        for number in range(rounds):
            for side in (0, 1) if number % 2 else (1, 0):
                act = sides[side]
                before(side)
                started = time.perf_counter()
                for _ in range(calls):
                    act()
                times[side].append((time.perf_counter() - started) / calls)
    finally:
        gc.enable()
    return median(times[0]), median(times[1])


def slower(act: str, ours: float, against: float, *, limit: float | None, also: bool = True, note: str = "") -> Row:
    """A row whose target is: at most `limit` times the other; None: a row that only tells."""
    ratio = ours / against
    if limit is None:
        return Row(act, spell(ours), spell(against), f"{ratio:.2f}×", "", "")
    ok = "yes" if ratio <= limit and also else "NO"
    return Row(act, spell(ours), spell(against), f"{ratio:.2f}×", f"≤ {limit:g}×{note}", ok)


def faster(act: str, ours: float, against: float, *, limit: float, also: bool = True, note: str = "") -> Row:
    """A row whose target is: at least `limit` times faster than the other."""
    ratio = against / ours
    ok = "yes" if ratio >= limit and also else "NO"
    return Row(act, spell(ours), spell(against), f"{ratio:.1f}× faster", f"≥ {limit:g}× faster{note}", ok)


def spell(seconds: float) -> str:
    """Seconds as a person reads them."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def show(rows: list[Row]) -> str:
    """The table, as Markdown that also reads well as it is."""
    lines = [HEADINGS, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    text = [" | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    text.insert(1, "-|-".join("-" * width for width in widths))
    return "\n".join(f"| {line} |" if number != 1 else f"|-{line}-|" for number, line in enumerate(text))


@contextmanager
def redis_server() -> Iterator[int | None]:
    """The port of a redis-server that keeps nothing on disk, until the block ends; None where there is none on PATH."""
    program = shutil.which("redis-server")
    if program is None:
        yield None
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        options = f"--port {port} --bind 127.0.0.1 --appendonly no --dir {folder} --save".split()
        server = subprocess.Popen([program, *options, ""], stdout=subprocess.DEVNULL)
        try:
            client = redis.Redis(port=port)
            for _ in range(500):
                try:
                    client.ping()
                    break
                except redis.ConnectionError:
                    time.sleep(0.02)
            client.close()
            yield port
        finally:
            server.terminate()
            server.wait()
