"""Stop the process as Ctrl-Z does, for programs that have put the terminal into raw mode."""

from __future__ import annotations

import errno
import os
import signal
import termios


def stop_process_group() -> None:
    """Stop the process group until a shell continues it.

    SIGSTOP would stop it for ever where no shell could continue it, as in a window of its own. The kernel ignores
    SIGTSTP there. A wrapper that started the program is in the group: without it, the shell would not notice the stop.
    """
    handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
    os.kill(0, signal.SIGTSTP)
    signal.signal(signal.SIGTSTP, handler)


def wait_for_foreground(fileno: int) -> None:
    """Return once the process may set the modes of its terminal. The kernel stops it meanwhile, as after `bg`.

    Raises:
        termios.error: the terminal is gone.

    """
    while True:
        try:
            termios.tcsetattr(fileno, termios.TCSANOW, termios.tcgetattr(fileno))
        except termios.error as error:
            if error.args[0] != errno.EINTR:  # a handler of SIGCONT interrupts the call
                raise
        else:
            return
