"""Base of the previews: the changes that a command would make to live, to be marked key by key and place by place."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from typing import ClassVar

from textual.binding import Binding, BindingType

from ....arguments import KeyName
from ....backends.protocol import Backend, Head, StateAt
from ....cli.results import DiffResult, Result, amount, plural
from ....errors import Conflict
from ....model import Kind
from ...data.background import Stop
from ...data.diff_model import NONE, PARTLY, WHOLE, DiffProgress, DiffSides, RecheckResult, check_again, side
from ...dialogs.confirm import Confirm
from ...display.text import format_count
from ..diff_base import LAST_BINDINGS, DiffBaseScreen

SEEN_SECONDS = 0.7  # a change must be on the screen this long before y writes it: the user may not have seen it
_MAX_LISTED_KEYS = 30  # in the command line at the bottom


class PreviewScreen(DiffBaseScreen):
    """Compares live with another state, and writes the marked keys of that state to live. A subclass names the state.

    The result of the screen is whether the user has written.

    Args:
        ref: the state to write.
        keys: the keys to write; None is all keys that differ.
        start_key: the key under the cursor at first, if it differs.

    """

    ACT = "restore"  # what the screen does, as a verb
    DONE = "restored"
    EFFECTS: ClassVar[dict[Kind, tuple[str, str]]] = {  # what becomes of a marked key of a kind, and shorter
        "removed": ("will be DELETED", "DELETED"),
        "added": ("comes back", "back"),
    }
    MAIN_ACTION = "apply"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "apply", "Apply", id="restore.apply"),
        Binding("Y", "apply_anyway", "Apply in any case", show=False, id="restore.anyway"),
        *LAST_BINDINGS,
    ]

    def __init__(self, ref: str, keys: list[str] | None = None, *, start_key: str | None = None) -> None:
        super().__init__(WHOLE, marking=True, said=self.EFFECTS, start_key=start_key)
        self._ref = ref
        self._only = None if keys is None else sorted(set(keys))
        self._lineage = ""  # of the namespace at the preview
        self._checking = False  # a check for newer commits runs
        self._check_again = False  # live changed during a check, or while no check could run
        self._apply_wanted = False  # y was pressed during a check
        self._applying = False
        self._applied_places: dict[str, set[str]] = {}  # the places of each partly marked key that are being written
        self._changed = 0.0  # the time of the newest change to a marked key, by `time.monotonic()`

    # --- the diff ----------------------------------------------------------------------------------------------

    def diff_sides(self) -> DiffSides:
        """Compare live with the state to write."""
        backend = self.dashboard.manager.backend
        self._lineage = backend.head().lineage
        return DiffSides(side(backend, "live"), side(self.source, self._ref))

    @property
    def source(self) -> Backend:
        """The backend of the state to write."""
        return self.dashboard.manager.backend

    def restrict_keys(self) -> list[str] | None:
        return self._only

    def title_text(self) -> str:
        only = self._only
        keys = "" if only is None else f" · only {only[0] if len(only) == 1 else plural(len(only), 'key')}"
        return f"{self.states_text()}{keys}{self._hidden_text()}"

    def states_text(self) -> str:
        """Return what is written, and where to, for the title."""
        return f"{self.ACT.capitalize()}  {self._ref} → live"

    def _hidden_text(self) -> str:
        """Say that y writes marked keys which the filter hides. O(keys that pass), with a filter."""
        shown, index = self.keys.filter, self.index
        if not shown.filtered or shown.found is not index:
            return ""
        hidden = index.marked - sum(index.mark(position) != NONE for position in shown)
        return f" · AND {plural(hidden, 'marked key')} THAT THE FILTER HIDES" if hidden else ""

    def no_difference_text(self) -> list[str]:
        where = "" if self._only is None else " in these keys"
        return [f"live equals {self._ref}{where}", f"nothing to {self.ACT}"]

    def on_mount(self) -> None:
        """Show the marks of the places inside a value."""
        self.view.marks = self._place_mark

    def selection_text(self) -> str:
        index = self.index
        parts = [
            f"{format_count(index.marked)} of {format_count(len(index))} marked",
            f"{format_count(index.count('removed', PARTLY, WHOLE))} will be deleted",
        ]
        if index.partly:
            parts.append(f"{format_count(len(index.partly))} in part")
        if self._applying:
            parts.append("writing…")
        elif self.dashboard.manager.read_only:
            parts.append(f"read-only: no {self.ACT} · esc leaves")
        elif index.marked:
            parts.append(f"y {self.ACT}s, after a checkpoint before_{self.safety()}_… · esc cancels")
        return " · ".join(parts)

    def safety(self) -> str:
        """Return what the checkpoint that is made first is named after."""
        return "restore"

    # --- marks -------------------------------------------------------------------------------------------------

    @property
    def _all_marked(self) -> bool:
        index = self.index
        return self._only is None and self.run.state == "whole" and index.count(None, WHOLE) == len(index) > 0

    def words(self, ref: str) -> Iterator[str]:
        """Yield the words of the command. O(marked keys), as far as the caller reads."""
        yield from self.command_words(ref)
        if self._all_marked:
            return
        for key in self.index.marked_keys(WHOLE):
            yield from ("--keys", KeyName(key))
        for key in self.index.marked_keys(PARTLY):
            for place in sorted(self.index.partly[key]):
                yield from ("--path", f"{key}#{place}")

    def command_words(self, ref: str) -> list[str]:
        """Return the words of the command before the marked keys."""
        return ["restore", ref]

    def command(self) -> str:
        if not self.index.marked:
            return "(no key is marked)"
        shown = list(islice(self.words(self._ref), 2 + 2 * _MAX_LISTED_KEYS))
        more = 0 if self._all_marked or len(shown) < 2 + 2 * _MAX_LISTED_KEYS else self.index.marked - _MAX_LISTED_KEYS
        text = self.dashboard.command_line(shown)
        return f"{text} … and {format_count(more)} more" if more > 0 else text

    def _place_mark(self, place: int) -> int:
        """Return the mark of a place in the change on the screen."""
        index, key = self._viewed_key()
        if key is None:
            return NONE
        mark = self.index.mark(index)
        if mark == PARTLY and place >= 0:
            return WHOLE if self.view.names[place] in self.index.partly[key] else NONE
        return mark

    def _viewed_key(self) -> tuple[int, str | None]:
        """Return the key of the change on the screen and its position in the index; None: no longer listed."""
        key = self.view.key
        index = self.index.find(key or "")
        listed = key is not None and index < len(self.index) and self.index.keys[index] == key
        return index, key if listed else None

    def action_mark(self) -> None:
        """Mark or unmark the selected key; with the focus in its change, the selected place."""
        if self.focused is self.view:
            self._toggle_place()
        else:
            super().action_mark()

    def _toggle_place(self) -> None:
        (index, key), view = self._viewed_key(), self.view
        if key is None or view.change is None or view.place < 0:
            return
        if not view.whole:
            self.dashboard.notify_user(
                "too many places differ to mark single ones: mark the whole key, or leave it out", wrong=True
            )
            return
        names = view.names
        mark = self.index.mark(index)
        chosen = set(names) if mark == WHOLE else set() if mark == NONE else set(self.index.partly[key])
        chosen ^= {names[view.place]}
        mark = NONE if not chosen else WHOLE if len(chosen) == len(names) else PARTLY
        self.index.set_mark(index, mark, chosen)
        self.marks_changed()

    # --- changes by other processes ----------------------------------------------------------------------------

    def finished(self) -> None:
        """Check the keys that others wrote during the run."""
        if self._check_again:
            self._check()

    def namespace_changed(self, head: Head, changed: list[str] | None = None) -> None:  # noqa: ARG002
        """Check the keys that others wrote since the preview or the check before."""
        sides = self.compared
        if sides is not None and head.revision != sides.before.point.revision:
            self._check()

    def reload(self) -> None:
        """Check the keys that others wrote; without a complete preview, compute it again."""
        if self.run.state == "whole":
            self._check()
        else:
            self.start()

    def _check(self, apply: bool = False) -> None:
        """Compare the keys again that were written since the preview.

        Args:
            apply: write the marked keys afterwards, unless a marked key has changed.

        """
        sides, run = self.compared, self.run
        if self._checking or sides is None or run.state == "running" or self._applying:
            self._check_again = True
            return
        self._checking, self._check_again = True, False
        backend, lineage, only = self.dashboard.manager.backend, self._lineage, self._only
        partly = {key: set(chosen) for key, chosen in self.index.partly.items()}

        def check(stop: Stop) -> RecheckResult | None:
            moment, head = backend.now(), backend.head()
            if head.lineage != lineage or head.revision < sides.before.point.revision:
                return None
            if head.revision == sides.before.point.revision:
                return RecheckResult(sides, {}, partly)
            return check_again(sides, StateAt(head.revision, moment), only, partly, DiffProgress(stop))

        def checked(result: RecheckResult | None) -> None:
            self._checking = False
            if run is not self.run:
                return
            if result is None:
                self.start()
                self.note("the namespace was dropped and created again: the preview is computed again", wrong=True)
                return
            changed_marks = self._merge(result)
            if changed_marks:
                self._changed = time.monotonic()
            if apply and not changed_marks:
                self._write()
            elif apply:
                self._notify_changed()
            elif self._apply_wanted or self._check_again:
                apply_wanted, self._apply_wanted = self._apply_wanted, False
                self._check(apply_wanted)

        def failed(error: Exception) -> None:
            self._checking = self._apply_wanted = False
            self.note(f"{error}\nThe preview may be out of date · R reloads", wrong=True)

        self.dashboard.reader.submit(self, "check", check, checked, failed)

    def _merge(self, result: RecheckResult) -> int:
        """List the keys as a check found them. Returns the number of marked keys that have changed."""
        index, keys, key = self.index, self.keys, self.keys.key
        self.compared = result.sides
        positions = {written: index.find(written) for written in result.kinds}
        listed = {written: at for written, at in positions.items() if at < len(index) and index.keys[at] == written}
        changed_marks = sum(index.mark(at) != NONE for at in listed.values())
        added = index.merge(result)
        if not listed and not added:
            return 0
        parts = []
        if listed:
            parts.append(f"{_keys(len(listed))} changed since this preview: checked again")
        if gone := sum(result.kinds[written] is None for written in listed):
            parts.append(f"{format_count(gone)} no longer differ{'s' if gone == 1 else ''}")
        if added:
            parts.append(f"{format_count(added)} new since this preview, not marked")
        self.note("! " + " · ".join(parts))
        keys.touched |= {written for written, kind in result.kinds.items() if kind is not None}
        keys.compare(result.sides, result.kinds.__contains__)
        self._seek = key
        self._refilter()
        if self.view.key in result.kinds:
            self.show_change(stay=True)
        return changed_marks

    # --- the commit --------------------------------------------------------------------------------------------

    def _cannot_apply(self) -> bool:
        """Show why nothing can be written, if so."""
        reason, wrong = "", False
        if self.dashboard.manager.read_only:
            reason, wrong = "read-only: the store was opened without write access. Open it without --read-only", True
        elif self.run.state == "running":
            reason = f"still computing: wait, or stop with esc and {self.ACT} the keys in the list"
        elif not self.index.marked:
            reason = "no key is marked: space marks a key, a marks all"
        if reason:
            self.dashboard.notify_user(reason, wrong=wrong)
        return bool(reason)

    def action_apply(self) -> None:
        """Write the marked keys, if nobody has written them since the preview."""
        if self._cannot_apply():
            return
        if time.monotonic() - self._changed < SEEN_SECONDS:
            self._notify_changed()
        elif self._checking:
            self._apply_wanted = True
        elif not self._applying:
            self._check(apply=True)

    def _notify_changed(self) -> None:
        how = f"Check them and press y, or press Y to {self.ACT} in any case"
        self.dashboard.notify_user(f"not {self.DONE}: marked keys have just changed. {how}", wrong=True)

    def action_apply_anyway(self) -> None:
        """Write the marked keys even if others write them. Ask first, because the user has not seen all changes."""
        sides = self.compared
        if self._cannot_apply() or sides is None or self._applying:
            return
        marked = _keys(self.index.marked)
        question = [
            f"{self.ACT.capitalize()} {marked}, even if others have changed them since the preview?",
            f"A checkpoint of the present state is created first. z undoes the {self.ACT}.",
        ]
        line = self.dashboard.command_line(list(self.words(sides.after.ref)))
        self.app.push_screen(Confirm(question, line), lambda sure: self._write(anyway=True) if sure else None)

    def _write(self, anyway: bool = False) -> None:
        sides = self.compared
        assert sides is not None, "the actions check this"
        words = list(self.words(sides.after.ref))
        if not anyway:
            words += ["--previewed", str(sides.before.point.revision)]
        self._applying = True
        self._applied_places = {key: set(chosen) for key, chosen in self.index.partly.items()}
        self.refresh_labels()
        self.dashboard.acts.run(words, then=self._written, failed=self._write_failed)

    def _written(self, result: Result) -> None:
        self._applying = False
        if self._only is not None:
            self.dashboard.unmark(self._only)
        diff = result.diff if isinstance(result, DiffResult) else None
        keys = 0 if diff is None else sum(diff.counts.values())
        self.dashboard.notify_user(f"{self.DONE.capitalize()} {amount(keys, self._applied_places)} · z undoes it")
        if self.app.screen is self:  # `is_current` is also true below a dialog
            self.dismiss(True)

    def _write_failed(self, error: Exception) -> None:
        self._applying = False
        if isinstance(error, Conflict):
            self.dashboard.notify_user(f"not {self.DONE}: {error.message}", wrong=True)
        else:
            self.dashboard.show_error(error, act=True)
        if self.is_attached:  # the user may have left meanwhile
            if isinstance(error, Conflict):
                self._check()
            self.refresh_labels()


def _keys(count: int) -> str:
    return f"{format_count(count)} key{'' if count == 1 else 's'}"
