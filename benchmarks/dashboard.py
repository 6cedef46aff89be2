"""How fast the dashboard is, as ratios of one run: `python benchmarks/dashboard.py [--keys N] [--rounds N]`."""

from __future__ import annotations

import argparse
import fcntl
import os
import random
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from functools import partial
from statistics import quantiles

import redis
from core import SMALL, seed
from shell import PATIENCE, Screen
from timing import Row, in_turns, redis_server, show, slower, spell

from stateview import StateManager

COLUMNS, LINES = 120, 40
EMPTY = "from textual.app import App; App().run()"
# What answers a key with one line, and has nothing else to do.
LEAST = """
from textual.app import App
from textual.widgets import Static

class Least(App):
    pressed = 0

    def compose(self):
        yield Static("pressed 0 times")

    def key_j(self):
        self.pressed += 1
        self.query_one(Static).update(f"pressed {self.pressed} times")

Least().run()
"""
PAINTED = b"\x1b[1;1H"  # what the first frame begins with, of an empty program too
PRESSES = 200
PAUSES = (0.03, 0.15)  # seconds between an answer and the next key
RATE = 1000  # writes a second
ANSWERED = 0.05  # seconds from a key to the screen that it changes, of 95 in 100
QUIT = 0.5  # seconds

# Another process that writes as often as it is told to: a commit each, and what it is late with in one.
_WRITER = """
import random, sys, time
from stateview import StateManager
url, namespace, keys, rate = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
started, done, commits = time.monotonic(), 0, 0
with StateManager(url, namespace) as state:
    state.load("key-0000000")
    print("ready", flush=True)
    while True:
        due = int((time.monotonic() - started) * rate) - done
        if due <= 0:
            time.sleep(1 / rate)
            continue
        with state.transaction() as transaction:
            for number in range(done, done + (due if due > 3 else 1)):
                seen = number % 10 == 0  # some of those that are on the screen
                transaction.save(f"key-{random.randrange(100 if seen else keys):07}", {"n": number})
                done += 1
        commits += 1
        if commits % 20 == 0:
            print(time.monotonic() - started, done, commits, flush=True)
"""


class Terminal(Screen):
    """The dashboard, or another program, in a terminal of a size."""

    pressed = 0  # keys so far, of the least program

    def __init__(self, command: list[str], folder: str) -> None:
        super().__init__(command, folder)
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))

    def answer(self, key: str, shown: bytes) -> float:
        """Seconds from a key until what is written has a text, a pattern, colours left aside."""
        self.read(0)
        pressed, seen, wanted = time.perf_counter(), b"", re.compile(shown)
        self.type(key)
        while not wanted.search(re.sub(rb"\x1b\[[0-9;]*m", b"", seen)):
            if time.perf_counter() > pressed + PATIENCE:
                raise TimeoutError(f"{shown!r} does not come")
            seen += os.read(self.terminal, 65536)
        return time.perf_counter() - pressed

    def memory(self) -> float:
        """Resident memory in MB."""
        with open(f"/proc/{self.pid}/status") as status:
            line = next(line for line in status if line.startswith("VmRSS:"))
        return int(line.split()[1]) / 1024

    def quit(self) -> float:
        """Seconds that it takes to end."""
        started = time.perf_counter()
        self.type("q")
        while not os.waitpid(self.pid, os.WNOHANG)[0]:
            if time.perf_counter() > started + PATIENCE:
                raise TimeoutError("it does not end")
            self.read(0.005)
        os.close(self.terminal)
        return time.perf_counter() - started

    def read(self, seconds: float) -> None:
        """Let it write for a while."""
        if select.select([self.terminal], [], [], seconds)[0]:
            try:
                os.read(self.terminal, 65536)
            except OSError:
                time.sleep(seconds)  # it has closed its side, and is about to end


def dashboard(url: str, keys: int) -> list[str]:
    return [sys.executable, "-m", "stateview", "dashboard", url, "-n", named(keys)]


def named(keys: int) -> str:
    return f"keys-{keys}"


def kind_of(url: str) -> str:
    return url.partition(":")[0]


def painted(command: list[str], text: bytes, folder: str) -> None:
    screen = Terminal(command, folder)
    try:
        screen.until(text)
    finally:
        screen.end()


def first_key(url: str, keys: int, folder: str, rounds: int) -> Row:
    """The start of the process to the first keys, against an empty program of Textual's to its first frame."""
    ours = partial(painted, dashboard(url, keys), b"0000001", folder)
    empty = partial(painted, [sys.executable, "-c", EMPTY], PAINTED, folder)
    times = in_turns(ours, empty, rounds)
    return slower(f"{kind_of(url)}: first key of {keys:,} on screen, to empty Textual", *times, limit=1.5)


def walked(url: str, keys: int, folder: str) -> float:
    """Resident MB after a walk: to the end, back, on by fifty pages, into the middle."""
    screen = Terminal(dashboard(url, keys), folder)
    screen.until(b"0000001")
    for words in ("G", "g", *50 * ("\x06",), f"/key-{keys // 2:07}", "\x1b", "j"):
        screen.type(words)
        screen.drain()
    used = screen.memory()
    screen.end()
    return used


def memory(url: str, keys: int, folder: str) -> Row:
    ours, few = walked(url, keys, folder), walked(url, SMALL, folder)
    ratio = ours / few
    act = f"{kind_of(url)}: resident memory, {keys:,} keys against {SMALL:,}"
    ok = "yes" if ratio <= 1.2 else "NO"
    return Row(act, f"{ours:.0f} MB", f"{few:.0f} MB", f"{ratio:.2f}×", "≤ 1.2×", ok)


def presses(screen: Terminal, least: Terminal) -> tuple[float, float]:
    """The seconds in which 95 of 100 keys are answered, by the dashboard and by the least of programs, in turns."""
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(1, PRESSES + 1):
        resume = time.perf_counter() + random.uniform(*PAUSES)  # no rhythm that the program's own could meet
        while time.perf_counter() < resume:
            screen.read(0.01)
        times[0].append(screen.answer("j", b"\xe2\x96\x8c.{0,8}key-%07d" % number))
        times[1].append(least.answer("j", b"pressed %d times" % (number + least.pressed)))
    least.pressed += PRESSES
    return quantiles(times[0], n=100)[94], quantiles(times[1], n=100)[94]


def answers(url: str, keys: int, folder: str) -> list[Row]:
    """A key to the changed screen, while another process writes and while none does."""
    screen, least = Terminal(dashboard(url, keys), folder), Terminal([sys.executable, "-c", LEAST], folder)
    screen.until(b"0000001")
    least.until(b"pressed 0")
    screen.drain()
    quiet = presses(screen, least)
    screen.type("g")
    screen.drain()
    command = [sys.executable, "-c", _WRITER, url, named(keys), str(keys), str(RATE)]
    with open(os.path.join(folder, "written"), "w+") as said:
        writer = subprocess.Popen(command, stdout=said)
        try:
            time.sleep(2)
            busy = presses(screen, least)
        finally:
            writer.kill()
            writer.wait()
        said.seek(0)
        seconds, writes, commits = (float(word) for word in said.read().splitlines()[-2].split())
    screen.end()
    least.end()
    rate = f"{writes / seconds:,.0f} writes/s, {commits / seconds:,.0f} commits/s"
    kept = writes / seconds >= 0.9 * RATE
    return [_answered(url, "nobody writes", quiet, True), _answered(url, rate, busy, kept)]


def _answered(url: str, when: str, times: tuple[float, float], kept: bool) -> Row:
    ours, least = times
    act = f"{kind_of(url)}: key to screen, p95, {when}; to the least program"
    ok = "yes" if ours <= ANSWERED and kept else "NO"
    return Row(act, spell(ours), spell(least), f"{ours / least:.2f}×", f"≤ {spell(ANSWERED)}", ok)


def leaving(port: int, keys: int, folder: str) -> Row:
    """`q` to the end of the process while reads wait for a server that does not answer, against one that does."""
    url, seconds = f"redis://127.0.0.1:{port}/0", []
    with redis.Redis(port=port) as client:
        server = client.info("server")["process_id"]
    for stopped in (True, False):
        screen = Terminal(dashboard(url, keys), folder)
        screen.until(b"0000001")
        screen.drain()
        if stopped:
            os.kill(server, signal.SIGSTOP)
        try:
            screen.type("Gjjj")  # each asks for what is not there
            screen.read(0.3)
            seconds.append(screen.quit())
        finally:
            if stopped:
                os.kill(server, signal.SIGCONT)
    blocked, free = seconds
    ok = "yes" if blocked <= QUIT else "NO"
    return Row(
        "redis: quit while reads hang", spell(blocked), spell(free), f"{blocked / free:.2f}×", f"≤ {spell(QUIT)}", ok
    )


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder, redis_server() as port:
        urls = [f"sqlite:{folder}/keys", *([f"redis://127.0.0.1:{port}/0"] if port else [])]
        for url in urls:
            for keys in (SMALL, given.keys):
                with StateManager(url, named(keys)) as state:
                    seed(state, [f"key-{number:07}" for number in range(keys)])
        for url in urls:
            rows += [first_key(url, keys, folder, given.rounds) for keys in (SMALL, given.keys)]
        rows += [memory(url, given.keys, folder) for url in urls]
        rows += [row for url in urls for row in answers(url, given.keys, folder)]
        if port:
            rows.append(leaving(port, given.keys, folder))
    print(show(rows))


if __name__ == "__main__":
    main()
