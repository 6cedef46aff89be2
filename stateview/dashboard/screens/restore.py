"""The restore preview: what would become of live, key by key and place by place, before anything does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from typing import ClassVar

from textual.binding import Binding, BindingType

from ...backends.protocol import Head, StateAt
from ...cli.commands.checkpoints import amount
from ...cli.results import DiffResult, Result
from ...errors import Conflict
from ...model import Kind
from ...states.patterns import escape_glob
from ..data.background import Stop
from ..data.diff_model import NONE, PARTLY, WHOLE, DiffProgress, DiffSides, RecheckResult, check_again, side
from ..dialogs.confirm import Confirm
from ..display.text import format_count
from .diff_base import DiffBaseScreen

_SAID: dict[Kind, tuple[str, str]] = {"removed": ("will be DELETED", "DELETED"), "added": ("comes back", "back")}
SEEN_SECONDS = 0.7  # seconds for which a change must have stood on the screen before y can mean it
CHANGED = "not restored: what is marked has changed meanwhile. Look at it, then y; Y restores whatever others write"
_MAX_LISTED_KEYS = 30  # keys of a command line that are shown


class RestoreScreen(DiffBaseScreen):
    """Previews bringing live back to a ref. Ends with whether that was done.

    Args:
        ref: the state to bring back.
        keys: only these; None: all that differ.

    """

    HELP = (
        "What a restore would do to live: + comes back, - will be DELETED, ~ becomes what it was. space marks the key\n"
        "or, in its change, the place under the cursor; a marks all, n none, i the others. y does it in one commit,\n"
        "after a checkpoint of what is there now; z takes it back."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "apply", "Restore", id="restore.apply"),
        Binding("Y", "apply_anyway", "Restore whatever is written meanwhile", show=False, id="restore.anyway"),
    ]

    def __init__(self, ref: str, keys: list[str] | None = None) -> None:
        super().__init__(WHOLE, marking=True, said=_SAID)
        self._ref = ref
        self._given = None if keys is None else sorted(set(keys))
        self._lineage = ""
        self._checking = False
        self._behind = False  # live has moved while it was looked at
        self._wanted = False  # y was pressed while it was looked at
        self._applying = False
        self._inside: dict[str, set[str]] = {}  # of the keys that are being restored in part: what of them
        self._changed = 0.0  # when something that is marked was last seen to have changed, by `time.monotonic()`

    # --- what is compared --------------------------------------------------------------------------------------

    def diff_sides(self) -> DiffSides:
        """Live, and the state to bring back."""
        backend = self.dashboard.manager.backend
        self._lineage = backend.head().lineage
        return DiffSides(side(backend, "live"), side(backend, self._ref))

    def restrict_keys(self) -> list[str] | None:
        """See `DiffBaseScreen.restrict_keys`."""
        return self._given

    def title_text(self) -> str:
        """See `DiffBaseScreen.title_text`."""
        return f"Restore  {self._ref} → live"

    def no_difference_text(self) -> list[str]:
        """See `DiffBaseScreen.no_difference_text`."""
        where = "" if self._given is None else " in these keys"
        return [f"live is as it was at {self._ref}{where}", "nothing to restore"]

    def on_mount(self) -> None:
        """Places inside a value are marked too."""
        self.view.marks = self._place_mark

    def selection_text(self) -> str:
        """See `DiffBaseScreen.selection_text`."""
        found = self.found
        deleted = found.count("removed", PARTLY, WHOLE)
        parts = [
            f"{format_count(found.marked)} of {format_count(len(found))} marked",
            f"{format_count(deleted)} will be deleted",
        ]
        if found.partly:
            parts.append(f"{format_count(len(found.partly))} in part")
        if self._applying:
            parts.append("restoring…")
        elif self.dashboard.manager.read_only:
            parts.append("read-only: to look at · esc leaves")
        elif found.marked:
            parts.append("y restores, after a checkpoint before_restore_… · esc cancels")
        return " · ".join(parts)

    # --- what is chosen ----------------------------------------------------------------------------------------

    @property
    def _everything(self) -> bool:
        found = self.found
        return self._given is None and self.run.state == "whole" and found.count(None, WHOLE) == len(found) > 0

    def words(self, ref: str) -> Iterator[str]:
        """Yield the command that does what is marked. O(marked), as far as it is asked for."""
        yield from ("restore", ref)
        if self._everything:
            return
        for key in self.found.marked_keys(WHOLE):
            yield from ("--keys", escape_glob(key))
        for key in self.found.marked_keys(PARTLY):
            for place in sorted(self.found.partly[key]):
                yield from ("--path", f"{key}#{place}")

    def command(self) -> str:
        """See `DiffBaseScreen.command`."""
        if not self.found.marked:
            return "(nothing is marked)"
        shown = list(islice(self.words(self._ref), 2 + 2 * _MAX_LISTED_KEYS))
        more = 0 if self._everything or len(shown) < 2 + 2 * _MAX_LISTED_KEYS else self.found.marked - _MAX_LISTED_KEYS
        text = self.dashboard.command_line(shown)
        return f"{text} … and {format_count(more)} more" if more > 0 else text

    def _place_mark(self, place: int) -> int:
        """How a place of the change that is seen is marked."""
        index, key = self._index()
        if key is None:
            return NONE
        mark = self.found.mark(index)
        if mark == PARTLY and place >= 0:
            return WHOLE if self.view.names[place] in self.found.partly[key] else NONE
        return mark

    def _index(self) -> tuple[int, str | None]:
        """Where the key of the change that is seen is listed."""
        key = self.view.key
        index = self.found.find(key or "")
        known = key is not None and index < len(self.found) and self.found.keys[index] == key
        return index, key if known else None

    def action_mark(self) -> None:
        """Mark or unmark the key under the cursor; in its change, the place under the cursor."""
        if self.focused is self.view:
            self._mark_place()
        else:
            super().action_mark()

    def _mark_place(self) -> None:
        (index, key), view = self._index(), self.view
        if key is None or view.change is None or view.place < 0:
            return
        if not view.whole:
            self.dashboard.notify_user(
                "too many places differ to choose among: take the key whole, or not at all", wrong=True
            )
            return
        names = view.names
        mark = self.found.mark(index)
        chosen = set(names) if mark == WHOLE else set() if mark == NONE else set(self.found.partly[key])
        chosen ^= {names[view.place]}
        mark = NONE if not chosen else WHOLE if len(chosen) == len(names) else PARTLY
        self.found.set_mark(index, mark, chosen)
        self.remarked()

    # --- live --------------------------------------------------------------------------------------------------

    def finished(self) -> None:
        """Check the keys written while the diff was computed, too."""
        if self._behind:
            self._check()

    def namespace_changed(self, head: Head, changed: list[str] | None = None) -> None:  # noqa: ARG002
        """Another wrote. What was written since the preview, and not since the app looked last, is looked at again."""
        sides = self.compared
        if sides is not None and head.revision != sides.before.point.revision:
            self._check()

    def reload(self) -> None:
        """Look at what was written since, or, where that is not known, at everything."""
        if self.run.state == "whole":
            self._check()
        else:
            self.start()

    def _check(self, apply: bool = False) -> None:
        """Look again at the keys that were written since; then restore, if none of those listed was."""
        sides, run = self.compared, self.run
        if self._checking or sides is None or run.state == "running" or self._applying:
            self._behind = True
            return
        self._checking, self._behind = True, False
        backend, lineage, only = self.dashboard.manager.backend, self._lineage, self._given
        partly = {key: set(chosen) for key, chosen in self.found.partly.items()}

        def check(stop: Stop) -> RecheckResult | None:
            moment, head = backend.now(), backend.head()
            if head.lineage != lineage or head.revision < sides.before.point.revision:
                return None
            if head.revision == sides.before.point.revision:
                return RecheckResult(sides, {}, partly)
            return check_again(sides, StateAt(head.revision, moment), only, partly, DiffProgress(stop))

        def checked(again: RecheckResult | None) -> None:
            self._checking = False
            if run is not self.run:
                return
            if again is None:
                self.start()
                self.note("another namespace is in its place: everything was looked at again", wrong=True)
                return
            marked = self._take(again)
            if marked:
                self._changed = time.monotonic()
            if apply and not marked:
                self._restore()
            elif apply:
                self.dashboard.notify_user(CHANGED, wrong=True)
            elif self._wanted or self._behind:
                wanted, self._wanted = self._wanted, False
                self._check(wanted)

        def failed(error: Exception) -> None:
            self._checking = self._wanted = False
            self.note(f"{error}\nThe preview may be out of date · R looks again", wrong=True)

        self.dashboard.reader.submit(self, "check", check, checked, failed)

    def _take(self, again: RecheckResult) -> int:
        """Put in what was written since; returns how many of the marked keys that concerns."""
        found, keys, key = self.found, self.keys, self.keys.key
        self.compared = again.sides
        places = {key: found.find(key) for key in again.kinds}
        known = {key: at for key, at in places.items() if at < len(found) and found.keys[at] == key}
        marked = sum(found.mark(at) != NONE for at in known.values())
        fresh = found.merge(again)
        if not known and not fresh:
            return 0
        said = []
        if known:
            changed = f"{format_count(len(known))} key{'' if len(known) == 1 else 's'}"
            said.append(f"{changed} changed since this preview: checked again")
        if gone := sum(again.kinds[key] is None for key in known):
            said.append(f"{format_count(gone)} no longer differ{'s' if gone == 1 else ''}")
        if fresh:
            said.append(f"{format_count(fresh)} new since this preview, not marked")
        self.note("! " + " · ".join(said))
        keys.touched |= {key for key, kind in again.kinds.items() if kind is not None}
        keys.compare(again.sides, again.kinds.__contains__)
        self._seek = key
        self._refilter()
        if self.view.key in again.kinds:
            self.look(stay=True)
        return marked

    # --- doing it ----------------------------------------------------------------------------------------------

    def action_apply(self) -> None:
        """Restore what is marked, if nobody has written it since."""
        app = self.dashboard
        if app.manager.read_only:
            app.notify_user("read-only: nothing can be restored here. Open the store without --read-only", wrong=True)
        elif self.run.state == "running":
            app.notify_user("still computing: wait, or esc stops it; then what is listed can be restored")
        elif not self.found.marked:
            app.notify_user("nothing is marked: space marks a key, a marks all")
        elif time.monotonic() - self._changed < SEEN_SECONDS:
            app.notify_user(CHANGED, wrong=True)
        elif self._checking:
            self._wanted = True
        elif not self._applying:
            self._check(apply=True)

    def action_apply_anyway(self) -> None:
        """Restore what is marked, also where others write it without end: asked about, since it was not all seen."""
        app, sides = self.dashboard, self.compared
        if app.manager.read_only or self.run.state == "running" or not self.found.marked or sides is None:
            self.action_apply()  # says why not
        elif not self._applying:
            said = [
                f"Restore {format_count(self.found.marked)} marked whatever others have written there since?",
                "A checkpoint of what is there by then is made first, and z takes it back.",
            ]
            line = self.dashboard.command_line(list(self.words(sides.after.ref)))
            self.app.push_screen(Confirm(said, line), lambda sure: self._restore(anyway=True) if sure else None)

    def _restore(self, anyway: bool = False) -> None:
        sides = self.compared
        assert sides is not None, "it was compared"
        words = list(self.words(sides.after.ref))
        if not anyway:
            words += ["--previewed", str(sides.before.point.revision)]
        self._applying, self._inside = True, {key: set(chosen) for key, chosen in self.found.partly.items()}
        self.refresh_labels()
        self.dashboard.acts.run(words, then=self._restored, failed=self._refused)

    def _restored(self, result: Result) -> None:
        self._applying = False
        if self._given is not None:
            self.dashboard.unmark(self._given)
        diff = result.diff if isinstance(result, DiffResult) else None
        keys = 0 if diff is None else sum(diff.counts.values())
        self.dashboard.notify_user(f"Restored {amount(keys, self._inside)} · z undoes it")
        if self.app.screen is self:  # `is_current` is true under a dialog too
            self.dismiss(True)

    def _refused(self, error: Exception) -> None:
        self._applying = False
        if isinstance(error, Conflict):
            self.dashboard.notify_user(f"not restored: {error.message}", wrong=True)
        else:
            self.dashboard.show_error(error, act=True)
        if self.is_attached:  # it may have been left while it restored
            if isinstance(error, Conflict):
                self._check()
            self.refresh_labels()
