"""A diff or a preview of a command, on the screens of the dashboard. Leaving it returns to the prompt."""

from __future__ import annotations

import os
from typing import ClassVar

from textual.binding import Binding, BindingType

from .. import settings
from ..cli.context import Context
from ..cli.results import FullScreen, plural
from ..manager import StateManager
from .app import Dashboard
from .command import TIMEOUT_SECONDS
from .data.diff_model import DiffSide, DiffSides, side
from .display.redaction import patterns_of
from .display.themes import theme_of
from .input.keymap import keymap_of
from .screens.diff import MARK_ACTIONS, DiffScreen
from .screens.diff_base import DiffBaseScreen
from .screens.previews.restore import RestoreScreen
from .screens.previews.take import TakeScreen


def show(context: Context, screen: FullScreen) -> bool:
    """Show a diff until the person leaves it. Return whether the person has restored or approved it, by `y`.

    The store is opened once more: the command's own manager stays as it is.
    """
    options, config = context.options, settings.find()
    store = options.get("store")
    manager = context.open(store, options.get("namespace"), timeout=TIMEOUT_SECONDS)
    first = _screen(context, manager, screen)
    app = Viewer(first, manager, {"store": None, **options}, store=store or os.environ.get("STATEVIEW_STORE", ""),
                 redact=patterns_of(config), theme=theme_of(None, config), keys=keymap_of(config))  # fmt: skip
    app.run()
    return app.restored


def _screen(context: Context, manager: StateManager, screen: FullScreen) -> DiffBaseScreen:
    if screen.question:
        return _PlanScreen(screen)
    other = None
    if screen.namespace or screen.store:
        store, namespace = screen.store or context.options.get("store"), screen.namespace or manager.namespace
        other = context.open(store, namespace, read_only=True, timeout=TIMEOUT_SECONDS)
    if screen.restore and other is not None:
        return TakeScreen(other, screen.store, screen.after, screen.keys or [])
    if screen.restore:
        return RestoreScreen(screen.after, screen.keys)
    return _KeysDiffScreen(screen, other)


class _KeysDiffScreen(DiffScreen):
    """A diff of the keys that were chosen, or of all."""

    def __init__(self, screen: FullScreen, other: StateManager | None) -> None:
        super().__init__(screen.before, screen.after, other=other, store=screen.store)
        self._only = screen.keys

    def restrict_keys(self) -> list[str] | None:
        return self._only

    def title_text(self) -> str:
        return super().title_text() + ("" if self._only is None else f" · only {plural(len(self._only), 'key')}")


class _PlanScreen(_KeysDiffScreen):
    """The preview of a command. The result is whether the person goes ahead: then the command itself does it."""

    HELP = (
        "What a command would change. y goes ahead, esc leaves everything as it is. ] and [ jump to the next or\n"
        "previous change, also inside a value. + - ~ show or hide a kind, / filters keys, t shows before and after\n"
        "side by side."
    )
    WAYS: ClassVar[tuple[tuple[str, ...], ...]] = (("read one change after another", "] goes on, [ goes back"),)
    MAIN_ACTION = "approve"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("y", "approve", "Go ahead", id="restore.apply")]

    def __init__(self, screen: FullScreen) -> None:
        super().__init__(screen, None)
        self._screen = screen

    def diff_sides(self) -> DiffSides:
        before, source = side(self.dashboard.manager.backend, "live"), self._screen.source
        return super().diff_sides() if source is None else DiffSides(before, DiffSide(*source, self._screen.after))

    def title_text(self) -> str:
        return f"Preview  {' '.join(self._screen.words)}"

    def selection_text(self) -> str:
        return f"y goes ahead · esc leaves it as it is · {self._screen.question}"

    def command(self) -> str:
        return self.dashboard.command_line(self._screen.words)

    def no_difference_text(self) -> list[str]:
        return ["nothing would change"]

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Hide what a diff of two states has: this is about all of the command, or none."""
        if action in (*MARK_ACTIONS, "restore", "take", "copy", "write"):
            return False
        return super().check_action(action, parameters)

    def action_approve(self) -> None:
        """Let the command go ahead."""
        if self.run.state == "running":
            self.dashboard.notify_user("still computing: wait, or stop with esc")
        else:
            self.dismiss(True)


class Viewer(Dashboard):
    """The dashboard with a screen above the main one. It ends when the person leaves that screen.

    Args:
        first: the screen.
        arguments: those of `Dashboard`.

    """

    def __init__(self, first: DiffBaseScreen, *arguments: object, **more: object) -> None:
        super().__init__(*arguments, **more)  # type: ignore[arg-type]
        self._first = first
        self.restored = False

    def on_mount(self) -> None:
        """Open the screen before the first paint, so that the main one is never seen."""
        super().on_mount()
        self.push_screen(self._first, self._left)

    def _left(self, restored: bool | None) -> None:
        self.restored = bool(restored)
        self.exit()
