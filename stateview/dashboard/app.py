"""The Textual application: the namespace and the state that it shows, and the actions of every screen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from textual import constants, events
from textual.app import App
from textual.binding import Binding, BindingType
from textual.reactive import Reactive
from textual.screen import ModalScreen

from ..backends import mask
from ..cli.context import Context, target_options
from ..cli.render import escape_control_characters
from ..cli.results import plural
from ..errors import BackendError, BackendUnavailable, StateException
from ..manager import StateManager
from .actions.runner import ActionContext, ActionRunner
from .actions.undo_queue import UndoQueue
from .base_screen import DashboardScreen
from .command import TIMEOUT_SECONDS
from .data.background import BackgroundExecutor, Stop
from .data.remembered import Memory
from .data.watcher import ConnectionLost, NamespaceChange, NamespaceWatcher
from .display import themes
from .display.redaction import SECRETS, without_secrets
from .input import keymap
from .input.chords import Chords
from .input.key_queue import KeyHandled, KeyQueue

if TYPE_CHECKING:
    from textual.driver import Driver

    from ..backends.protocol import Head
    from .data.key_source import Prefetch
    from .screens.main import MainScreen

T = TypeVar("T")
STORE_OPTIONS = ("--from-store", "--with-store")  # whose values may hold a password
NOTICE_SECONDS = 0.5  # a notice this recent stays when a dialog opens: it explains the dialog


class Dashboard(App[None]):
    """Show one namespace at a time, live or at a ref.

    Args:
        manager: the manager of the first namespace; closed at the end.
        options: the global options of the command line, as for a `Context`.
        at: the ref to show first; None is live.
        store: the name of the manager's store in `stores`.
        stores: the stores that the user can switch to: a name or URL to open, and the text to show.
        redact: globs, and `SECRETS`; the screen masks each key and field whose name matches one.
        prefetch: the read of the first page of keys, already under way.
        theme: the name of the theme.
        keys: the key bindings that replace the default ones, by action id.
        memory: what is remembered from session to session; None remembers nothing.
        opened: called once, when the first screen is painted.

    """

    TITLE = "stateview"
    CSS_PATH = "app.tcss"
    theme = Reactive(themes.DEFAULT)  # setting it later would parse all styles again
    ENABLE_COMMAND_PALETTE = False  # the command prompt takes its place
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (80, "-medium"), (120, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-short"), (30, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "back_or_quit", "Quit", id="app.quit"),
        Binding("ctrl+c", "leave", "Quit", show=False, priority=True, id="app.interrupt"),
        Binding("question_mark", "help", "Help", key_display="?", id="app.help"),
        Binding("comma", "keys", "Keys that work here", show=False, key_display=",", id="app.keys"),
        Binding("colon,ctrl+p", "command", "Command", key_display=":", id="app.command"),
        Binding("at", "done", "Actions of this session", show=False, key_display="@", id="app.done"),
        Binding("z", "undo", "Undo", show=False, id="app.undo"),
        Binding("Z", "redo", "Redo", show=False, id="app.redo"),
        Binding("p", "pause", "Pause live", show=False, id="app.pause"),
        Binding("R", "reload", "Reload", show=False, id="app.look"),
        Binding("U", "secrets", "Show or mask secrets", id="app.secrets"),
        Binding("ctrl+z", "suspend_process", "Suspend", show=False, id="app.suspend"),
    ]

    def __init__(
        self, manager: StateManager, options: dict[str, Any] | None = None, at: str | None = None, *,
        store: str = "", stores: list[tuple[str, str]] | None = None, redact: tuple[str, ...] = (),
        prefetch: Prefetch | None = None, theme: str = themes.DEFAULT,
        keys: dict[str, str] | None = None, memory: Memory | None = None, opened: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.manager = manager
        self.options = options or {}
        self.at = at
        self.store = store or manager.url
        self.stores = stores or [(self.store, manager.url)]
        self.redact = redact  # what is masked now
        self.masks = redact  # what is masked until a user shows the secrets, and always in command lines and notices
        self._notified_at = 0.0  # the time of the newest notice, by `time.monotonic()`
        # Held, since the first frame shows what was prefetched
        self.reader = BackgroundExecutor(prefetch is not None, self.error_text)
        self.acts = ActionRunner(self)
        self._typeahead = KeyQueue(self)
        self.chords = Chords(self)
        self.live: NamespaceWatcher | None = None
        self.lost: ConnectionLost | None = None
        self.paused_at: int | None = None  # the revision that stays on the screen; None: not paused
        self.news: NamespaceChange | None = None  # the newest change that the screens show; None before the first read
        self._paused_change: NamespaceChange | None = None  # all changes since the pause began, as one
        self._next_target: tuple[str, StateManager] | None = None  # opened once no other screen covers the main one
        self._undo_queue = UndoQueue(self)
        self._prefetch = prefetch
        self._remapped = keys or {}
        self.memory = memory or Memory()
        self._opened = opened
        self.main: MainScreen | None = None
        themes.apply(self, theme)

    def get_default_screen(self) -> MainScreen:
        """Build the main screen. All other screens lie above it."""
        from .screens.main import MainScreen

        self.main = MainScreen(self._prefetch)
        sizes = ((self.size.width, self.HORIZONTAL_BREAKPOINTS), (self.size.height, self.VERTICAL_BREAKPOINTS))
        for extent, steps in sizes:
            # Textual would set the class after a first layout, and lay out the screen twice.
            self.main.add_class([name for least, name in steps if extent >= least][-1], update=False)
        return self.main

    def get_driver_class(self) -> type[Driver]:
        """Return the driver of a terminal, unless TEXTUAL_DRIVER names another one."""
        if constants.DRIVER is not None:
            return super().get_driver_class()
        from .input.terminal_driver import TerminalDriver

        return TerminalDriver

    def on_mount(self) -> None:
        """Apply the configured key bindings, and install the signal handlers."""
        keymap.apply(self, self._remapped)
        if not self.is_headless:
            from .input.signals import install_signal_handlers

            install_signal_handlers(self)

    def on_ready(self) -> None:
        """Start watching the namespace, now that the first screen is painted."""
        self.reader.release()
        self._opened()
        self._watch()

    def _watch(self) -> None:
        if self.live is not None:
            self.live.close()
        self.live = NamespaceWatcher(self, self.manager, self._apply_change, self._set_lost)

    def on_unmount(self) -> None:
        """Drop all pending reads, and close the store."""
        if self.live is not None:
            self.live.close()
        self.reader.close()
        self.manager.close()
        if self._next_target is not None:
            self._next_target[1].close()

    async def on_event(self, event: events.Event) -> None:
        """Pass keys and pastes through the `KeyQueue`."""
        if not isinstance(event, events.Key | events.Paste):
            await super().on_event(event)
        elif event.is_forwarded:  # no widget handled the key, and Textual returned it
            await super().on_event(event)
            if isinstance(event, events.Key):
                self._typeahead.handled(event)
        elif not self._typeahead.holds(event):
            if not (isinstance(event, events.Key) and await self.chords.takes(event)):
                await super().on_event(event)
            self._typeahead.sent(event)

    def on_key_handled(self, event: KeyHandled) -> None:
        """Tell the `KeyQueue` that a key has passed all widgets."""
        self._typeahead.handled(event)

    def on_delivery_failed(self, event: events.DeliveryFailed) -> None:
        """Show why a browser gets no file."""
        self.notify_user(str(event.exception), wrong=True)

    # --- the namespace and the state on the screen -------------------------------------------------------------

    @property
    def dashboard_screens(self) -> list[DashboardScreen]:
        """The screens of the stack that take events, the top one last. Dialogs are left out."""
        return [screen for screen in self.screen_stack if isinstance(screen, DashboardScreen)]

    @property
    def read_only(self) -> bool:
        """Whether the manager refuses every write."""
        return self.manager.read_only

    def unless_read_only(self, text: str) -> str:
        """Return a part of a message that offers a key that writes; nothing where that key cannot act."""
        return "" if self.read_only else text

    @property
    def page_stores(self) -> list[str] | None:
        """The stores that a page may open, by name or URL. None in a terminal, where the user may open any."""
        return [store for store, _ in self.stores] if self.is_web else None

    @property
    def ref(self) -> str | None:
        """The state on the main screen: a ref, or the revision of the pause; None is live."""
        return self.at if self.at is not None or self.paused_at is None else str(self.paused_at)

    @property
    def paused(self) -> bool:
        """Whether the screens ignore new commits for now."""
        return self.paused_at is not None

    def request(
        self, what: str, act: Callable[[Stop], T], then: Callable[[T], None], *,
        failed: Callable[[Exception], None] | None = None, dropped: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        """Read data for a key press. Drop the answer if the namespace, the screen or the focus has changed meanwhile.

        Args:
            what: the name of the action, for the notice about a dropped answer.
            act: reads the data, on a thread. A newer request of the same name cancels it.
            then: takes the data; opens a dialog, or runs a command.
            failed: takes the error of a failed read. By default, the app shows the error.
            dropped: called if neither `then` nor `failed` is called.

        """
        asked_at = self.manager, self.screen, self.focused

        def answer(take: Callable[[], None]) -> None:
            if asked_at == (self.manager, self.screen, self.focused):
                take()
            else:
                self.notify_user(f"{what} was canceled: you pressed other keys before the data was read")
                dropped()

        def fail(error: Exception) -> None:
            if failed is not None:
                answer(lambda: failed(error))
            else:
                self.show_error(error, act=True)
                dropped()

        self.reader.submit(self, what, act, lambda data: answer(lambda: then(data)), fail)

    def open(self, store: str | None, namespace: str | None, read_only: bool = True) -> StateManager:
        """Open another store or namespace with the same options; None is the present one.

        Raises:
            UsageError: the dashboard is in a browser, and the store is none of `stores`.

        """
        if store and self.page_stores is not None:
            from .actions.page_access import check_store

            check_store(store, self.page_stores)
        return Context(self.options).open(store or self.store, namespace, read_only, TIMEOUT_SECONDS)

    def switch_to(self, store: str | None, namespace: str | None) -> None:
        """Open another store or namespace, and show it once its backend answers; None keeps the present one."""
        store = store or self.store

        def connect(_stop: object) -> StateManager:
            manager = self.open(store, namespace or self.manager.namespace, bool(self.options.get("read_only")))
            try:
                manager.head()
            except BaseException:
                manager.close()
                raise
            return manager

        def connected(manager: StateManager) -> None:
            if self._next_target is not None:
                self._next_target[1].close()
            self._next_target = store, manager
            self.apply_switch()

        self.reader.submit(self, "go", connect, connected, lambda error: self.show_error(error, act=True))

    def apply_switch(self) -> None:
        """Show the namespace that `switch_to` opened. While a screen covers the main one, wait: it acts on this one."""
        if self._next_target is None or len(self.screen_stack) > 1:
            return
        (store, manager), self._next_target = self._next_target, None
        self.manager.close()
        self.manager, self.at, self.store, self.news, self._paused_change = manager, None, store, None, None
        self.paused_at = self.lost = None
        if store not in dict(self.stores):
            self.stores.append((store, manager.url))
        self.options.update(store=store, namespace=manager.namespace)
        self._refresh_status()
        self._watch()
        self.screen.refresh_bindings()  # the line of keys lists no writes of a read-only store
        if self.main is not None:
            self.main.show_namespace()

    def show_state(self, ref: str | None) -> None:
        """Show the namespace at a ref; None is live."""
        if ref == "live":
            ref = None
        if ref != self.at:
            self.at = ref
            if self.main is not None:
                self.main.show_state()

    def show_key(self, key: str) -> None:
        """Move the cursor of the main screen to a new key, so that the next action applies to it."""
        if self.main is not None and self.at is None:
            self.main.show_key(key)

    def unmark(self, keys: Iterable[str]) -> None:
        """Unmark keys of the main screen after an action on them, so that the next action spares them."""
        if self.main is not None:
            self.main.keys.unmark(keys)

    def command_line(self, words: list[str]) -> str:
        """Build the command line of an action on the present store and namespace, for a terminal."""
        from .actions.runner import command_line

        names = ["", *words]
        words = [mask(word) if name in STORE_OPTIONS else word for name, word in zip(names, words, strict=False)]
        if self.masks:
            from .display.result_redaction import redacted_words

            words = redacted_words(words, self.masks)
        return command_line(words, self.target_options)

    def short_command(self, line: str) -> str:
        """Cut the program from a command line, and the options of the present store and namespace."""
        for prefix in (self.command_line([]), "stateview"):
            if line.startswith(f"{prefix} "):
                return line[len(prefix) + 1 :]
        return line

    @property
    def target_options(self) -> list[str]:
        """The options that name the store and the namespace, if a terminal in this folder would open others."""
        return target_options(self.options)

    # --- changes by other processes ----------------------------------------------------------------------------

    def _apply_change(self, change: NamespaceChange) -> None:
        if self.paused:
            self._paused_change = change.after(self._paused_change)
            self._refresh_status()
            return
        head = change.head
        before, self.news = self.news.head if self.news is not None else head, change
        if change.lost:
            self.notify_user(change.lost, wrong=True, seconds=60)
        elif before.revision and (before.lineage != head.lineage or head.revision < before.revision):
            self.notify_user(self._replaced_text(before, head), wrong=True, seconds=60)
        for screen in self.dashboard_screens:
            screen.namespace_changed(head, change.changed)

    def _replaced_text(self, before: Head, head: Head) -> str:
        """Say that the namespace is no longer the one that was shown."""
        name, had = self.manager.namespace, f"r{before.revision:,} with {plural(before.count, 'key')}"
        has = f"r{head.revision:,} with {plural(head.count, 'key')}"
        if not head.lineage:
            return f"{name} is gone, it had {had}: it was dropped, or its store {self.manager.url} was moved"
        if head.lineage != before.lineage:
            return f"another namespace is {name} now, {has} instead of {had}: it was dropped, or its store was replaced"
        return f"{name} went back from {had} to {has}: the server lost its data, or an older copy took its place"

    def _set_lost(self, lost: ConnectionLost | None) -> None:
        returned = self.lost is not None and lost is None
        self.lost = lost
        if lost is not None:
            self.error_text(lost.error)  # its hint then names the namespace
        self._refresh_status()
        if returned:
            self.notify_user("the backend is back")
            for screen in self.dashboard_screens:
                screen.backend_returned()

    def _refresh_status(self) -> None:
        from .widgets.status_bar import Banner

        if self.main is not None:
            self.main.show_status()
        for screen in self.screen_stack:
            for banner in screen.query(Banner):
                banner.show(self.lost)

    @property
    def commits_behind(self) -> int:
        """The number of commits since the pause began."""
        if self._paused_change is None or self.paused_at is None:
            return 0
        return max(0, self._paused_change.head.revision - self.paused_at)

    def action_pause(self) -> None:
        """Keep all panes at their revision, or continue with live."""
        if self.paused:
            change, self.paused_at, self._paused_change = self._paused_change, None, None
            if change is not None:
                self._apply_change(change)
        elif self.news is None:
            self.notify_user("not paused: the namespace has not been read yet")
            return
        else:
            self.paused_at = self.news.head.revision
        if self.main is not None and self.at is None:
            self.main.show_state()
        self._refresh_status()

    def resume(self) -> None:
        """End a pause after a commit of this dashboard, so that the screens show it."""
        if self.paused:
            self.action_pause()

    def action_reload(self) -> None:
        """Check the connection now, and reload every screen."""
        if self.live is not None:
            self.live.look()
        for screen in self.dashboard_screens:
            screen.reload()

    def remember(self) -> None:
        """Write what the next session is to know."""
        try:
            self.memory.save()
        except OSError as error:
            self.notify_user(f"not remembered for the next session: {error.filename}: {error.strerror}", wrong=True)

    # --- secrets -----------------------------------------------------------------------------------------------

    @property
    def shows_secrets(self) -> bool:
        """Whether the user has shown the secrets."""
        return self.redact != self.masks

    @property
    def may_show_secrets(self) -> bool:
        """Whether secrets are masked, and a press may show them: not in a page of `serve` without `--write`."""
        return SECRETS in self.masks and not (self.is_web and self.options.get("read_only"))

    @property
    def export_hint(self) -> str:
        """How to get an export, which no screen shows while values are masked."""
        return self.masked_hint("Run 'stateview export' in a terminal" if self.is_web else "Give a file: 'export FILE'")

    def masked_hint(self, way: str) -> str:
        """Return a way to masked values, and the key that shows them if it can act."""
        press = ", or press U to show the values" if self.redact == (SECRETS,) and self.may_show_secrets else ""
        return way + press

    def action_secrets(self) -> None:
        """Show the values of secret names, or mask them again."""
        if SECRETS not in self.masks:
            self.notify_user("stateview.toml turns the masks of secrets off; what 'redact' masks stays masked")
        elif not self.may_show_secrets:
            self.notify_user(
                "secrets stay masked in a read-only page: 'serve --write' and a dashboard in a terminal show them",
                wrong=True,
            )
        else:
            self.redact = self.masks if self.shows_secrets else without_secrets(self.masks)
            for screen in self.dashboard_screens:
                screen.secrets_changed()
            self._refresh_status()
            self.screen.refresh_bindings()
            self.notify_user("secrets are shown; U masks them" if self.shows_secrets else "secrets are masked")

    # --- notices and errors ------------------------------------------------------------------------------------

    def notify_user(self, text: str, *, wrong: bool = False, seconds: float = 0) -> None:
        """Show a notice. A notice with the same text is replaced.

        Args:
            text: the notice; control characters of stored data in it are escaped.
            wrong: show it as an error.
            seconds: how long it stays; 0 is 5 s, or 8 s for an error.

        """
        self._notified_at = time.monotonic()
        message = "\n".join(escape_control_characters(line) for line in text[:2000].split("\n"))
        for earlier in [notice for notice in self._notifications if notice.message == message]:
            self._unnotify(earlier, refresh=False)
            # Textual would remove the text of the notice, and leave an empty line where it stood.
            self.screen.query("ToastHolder").filter(f"#--textual-toast-{earlier.identity}").remove()
        seconds = seconds or (8 if wrong else 5)
        self.notify(message, severity="error" if wrong else "information", markup=False, timeout=seconds)

    def push_screen(self, screen: Any, *args: Any, **options: Any) -> Any:
        """Open a screen as `App.push_screen` does. Remove earlier notices first, because they would cover a dialog."""
        if isinstance(screen, ModalScreen) and time.monotonic() - self._notified_at > NOTICE_SECONDS:
            self.clear_notifications()
        return super().push_screen(screen, *args, **options)

    def show_error(self, error: Exception, *, act: bool = False) -> None:
        """Show an error and its next step.

        Args:
            error: the error.
            act: an action of the user failed, so show the error in any case. By default, a read failed: while the
                banner shows the same error, a notice would repeat it.

        """
        if isinstance(error, BackendError | OSError) and self.live is not None:
            self.live.look()
            in_banner = self.lost is not None and (
                isinstance(error, BackendUnavailable) or str(error) == str(self.lost.error)
            )
            if in_banner and not act:
                return
        text = self.error_text(error)
        if isinstance(error, OSError) and not isinstance(error, StateException) and error.filename:
            text = f"{error.filename}: {error.strerror}"
        self.notify_user(text, wrong=True)

    def error_text(self, error: Exception) -> str:
        """Format an error. The commands in its hint name the store and namespace that it is about."""
        if isinstance(error, StateException):
            error.target = ActionContext(self.manager, self.options).target_options(error.place)
        return str(error)

    # --- actions of every screen -------------------------------------------------------------------------------

    def action_leave(self) -> None:
        """End the program without waiting for threads, which are daemons. A screen with unsaved text asks first."""
        if all(screen.may_leave(self.exit) for screen in reversed(self.dashboard_screens)):
            self.exit()

    def action_back_or_quit(self) -> None:
        """Go back one screen; on the main screen, end the program."""
        screen = self.screen
        if isinstance(screen, DashboardScreen) and len(self.screen_stack) > 1:
            screen.leave()
        else:
            self.action_leave()

    async def action_quit(self) -> None:
        """End through `action_leave`, so that Textual's own key, ctrl+q, also asks about unsaved text."""
        self.action_leave()

    def action_help(self) -> None:
        """Open the help of the top screen."""
        from .screens.help import HelpScreen

        self.push_screen(HelpScreen())

    def action_keys(self) -> None:
        """List the keys that act here."""
        self.chords.list_all()

    def action_command(self) -> None:
        """Open the command prompt."""
        from .screens.command_prompt import CommandScreen

        self.push_screen(CommandScreen())

    def action_done(self) -> None:
        """List the actions of this session."""
        from .screens.activity import DoneScreen

        self.push_screen(DoneScreen())

    def action_undo(self) -> None:
        """Undo the last commit. Ask first if another process made it."""
        self._undo_queue.add("undo")

    def action_redo(self) -> None:
        """Redo the commit that the last undo reverted."""
        self._undo_queue.add("redo")
