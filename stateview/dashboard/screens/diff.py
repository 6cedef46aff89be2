"""The diff screen: which keys differ between two states, and how."""

from __future__ import annotations

import os
from typing import ClassVar

from textual.binding import Binding, BindingType

from ...backends import is_bare, mask
from ...backends.protocol import Head
from ...manager import StateManager
from ...model import parse_ref
from ..actions.patch_export import write_patch
from ..data.background import Stop
from ..data.diff_model import NONE, WHOLE, DiffProgress, DiffSides, side
from ..dialogs.confirm import Confirm
from ..dialogs.prompt import PromptDialog
from .diff_base import DiffBaseScreen

_FOR_A_RESTORE = ("restore", "mark", "mark_all", "mark_none", "invert")  # actions
_STORE_CHARACTERS = 30  # characters of what a store is called


class DiffScreen(DiffBaseScreen):
    """Compares a state of the app's namespace with another state of it, or of another namespace or store.

    Args:
        before: a ref of the app's namespace.
        after: a ref of it, or of `other`.
        other: another namespace, opened for reading only; closed with the screen.
        store: how the command line names its store; "" where that is the app's.

    """

    HELP = (
        "What differs between two states. ] and [ go from change to change, inside a value and on to the next key;\n"
        "+ - ~ show or leave out a kind, / filters keys, t puts before and after side by side, w writes a JSON Patch,\n"
        "r previews bringing back the earlier state, if there is one: of the marked keys, or all. y copies the\n"
        "command line that prints this diff."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "restore", "Restore", id="diff.restore"),
        Binding("w", "write", "Write patch", id="diff.write"),
        Binding("y", "copy", "Copy CLI", id="diff.copy"),
    ]

    def __init__(self, before: str, after: str = "live", *, other: StateManager | None = None, store: str = "") -> None:
        super().__init__(NONE, marking=False)
        self._before = before
        self._after = after
        self._other = other
        self._store = store
        self._writing: DiffProgress | None = None

    def diff_sides(self) -> DiffSides:
        """See `DiffBaseScreen.diff_sides`."""
        here = self.dashboard.manager
        if self._other is None:
            return DiffSides(side(here.backend, self._before), side(here.backend, self._after))
        return DiffSides(side(here.backend, self._before), side(self._other.backend, self._after))

    def title_text(self) -> str:
        """See `DiffBaseScreen.title_text`."""
        return f"Diff  {' → '.join(self._states())}"

    def _states(self) -> tuple[str, str]:
        """Return what the two sides are called.

        With the namespace where there are two, and the store where these differ.
        """
        app, other = self.dashboard, self._other
        if other is None:
            return self._before, self._after
        here = there = ""
        if app.manager.url != other.url:
            here, there = told_apart((app.store, app.manager.url), (self._store or other.url, other.url))
        return f"{here}{app.manager.namespace}:{self._before}", f"{there}{other.namespace}:{self._after}"

    @property
    def _earlier(self) -> str | None:
        """The state that can be brought back; None where there is none in the app's namespace but live."""
        ref = self._before if self._before != "live" or self._other is not None else self._after
        return None if ref == "live" else ref

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Nothing is offered that is about bringing back a state where there is none."""
        if action in _FOR_A_RESTORE and self._earlier is None:
            return False
        return super().check_action(action, parameters)

    def selection_text(self) -> str:
        """See `DiffBaseScreen.selection_text`."""
        marked = self.found.marked
        if self._writing is not None:
            share = self._writing.share
            return f"writing the patch… {'' if share is None else f'{share}% '}(esc stops)"
        if self._earlier is None:
            return ""
        return f"{marked:,} of {len(self.found):,} marked" if marked else "space marks keys to restore"

    def command(self) -> str:
        """See `DiffBaseScreen.command`."""
        return self.dashboard.command_line(self._words())

    def _words(self) -> list[str]:
        words = ["diff", self._before, self._after]
        if self._other is not None:
            if self._other.namespace != self.dashboard.manager.namespace:
                words += ["--with-namespace", self._other.namespace]
            if self._store or self._other.url != self.dashboard.manager.url:
                words += ["--with-store", mask(self._store or self._other.url)]
        return words

    def no_difference_text(self) -> list[str]:
        """See `DiffBaseScreen.no_difference_text`."""
        return [f"{' and '.join(self._states())} are identical", "nothing differs"]

    def on_unmount(self) -> None:
        """Let go of the other store; what reads it still is not answered any more."""
        if self._other is not None:
            self._other.close()

    # --- live --------------------------------------------------------------------------------------------------

    def namespace_changed(self, head: Head, changed: list[str] | None = None) -> None:  # noqa: ARG002
        """Another wrote to the app's namespace. What is listed stays as it was."""
        sides = self.compared
        if sides is None:
            return
        for ref, one in ((self._before, sides.before), (self._after, sides.after)):
            parsed = parse_ref(ref)
            here = one is sides.before or self._other is None
            if here and parsed.name is None and parsed.revision is None:  # live, or so many steps back from it
                commits = head.revision - one.point.revision - parsed.back
                if commits > 0:
                    self.note(f"live has moved on ({commits:,} commit{'' if commits == 1 else 's'}): R looks again")

    def reload(self) -> None:
        """Compare anew."""
        self.start()

    def backend_returned(self) -> None:
        """Compare what could not be compared while the backend was lost; keep the list."""
        if self.run.state == "failed":
            self.start()

    # --- acts --------------------------------------------------------------------------------------------------

    def action_restore(self) -> None:
        """Preview bringing back the earlier state."""
        from .restore import RestoreScreen

        ref = self._earlier
        assert ref is not None, "see `check_action`"
        keys = list(self.found.marked_keys(WHOLE)) if self.found.marked else None

        def done(restored: bool | None) -> None:
            if restored:
                self.reload()

        self.app.push_screen(RestoreScreen(ref, keys), done)

    def action_copy(self) -> None:
        """Copy the command line that prints this diff."""
        self.app.copy_to_clipboard(self.command())
        self.dashboard.notify_user("copied the command line")

    def action_back(self) -> None:
        """As `DiffBaseScreen.action_back`; a patch that is being written is stopped first."""
        if self._writing is not None:
            self.dashboard.reader.cancel(self, "patch")
            self._writing = None
            self.dashboard.notify_user("stopped; no file was written")
            self.refresh_labels()
        else:
            super().action_back()

    def action_write(self) -> None:
        """Ask where to, and write the diff as a JSON Patch."""
        if self.run.state == "running" or self.compared is None:
            self.dashboard.notify_user("still computing: wait, or esc stops it")
            return

        def said(path: str) -> str:
            return f"{self.dashboard.command_line([*self._words(), '--patch'])} > {path}"

        def check(path: str) -> str | None:
            return "a path, such as change.json" if not path.strip() else None

        def answered(path: str | None) -> None:
            if path is not None:
                self._write(path.strip(), overwrite=False)

        self.app.push_screen(PromptDialog("Write a JSON Patch to", "change.json", check, said), answered)

    def _write(self, path: str, *, overwrite: bool) -> None:
        sides, app = self.compared, self.dashboard
        keys = list(self.found.keys) if self.run.state == "whole" else None
        assert sides is not None, "it is written from what was compared"

        def write(stop: Stop) -> int:
            self._writing = walk = DiffProgress(stop)
            return write_patch(path, sides, keys, overwrite, walk)

        def written(count: int) -> None:
            self._writing = None
            self.refresh_labels()
            app.notify_user(f"wrote {count:,} key{'' if count == 1 else 's'} as a JSON Patch to {path}")

        def failed(error: Exception) -> None:
            self._writing = None
            self.refresh_labels()
            if isinstance(error, FileExistsError) and not overwrite:
                self.app.push_screen(Confirm([f"{path} is there already.", "Write over it?"]), sure)
            else:
                app.show_error(error)

        def sure(yes: bool | None) -> None:
            if yes:
                self._write(path, overwrite=True)

        app.reader.submit(self, "patch", write, written, failed)


def told_apart(one: tuple[str, str], other: tuple[str, str]) -> tuple[str, str]:
    """Two stores, each by what opens it and its URL: what they are called before a namespace, as short as it can be.

    A store with a name has that, another the end of its path, or its server without user and password.
    """
    names, others = _store_names(*one), _store_names(*other)
    pairs = [
        (names[min(step, len(names) - 1)], others[min(step, len(others) - 1)])
        for step in range(max(len(names), len(others)))
    ]
    first, second = next((pair for pair in pairs if pair[0] != pair[1]), pairs[-1])
    return _cut(first), _cut(second)


def _store_names(store: str, url: str) -> list[str]:
    if ":" not in store and not is_bare(store):  # the name that stateview.toml gives it
        return [store, url]
    scheme, colon, place = url.partition("://")
    if colon:
        where = place.rpartition("@")[2]
        return [where.partition("?")[0], where, f"{scheme}://{where}"]
    steps = os.path.abspath(url.partition(":")[2]).strip("/").split("/")
    return ["/".join(steps[-last:]) for last in range(1, len(steps) + 1)] + [url]


def _cut(name: str) -> str:
    return f"{name if len(name) <= _STORE_CHARACTERS else '…' + name[1 - _STORE_CHARACTERS :]}/"
