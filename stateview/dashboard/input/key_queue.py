"""A queue of key presses: each key waits until the key before it has moved the focus or opened its screen.

Textual chooses the widget for a key when the key arrives, before the action of the previous key has run. Without the
queue, the two `q` of a fast `/qq` would reach the list instead of the filter, and end the program.
"""

from __future__ import annotations

import asyncio
from collections import deque

from textual import events
from textual.app import App
from textual.message import Message

TIMEOUT_SECONDS = 0.3  # a key waits no longer for the key before it
INTERRUPT = "ctrl+c"  # never waits

Input = events.Key | events.Paste


class KeyHandled(Message, bubble=True):
    """Follows a key from the focused widget up to the app. Each of them gets it after it has handled the key."""


class KeyQueue:
    """Holds keys and pastes back while an earlier key runs. Text for an input field passes at once."""

    def __init__(self, app: App[None]) -> None:
        self._app = app
        self._waiting: deque[Input] = deque()
        self._key: events.Key | None = None  # the key that runs
        self._follower: KeyHandled | None = None  # the newest message sent after the key
        self._acted = False  # all widgets have handled the key; its follower now follows the messages that they sent

    def holds(self, event: Input) -> bool:
        """Return whether the queue keeps an event for later. If not, the app handles the event now."""
        if self._key is None or (isinstance(event, events.Key) and event.key == INTERRUPT):
            return False
        self._waiting.append(event)
        return True

    def sent(self, event: Input) -> None:
        """Start waiting for an event that the app has just forwarded to the focused widget."""
        if not isinstance(event, events.Key) or not self._app.screen_stack:
            return
        focused = self._app.focused
        if focused is not None and focused.check_consume_key(event.key, event.character):
            return
        self._key, self._acted = event, False
        asyncio.get_running_loop().call_later(TIMEOUT_SECONDS, self._app.call_later, self._release, event)
        self._follow()

    def handled(self, event: events.Key | KeyHandled) -> None:
        """Take note of a key that no widget handled, or of a `KeyHandled` that has arrived at the app."""
        key = self._key
        if key is None or (event is not key and event is not self._follower) or not self._app.screen_stack:
            return  # without a screen, the app is ending
        if not self._acted:
            self._acted = True
            self._follow()
        else:  # a newly opened screen has its focus once the screen, and then the app, have handled their messages
            self._follower = None
            self._app.screen.call_later(self._app.call_later, self._release, key)

    def _follow(self) -> None:
        self._follower = KeyHandled()
        (self._app.focused or self._app.screen).post_message(self._follower)

    async def _release(self, key: events.Key) -> None:
        if key is not self._key:
            return
        self._key = None
        while self._waiting and self._key is None:
            await self._app.on_event(self._waiting.popleft())
