"""Keys in the order of what they do: a key waits until the one before it has moved the focus or opened its screen.

Textual says to which widget a key goes when it arrives, and what the key before it does comes later: of `/qq` typed
in one go, or arriving together over a slow line, the two `q` would reach the list and end the program.
"""

from __future__ import annotations

import asyncio
from collections import deque

from textual import events
from textual.app import App
from textual.message import Message

TIMEOUT_SECONDS = 0.3  # seconds after which a key goes on though nothing tells that the one before it is done
INTERRUPT = "ctrl+c"  # waits for nothing

Input = events.Key | events.Paste


class KeyHandled(Message, bubble=True):
    """Follows a key on its way from widget to app; each of them gets it when it has done with the key."""


class KeyQueue:
    """Holds keys and pastes back while an earlier key is at work. What a field takes as text passes at once."""

    def __init__(self, app: App[None]) -> None:
        self._app = app
        self._waiting: deque[Input] = deque()
        self._key: events.Key | None = None  # the one that is at work
        self._passed: KeyHandled | None = None  # what was sent last to follow it
        self._acted = False  # the key itself is done, and what it has made others do is followed

    def holds(self, event: Input) -> bool:
        """Whether an event that has come is kept until later."""
        if self._key is None or (isinstance(event, events.Key) and event.key == INTERRUPT):
            return False
        self._waiting.append(event)
        return True

    def sent(self, event: Input) -> None:
        """To be called when the app has passed an event on to what has the focus."""
        if not isinstance(event, events.Key) or not self._app.screen_stack:
            return
        focused = self._app.focused
        if focused is not None and focused.check_consume_key(event.key, event.character):
            return
        self._key, self._acted = event, False
        asyncio.get_running_loop().call_later(TIMEOUT_SECONDS, self._app.call_later, self._go_on, event)
        self._follow()

    def handled(self, event: events.Key | KeyHandled) -> None:
        """To be called when the app has handled a key that no widget took, or a `KeyHandled` has come to it."""
        key = self._key
        if key is None or (event is not key and event is not self._passed) or not self._app.screen_stack:
            return  # no screen is left where the app ends
        if not self._acted:
            self._acted = True
            self._follow()
        else:  # a screen that was opened has its focus once it and then the app have done what they have to
            self._passed = None
            self._app.screen.call_later(self._app.call_later, self._go_on, key)

    def _follow(self) -> None:
        self._passed = KeyHandled()
        (self._app.focused or self._app.screen).post_message(self._passed)

    async def _go_on(self, key: events.Key) -> None:
        if key is not self._key:
            return
        self._key = None
        while self._waiting and self._key is None:
            await self._app.on_event(self._waiting.popleft())
