"""Read keys at many revisions, from the newest to the oldest, in pages."""

from __future__ import annotations

from collections import deque
from typing import Any

from stateview import ABSENT, Entry, StateManager
from stateview.codec import decode, encode

_PAGE = 32  # versions that one read returns at most


class Past:
    """The values of keys at revisions. Asked for falling revisions, it reads each version once, and few in vain."""

    def __init__(self, state: StateManager) -> None:
        self._state = state
        self._keys: dict[str, _Versions] = {}

    def load(self, key: str, revision: int) -> Any:
        """Return the value of a key at a revision, which the caller may change; `ABSENT` if it had none."""
        if key not in self._keys:
            self._keys[key] = _Versions(self._state, key)
        return self._keys[key].load(revision)


class _Versions:
    """The versions of a key. A page grows while all of its versions are asked for, and shrinks otherwise."""

    def __init__(self, state: StateManager, key: str) -> None:
        self._state = state
        self._key = key
        self._found: deque[Entry] = deque()
        self._above = 0  # the last revision asked for
        self._size = self._page = 1
        self._used = 1  # versions of the page that were asked for
        self._given: Entry | None = None

    def load(self, revision: int) -> Any:
        if revision > self._above:
            self._found.clear()
        self._above = revision
        while self._found and self._found[0].revision > revision:
            self._found.popleft()
        if not self._found:
            self._size = min(self._size * 2, _PAGE) if self._used * 2 >= self._page else max(self._size // 2, 1)
            self._found.extend(self._state.history(self._key, self._size, below=revision + 1))
            self._page, self._used = len(self._found), 0
            if not self._found:
                return ABSENT
        entry = self._found[0]
        if entry is not self._given:
            self._given = entry
            self._used += 1
            return entry.value
        # Two checkpoints have this version, and each is given a value of its own
        return ABSENT if entry.value is ABSENT else decode(encode(entry.value))
