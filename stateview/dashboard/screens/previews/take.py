"""The preview of taking keys or places from another namespace or store."""

from __future__ import annotations

from typing import ClassVar

from ....backends import mask
from ....backends.protocol import Backend
from ....manager import StateManager
from ....model import Kind
from ...data.diff_model import NONE, PARTLY, DiffSides, selectors
from .base import PreviewScreen


class TakeScreen(PreviewScreen):
    """Previews the changes to live if it takes keys from a state of another namespace.

    Args:
        other: the other namespace, opened read-only by the caller, who also closes it.
        store: the name or URL of its store; "" is the present store.
        ref: the state of the other namespace.
        keys: the keys to take.
        place: the selector of the only change to take inside the first key; "" takes the keys whole.

    """

    ACT, DONE = "take", "taken"
    EFFECTS: ClassVar[dict[Kind, tuple[str, str]]] = {**PreviewScreen.EFFECTS, "added": ("will be added", "added")}
    HELP = (
        "The changes that keys of another namespace would make here: + adds a key, - DELETES a key that the other\n"
        "namespace lacks, ~ changes a value. space marks a key or, inside a value, a place. y creates a checkpoint of\n"
        "live, and writes the marked keys in one commit. z undoes the commit."
    )
    WAYS: ClassVar[tuple[tuple[str, ...], ...]] = (
        ("take one place", "n, enter, move to the place, space, y"),
        ("leave a key out", "move to it, space, y"),
    )

    def __init__(self, other: StateManager, store: str, ref: str, keys: list[str], place: str = "") -> None:
        super().__init__(ref, keys)
        self._other = other
        self._store = store
        self._place = place
        self._gone = False  # the place does not differ from live

    @property
    def source(self) -> Backend:
        return self._other.backend

    def diff_sides(self) -> DiffSides:
        """Compare live with the other namespace, and check that the place still differs."""
        sides = super().diff_sides()
        if self._place:
            change = sides.change(self._keys[0])
            self._gone = change is None or self._place not in selectors(change.paths)
        return sides

    @property
    def _keys(self) -> list[str]:
        assert self._only is not None, "keys are given"
        return self._only

    def finished(self) -> None:
        """Mark the place alone, if one was chosen; nothing, if it does not differ from live."""
        place, self._place = self._place, ""
        if place and self._keys[0] in self.index:
            mark = (NONE, None) if self._gone else (PARTLY, {place})
            self.index.set_mark(self.index.find(self._keys[0]), *mark)
            self.marks_changed()
        if place and self._gone:
            self.note(f"! {place} does not differ from live: nothing is marked", wrong=True)
        super().finished()

    def states_text(self) -> str:
        store = f" in {mask(self._store)}" if self._store else ""
        return f"Take  {self._other.namespace}:{self._ref}{store} → live"

    def no_difference_text(self) -> list[str]:
        return [f"live equals {self._other.namespace}:{self._ref} in these keys", "nothing to take"]

    def command_words(self, ref: str) -> list[str]:
        words = ["restore", ref]
        if self._other.namespace != self.dashboard.manager.namespace:
            words += ["--from-namespace", self._other.namespace]
        return words + (["--from-store", self._store] if self._store else [])
