"""A signal ends the dashboard as `q` does: the terminal is left as it was, and what was being written is in a file."""

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
GRACE_SECONDS = 3.0  # seconds to leave the terminal in: one that has gone may take nothing any more


def install_signal_handlers(app: Dashboard) -> None:
    """Have SIGTERM, and SIGHUP even where it was ignored, end the app, whose loop runs. Main thread only."""
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, _end, app, number)


def _end(app: Dashboard, number: int) -> None:
    last = threading.Timer(GRACE_SECONDS, os._exit, (128 + number,))
    last.daemon = True
    last.start()
    lines = [line for screen in app.dashboard_screens if (line := screen.keep_unsaved_text())]
    text = "\n".join(map(escape_control_characters, lines))
    app.exit(return_code=128 + number, message=Text(text) if text else None)
