"""The conflict screen: another process has written a key that was edited here. It shows both values."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Label

from ... import codec
from ...manager import StateManager
from ...model import ABSENT, PathChange, now
from ...states.values.json_diff import compare, line_diff
from ..actions.value_edit import Draft, draft_of, save_words
from ..base_screen import DashboardScreen
from ..display.redaction import without_masked
from ..display.text import SIGNS, RowBuilder, format_age, one_line
from ..widgets.key_bar import KeyBar
from ..widgets.status_bar import Banner
from ..widgets.virtual_list import VirtualList

if TYPE_CHECKING:
    from ...backends.protocol import Version

Choice = Literal["mine", "theirs", "edit"]
MAX_COMPARED_BYTES = 1_000_000  # of both values together; larger ones are shown without a comparison
MAX_PLACES = 1_000  # listed differences
MAX_LINES = 200  # listed lines of one text
SIDE_CHARACTERS = 300  # shown characters of one value


class EditConflict(NamedTuple):
    """The present value of a key that another process has written.

    Attributes:
        theirs: the present version; None: the key was deleted or has expired.
        event: who wrote it and when, as the rest of a sentence that begins with the key.
        rows: the differences as role and text, one for each line of the list.
        same: both values are equal.

    """

    theirs: Draft | None
    event: str
    rows: list[tuple[str, str]]
    same: bool


def read_conflict(manager: StateManager, key: str, mine: bytes, patterns: tuple[str, ...]) -> EditConflict:
    """Read the present value of a key, and compare it with `mine`. Raises the errors of `read_draft`."""
    version = manager.backend.get(key)
    if version is None or version.value is None:
        rows = [("removed", "they deleted the key, or it expired"), ("added", f"mine {_shorten(mine)}")]
        return EditConflict(None, "does not exist any more", rows, False)
    theirs = draft_of(manager, version)
    same = codec.canonical(codec.decode(version.value)) == codec.canonical(codec.decode(mine))
    return EditConflict(theirs, _event(manager, version), _rows(version.value, mine, patterns), same)


def _event(manager: StateManager, version: Version) -> str:
    commits = manager.log(1, below=version.revision + 1)
    author = commits[0].author if commits and commits[0].revision == version.revision else ""
    ago = format_age(version.time, now())
    return f"was written by {author or 'another process'} {ago if ago == 'now' else f'{ago} ago'} (r{version.revision})"


def _rows(theirs: bytes, mine: bytes, patterns: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return the differences from theirs to mine, as role and text of each line."""
    if len(theirs) + len(mine) > MAX_COMPARED_BYTES:
        if patterns:
            sizes = f"theirs {len(theirs):,} bytes, mine {len(mine):,} bytes"
            return [("changed", f"{sizes}: too large to compare while values are masked")]
        return [("removed", f"theirs {_shorten(theirs)}"), ("added", f"mine {_shorten(mine)}")]
    before, after = (without_masked(codec.decode(data), patterns) for data in (theirs, mine))
    changes = compare(before, after)
    rows = [row for change in changes[:MAX_PLACES] for row in _change_rows(change)]
    return [*rows, ("dim", f"{len(changes) - MAX_PLACES:,} more places")] if len(changes) > MAX_PLACES else rows


def _change_rows(change: PathChange) -> list[tuple[str, str]]:
    path, before, after = change.path or "(the whole value)", change.before, change.after
    if isinstance(before, str) and isinstance(after, str) and "\n" in before + after:
        roles = {"-": "removed", "+": "added"}
        lines = [(roles.get(sign, "dim"), f"  {text}") for sign, text in line_diff(before, after)[:MAX_LINES]]
        return [(change.kind, path), *lines]
    values = [_shorten(codec.encode(value)) for value in (before, after) if value is not ABSENT]
    return [(change.kind, f"{path}  {' → '.join(values)}")]


def _shorten(data: bytes) -> str:
    text = data[: 4 * SIDE_CHARACTERS].decode(errors="ignore")
    return text if len(data) <= SIDE_CHARACTERS else f"{text[:SIDE_CHARACTERS]}… ({len(data):,} bytes)"


class ConflictDiff(VirtualList):
    """Lists the differences."""

    def __init__(self, rows: list[tuple[str, str]]) -> None:
        super().__init__()
        self._rows = rows

    @property
    def count(self) -> int:
        return len(self._rows)

    def render_row(self, index: int, cells: RowBuilder) -> None:
        role, text = self._rows[index]
        cells.add(f"{SIGNS.get(role, ' ')} {text}", self.style_of(role))


class ConflictScreen(DashboardScreen, ModalScreen[Choice]):
    """Shows a conflict. The result of the screen is the user's choice.

    Args:
        key: the key that was edited.
        mine: the edited value.
        conflict: the present value, and the differences.

    """

    DEFAULT_CSS = """
    ConflictScreen { align: center middle; }
    ConflictScreen > Vertical {
        width: 100%; height: 100%; border: round $warning; background: $surface; padding: 0 1;
    }
    ConflictScreen Label { width: 1fr; }
    ConflictScreen #line { color: $text-muted; max-height: 2; }
    ConflictScreen ConflictDiff { height: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("m", "choose('mine')", "Save mine", id="conflict.mine"),
        Binding("t", "choose('theirs')", "Take theirs", id="conflict.theirs"),
        Binding("e,escape", "choose('edit')", "Continue editing", key_display="e", id="conflict.edit"),
    ]
    HELP = (
        "Your value is not saved. m saves it over theirs, unless the key changes again. t leaves their value, and\n"
        "copies yours to the clipboard. e returns to your value."
    )

    def __init__(self, key: str, mine: bytes, conflict: EditConflict) -> None:
        super().__init__()
        self._key = key
        self._mine = mine
        self._conflict = conflict

    def compose(self) -> ComposeResult:
        """Show who wrote the key, the differences, and the command line that saves the edited value."""
        with Vertical() as box:
            box.border_title = "Not saved: another process was first"
            yield Banner()
            yield Label(
                f"{one_line(self._key, 60)} {one_line(self._conflict.event, 100)}. From theirs to mine:", markup=False
            )
            yield ConflictDiff(self._conflict.rows)
            words = save_words(self._key, self._mine, self._conflict.theirs or Draft(""))
            yield Label(one_line(f"m: {self.dashboard.command_line(words)}"), id="line", markup=False)
            yield KeyBar()

    def action_choose(self, choice: Choice) -> None:
        """Close the screen with a choice."""
        self.dismiss(choice)
