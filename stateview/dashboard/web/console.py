"""What `serve` prints while it serves: who has a page open, and new URLs."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ...cli.job_control import stop_process_group
from ...cli.program import is_dumb_terminal
from ...cli.results import plural

NEW_URL = b"u"
_STAMP = "%Y-%m-%dT%H:%M:%S"
_LOOK_SECONDS = 1.0  # between two looks at whether the terminal is ours: no signal tells of `fg` after `bg`


class Console:
    """Keeps a list of the open pages on the terminal, and reads its keys. Without a terminal, prints a line an event.

    A key press, or SIGUSR1, prints a new URL. In the background of a shell it prints lines too, and leaves the keys.

    Args:
        access: what the pages may do, such as `read-only`.
        show_new_url: makes a new URL and prints it.

    """

    def __init__(self, access: str, show_new_url: Callable[[], None]) -> None:
        self._access = access
        self._show_new_url = show_new_url
        self._pages: dict[object, tuple[str, float]] = {}  # address, and when the page was opened
        self._painted: list[str] = []  # the lines of the list on the terminal
        self._terminal = _terminal()
        self._modes: list[Any] = []  # of the terminal, as they were
        self._has_keys = False  # the keys are read here

    @property
    def how_to_renew(self) -> str:
        """What a user presses or types for a new URL."""
        return f"kill -USR1 {os.getpid()}" if self._terminal is None else NEW_URL.decode()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Print and read keys inside the block. Give the terminal back at its end. Call it in the running loop."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, self.renew)
        looks = None
        if self._terminal is not None:
            loop.add_signal_handler(signal.SIGTSTP, self._stop)
            loop.add_signal_handler(signal.SIGCONT, self._go_on)
            looks = loop.create_task(self._look_on())
            self._look()
        try:
            yield
        finally:
            if looks is not None:
                looks.cancel()
            self._give_back()

    def opened(self, page: object, address: str) -> None:
        """Say that a page was opened."""
        self._pages[page] = address, time.time()
        self._tell(f"{address} opened a page ({self._access})")

    def closed(self, page: object) -> None:
        """Say that a page was closed."""
        address, since = self._pages.pop(page)
        self._tell(f"{address} closed its page after {time.time() - since:.0f} s")

    def failed(self, code: int, text: str) -> None:
        """Print what the program of a page wrote on standard error before it failed."""
        self._erase()
        _write(f"{time.strftime(_STAMP)} a page has ended with exit code {code}:\n{text}\n")
        self._paint()

    def renew(self) -> None:
        """Print a new URL."""
        self._erase()
        self._show_new_url()
        self._paint()

    def _tell(self, event: str) -> None:
        if not self._has_keys:
            _write(f"{time.strftime(_STAMP)} {event}; {self._count()}\n")
        else:
            self._erase()
            self._paint()

    def _count(self) -> str:
        return f"{plural(len(self._pages), 'page')} open"

    # --- the list on the terminal --------------------------------------------------------------------------------

    def _paint(self) -> None:
        if not self._has_keys:
            return
        size = _size()
        lines = [f"{self._count()}, {self._access} · u: new URL · Ctrl-C: end"]
        pages = [
            f"  {address:<15}  since {time.strftime('%H:%M:%S', time.localtime(since))}"
            for address, since in self._pages.values()
        ]
        room = max(1, size.lines - 3)
        lines += pages if len(pages) <= room else [*pages[: room - 1], f"  and {len(pages) - room + 1:,} more"]
        self._painted = [line[: max(1, size.columns - 1)] for line in lines]
        _write("".join(f"{line}\n" for line in self._painted))

    def _erase(self) -> None:
        """Erase the list. Leave it in a terminal that has become narrower: it may have wrapped the lines."""
        if self._painted and max(map(len, self._painted)) <= _size().columns:
            _write(f"\x1b[{len(self._painted)}F\x1b[J")
        self._painted = []

    # --- the keys ------------------------------------------------------------------------------------------------

    async def _look_on(self) -> None:
        while self._terminal is not None:
            await asyncio.sleep(_LOOK_SECONDS)
            self._look()

    def _look(self) -> None:
        """Take the keys if the process is in the foreground of its terminal. Let go of them if it is not any more."""
        terminal = self._terminal
        if terminal is None:
            return
        try:
            is_ours = os.tcgetpgrp(terminal) == os.getpgrp()
        except OSError:  # the terminal is gone
            is_ours = False
        if is_ours and not self._has_keys:
            self._modes = modes = self._modes or termios.tcgetattr(terminal)
            silent = [*modes[:3], modes[3] & ~(termios.ECHO | termios.ICANON), *modes[4:]]
            termios.tcsetattr(terminal, termios.TCSADRAIN, silent)
            self._has_keys = True
            asyncio.get_running_loop().add_reader(terminal, self._read)
            self._paint()
        elif not is_ours and self._has_keys:
            self._let_go()

    def _let_go(self) -> None:
        assert self._terminal is not None
        asyncio.get_running_loop().remove_reader(self._terminal)
        self._has_keys, self._painted = False, []

    def _give_back(self) -> None:
        if self._has_keys and self._terminal is not None:
            self._erase()
            try:
                termios.tcsetattr(self._terminal, termios.TCSADRAIN, self._modes)
            except termios.error:
                pass  # the terminal is gone
            self._let_go()

    def _stop(self) -> None:
        self._give_back()
        stop_process_group()  # then `_go_on` is called, or where no shell can stop it, `_look_on` looks again

    def _go_on(self) -> None:
        """Take the terminal again, whose modes a shell has changed meanwhile."""
        if self._has_keys:
            self._let_go()
        self._look()

    def _read(self) -> None:
        assert self._terminal is not None
        try:
            pressed = os.read(self._terminal, 1024)
        except OSError:
            pressed = b""
        if not pressed:  # the terminal is gone
            self._let_go()
            self._terminal = None
        elif NEW_URL in pressed:
            self.renew()


def _terminal() -> int | None:
    """Return the descriptor of the terminal that a person uses; None if there is none, or it can only print lines."""
    if sys.stdin is None or not (sys.stdin.isatty() and sys.stderr.isatty()) or is_dumb_terminal():
        return None
    return sys.stdin.fileno()


def _size() -> os.terminal_size:
    try:
        return os.get_terminal_size(sys.stderr.fileno())
    except OSError:  # the terminal is gone
        return os.terminal_size((80, 24))


def _write(text: str) -> None:
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:
        pass  # nobody reads it any more: the pages go on
