"""Base of the full screens: the events that the app reports to every screen it has opened."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, cast

from textual.events import ScreenResume
from textual.screen import Screen

if TYPE_CHECKING:
    from ..backends.protocol import Head
    from .app import Dashboard


class DashboardScreen:
    """Mixin for a Textual screen. The app calls these methods on each screen of its stack, also below the top one.

    A subclass derives from this class first, then from `Screen` or `ModalScreen`. Dialogs need none of the events and
    do not derive from it.
    """

    # For the help: what a user wants to do, the keys that do it, and the action without which they do not.
    WAYS: ClassVar[tuple[tuple[str, ...], ...]] = ()

    MAIN_ACTION: ClassVar[str] = ""  # the action whose key comes first in the line of keys
    _was_shown = _had_secrets = False

    def on_screen_resume(self, event: ScreenResume) -> None:
        """Keep the styles of the first frame. Mounting has just applied them, and again takes a tenth of a start."""
        if not self._was_shown:
            self._was_shown, event.refresh_styles = True, False

    def leave(self) -> None:
        """Return to the screen below, for the key q. By default, do nothing: dialogs take the key themselves."""

    @property
    def dashboard(self) -> Dashboard:
        """The app, with its own type."""
        assert isinstance(self, Screen)
        return cast("Dashboard", self.app)

    def namespace_changed(self, head: Head, changed: list[str] | None) -> None:
        """Follow a change of the namespace: commits, expired keys or checkpoints. By default, do nothing.

        Args:
            head: the present head of the namespace.
            changed: the keys that may differ; None: any key may differ.

        """

    def reload(self) -> None:
        """Read everything again, for the key R. By default, do nothing."""

    @property
    def has_secrets(self) -> bool:
        """Whether a value on the screen is masked. By default, say no."""
        return False

    def tell_secrets(self) -> None:
        """Update the line of keys if a masked value has come, or is gone."""
        assert isinstance(self, Screen)
        if self.has_secrets != self._had_secrets:
            self._had_secrets = not self._had_secrets
            self.refresh_bindings()

    def secrets_changed(self) -> None:
        """Paint the values anew, because secrets are masked now, or shown. By default, do nothing."""

    def backend_returned(self) -> None:
        """Follow the end of a lost connection. By default, reload."""
        self.reload()

    def may_leave(self, leave: Callable[[], object]) -> bool:  # noqa: ARG002 - for subclasses
        """Return whether nothing typed here would be lost. Otherwise ask, and call `leave` after a yes."""
        return True

    def keep_unsaved_text(self) -> str:
        """Write unsaved text to a file, because a signal ends the program.

        Returns:
            A line that names the file, or "" if nothing was unsaved.

        """
        return ""
