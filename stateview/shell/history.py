"""The history of the prompt: a private file without passwords and keys."""

from __future__ import annotations

import os
import re

from prompt_toolkit.history import FileHistory

from ..cli.parser import KEY_IN_LINE

_SECRET = re.compile(rf"{KEY_IN_LINE}|://[^/\s]*:[^/\s]*@|passw(or)?d|secret|api[_-]?key|token\s*[=:\"]", re.IGNORECASE)


def history_path() -> str:
    """Return the path of the history: `$XDG_STATE_HOME/stateview/history`."""
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.join(base, "stateview", "history")


class PrivateHistory(FileHistory):
    """A history file of mode 0600. Lines that look like they contain a password stay in memory."""

    def __init__(self, path: str) -> None:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
        os.chmod(path, 0o600)
        super().__init__(path)

    def store_string(self, string: str) -> None:
        """Append a line, unless it looks like it contains a password."""
        if not _SECRET.search(string):
            super().store_string(string)
