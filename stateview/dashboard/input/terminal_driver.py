"""The Textual driver of a dashboard in a terminal: it survives a stop by Ctrl-Z, SIGTSTP or SIGSTOP."""

from __future__ import annotations

import asyncio
import termios
from collections.abc import Callable
from typing import Any

from textual.drivers.linux_driver import LinuxDriver

from ...cli.job_control import stop_process_group, wait_for_foreground


class TerminalDriver(LinuxDriver):
    """Textual's driver. Whenever the process continues, it takes over the terminal again and repaints the screen.

    Textual itself repaints only what changes later, and after SIGSTOP two of its threads read the keys. Its signal
    handlers take locks that the interrupted code may hold: these handlers leave the work to the event loop.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._event_loop = asyncio.get_running_loop()
        self._stopping = False
        self._is_read = False  # a thread reads the keys, so that a second one must not start

    def _sigtstp_application(self, *_: object) -> None:
        if self._auto_restart:
            self._call_soon(self._stop)
        else:
            stop_process_group()  # an editor has the terminal, and the event loop waits for it

    def _sigcont_application(self, *_: object) -> None:
        if self._auto_restart and not self._stopping:
            self._call_soon(self._reclaim)

    def _call_soon(self, act: Callable[[], None]) -> None:
        if not self._event_loop.is_closed():
            self._event_loop.call_soon_threadsafe(self._act, act)

    def _act(self, act: Callable[[], None]) -> None:
        if not self._app.is_running:
            return  # the terminal is restored already
        try:
            act()
        except termios.error:
            self._app.exit(return_code=1)  # the terminal is gone
        else:
            self._app.refresh(layout=True)

    def _stop(self) -> None:
        self.suspend_application_mode()
        self._stopping = True
        try:
            stop_process_group()
            wait_for_foreground(self.fileno)
        finally:
            self._stopping = False
        self._must_signal_resume = True
        self.resume_application_mode()

    def _reclaim(self) -> None:
        """Set all modes of the terminal again, which a shell has changed since SIGSTOP.

        The thread that reads goes on: it may wait in a read, which no one can interrupt.
        """
        wait_for_foreground(self.fileno)
        self.write("\x1b[<u")  # the keyboard mode that the start adds to a stack of the terminal
        self.close()
        reader, self._is_read = self._key_thread, True
        self.resume_application_mode()
        if self._key_thread is not None and self._key_thread is not reader:
            self._key_thread.join()
        self._key_thread, self._is_read = reader, False

    def run_input_thread(self) -> None:
        """Read the keys, unless a thread does so already."""
        if not self._is_read:
            super().run_input_thread()
