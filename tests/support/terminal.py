"""A real program in a pty, and its screen as a person sees it (pyte). Waits on what is shown, never on time alone."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Callable

import pyte

PATIENCE = 30.0


class Terminal:
    """`python -m stateview WORDS…`, or another program of Python's, in a terminal of a size."""

    def __init__(
        self, *words: str, columns: int = 100, rows: int = 30, program: tuple[str, ...] = ("-m", "stateview"),
        **environment: str,
    ) -> None:  # fmt: skip
        self.screen = pyte.Screen(columns, rows)  # its HistoryScreen takes half as long again
        self.stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self._text: str | None = None
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.environ.update({"TERM": "xterm-256color", "COLUMNS": "", "LINES": "", **environment})
            os.environ.pop("COLUMNS")
            os.environ.pop("LINES")
            os.execv(sys.executable, [sys.executable, *program, *words])
        self.resize(columns, rows)

    def resize(self, columns: int, rows: int) -> None:
        """Make the window another size; the program hears of it."""
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.screen.resize(rows, columns)
        self._text = None
        os.kill(self.pid, signal.SIGWINCH)

    def type(self, text: str) -> None:
        """Press keys."""
        data = text.encode()
        while data:
            readable, writable, _ = select.select([self.terminal], [self.terminal], [], 0.05)
            if readable:
                self._read()
            if writable:  # also of a program that writes faster than the screen is put together: it would get no key
                data = data[os.write(self.terminal, data[:1024]) :]

    def _read(self) -> bool:
        try:
            data = os.read(self.terminal, 65536)
        except OSError:
            return False
        self.raw += data
        if b"\x1b[6n" in data:  # a terminal answers where its cursor is
            os.write(self.terminal, f"\x1b[{self.screen.cursor.y + 1};{self.screen.cursor.x + 1}R".encode())
        self.stream.feed(data)
        self._text = None
        return bool(data)

    @property
    def text(self) -> str:
        """What the screen shows."""
        if self._text is None:  # pyte measures each cell: two milliseconds a screen
            self._text = "\n".join(line.rstrip() for line in self.screen.display)
        return self._text

    def until(self, found: str | Callable[[str], bool], seconds: float = PATIENCE) -> str:
        """Wait until the screen shows a text, or a test of the screen is true; the screen."""
        test = found if callable(found) else lambda text: found in text
        deadline = time.monotonic() + seconds
        while not test(self.text):
            assert time.monotonic() < deadline, f"{found!r} does not come:\n{self.text}"
            if select.select([self.terminal], [], [], 0.05)[0] and not self._read():
                assert test(self.text), f"{found!r} did not come before the end:\n{self.text}"
        return self.text

    def end(self) -> int:
        """Wait for the program to end; its exit code."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if select.select([self.terminal], [], [], 0.05)[0]:
                self._read()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self.terminal)
                return os.waitstatus_to_exitcode(status)
        os.kill(self.pid, signal.SIGKILL)
        raise AssertionError(f"it does not end:\n{self.text}")

    def kill(self) -> None:
        """End it whatever it does."""
        try:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            os.close(self.terminal)
        except (ProcessLookupError, ChildProcessError, OSError):
            pass  # it has ended already
