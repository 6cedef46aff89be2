"""What the prompt offers while a line is typed. It asks the store on a thread, and never waits for one that is gone."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import Any

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from ..cli.completion import candidates
from ..cli.context import Context
from ..cli.line_parser import completion_words, quote
from ..cli.render import escape_control_characters
from ..errors import StateException
from .session import Shell

RETRY_SECONDS = 2.0  # seconds for which a store that did not answer is left alone
TIMEOUT_SECONDS = 0.3  # seconds that the completer's own connection tries
_POLL_SECONDS = 0.05  # seconds between two looks at whether a later key has asked


class ShellCompleter(Completer):
    """Commands, options, and what is really there. `trouble` is a word on the store, for the toolbar."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._asking = threading.Lock()
        self._newest = 0  # the number of the last question
        self._context: Context | None = None
        self._of: tuple[Any, Any] = ("", "")
        self._quiet_until = 0.0
        self.trouble = ""

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:  # noqa: ARG002
        """Candidates for the word before the cursor. Raises nothing: an error here would stop the prompt."""
        try:
            text = document.text_before_cursor
            before = completion_words(text)
            if before is None or not self._turn():
                return
            words, start = before
            try:
                found = self._ask(words)
            finally:
                self._asking.release()
            for word, help_ in found:
                yield Completion(
                    quote(word),
                    start - len(text),
                    display=escape_control_characters(word),
                    display_meta=escape_control_characters(help_)[:60],
                )
        except Exception as error:  # whatever it is: an error that escapes from here stops the prompt
            self._give_up(error)

    def _turn(self) -> bool:
        """Wait while an earlier key's question is at the store; False if a later key has asked meanwhile."""
        self._newest = mine = self._newest + 1
        while not self._asking.acquire(timeout=_POLL_SECONDS):
            if mine != self._newest:
                return False
        return True

    def _ask(self, words: list[str]) -> list[tuple[str, str]]:
        shell = self._shell
        first = words[0] if len(words) > 1 else ""
        if first in shell.aliases:
            words = [*(word.text for word in shell.aliases[first]), *words[1:]]
        aliases = [(name, "alias") for name in shell.aliases if len(words) == 1 and name.startswith(words[0])]
        if time.monotonic() < self._quiet_until:
            return aliases + (candidates(words) if len(words) == 1 or words[-1].startswith("-") else [])
        found = candidates(words, self._store())
        self.trouble = ""
        return aliases + found

    def _store(self) -> Context:
        """A manager of the completer's own, so that a command that runs and a menu never share a connection."""
        of = self._shell.where
        if self._context is None or self._of != of:
            if self._context is not None:
                self._context.close()
            self._context, self._of = QuietContext(self._shell), of
        return self._context

    def _give_up(self, error: Exception) -> None:
        self.trouble = error_class(error)
        self._quiet_until = time.monotonic() + RETRY_SECONDS


def error_class(error: Exception) -> str:
    """A word or two on what keeps a store from answering."""
    if isinstance(error, OSError):
        return "no answer"
    return "unreadable" if isinstance(error, StateException) else f"{type(error).__name__}: {error}"[:60]


class QuietContext(Context):
    """The shell's store, read-only, tried for a moment only."""

    def __init__(self, shell: Shell) -> None:
        super().__init__({**shell.options, "read_only": True})
        self._manager = self.open(shell.options.get("store"), shell.options.get("namespace"), timeout=TIMEOUT_SECONDS)
