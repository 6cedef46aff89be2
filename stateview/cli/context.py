"""The context of a command: the store it works on, and the person or script that runs it."""

from __future__ import annotations

from _weakrefset import WeakSet  # weakref.WeakSet, without the rest of weakref
from collections.abc import Callable
from typing import Any, Protocol

from ..backends import mask
from ..errors import NOTHING_CHANGED, NamespaceNotFound, NextStep
from ..manager import StateManager
from ..model import ABSENT
from ..states.transaction import Transaction
from ..states.view import Ref, StateView
from .exit_codes import ConfirmationRequired
from .results import DiffResult, LiveTable, Result

_NO_VALUE = object()  # a default for `load`, where ABSENT would mean "no default"


class SupportsClose(Protocol):
    """An object that can be closed."""

    def close(self) -> None:
        """Release its resources."""


class Context:
    """The store, the options and the output of a command.

    Args:
        options: the global options of the command line.
        ask: asks a person a question, and returns whether the answer is yes; None if there is no person.
        show: prints a result at once, such as the preview that a question is about.
        progress: shows how far a long action is.
        ask_secret: asks a person for a line that is not shown; None if there is no person.
        ask_line: asks a person for a line; None if there is no person.

    """

    def __init__(
        self,
        options: dict[str, Any],
        ask: Callable[[str], bool] | None = None,
        show: Callable[[Result], None] | None = None,
        progress: Callable[[str], None] | None = None,
        ask_secret: Callable[[str], str] | None = None,
        ask_line: Callable[[str], str] | None = None,
    ) -> None:
        self.options = options
        self.ask = ask
        self.show = show or (lambda _result: None)
        self.progress = progress or (lambda _text: None)
        self.ask_secret = ask_secret
        self.ask_line = ask_line
        self.opens_full_screen = True  # False inside a program that has the terminal already
        self.pager = True  # a diff that does not fit the terminal opens on the full screen
        self.transaction: Transaction | None = None
        self._manager: StateManager | None = None
        self._to_close: WeakSet[SupportsClose] = WeakSet()

    @property
    def manager(self) -> StateManager:
        """The manager of the store and namespace in the options; opened on first use."""
        if self._manager is None:
            self._manager = self.open(self.options.get("store"), self.options.get("namespace"))
        return self._manager

    @property
    def existing(self) -> StateManager:
        """The manager, for a command that only reads.

        Raises:
            NamespaceNotFound: the namespace was never written.

        """
        self.manager.check_exists()
        return self.manager

    def check_exists(self, found: object) -> None:
        """Check that the namespace exists. Whatever was found in it shows that, without a read.

        Raises:
            NamespaceNotFound: nothing was found, and the namespace was never written.

        """
        if not found:
            self.manager.check_exists()

    def reader(self, at: Ref | None = None) -> StateManager | StateView | Transaction:
        """Return the object to load values from: the state `at`, else the shell's open transaction, else live."""
        if at is not None:
            return self.manager.at(at)
        return self.manager if self.transaction is None else self.transaction

    def read(self, key: str, at: Ref | None = None) -> Any:
        """Return the value of a key at a state, or `ABSENT`."""
        value = self.reader(at).load(key, _NO_VALUE)
        return ABSENT if value is _NO_VALUE else value

    def open(
        self, store: str | None, namespace: str | None, read_only: bool = False, timeout: float | None = None
    ) -> StateManager:
        """Open another manager with the same author, and read-only if this context is."""
        read_only = read_only or bool(self.options.get("read_only"))
        author, quiet = self.options.get("author"), self.options.get("quiet")
        return StateManager(store, namespace, read_only=read_only, author=author, timeout=timeout, quiet=quiet)

    def tell(self, note: str) -> None:
        """Print a note, such as what was guessed about a path, unless `--quiet` was given; "" is no note."""
        if note and not self.options.get("quiet"):
            from .results import Text

            self.show(Text(empty=f"stateview: {note}"))

    def target_options(self, place: tuple[str, str] | None = None) -> list[str]:
        """Return the options that name a place to a new command line; None is the store and namespace of the options.

        Args:
            place: the URL of a store, and a namespace.

        """
        options = self.options
        if place is not None:
            if place[0] != self.manager.url:
                options = {"store": place[0], "namespace": place[1]}
            elif place[1] != self.manager.namespace:
                options = {**options, "namespace": place[1]}
        return target_options(options)

    def quoted(self, *command: str) -> str:
        """Quote a command of the present store and namespace for a message."""
        return NextStep("", command).text(self.target_options())

    def confirm(self, question: str) -> None:
        """Return if `--yes` was given or a person answers yes.

        Raises:
            ConfirmationRequired: the answer is no, or there is no terminal to ask at.

        """
        if self.options.get("yes"):
            return
        if self.ask is None:
            raise ConfirmationRequired(f"not done: {question}", "Give --yes to go ahead")
        if not self.ask(question):
            raise ConfirmationRequired("not done", NOTHING_CHANGED)

    def confirm_name(self, question: str, name: str) -> None:
        """Return if `--yes` was given or a person types a name: a `y` is typed too easily for what cannot be undone.

        Raises:
            ConfirmationRequired: the answer is another text, or there is no terminal to ask at.

        """
        if self.options.get("yes"):
            return
        if self.ask_line is None:
            raise ConfirmationRequired(f"not done: {question}", "Give --yes to go ahead")
        if self.ask_line(f"{question} Type {name} to go ahead") != name:
            raise ConfirmationRequired("not done: the name was not typed", NOTHING_CHANGED)

    def review(self, result: Result) -> bool | None:
        """Show what a question is about. None: it was printed, and the question is next; else the person's decision."""
        decided = self.open_full_screen(result)
        if decided is None:
            self.show(result)
        return decided

    def approve(self, result: DiffResult, question: str) -> None:
        """Show what an act would change, and return if a person approves it, on the full screen or at the question.

        Raises:
            ConfirmationRequired: as `confirm`.

        """
        decided = self.review(result)
        if decided is None:
            self.confirm(question)
        elif not decided:
            raise ConfirmationRequired("not done", NOTHING_CHANGED)

    def open_full_screen(self, result: Result) -> bool | None:
        """Open a diff or a live table on the full screen, if it is one to open. See `full_screen`."""
        if not isinstance(result, DiffResult | LiveTable):
            return None
        from .full_screen import open_full_screen

        return open_full_screen(self, result, self.options.get("format", ""))

    def close_later(self, resource: SupportsClose) -> None:
        """Close a resource with this context: a result still reads from it while it is printed."""
        self._to_close.add(resource)

    def close(self) -> None:
        """Close the manager and the resources of `close_later`."""
        for resource in self._to_close:
            resource.close()
        self._to_close.clear()
        if self._manager is not None:
            self._manager.close()
            self._manager = None


def target_options(options: dict[str, Any]) -> list[str]:
    """Return the options that name a store and a namespace, as far as they were given. A password is masked."""
    store, namespace = options.get("store"), options.get("namespace")
    return [*(["-s", mask(store)] if store else []), *(["-n", namespace] if namespace else [])]


def missing_namespace(manager: StateManager) -> str:
    """Return the message that the namespace was never written; empty if it exists."""
    try:
        manager.check_exists()
    except NamespaceNotFound as error:
        return str(error)
    return ""
