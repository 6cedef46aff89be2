"""Commands of the table, run from a screen: on a thread, told when they end, and kept with their command lines."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from ..cli import load_handler
from ..commands.binding import bind
from ..commands.context import Context
from ..commands.results import Result
from ..manager import StateManager

if TYPE_CHECKING:
    from .app import Dashboard

KEPT = 500  # acts that are remembered
_WORDS = 100  # words of a command line that are shown
_SHOWN = 400  # characters of one word of a command line


class Done(NamedTuple):
    """An act that has ended: when (seconds since 1970), its command line, what came of it, and whether that was well."""

    time: float
    line: str
    said: str
    well: bool


class ActContext(Context):
    """A context of the manager that the dashboard looks with, which it leaves open."""

    def __init__(self, manager: StateManager, options: dict[str, Any]) -> None:
        super().__init__(options)
        self._manager = manager

    def close(self) -> None:
        """The manager is not ours to close."""
        self._manager = None


def command_line(words: list[str], namespace: str = "") -> str:
    """What to type for an act in a terminal, on one line; a long value is cut, and marked so; so are many words."""
    shown = [shlex.quote(word if len(word) <= _SHOWN else word[:_SHOWN] + "…") for word in words[:_WORDS]]
    if len(words) > _WORDS:
        shown.append(f"… ({len(words) - _WORDS:,} more words)")
    where = ["-n", shlex.quote(namespace)] if namespace else []
    return " ".join(["stateview", *where, *shown])


class Acts:
    """Runs commands for the screens of an app, and remembers what was done."""

    def __init__(self, app: Dashboard) -> None:
        self._app = app
        self._number = 0
        self.done: list[Done] = []

    def run(
        self, words: list[str], *, then: Callable[[Result], None] | None = None,
        failed: Callable[[Exception], None] | None = None,
    ) -> None:  # fmt: skip
        """Run a command that changes something, as if its words were typed with `--yes`; nothing is asked here.

        Args:
            words: the command line, word by word, without `stateview`.
            then: gets the result, in the app's turn; without it, what the result tells is shown as a notice.
            failed: gets the error; without it, the error is shown.

        """
        app, line = self._app, command_line(words)
        bound = bind(words)
        assert bound.command is not None, "an act is a command"
        handler, manager = load_handler(bound.command), app.manager
        self._number += 1

        def act(_stop: object) -> Result:
            result: Result = handler(ActContext(manager, {**app.options, "yes": True}), bound.arguments)
            return result

        def end(result: Result) -> None:
            self._keep(line, result.told, result.code == 0)
            if then is not None:
                then(result)
            else:
                app.tell(result.told or "done")

        def fail(error: Exception) -> None:
            self._keep(line, str(error), False)
            (failed or app.trouble)(error)

        app.reader.ask(app, ("act", self._number), act, end, fail)

    def _keep(self, line: str, said: str, well: bool) -> None:
        self.done.append(Done(time.time(), line, said, well))
        del self.done[:-KEPT]
