"""The versions of one key, the newest first, and what each changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import Screen

from ...backends.protocol import Head, Version
from ...model import Commit, now
from ...states.compare import change
from ...states.json_diff import Change
from ..base_screen import DashboardScreen
from ..data.background import Stop
from ..display.text import SIGNS, RowBuilder, format_age, format_size, one_line
from ..widgets.diff_view import DiffView
from ..widgets.key_bar import KeyBar
from ..widgets.status_bar import Banner
from ..widgets.virtual_list import VirtualList

if TYPE_CHECKING:
    from ..app import Dashboard

VERSIONS_PER_PAGE = 20  # versions that are read at once: their values travel too
NEAR_ROWS = 10


class VersionRow(NamedTuple):
    """A version as the list shows it."""

    revision: int
    time: int
    size: int | None  # None: a delete


class Versions(VirtualList):
    """The versions of a key. Values are not kept: each is read when it is looked at."""

    def __init__(self, app: Dashboard, key: str) -> None:
        super().__init__(id="versions")
        self._dashboard = app
        self._key = key
        self._commits: dict[int, Commit | None] = {}
        self._asked: set[int] = set()
        self._asking = False
        self._whole = False
        self.lines: list[VersionRow] = []
        self.trouble = ""

    @property
    def count(self) -> int:
        """See `VirtualList.count`."""
        return len(self.lines)

    @property
    def at(self) -> int:
        """The revision of the version under the cursor; 0 while none is there."""
        return self.lines[self.cursor].revision if self.lines else 0

    def read(self, again: bool = False) -> None:
        """Read the next page, or all from the newest on, down to the version under the cursor."""
        if self._asking and not again:
            return
        self._asking = True
        below, down_to = (0, self.at) if again or not self.lines else (self.lines[-1].revision, 0)
        backend, key = self._dashboard.manager.backend, self._key

        def pages(stop: Stop) -> tuple[list[VersionRow], bool]:
            lines: list[VersionRow] = []
            while True:
                found = backend.versions(key, VERSIONS_PER_PAGE, lines[-1].revision if lines else below)
                lines += [
                    VersionRow(one.revision, one.time, None if one.value is None else len(one.value)) for one in found
                ]
                whole = len(found) < VERSIONS_PER_PAGE
                if whole or not down_to or lines[-1].revision <= down_to or stop():
                    return lines, whole

        self._dashboard.reader.submit(self, "page", pages, lambda answer: self._took(*answer, below), self._failed)

    def _took(self, found: list[VersionRow], whole: bool, below: int) -> None:
        at = self.at
        if not below and not whole and found[-1].revision > at > 0:  # the cursor has gone on below what was read
            self.read(again=True)
            return
        self._asking, self._whole, self.trouble = False, whole, ""
        self.lines = found if not below else self.lines + found
        last = max(0, self.count - 1)
        place = next((index for index, one in enumerate(self.lines) if one.revision <= at), last) if at else 0
        with self.prevent(VirtualList.Highlighted):  # the cursor's line moves, its version does not
            self.count_changed()
            self.cursor = place
        self.post_message(self.Highlighted(self, self.cursor))

    def _failed(self, error: Exception) -> None:
        self._asking, self.trouble = False, str(error)
        self._dashboard.show_error(error)
        self.refresh()

    def _ask_commit(self, revision: int) -> None:
        if revision in self._asked:
            return
        self._asked.add(revision)

        def read(_stop: Stop) -> Commit | None:
            found = self._dashboard.manager.log(1, below=revision + 1)
            return found[0] if found and found[0].revision == revision else None

        def took(commit: Commit | None) -> None:
            self._commits[revision] = commit
            self.refresh()

        self._dashboard.reader.submit(self, revision, read, took, lambda _error: self._asked.discard(revision))

    def render_row(self, index: int, cells: RowBuilder) -> None:
        """See `VirtualList.render_row`."""
        one, dim = self.lines[index], self.style_of("dim")
        self._ask_commit(one.revision)
        first = index == self.count - 1 or self.lines[index + 1].size is None
        kind = "removed" if one.size is None else "added" if first and self._whole else "changed"
        cells.add(f"{SIGNS[kind]} ", self.style_of(kind))
        cells.add(f"r{one.revision} ", self.style_of("key"), len(str(self.lines[0].revision)) + 2)
        cells.add(f"{format_age(one.time, now()):>6} ", dim)
        cells.add(f"{'deleted' if one.size is None else format_size(one.size):>8} ", self.style_of("number"))
        commit = self._commits.get(one.revision)
        if commit is not None:
            cells.add(f"{commit.author}: " if commit.author else "", dim).add(commit.reason)
        if index >= self.count - NEAR_ROWS and not self._whole:
            self.read()

    def empty_text(self) -> list[str]:
        """See `VirtualList.empty_text`."""
        if self.trouble:
            return self.trouble.split("\n")
        return ["still reading…" if self._asking else "no version of it is kept"]


class HistoryScreen(DashboardScreen, Screen[None]):
    """Steps through the versions of a key; each beside what it changed.

    Args:
        key: the key, which need not be there any more.

    """

    DEFAULT_CSS = """
    HistoryScreen #versions-pane { width: 2fr; }
    HistoryScreen #change-pane { width: 3fr; }
    HistoryScreen.-narrow Horizontal { layout: vertical; }
    HistoryScreen.-narrow #versions-pane, HistoryScreen.-narrow #change-pane { width: 1fr; height: 1fr; }
    """
    HELP = "The versions of one key, the newest first; beside them what each changed against the one before."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "revert", "Restore this version", id="history.restore"),
        Binding("enter", "travel", "Look at that state", show=False, id="history.travel"),
        Binding("y", "copy", "Copy command line", show=False, id="history.copy"),
        Binding("escape,H", "back", "Back", key_display="esc", id="history.back"),
    ]
    AUTO_FOCUS = "#versions"

    def __init__(self, key: str) -> None:
        super().__init__()
        self._key = key

    def compose(self) -> ComposeResult:
        """Return the versions, and the change of the one under the cursor."""
        yield Banner()
        with Horizontal():
            with Vertical(id="versions-pane", classes="pane") as pane:
                pane.border_title = Content(f"History · {one_line(self._key, 80)}")
                yield Versions(self.dashboard, self._key)
            with Vertical(id="change-pane", classes="pane") as pane:
                pane.border_title = "Change"
                yield DiffView(id="change")
        yield KeyBar()

    def on_mount(self) -> None:
        """Read the newest versions; how old they are goes on."""
        versions = self.query_one(Versions)
        versions.read()
        self.set_interval(1.0, versions.refresh)

    def namespace_changed(self, _head: Head, changed: list[str] | None) -> None:
        """Another wrote; if it is this key, there is a new version."""
        if changed is None or self._key in changed:
            self.query_one(Versions).read(again=True)

    def reload(self) -> None:
        """Read everything anew."""
        self.query_one(Versions).read(again=True)

    @on(VirtualList.Highlighted, "#versions")
    def _highlighted(self) -> None:
        versions = self.query_one(Versions)
        if not versions.lines:
            return
        revision = versions.at
        backend, key = self.dashboard.manager.backend, self._key

        def read(_stop: Stop) -> tuple[Change | None, str]:
            found: list[Version] = backend.versions(key, 2, revision + 1)
            new = found[0] if found and found[0].value is not None else None
            old = found[1] if len(found) > 1 and found[1].value is not None else None
            return change(key, old, new), f"r{old.revision} → r{revision}" if old else f"r{revision}"

        def took(answer: tuple[Change | None, str]) -> None:
            self.query_one("#change-pane").border_title = f"Change {answer[1]}"
            self.query_one(DiffView).show(answer[0])

        self.dashboard.reader.submit(self, "change", read, took, self.dashboard.show_error)

    def action_revert(self) -> None:
        """Preview bringing this version back."""
        versions = self.query_one(Versions)
        if not versions.lines:
            self.dashboard.notify_user("\n".join(versions.empty_text()), wrong=True)
            return
        from .restore import RestoreScreen

        self.app.push_screen(RestoreScreen(str(versions.at), keys=[self._key]))

    @on(VirtualList.Chosen, "#versions")
    def _chosen(self) -> None:
        self.action_travel()

    def action_travel(self) -> None:
        """Look at the whole namespace as of this version."""
        versions = self.query_one(Versions)
        if versions.lines:
            self.dashboard.show_state(str(versions.at))
            self.dismiss(None)

    def action_copy(self) -> None:
        """Copy the command line that lists these versions."""
        self.app.copy_to_clipboard(self.dashboard.command_line(["history", "--", self._key]))
        self.dashboard.notify_user("copied the command line")

    def action_back(self) -> None:
        """Go back."""
        self.dismiss(None)
