"""The history screen: the versions of one key, the newest first, and the change that each version made."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import Screen

from ...backends.names_only import names_only
from ...backends.protocol import Head, Version
from ...errors import Sealed
from ...model import Commit, SealedText, SealedValue, now
from ...states.changes import Change
from ...states.compare import change
from ..base_screen import DashboardScreen
from ..data.background import Stop
from ..display.text import SIGNS, RowBuilder, format_age, format_size, one_line
from ..widgets.diff_view import DiffView
from ..widgets.key_bar import KeyBar
from ..widgets.status_bar import Banner
from ..widgets.virtual_list import VirtualList

if TYPE_CHECKING:
    from ..app import Dashboard

VERSIONS_PER_PAGE = 20  # a page is small, because the backend sends the values too
NEAR_ROWS = 10  # the next page is read when a row this near to the last one is painted


class VersionRow(NamedTuple):
    """A version in the list, without its value."""

    revision: int
    time: int
    size: int | None  # bytes of the value; None: the version deleted the key


def _size(value: bytes | None) -> int | None:
    if isinstance(value, SealedValue):
        return value.size
    return None if value is None else len(value)


class Versions(VirtualList):
    """Lists the versions of a key. It keeps no values: the value of a version is read when the version is selected."""

    def __init__(self, app: Dashboard, key: str, start: int) -> None:
        super().__init__(id="versions")
        self._dashboard = app
        self._start = start
        self._key = key
        self._commits: dict[int, Commit | None] = {}
        self._requested: set[int] = set()  # revisions whose commits are read, or have been
        self._reading = False  # a read of a page is under way
        self._whole = False  # the oldest version has been read
        self.lines: list[VersionRow] = []
        self.error = ""

    @property
    def count(self) -> int:
        return len(self.lines)

    @property
    def at(self) -> int:
        """The revision of the selected version. Before any is read, the revision to begin at, or 0."""
        return self.lines[self.cursor].revision if self.lines else self._start

    def read(self, restart: bool = False) -> None:
        """Read the next page of older versions.

        Args:
            restart: read from the newest version on instead, down to the selected version.

        """
        if self._reading and not restart:
            return
        self._reading = True
        below, down_to = (0, self.at) if restart or not self.lines else (self.lines[-1].revision, 0)
        backend, key = names_only(self._dashboard.manager.backend), self._key

        def read_pages(stop: Stop) -> tuple[list[VersionRow], bool]:
            rows: list[VersionRow] = []
            while True:
                page = backend.versions(key, VERSIONS_PER_PAGE, rows[-1].revision if rows else below)
                rows += [VersionRow(version.revision, version.time, _size(version.value)) for version in page]
                whole = len(page) < VERSIONS_PER_PAGE
                if whole or not down_to or rows[-1].revision <= down_to or stop():
                    return rows, whole

        self._dashboard.reader.submit(
            self, "page", read_pages, lambda answer: self._add_rows(*answer, below), self._read_failed
        )

    def _add_rows(self, rows: list[VersionRow], whole: bool, below: int) -> None:
        at = self.at
        if not below and not whole and rows[-1].revision > at > 0:  # meanwhile the cursor moved below these rows
            self.read(restart=True)
            return
        self._reading, self._whole, self.error = False, whole, ""
        self.lines = rows if not below else self.lines + rows
        last = max(0, self.count - 1)
        row = next((index for index, line in enumerate(self.lines) if line.revision <= at), last) if at else 0
        with self.prevent(VirtualList.Highlighted):  # the cursor moves to another row, but keeps its version
            self.count_changed()
            self.cursor = row
        self.post_message(self.Highlighted(self, self.cursor))

    def _read_failed(self, error: Exception) -> None:
        self._reading, self.error = False, str(error)
        self._dashboard.show_error(error)
        self.refresh()

    def _read_commit(self, revision: int) -> None:
        if revision in self._requested:
            return
        self._requested.add(revision)

        def read(_stop: Stop) -> Commit | None:
            commits = self._dashboard.manager.log(1, below=revision + 1)
            return commits[0] if commits and commits[0].revision == revision else None

        def show(commit: Commit | None) -> None:
            self._commits[revision] = commit
            self.refresh()

        self._dashboard.reader.submit(self, revision, read, show, lambda _error: self._requested.discard(revision))

    def render_row(self, index: int, cells: RowBuilder) -> None:
        line, dim = self.lines[index], self.style_of("dim")
        self._read_commit(line.revision)
        first = index == self.count - 1 or self.lines[index + 1].size is None
        kind = "removed" if line.size is None else "added" if first and self._whole else "changed"
        cells.add(f"{SIGNS[kind]} ", self.style_of(kind))
        cells.add(f"r{line.revision} ", self.style_of("key"), len(str(self.lines[0].revision)) + 2)
        cells.add(f"{format_age(line.time, now()):>6} ", dim)
        cells.add(f"{'deleted' if line.size is None else format_size(line.size):>8} ", self.style_of("number"))
        commit = self._commits.get(line.revision)
        if commit is not None:
            author = "" if isinstance(commit.author, SealedText) else commit.author
            cells.add(f"{author}: " if author else "", dim).add(commit.reason)
        if index >= self.count - NEAR_ROWS and not self._whole:
            self.read()

    def empty_text(self) -> list[str]:
        if self.error:
            return self.error.split("\n")
        return ["still reading…" if self._reading else "the history keeps no version of this key"]


class HistoryScreen(DashboardScreen, Screen[None]):
    """Shows the versions of a key beside the change of the selected version.

    Args:
        key: the key; it may be deleted.
        at: the revision on the main screen, whose version is selected first. 0 is live.

    """

    DEFAULT_CSS = """
    HistoryScreen #versions-pane { width: 2fr; }
    HistoryScreen #change-pane { width: 3fr; }
    HistoryScreen.-narrow Horizontal { layout: vertical; }
    HistoryScreen.-narrow #versions-pane, HistoryScreen.-narrow #change-pane { width: 1fr; height: 1fr; }
    """
    HELP = "The versions of one key, the newest first, and the changes of the selected version."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "revert", "Restore this version", id="history.restore"),
        Binding("enter", "travel", "Show this state", show=False, id="history.travel"),
        Binding("y", "copy", "Copy command line", show=False, id="history.copy"),
        Binding("escape,H", "back", "Back", key_display="esc", id="history.back"),
    ]
    AUTO_FOCUS = "#versions"

    def __init__(self, key: str, at: int = 0) -> None:
        super().__init__()
        self._key = key
        self._at = at

    def compose(self) -> ComposeResult:
        """Put the versions beside the change."""
        yield Banner()
        with Horizontal():
            with Vertical(id="versions-pane", classes="pane") as pane:
                pane.border_title = Content(f"History · {one_line(self._key, 80)}")
                yield Versions(self.dashboard, self._key, self._at)
            with Vertical(id="change-pane", classes="pane") as pane:
                pane.border_title = "Change"
                yield DiffView(id="change")
        yield KeyBar()

    def on_mount(self) -> None:
        """Read the newest versions, and update their ages each second."""
        versions = self.query_one(Versions)
        versions.read()
        self.set_interval(1.0, versions.refresh)

    def namespace_changed(self, _head: Head, changed: list[str] | None) -> None:
        """Read the new versions, if this key may have changed."""
        if changed is None or self._key in changed:
            self.query_one(Versions).read(restart=True)

    @property
    def has_secrets(self) -> bool:
        """Whether a value of the change is masked."""
        return self.query_one(DiffView).is_masked

    def secrets_changed(self) -> None:
        """Paint the change anew."""
        self.query_one(DiffView).secrets_changed()

    def reload(self) -> None:
        """Read the versions again."""
        self.query_one(Versions).read(restart=True)

    @on(VirtualList.Highlighted, "#versions")
    def _highlighted(self) -> None:
        versions = self.query_one(Versions)
        if not versions.lines:
            return
        revision = versions.at
        backend, key = self.dashboard.manager.backend, self._key

        def read(_stop: Stop) -> tuple[Change | None, str]:
            versions: list[Version] = backend.versions(key, 2, revision + 1)
            new = versions[0] if versions and versions[0].value is not None else None
            old = versions[1] if len(versions) > 1 and versions[1].value is not None else None
            return change(key, old, new), f"r{old.revision} → r{revision}" if old else f"r{revision}"

        def show(answer: tuple[Change | None, str]) -> None:
            shown, title = answer
            self.query_one("#change-pane").border_title = f"Change {title}"
            self.query_one(DiffView).show(shown)

        def failed(error: Exception) -> None:
            if isinstance(error, Sealed):
                self.query_one("#change-pane").border_title = f"Change r{revision}"
                self.dashboard.error_text(error)  # its hint then names the namespace
                self.query_one(DiffView).clear(f"(sealed)\n{error.message}\n{error.hint}")
            else:
                self.dashboard.show_error(error)

        self.dashboard.reader.submit(self, "change", read, show, failed)

    @on(DiffView.Compared)
    def _compared(self) -> None:
        self.tell_secrets()

    def action_revert(self) -> None:
        """Preview a restore of this key to the selected version."""
        versions = self.query_one(Versions)
        if not versions.lines:
            self.dashboard.notify_user("\n".join(versions.empty_text()), wrong=True)
            return
        from .previews.restore import RestoreScreen

        self.app.push_screen(RestoreScreen(str(versions.at), keys=[self._key]))

    @on(VirtualList.Chosen, "#versions")
    def _chosen(self) -> None:
        self.action_travel()

    def action_travel(self) -> None:
        """Show the whole namespace at the revision of the selected version."""
        versions = self.query_one(Versions)
        if versions.lines:
            self.dashboard.show_state(str(versions.at))
            self.dismiss(None)

    def action_copy(self) -> None:
        """Copy the command line that lists these versions."""
        self.app.copy_to_clipboard(self.dashboard.command_line(["history", "--", self._key]))
        self.dashboard.notify_user("copied the command line")

    def action_back(self) -> None:
        """Return to the screen below."""
        self.leave()

    def leave(self) -> None:
        """Return to the screen below."""
        self.dismiss(None)
