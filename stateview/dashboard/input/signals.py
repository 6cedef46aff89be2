"""Signal handlers: restore the terminal, write unsaved text to a file, and end the dashboard."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from typing import TYPE_CHECKING

from rich.text import Text

from ...cli.render import escape_control_characters

if TYPE_CHECKING:
    from ..app import Dashboard

SIGNALS = (signal.SIGTERM, signal.SIGHUP)
GRACE_SECONDS = 3.0  # then the process ends without restoring the terminal, which may accept no more output


def install_signal_handlers(app: Dashboard) -> None:
    """End the app on SIGTERM and SIGHUP, even if SIGHUP was ignored. Call on the main thread, in the running loop."""
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, _end, app, number)


def _end(app: Dashboard, number: int) -> None:
    deadline = threading.Timer(GRACE_SECONDS, os._exit, (128 + number,))
    deadline.daemon = True
    deadline.start()
    lines = [line for screen in app.dashboard_screens if (line := screen.keep_unsaved_text())]
    text = "\n".join(map(escape_control_characters, lines))
    app.exit(return_code=128 + number, message=Text(text) if text else None)
