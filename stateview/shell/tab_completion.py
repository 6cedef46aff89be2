"""Tab at the prompt: the line is completed before any later key applies to it, however fast one types."""

from __future__ import annotations

import asyncio
from itertools import islice, takewhile
from typing import Any

from prompt_toolkit.application import Application
from prompt_toolkit.buffer import Buffer, CompletionState
from prompt_toolkit.completion import CompleteEvent, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition, completion_is_selected, emacs_insert_mode, vi_insert_mode
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.key_binding.key_processor import KeyPress
from prompt_toolkit.keys import Keys

from .completer import ShellCompleter

MAX_COMPLETIONS = 10_000


class TabCompletion:
    """Completes the word before the cursor, and holds the keys that are typed meanwhile.

    A single candidate is inserted whole. So is the only candidate that starts with the word, beside others that contain
    it. Of several, the first is selected in the menu. If the store does not answer, a held Enter is dropped with what
    follows: the line would run without the completion that was asked for.
    """

    def __init__(self, completer: ShellCompleter) -> None:
        self._completer = completer
        self._held: list[KeyPress] | None = None  # None: no completion is under way
        self._task: asyncio.Task[None] | None = None

    def add_to(self, bindings: KeyBindings) -> None:
        """Bind Tab, and every key while a completion is under way. Ctrl-C cancels it."""
        is_completing = Condition(lambda: self._held is not None)

        @bindings.add("tab", filter=(emacs_insert_mode | vi_insert_mode) & ~completion_is_selected)
        def _(event: KeyPressEvent) -> None:
            self._held = []
            self._task = event.app.create_background_task(self._complete(event.app, event.current_buffer))

        @bindings.add(Keys.Any, filter=is_completing, eager=True)
        def _(event: KeyPressEvent) -> None:
            assert self._held is not None
            self._held += event.key_sequence

        @bindings.add("c-c", filter=is_completing, eager=True)
        @bindings.add(Keys.SIGINT, filter=is_completing, eager=True)
        def _(_event: KeyPressEvent) -> None:
            assert self._task is not None
            self._task.cancel()
            self._held = None

    async def _complete(self, app: Application[Any], buffer: Buffer) -> None:
        document = buffer.document

        def find() -> list[Completion]:
            found = self._completer.get_completions(document, CompleteEvent(completion_requested=True))
            return list(islice(found, MAX_COMPLETIONS))

        try:
            completions = await asyncio.to_thread(find)
        finally:
            held, self._held = self._held or [], None
        whole = _whole(document, completions)
        if whole is not None:
            buffer.apply_completion(whole)
        elif completions:
            buffer.complete_state = CompletionState(document, completions)
            buffer.go_to_completion(0)
        elif self._completer.trouble:
            held = list(takewhile(lambda press: press.key != Keys.Enter, held))
        app.key_processor.feed_multiple(held, first=True)
        app.key_processor.process_keys()


def _whole(document: Document, completions: list[Completion]) -> Completion | None:
    """Return the candidate to insert whole, if it is the only one, or the only one that goes on with the word."""
    if len(completions) < 2:
        return next(iter(completions), None)
    word = document.text_before_cursor[len(document.text_before_cursor) + completions[0].start_position :]
    starting = [completion for completion in completions if completion.text.startswith(word)]
    return starting[0] if len(starting) == 1 and starting[0].text != word else None
