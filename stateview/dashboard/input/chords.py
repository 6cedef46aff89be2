"""Chords, which are several keys for one action, and the list of the keys that may come next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from textual import events

if TYPE_CHECKING:
    from ..app import Dashboard
    from ..widgets.key_hint import KeyHint

CANCEL = "escape"


class Chords:
    """Holds the first keys of a chord, and shows how it can go on until it ends, or until Escape.

    In a keymap a chord is a key with blanks, such as `g f`. Its first key alone then does nothing else.
    """

    def __init__(self, app: Dashboard) -> None:
        self._app = app
        self._first: frozenset[str] = frozenset()  # the keys that chords begin with
        self._typed = ""  # the keys of a chord that has begun
        self._last = ""  # the newest key
        self._opener = ""  # the key that has opened the list of all keys
        self._hint: KeyHint | None = None

    def use(self, keymap: Mapping[str, str]) -> None:
        """Take the chords of a keymap."""
        keys = (key for keys in keymap.values() for key in keys.split(","))
        self._first = frozenset(key.partition(" ")[0] for key in keys if " " in key)

    async def takes(self, event: events.Key) -> bool:
        """Return whether a key belongs to a chord, or closes the list. If not, it is for the widgets."""
        self._last = event.key
        if self._opener:
            closes = event.key in (self._opener, CANCEL)
            self._close()
            return closes
        if not self._typed and (event.key not in self._first or self._is_text(event)):
            return False
        if event.key == CANCEL:
            self._close()
            return True
        return await self._go_on(f"{self._typed} {event.key}".strip())

    def _is_text(self, event: events.Key) -> bool:
        focused = self._app.focused
        return focused is not None and focused.check_consume_key(event.key, event.character)

    async def _go_on(self, typed: str) -> bool:
        from ..screens.help import shown_keys

        bindings, is_begun = self._app.screen.active_bindings, bool(self._typed)
        found = bindings.get(typed)
        next_keys = [
            (shown_keys(key.removeprefix(f"{typed} ")), one.binding.description, one.enabled)
            for key, one in bindings.items()
            if key.startswith(f"{typed} ")
        ]
        self._close()
        if found is not None and found.enabled:
            await self._app.run_action(found.binding.action, found.node)
        elif next_keys:
            self._typed = typed
            self._show(f"{shown_keys(typed)} …", next_keys)
        elif is_begun:
            self._app.bell()
        return is_begun or found is not None or bool(next_keys)

    def list_all(self) -> None:
        """List the plain keys that act here, except those that move. The next key closes the list, and acts."""
        from ..screens.help import help_rows

        rows = help_rows(self._app.screen)
        plain = [
            (key, row.description, row.enabled)
            for group in ("Act", "Look", "App")
            for row in rows
            if row.group == group and (key := next((key for key in row.keys if not key[:-1].count("+")), ""))
        ]
        self._opener = self._last
        self._show("keys that work here", plain)

    def _show(self, title: str, rows: Iterable[tuple[str, str, bool]]) -> None:
        from ..widgets.key_hint import KeyHint, KeyHintRow

        self._hint = KeyHint(title, [KeyHintRow(*row) for row in rows])
        self._app.screen.mount(self._hint)

    def _close(self) -> None:
        self._typed = self._opener = ""
        if self._hint is not None:
            self._hint.remove()
            self._hint = None
