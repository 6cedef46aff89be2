"""Completion at the prompt. It queries the store on a thread, and does not wait for a store that does not answer."""

from __future__ import annotations

import threading
import time
from asyncio import get_running_loop
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Any

from prompt_toolkit.application import get_app
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, ThreadedCompleter
from prompt_toolkit.document import Document

from ..cli.completion import candidates, matching
from ..cli.context import Context
from ..cli.line_parser import completion_words, quote
from ..cli.render import escape_cell
from ..errors import StateException
from .session import Shell

RETRY_SECONDS = 2.0  # pause after a store did not answer
TIMEOUT_SECONDS = 0.3  # of the completer's own connection
_POLL_SECONDS = 0.05  # between two checks whether a newer query waits


class ShellCompleter(Completer):
    """Completes commands, options, and names from the store. `trouble` is the store's error, for the toolbar."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._busy = threading.Lock()
        self._newest = 0  # number of the newest query
        self._context: Context | None = None
        self._context_target: tuple[Any, Any] = ("", "")
        self._quiet_until = 0.0
        self.trouble = ""

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """Yield the candidates for the word before the cursor. Raises nothing: an error would end the prompt.

        The query of Tab is never given up for a later one, and asks a store again that did not answer.
        """
        requested = complete_event.completion_requested
        try:
            text = document.text_before_cursor
            parsed = completion_words(text)
            if parsed is None or not self._acquire(requested):
                return
            words, start = parsed
            try:
                if requested:
                    self._quiet_until = 0.0
                offered = self._candidates(words)
            finally:
                self._busy.release()
            for word, help_ in offered:
                yield Completion(
                    quote(word),
                    start - len(text),
                    display=escape_cell(word),
                    display_meta=escape_cell(help_)[:60],
                )
        except Exception as error:
            self._pause(error)

    def _acquire(self, requested: bool) -> bool:
        """Wait for the query of an earlier key. Returns False if a later key has queried meanwhile."""
        self._newest = mine = self._newest + 1
        while not self._busy.acquire(timeout=_POLL_SECONDS):
            if mine != self._newest and not requested:
                return False
        return True

    def _candidates(self, words: list[str]) -> list[tuple[str, str]]:
        shell = self._shell
        first = words[0] if len(words) > 1 else ""
        if first in shell.aliases:
            words = [*(word.text for word in shell.aliases[first]), *words[1:]]
        aliases = matching(words[0], [(name, "alias") for name in shell.aliases]) if len(words) == 1 else []
        if time.monotonic() < self._quiet_until:
            return aliases + (candidates(words) if len(words) == 1 or words[-1].startswith("-") else [])
        offered = candidates(words, self._open_context())
        self.trouble = ""
        return aliases + offered

    def _open_context(self) -> Context:
        """Return a context of the completer's own: it must not share a connection with a running command."""
        target = self._shell.target
        if self._context is None or self._context_target != target:
            if self._context is not None:
                self._context.close()
            self._context, self._context_target = QuietContext(self._shell), target
        return self._context

    def _pause(self, error: Exception) -> None:
        self.trouble = error_class(error)
        self._quiet_until = time.monotonic() + RETRY_SECONDS


class PromptCompleter(ThreadedCompleter):
    """Runs a completer on a thread, and runs it again for a line that was typed meanwhile.

    prompt_toolkit by itself does so only if the new line continues the old one. After Ctrl-U and another line the menu
    would stay away until the next key.
    """

    async def get_completions_async(
        self, document: Document, complete_event: CompleteEvent
    ) -> AsyncGenerator[Completion, None]:
        """Yield the candidates, as the completer finds them."""
        buffer = get_app().current_buffer
        try:
            async with aclosing(super().get_completions_async(document, complete_event)) as completions:
                async for completion in completions:
                    yield completion
        finally:
            # The buffer starts no second completion before this one has ended.
            get_running_loop().call_soon(_complete_again, buffer, document.text_before_cursor)


def _complete_again(buffer: Buffer, completed: str) -> None:
    text = buffer.document.text_before_cursor
    if not get_app().is_done and not buffer.complete_state and not completed.startswith(text):
        buffer.start_completion(complete_event=CompleteEvent(text_inserted=True))


def error_class(error: Exception) -> str:
    """Return in a few words why a store does not answer."""
    if isinstance(error, OSError):
        return "no answer"
    return "unreadable" if isinstance(error, StateException) else f"{type(error).__name__}: {error}"[:60]


class QuietContext(Context):
    """A read-only context of the shell's store with a short timeout."""

    def __init__(self, shell: Shell) -> None:
        super().__init__({**shell.options, "read_only": True, "quiet": True})
        self._manager = self.open(shell.options.get("store"), shell.options.get("namespace"), timeout=TIMEOUT_SECONDS)
