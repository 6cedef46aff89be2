"""What a handler works with: the store that is meant, and the person or script that asks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol
from weakref import WeakSet

from ..errors import NOTHING_CHANGED
from ..manager import StateManager
from ..states.transaction import Transaction
from .exit_codes import ConfirmationRequired
from .results import Result


class SupportsClose(Protocol):
    """Something with an end."""

    def close(self) -> None:
        """Let go of what it holds."""


class Context:
    """A face's side of a command.

    Args:
        options: the global options that were given.
        ask: puts a question to a person and returns whether the answer is yes; None where there is no person.
        show: puts a result before the person at once, such as the preview that a question is about.
        progress: says how far a long act is, for a person.

    """

    def __init__(
        self,
        options: dict[str, Any],
        ask: Callable[[str], bool] | None = None,
        show: Callable[[Result], None] | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        self.options = options
        self.ask = ask
        self.show = show or (lambda _result: None)
        self.progress = progress or (lambda _text: None)
        self.transaction: Transaction | None = None
        self._manager: StateManager | None = None
        self._kept: WeakSet[SupportsClose] = WeakSet()

    @property
    def manager(self) -> StateManager:
        """The manager of the store and namespace that are meant, opened when first asked for."""
        if self._manager is None:
            self._manager = self.open(self.options.get("store"), self.options.get("namespace"))
        return self._manager

    @property
    def reader(self) -> StateManager | Transaction:
        """What `load` reads: the open transaction of a shell, else the manager."""
        return self.manager if self.transaction is None else self.transaction

    def open(
        self, store: str | None, namespace: str | None, read_only: bool = False, timeout: float | None = None
    ) -> StateManager:
        """Another manager, with the same settings."""
        read_only = read_only or bool(self.options.get("read_only"))
        author = self.options.get("author")
        return StateManager(store, namespace, read_only=read_only, author=author, timeout=timeout)

    def confirm(self, question: str) -> None:
        """Go on only if a person says yes, or `--yes` was given.

        Raises:
            NeedsYes: no, or there is nobody to ask.

        """
        if self.options.get("yes"):
            return
        if self.ask is None:
            raise ConfirmationRequired(f"not done: {question}", "Give --yes to go ahead")
        if not self.ask(question):
            raise ConfirmationRequired("not done", NOTHING_CHANGED)

    def close_later(self, one: SupportsClose) -> None:
        """Have something closed with this context, if it is still there: what a result may go on to read from."""
        self._kept.add(one)

    def close(self) -> None:
        """Let go of what was opened."""
        for one in self._kept:
            one.close()
        self._kept.clear()
        if self._manager is not None:
            self._manager.close()
            self._manager = None
