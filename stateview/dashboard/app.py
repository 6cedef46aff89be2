"""The dashboard's program: the namespace it looks at, at which state, and what holds on every screen."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from textual import events
from textual.app import App
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen

from ..backends import mask
from ..cli.context import Context
from ..cli.render import escape_control_characters
from ..errors import BackendError, BackendUnavailable, StateException
from ..manager import StateManager
from .actions.runner import ActionRunner
from .base_screen import DashboardScreen
from .data.background import BackgroundExecutor, Stop
from .data.watcher import ConnectionLost, NamespaceChange, NamespaceWatcher
from .display import themes
from .input import keymap
from .input.key_queue import KeyHandled, KeyQueue

if TYPE_CHECKING:
    from .data.key_source import Prefetch
    from .screens.main import MainScreen

T = TypeVar("T")
NOTICE_SECONDS = 0.5  # seconds in which a notice belongs to the dialog that opens
TIMEOUT_SECONDS = 3.0  # seconds that a read goes on trying: a person is better told than kept waiting


class Dashboard(App[None]):
    """Looks at one namespace at a time, live or at a ref.

    Args:
        manager: of the namespace to begin with; closed at the end.
        options: the global options that were given, as for a `Context`.
        at: a ref to look at instead of live.
        store: what names the manager's store in `stores`.
        stores: of each store that can be gone to, what to open it by and what to show.
        redact: globs; what has a name that matches one is masked on the screen.
        prefetch: what has begun to read the first page of keys.
        theme: its name.
        keys: the keys that acts have instead of their own.
        opened: called once, when there is something to see.

    """

    TITLE = "stateview"
    CSS_PATH = "app.tcss"
    ENABLE_COMMAND_PALETTE = False  # ours is the table of commands
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (80, "-medium"), (120, "-wide")]  # noqa: RUF012 - Textual's own type
    VERTICAL_BREAKPOINTS = [(0, "-short"), (30, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "leave", "Quit", id="app.quit"),
        Binding("ctrl+c", "leave", "Quit", show=False, priority=True, id="app.interrupt"),
        Binding("question_mark", "help", "Help", key_display="?", id="app.help"),
        Binding("colon,ctrl+p", "command", "Command", key_display=":", id="app.command"),
        Binding("at", "done", "What was done", show=False, key_display="@", id="app.done"),
        Binding("z", "undo", "Undo", show=False, id="app.undo"),
        Binding("Z", "redo", "Redo", show=False, id="app.redo"),
        Binding("p", "pause", "Pause live", show=False, id="app.pause"),
        Binding("R", "look", "Look again", show=False, id="app.look"),
        Binding("ctrl+z", "suspend_process", "Suspend", show=False, id="app.suspend"),
    ]

    def __init__(
        self, manager: StateManager, options: dict[str, Any] | None = None, at: str | None = None, *,
        store: str = "", stores: list[tuple[str, str]] | None = None, redact: tuple[str, ...] = (),
        prefetch: Prefetch | None = None, theme: str = themes.DEFAULT,
        keys: dict[str, str] | None = None, opened: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.manager = manager
        self.options = options or {}
        self.at = at
        self.store = store or manager.url
        self.stores = stores or [(self.store, manager.url)]
        self.redact = redact
        self._told_at = 0.0
        self.reader = BackgroundExecutor()
        self.acts = ActionRunner(self)
        self._typeahead = KeyQueue(self)
        self.live: NamespaceWatcher | None = None
        self.lost: ConnectionLost | None = None
        self.paused_at: int | None = None  # the revision at which live is held, if it is
        self.news: NamespaceChange | None = None  # how the namespace stood when the app was last told
        self._held: NamespaceChange | None = None  # what came while paused
        self._coming: tuple[str, StateManager] | None = None  # is gone to when no other screen is open
        self._backs: deque[str] = deque()  # undo and redo that were asked for, the first of them at work
        self._prefetch = prefetch
        self._remapped = keys or {}
        self._opened = opened
        self.main: MainScreen | None = None
        themes.apply(self, theme)

    def get_default_screen(self) -> MainScreen:
        """Return the main screen lies under all others."""
        from .screens.main import MainScreen

        self.main = MainScreen(self._prefetch)
        sizes = ((self.size.width, self.HORIZONTAL_BREAKPOINTS), (self.size.height, self.VERTICAL_BREAKPOINTS))
        for extent, steps in sizes:
            self.main.add_class([name for least, name in steps if extent >= least][-1])  # else it is laid out twice
        return self.main

    def on_mount(self) -> None:
        """Give keys to acts, and heed signals."""
        keymap.apply(self, self._remapped)
        if not self.is_headless:
            from .input.signals import install_signal_handlers

            install_signal_handlers(self)

    def on_ready(self) -> None:
        """There is something to see: begin to watch."""
        self._opened()
        self._watch()

    def _watch(self) -> None:
        if self.live is not None:
            self.live.close()
        self.live = NamespaceWatcher(self, self.manager, self._moved, self._lost)

    def on_unmount(self) -> None:
        """Answer nothing any more, and let go of the store."""
        if self.live is not None:
            self.live.close()
        self.reader.close()
        self.manager.close()
        if self._coming is not None:
            self._coming[1].close()

    async def on_event(self, event: events.Event) -> None:
        """See `KeyQueue`."""
        if not isinstance(event, events.Key | events.Paste):
            await super().on_event(event)
        elif event.is_forwarded:  # and has come back, since nobody took it
            await super().on_event(event)
            if isinstance(event, events.Key):
                self._typeahead.handled(event)
        elif not self._typeahead.holds(event):
            await super().on_event(event)
            self._typeahead.sent(event)

    def on_key_handled(self, event: KeyHandled) -> None:
        """See `KeyQueue`."""
        self._typeahead.handled(event)

    # --- what is looked at -------------------------------------------------------------------------------------

    @property
    def dashboard_screens(self) -> list[DashboardScreen]:
        """The screens of the stack that follow events, the top one last. Dialogs do not."""
        return [screen for screen in self.screen_stack if isinstance(screen, DashboardScreen)]

    @property
    def read_only(self) -> bool:
        """Whether every write is refused, by the manager."""
        return self.manager.read_only

    @property
    def ref(self) -> str | None:
        """The state that the main screen shows: a ref, or the revision at which live is paused; None is live."""
        return self.at if self.at is not None or self.paused_at is None else str(self.paused_at)

    @property
    def paused(self) -> bool:
        """Whether what others write is held back."""
        return self.paused_at is not None

    def request(
        self, what: str, act: Callable[[Stop], T], then: Callable[[T], None], *,
        failed: Callable[[Exception], None] | None = None, dropped: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        """Read what a key press asks about; the answer counts only where the person still is when it comes.

        Args:
            what: names the act, in words: it is said if the answer is dropped.
            act: reads, on a thread. A newer request of the same name takes its place.
            then: opens a dialog, or acts.
            failed: takes an error of reading; without it, the error is shown.
            dropped: told that neither is called.

        """
        manager, screen, focused = self.manager, self.screen, self.focused

        def answered(take: Callable[[], None]) -> None:
            if (manager, screen, focused) == (self.manager, self.screen, self.focused):
                take()
            else:
                self.notify_user(f"{what}: the answer came too late, after other keys; nothing was done")
                dropped()

        def trouble(error: Exception) -> None:
            if failed is not None:
                answered(lambda: failed(error))
            else:
                self.show_error(error, act=True)
                dropped()

        self.reader.submit(self, what, act, lambda found: answered(lambda: then(found)), trouble)

    def open(self, store: str | None, namespace: str | None, read_only: bool = True) -> StateManager:
        """Return a manager of another store or namespace with the same options; `None` is the one that is looked at."""
        return Context(self.options).open(store or self.store, namespace, read_only, TIMEOUT_SECONDS)

    def switch_to(self, store: str | None, namespace: str | None) -> None:
        """Look at another store or namespace, once it has answered; None stays with the present one."""
        store = store or self.store

        def reach(_stop: object) -> StateManager:
            other = self.open(store, namespace or self.manager.namespace, bool(self.options.get("read_only")))
            try:
                other.head()
            except BaseException:
                other.close()
                raise
            return other

        self.reader.submit(
            self, "go", reach, lambda other: self._reached(store, other), lambda error: self.show_error(error, act=True)
        )

    def _reached(self, store: str, manager: StateManager) -> None:
        if self._coming is not None:
            self._coming[1].close()
        self._coming = store, manager
        self.apply_switch()

    def apply_switch(self) -> None:
        """Go where one wanted to, unless a screen lies over the main one: its acts are for the namespace here."""
        if self._coming is None or len(self.screen_stack) > 1:
            return
        (store, manager), self._coming = self._coming, None
        self.manager.close()
        self.manager, self.at, self.store, self.news, self._held = manager, None, store, None, None
        self.paused_at = self.lost = None
        if store not in dict(self.stores):
            self.stores.append((store, manager.url))
        self.options.update(store=store, namespace=manager.namespace)
        self._tell_status()
        self._watch()
        if self.main is not None:
            self.main.show_namespace()

    def show_state(self, ref: str | None) -> None:
        """Look at the namespace as of a ref; None is live."""
        if ref == "live":
            ref = None
        if ref != self.at:
            self.at = ref
            if self.main is not None:
                self.main.show_state()

    def show_key(self, key: str) -> None:
        """Put the cursor of the main screen on a key that was just made: the next act is meant for it."""
        if self.main is not None and self.at is None:
            self.main.show_key(key)

    def unmark(self, keys: Iterable[str]) -> None:
        """Keys that may be marked on the main screen have been dealt with: the next act is not meant for them."""
        if self.main is not None:
            self.main.keys.unmark(keys)

    def command_line(self, words: list[str]) -> str:
        """Return the command line of an act for a terminal.

        Where the store and the namespace are those that are looked at.
        """
        from .actions.runner import command_line

        if self.redact:
            from .display.result_redaction import redacted_words

            words = redacted_words(words, self.redact)
        return command_line(words, self.target_options)

    def short_command(self, line: str) -> str:
        """Return a command line without the program, and without the store and the namespace if they are looked at."""
        for prefix in (self.command_line([]), "stateview"):
            if line.startswith(f"{prefix} "):
                return line[len(prefix) + 1 :]
        return line

    @property
    def target_options(self) -> list[str]:
        """The options that name the store and the namespace, if a terminal in this folder would take others."""
        store, namespace = self.options.get("store"), self.options.get("namespace")
        return [*(["-s", mask(store)] if store else []), *(["-n", namespace] if namespace else [])]

    # --- what others do ----------------------------------------------------------------------------------------

    def _moved(self, moved: NamespaceChange) -> None:
        if self.paused:
            self._held = moved.after(self._held)
            self._tell_status()
            return
        before, self.news = self.news.head if self.news is not None else moved.head, moved
        if before.revision and (before.lineage != moved.head.lineage or moved.head.revision < before.revision):
            self.notify_user(
                f"{self.manager.namespace} was at r{before.revision:,} with {before.count:,} keys and is at"
                f" r{moved.head.revision:,} now: it was dropped, or the server has lost it",
                wrong=True, seconds=60,
            )  # fmt: skip
        for screen in self.dashboard_screens:
            screen.namespace_changed(moved.head, moved.changed)

    def _lost(self, lost: ConnectionLost | None) -> None:
        back = self.lost is not None and lost is None
        self.lost = lost
        self._tell_status()
        if back:
            self.notify_user("the backend is back")
            for screen in self.dashboard_screens:
                screen.backend_returned()

    def _tell_status(self) -> None:
        from .widgets.status_bar import Banner

        if self.main is not None:
            self.main.show_status()
        for screen in self.screen_stack:
            for banner in screen.query(Banner):
                banner.show(self.lost)

    @property
    def commits_behind(self) -> int:
        """How many commits came while paused."""
        if self._held is None or self.paused_at is None:
            return 0
        return max(0, self._held.head.revision - self.paused_at)

    def action_pause(self) -> None:
        """Hold all panes at the revision they show, or go on with live."""
        if self.paused:
            held, self.paused_at, self._held = self._held, None, None
            if held is not None:
                self._moved(held)
        elif self.news is None:
            self.notify_user("nothing has been read yet that could be held")
            return
        else:
            self.paused_at = self.news.head.revision
        if self.main is not None and self.at is None:
            self.main.show_state()
        self._tell_status()

    def resume(self) -> None:
        """Something was written here: it is to be seen, and the next act is meant for what comes of it."""
        if self.paused:
            self.action_pause()

    def action_look(self) -> None:
        """Look at once whether the backend is there and what is new, and read everything again."""
        if self.live is not None:
            self.live.look()
        for screen in self.dashboard_screens:
            screen.reload()

    # --- what is said ------------------------------------------------------------------------------------------

    def notify_user(self, text: str, *, wrong: bool = False, seconds: float = 0) -> None:
        """Show a notice for a moment, or for so many seconds; the same one again takes its own place.

        The text may hold stored data.
        """
        self._told_at = time.monotonic()
        shown = "\n".join(escape_control_characters(line) for line in text[:2000].split("\n"))
        for earlier in [one for one in self._notifications if one.message == shown]:
            self._unnotify(earlier, refresh=False)
        seconds = seconds or (8 if wrong else 5)
        self.notify(shown, severity="error" if wrong else "information", markup=False, timeout=seconds)

    def push_screen(self, screen: Any, *given: Any, **more: Any) -> Any:
        """See `App.push_screen`. Notices of what was done before are not to lie over a dialog."""
        if isinstance(screen, ModalScreen) and time.monotonic() - self._told_at > NOTICE_SECONDS:
            self.clear_notifications()
        return super().push_screen(screen, *given, **more)

    def show_error(self, error: Exception, *, act: bool = False) -> None:
        """Show what went wrong, and its next step.

        Args:
            error: what was raised.
            act: something was to be done, and that it was not is shown in any case; of a read that failed, the banner
                tells while the backend is lost.

        """
        if isinstance(error, BackendError | OSError) and self.live is not None:
            self.live.look()
            known = self.lost is not None and (
                isinstance(error, BackendUnavailable) or str(error) == str(self.lost.error)
            )
            if known and not act:
                return
        told = self.error_text(error)
        if isinstance(error, OSError) and not isinstance(error, StateException) and error.filename:
            told = f"{error.filename}: {error.strerror}"
        self.notify_user(told, wrong=True)

    def error_text(self, error: Exception) -> str:
        """Return an error as text, its next step for the store and the namespace that are looked at."""
        if isinstance(error, StateException):
            error.target = self.target_options
        return str(error)

    # --- acts that are the same on every screen ----------------------------------------------------------------

    def action_leave(self) -> None:
        """End at once: reads and acts are on daemon threads. A screen that holds what would be lost asks first."""
        if all(screen.may_leave(self.exit) for screen in reversed(self.dashboard_screens)):
            self.exit()

    async def action_quit(self) -> None:
        """Textual's own binding, ctrl+q, is no way around."""
        self.action_leave()

    def action_help(self) -> None:
        """Explain the screen one is on."""
        from .screens.help import HelpScreen

        self.push_screen(HelpScreen())

    def action_command(self) -> None:
        """Type a command, or choose one."""
        from .screens.command_prompt import CommandScreen

        self.push_screen(CommandScreen())

    def action_done(self) -> None:
        """List what was done here."""
        from .screens.activity import DoneScreen

        self.push_screen(DoneScreen())

    def action_undo(self) -> None:
        """Take back the last commit; asked about first where it is another's."""
        self._back("undo")

    def action_redo(self) -> None:
        """Bring back what the last undo took away."""
        self._back("redo")

    def _back(self, act: str) -> None:
        self._backs.append(act)
        if len(self._backs) == 1:
            self._next_back()

    def _next_back(self) -> None:
        from .actions.undo import back

        back(self, self._backs[0], self._backed)

    def _backed(self, well: bool) -> None:
        """Note that an undo or redo has ended.

        Those that were asked for meanwhile follow it, unless it was not done.
        """
        self._backs.popleft()
        if not well:
            self._backs.clear()
        if self._backs:
            self._next_back()
