"""How fast the shell is, as ratios measured in one run: `python benchmarks/shell.py [--keys N] [--iredis PATH]`.

iredis is no dependency: install it in an environment of its own and give its path.
"""

from __future__ import annotations

import argparse
import os
import pty
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial

from core import seed
from timing import Row, in_turns, redis_server, show, slower

from stateview import StateManager

SMALL = 1000
SAVES = 10_000
ROUNDS = 15
PATIENCE = 20.0


class Screen:
    """A program in a pty; only what it writes is looked at."""

    def __init__(self, command: list[str], folder: str) -> None:
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package is compiled
            os.environ.update({"TERM": "xterm-256color", "HOME": folder, "XDG_STATE_HOME": folder})
            os.execv(command[0], command)

    def until(self, text: bytes) -> None:
        """Wait until it has written a text."""
        seen, deadline = b"", time.monotonic() + PATIENCE
        while text not in seen:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{text!r} does not come: {seen[-400:]!r}")
            if select.select([self.terminal], [], [], 0.5)[0]:
                data = os.read(self.terminal, 65536)
                if b"\x1b[6n" in data:
                    os.write(self.terminal, b"\x1b[1;1R")
                seen += data

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self.terminal, text.encode())

    def drain(self) -> None:
        """Let it finish what it paints."""
        while select.select([self.terminal], [], [], 0.15)[0]:
            os.read(self.terminal, 65536)

    def end(self) -> None:
        """Kill it."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.terminal)


def first_prompt(command: list[str], prompt: bytes, folder: str) -> None:
    screen = Screen(command, folder)
    try:
        screen.until(prompt)
    finally:
        screen.end()


def menu(screen: Screen, text: str) -> float:
    """Seconds from the last key to the menu."""
    screen.type(text[:-1])
    screen.drain()
    started = time.perf_counter()
    screen.type(text[-1])
    screen.until(b"revision")
    took = time.perf_counter() - started
    screen.type("\x15")
    screen.drain()
    return took


def menus(url: str, keys: int, folder: str) -> Row:
    """Keystroke to menu, among few keys and among many."""
    screens = []
    for count in (keys, SMALL):
        namespace = f"keys-{count}"
        with StateManager(url, namespace) as state:
            seed(state, [f"key-{number:07}" for number in range(count)])
        screen = Screen([sys.executable, "-m", "stateview", "shell", url, "-n", namespace], folder)
        screen.until(f"{namespace}".encode())
        screen.drain()
        screens.append(screen)
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(ROUNDS):
        for side in (0, 1) if number % 2 else (1, 0):
            times[side].append(menu(screens[side], f"load key-00000{number % 10}"))
    for screen in screens:
        screen.end()
    ours, small = (sorted(side)[len(side) // 2] for side in times)
    kind = url.partition(":")[0]
    return slower(f"{kind}: keystroke to menu, {keys:,} keys against {SMALL:,}", ours, small, limit=3,
                  also=ours <= 0.05, note=", ≤ 50 ms")  # fmt: skip


def script(folder: str) -> Row:
    """A script of saves in one transaction against the same loop in Python, both as whole processes."""
    lines = "begin\n" + "".join(f"save key-{number} {number}\n" for number in range(SAVES)) + "commit\n"
    path = os.path.join(folder, "script.sv")
    with open(path, "w") as file:
        file.write(lines)
    loop = f"""
import sys
from stateview import StateManager
with StateManager(sys.argv[1], "loop") as state, state.transaction() as transaction:
    for number in range({SAVES}):
        transaction.save(f"key-{{number}}", number)
"""
    url = f"sqlite:{folder}/scripts"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    shell: Callable[[], object] = partial(
        subprocess.run,
        [sys.executable, "-m", "stateview", "shell", url, "-n", "script", "-f", path],
        check=True,
        **quiet,
    )  # type: ignore[call-overload]
    python = partial(subprocess.run, [sys.executable, "-c", loop, url], check=True, **quiet)  # type: ignore[call-overload]
    ours, against = in_turns(shell, python, 7)
    return slower(f"script of {SAVES:,} saves against the loop in Python", ours, against, limit=4)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--iredis", help="path of an installed iredis, to compare the first prompt with")
    given = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder, redis_server() as port:
        rows.append(script(folder))
        if given.iredis and port:
            url = f"redis://127.0.0.1:{port}/0"
            ours = [sys.executable, "-m", "stateview", "shell", url, "-n", "first"]
            theirs = [given.iredis, "-p", str(port)]
            one, other = in_turns(
                partial(first_prompt, ours, b"first", folder),
                partial(first_prompt, theirs, f":{port}>".encode(), folder), 15,
            )  # fmt: skip
            rows.append(slower("first prompt against iredis", one, other, limit=0.8))
        urls = [f"sqlite:{folder}/keys", *([f"redis://127.0.0.1:{port}/1"] if port else [])]
        rows += [menus(url, given.keys, folder) for url in urls]
    print(show(rows))


if __name__ == "__main__":
    main()
