"""The history of the prompt: a private file without passwords, keys, and what is typed in an encrypted namespace."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

from prompt_toolkit.history import FileHistory

from ..cli.parser import KEY_IN_LINE
from ..settings import user_state_path

_SECRET = re.compile(rf"{KEY_IN_LINE}|://[^/\s]*:[^/\s]*@|passw(or)?d|secret|api[_-]?key|token\s*[=:\"]", re.IGNORECASE)
_TARGET = r"(?:-n|-s|--namespace|--store)\b"
_ELSEWHERE = re.compile(rf"\b(?:save|set)\b.*\s{_TARGET}|\s{_TARGET}.*\b(?:save|set)\b", re.DOTALL)


def history_path() -> str:
    """Return the path of the history: `$XDG_STATE_HOME/stateview/history`."""
    return user_state_path("history")


class PrivateHistory(FileHistory):
    """A history file of mode 0600.

    Lines that look like they contain a password stay in memory. So do all lines of an encrypted namespace, since they
    may contain values, and lines that save a value in another namespace, which may be encrypted.

    Args:
        path: the path of the file.
        is_encrypted: tells whether the namespace is encrypted.

    """

    def __init__(self, path: str, is_encrypted: Callable[[], bool] = lambda: False) -> None:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
        os.chmod(path, 0o600)
        super().__init__(path)
        self._is_encrypted = is_encrypted

    def store_string(self, string: str) -> None:
        """Append a line, unless it may contain what is not to be written."""
        if not (_SECRET.search(string) or _ELSEWHERE.search(string) or self._is_encrypted()):
            super().store_string(string)
