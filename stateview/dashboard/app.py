"""The dashboard's program: the store it looks at, and the screens that show it."""

from __future__ import annotations

from typing import Any

from textual.app import App

from ..manager import StateManager
from ..render import inert
from .acts import Acts
from .reader import Reader


class Dashboard(App[None]):
    """Looks at one namespace at a time.

    Args:
        manager: of the namespace to begin with; closed at the end.
        options: the global options that were given, as for a `Context`.
        at: a ref to look at instead of live.

    """

    def __init__(self, manager: StateManager, options: dict[str, Any] | None = None, at: str | None = None) -> None:
        super().__init__()
        self.manager = manager
        self.options = options or {}
        self.at = at
        self.reader = Reader()
        self.acts = Acts(self)
        self.redact: tuple[str, ...] = ()

    def tell(self, text: str, *, wrong: bool = False) -> None:
        """Show a notice for a moment. The text may hold stored data."""
        shown = "\n".join(inert(line) for line in text.split("\n"))[:2000]
        self.notify(shown, severity="error" if wrong else "information", markup=False, timeout=8 if wrong else 5)

    def trouble(self, error: Exception) -> None:
        """Show what went wrong, and its next step."""
        self.tell(str(error), wrong=True)

    def on_unmount(self) -> None:
        """Answer nothing any more, and let go of the store."""
        self.reader.close()
        self.manager.close()
