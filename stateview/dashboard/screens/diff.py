"""The diff screen: which keys differ between two states, and how."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, BinaryIO, ClassVar, cast

from textual.binding import Binding, BindingType

from ...backends import is_bare
from ...backends.files.memory_files import spool
from ...backends.protocol import Head
from ...cli.results import plural
from ...manager import StateManager
from ...refs import parse_ref
from ..actions.patch_export import write_operations, write_patch
from ..actions.runner import command_line
from ..data.background import Stop
from ..data.diff_model import NONE, WHOLE, DiffProgress, DiffSides, side
from ..dialogs.confirm import Confirm
from ..dialogs.prompt import PromptDialog
from ..display.result_redaction import check_operation
from .diff_base import LAST_BINDINGS, DiffBaseScreen

MARK_ACTIONS = ("mark", "mark_all", "mark_none", "invert")
_STORE_CHARACTERS = 30  # of the name of a store in the title


class DiffScreen(DiffBaseScreen):
    """Compares a state of the present namespace with another state of it, or with a state of another namespace.

    Args:
        before: a ref of the present namespace, or of `here`.
        after: a ref of the same namespace, or of `other`.
        here: the namespace of `before`, opened read-only; None is the present one. Closed with the screen.
        other: another namespace, opened read-only; closed with the screen.
        store: the name or URL of the other store on the command line; "" is the present store.
        start_key: the key under the cursor at first, if it differs.

    """

    HELP = (
        "The keys that differ between two states. ] and [ jump to the next or previous change, also inside a value.\n"
        "+ - ~ show or hide a kind, / filters keys, t shows before and after side by side, S saves a JSON Patch.\n"
        "r previews a restore of the earlier state: of the marked keys, or of all keys. From another namespace, P\n"
        "previews taking the marked keys, or the selected key or place. y copies the command line of this diff."
    )
    WAYS: ClassVar[tuple[tuple[str, ...], ...]] = (
        ("read one change after another", "] goes on from key to key and inside values, [ goes back"),
        ("see one kind of change", "+ - ~ hide and show"),
        ("bring some keys back", "space on each, r, y", "diff.restore"),
        ("take some keys from another namespace", "space on each, P, y", "diff.take"),
        ("take one place from another namespace", "enter, move to the place, P, y", "diff.take"),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "restore", "Restore", id="diff.restore"),
        Binding("P", "take", "Take", id="diff.take"),
        *LAST_BINDINGS,
        Binding("y", "copy", "Copy CLI", id="diff.copy"),
        Binding("S", "write", "Save a patch", id="diff.write"),
    ]

    def __init__(
        self, before: str, after: str = "live", *, here: StateManager | None = None,
        other: StateManager | None = None, store: str = "", start_key: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(NONE, marking=False, start_key=start_key)
        self._before = before
        self._after = after
        self._here = here
        self._other = other
        self._store = store
        self._writing: DiffProgress | None = None  # the progress of the patch while it is written

    def diff_sides(self) -> DiffSides:
        here = self._here or self.dashboard.manager
        if self._other is None:
            return DiffSides(side(here.backend, self._before), side(here.backend, self._after))
        return DiffSides(side(here.backend, self._before), side(self._other.backend, self._after))

    def title_text(self) -> str:
        return f"Diff  {' → '.join(self._states())}"

    def _states(self) -> tuple[str, str]:
        """Name the two states. The names include the namespace and the store, where these differ."""
        app, other = self.dashboard, self._other
        if other is None:
            return self._before, self._after
        here, store, other_store = self._here or app.manager, "", ""
        if here.url != other.url:
            store, other_store = distinct_names((app.store, here.url), (self._store or other.url, other.url))
        return f"{store}{here.namespace}:{self._before}", f"{other_store}{other.namespace}:{self._after}"

    @property
    def _restorable(self) -> str | None:
        """The ref to restore in the present namespace; None if that would be live, or is of another namespace."""
        if self._here is not None:
            return None
        ref = self._before if self._before != "live" or self._other is not None else self._after
        return None if ref == "live" else ref

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Hide the restore, the take and the marks if there is nothing to restore or to take."""
        can_take = self._other is not None and self._here is None
        if action == "take" or (action in MARK_ACTIONS and self._restorable is None):
            return can_take
        if action == "restore" and self._restorable is None:
            return False
        return super().check_action(action, parameters)

    def selection_text(self) -> str:
        marked = self.index.marked
        if self._writing is not None:
            percent = self._writing.share
            return f"writing the patch… {'' if percent is None else f'{percent}% '}(esc stops)"
        if not self.check_action("mark", ()) or self.dashboard.read_only:
            return ""
        act = "restore" if self._other is None else "take"
        return f"{marked:,} of {len(self.index):,} marked" if marked else f"space marks keys to {act}"

    def command(self) -> str:
        return self._command_line(self._words())

    def _command_line(self, words: list[str]) -> str:
        if self._here is None:
            return self.dashboard.command_line(words)
        return command_line(words, ["-s", self._here.url, "-n", self._here.namespace])

    def _words(self) -> list[str]:
        words = ["diff", self._before, self._after]
        if self._other is not None:
            if self._here is not None or self._other.namespace != self.dashboard.manager.namespace:
                words += ["--with-namespace", self._other.namespace]
            if self._store or self._other.url != self.dashboard.manager.url:
                words += ["--with-store", self._store or self._other.url]
        return words

    def no_difference_text(self) -> list[str]:
        return [f"{' and '.join(self._states())} are identical", "nothing differs"]

    def on_unmount(self) -> None:
        """Close the other namespaces. Reads that still run there are dropped."""
        for manager in (self._here, self._other):
            if manager is not None:
                manager.close()

    # --- changes by other processes ----------------------------------------------------------------------------

    def namespace_changed(self, head: Head, changed: list[str] | None = None) -> None:  # noqa: ARG002
        """Note the new commits if the diff shows live. The list stays, so that the user can go on reading it."""
        sides = self.compared
        if sides is None or self._here is not None:
            return
        for ref, state in ((self._before, sides.before), (self._after, sides.after)):
            parsed = parse_ref(ref)
            in_namespace = state is sides.before or self._other is None
            if in_namespace and parsed.is_live:
                commits = head.revision - state.point.revision - parsed.back
                if commits > 0:
                    self.note(f"live has {plural(commits, 'new commit')}: R reloads")

    def reload(self) -> None:
        """Compute the diff again."""
        self.start()

    def backend_returned(self) -> None:
        """Compute the diff again if the lost connection interrupted it. Otherwise keep the list."""
        if self.run.state == "failed":
            self.start()

    # --- actions -----------------------------------------------------------------------------------------------

    def action_restore(self) -> None:
        """Preview a restore of the earlier state."""
        from .previews.restore import RestoreScreen

        ref = self._restorable
        assert ref is not None, "see `check_action`"
        keys = list(self.index.marked_keys(WHOLE)) if self.index.marked else None

        def done(restored: bool | None) -> None:
            if restored:
                self.reload()

        self.app.push_screen(RestoreScreen(ref, keys, start_key=self.keys.key), done)

    def action_take(self) -> None:
        """Preview taking the marked keys from the other namespace; else the selected place, or the selected key."""
        from .previews.take import TakeScreen

        other, sides, key, view = self._other, self.compared, self.keys.key, self.view
        keys, place = list(self.index.marked_keys(WHOLE)), ""
        if other is None or sides is None or not (keys or key):
            self.dashboard.notify_user("no key differs yet: there is nothing to take")
            return
        if not keys and key is not None:
            keys = [key]
            if self.focused is view and view.key == key and view.whole and view.place >= 0:
                place = view.names[view.place]

        def done(taken: bool | None) -> None:
            if taken:
                self.reload()

        self.app.push_screen(TakeScreen(other, self._store, sides.after.ref, keys, place), done)

    def action_copy(self) -> None:
        """Copy the command line that prints this diff."""
        self.app.copy_to_clipboard(self.command())
        self.dashboard.notify_user("copied the command line")

    def action_back(self) -> None:
        """Stop a patch that is being written; otherwise go back as `DiffBaseScreen.action_back`."""
        if self._writing is not None:
            self.dashboard.reader.cancel(self, "patch")
            self._writing = None
            self.dashboard.notify_user("stopped; no file was written")
            self.refresh_labels()
        else:
            super().action_back()

    def leave(self) -> None:
        """Return to the screen below. A patch that is being written is stopped first."""
        if self._writing is not None:
            self.action_back()
        else:
            super().leave()

    def action_write(self) -> None:
        """Ask for a path, and write the diff to it as a JSON Patch. In a browser, deliver the patch as a download."""
        if self.run.state == "running" or self.compared is None:
            self.dashboard.notify_user("still computing: wait, or stop with esc")
            return
        if self.app.is_web:
            self._deliver()
            return

        def command(path: str) -> str:
            return f"{self._command_line([*self._words(), '--patch'])} > {path}"

        def check(path: str) -> str | None:
            return "a path, such as change.json" if not path.strip() else None

        def answered(path: str | None) -> None:
            if path is not None:
                self._write(path.strip(), overwrite=False)

        self.app.push_screen(PromptDialog("Write a JSON Patch to", "change.json", check, command), answered)

    def _write(self, path: str, *, overwrite: bool) -> None:
        def written(count: int) -> None:
            self.dashboard.notify_user(f"wrote {plural(count, 'key')} as a JSON Patch to {path}")

        def failed(error: Exception) -> None:
            if isinstance(error, FileExistsError) and not overwrite:
                self.app.push_screen(Confirm([f"{path} exists already.", "Overwrite it?"]), overwrite_if)
            else:
                self.dashboard.show_error(error)

        def overwrite_if(yes: bool | None) -> None:
            if yes:
                self._write(path, overwrite=True)

        self._submit_patch(
            lambda sides, keys, progress: write_patch(path, sides, keys, overwrite, progress), written, failed
        )

    def _deliver(self) -> None:
        app, file = self.dashboard, spool(in_memory=True)
        patterns, hint = app.redact, app.masked_hint(f"In a terminal: {self.command()} --patch")

        def written(count: int) -> None:
            self.app.deliver_binary(cast("BinaryIO", file), save_filename="change.json", mime_type="application/json")
            app.notify_user(f"downloaded {plural(count, 'key')} as a JSON Patch, change.json")

        def failed(error: Exception) -> None:
            file.close()
            app.show_error(error)

        def check(operation: dict[str, Any]) -> None:
            check_operation(operation, patterns, hint)

        def write(sides: DiffSides, keys: list[str] | None, progress: DiffProgress) -> int:
            return write_operations(file, sides, keys, progress, check)

        self._submit_patch(write, written, failed)

    def _submit_patch(
        self, write: Callable[[DiffSides, list[str] | None, DiffProgress], int],
        then: Callable[[int], None], failed: Callable[[Exception], None],
    ) -> None:  # fmt: skip
        """Run a function that writes the diff, on a thread. `then` takes its result, `failed` its error."""
        sides = self.compared
        keys = list(self.index.keys) if self.run.state == "whole" else None
        assert sides is not None, "`action_write` checks this"

        def start(stop: Stop) -> int:
            self._writing = progress = DiffProgress(stop)
            return write(sides, keys, progress)

        def end() -> None:
            self._writing = None
            self.refresh_labels()

        def succeed(count: int) -> None:
            end()
            then(count)

        def fail(error: Exception) -> None:
            end()
            failed(error)

        self.dashboard.reader.submit(self, "patch", start, succeed, fail)


def distinct_names(first: tuple[str, str], second: tuple[str, str]) -> tuple[str, str]:
    """Choose the shortest pair of different names for two stores, as a prefix for a namespace.

    A store with a name in stateview.toml is called by that name. Another store is called by the end of its path, or by
    its server without user and password.

    Args:
        first: the name or URL that opens the store, and its URL.
        second: the same of the other store.

    """
    names, others = _store_names(*first), _store_names(*second)
    pairs = [
        (names[min(length, len(names) - 1)], others[min(length, len(others) - 1)])
        for length in range(max(len(names), len(others)))
    ]
    name, other = next((pair for pair in pairs if pair[0] != pair[1]), pairs[-1])
    return _cut(name), _cut(other)


def _store_names(store: str, url: str) -> list[str]:
    """List the names of a store, the shortest first."""
    if ":" not in store and not is_bare(store):  # a name in stateview.toml
        return [store, url]
    scheme, is_server, address = url.partition("://")
    if is_server:
        server = address.rpartition("@")[2]
        return [server.partition("?")[0], server, f"{scheme}://{server}"]
    steps = os.path.abspath(url.partition(":")[2]).strip("/").split("/")
    return ["/".join(steps[-last:]) for last in range(1, len(steps) + 1)] + [url]


def _cut(name: str) -> str:
    return f"{name if len(name) <= _STORE_CHARACTERS else '…' + name[1 - _STORE_CHARACTERS :]}/"
