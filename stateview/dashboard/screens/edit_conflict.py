"""Another wrote a key while it was edited here: theirs and mine, and what to do about it."""

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
from ...states.json_diff import compare, line_diff
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
COMPARED_BYTES = 1_000_000  # bytes of both sides together
MAX_PLACES = 1_000  # differences that are listed
MAX_LINES = 200  # of one text
SIDE_CHARACTERS = 300  # characters of one side of a difference


class EditConflict(NamedTuple):
    """How a key stands that another has written: what is there now (None: it is gone), who wrote it, what differs."""

    theirs: Draft | None
    told: str
    rows: list[tuple[str, str]]
    same: bool


def read_conflict(manager: StateManager, key: str, mine: bytes, patterns: tuple[str, ...]) -> EditConflict:
    """Read what another has written, and compare. Reads the backend. Raises as `read_draft`."""
    version = manager.backend.get(key)
    if version is None or version.value is None:
        rows = [("removed", "they deleted the key, or it expired"), ("added", f"mine {_side(mine)}")]
        return EditConflict(None, "is not there any more", rows, False)
    theirs = draft_of(manager, version)
    same = codec.canonical(codec.decode(version.value)) == codec.canonical(codec.decode(mine))
    return EditConflict(theirs, _told(manager, version), _rows(version.value, mine, patterns), same)


def _told(manager: StateManager, version: Version) -> str:
    commits = manager.log(1, below=version.revision + 1)
    by = commits[0].author if commits and commits[0].revision == version.revision else ""
    ago = format_age(version.time, now())
    return f"was written by {by or 'another'} {ago if ago == 'now' else f'{ago} ago'} (r{version.revision})"


def _rows(theirs: bytes, mine: bytes, patterns: tuple[str, ...]) -> list[tuple[str, str]]:
    """Lines with their roles: what differs from theirs to mine."""
    if len(theirs) + len(mine) > COMPARED_BYTES:
        if patterns:
            sizes = f"theirs {len(theirs):,} bytes, mine {len(mine):,} bytes"
            return [("changed", f"{sizes}: too large to be compared where values are masked")]
        return [("removed", f"theirs {_side(theirs)}"), ("added", f"mine {_side(mine)}")]
    before, after = (without_masked(codec.decode(side), patterns) for side in (theirs, mine))
    changes = compare(before, after)
    rows = [row for one in changes[:MAX_PLACES] for row in _change(one)]
    return [*rows, ("dim", f"{len(changes) - MAX_PLACES:,} more places")] if len(changes) > MAX_PLACES else rows


def _change(one: PathChange) -> list[tuple[str, str]]:
    if isinstance(one.before, str) and isinstance(one.after, str) and "\n" in one.before + one.after:
        roles = {"-": "removed", "+": "added"}
        lines = [(roles.get(mark, "dim"), f"  {text}") for mark, text in line_diff(one.before, one.after)[:MAX_LINES]]
        return [(one.kind, one.path or "(the whole value)"), *lines]
    sides = [_side(codec.encode(side)) for side in (one.before, one.after) if side is not ABSENT]
    return [(one.kind, f"{one.path or '(the whole value)'}  {' → '.join(sides)}")]


def _side(data: bytes) -> str:
    text = data[: 4 * SIDE_CHARACTERS].decode(errors="ignore")
    return text if len(data) <= SIDE_CHARACTERS else f"{text[:SIDE_CHARACTERS]}… ({len(data):,} bytes)"


class ConflictDiff(VirtualList):
    """What differs, a line each."""

    def __init__(self, rows: list[tuple[str, str]]) -> None:
        super().__init__()
        self._rows = rows

    @property
    def count(self) -> int:
        """See `VirtualList.count`."""
        return len(self._rows)

    def render_row(self, index: int, cells: RowBuilder) -> None:
        """See `VirtualList.render_row`."""
        role, text = self._rows[index]
        cells.add(f"{SIGNS.get(role, ' ')} {text}", self.style_of(role))


class ConflictScreen(DashboardScreen, ModalScreen[Choice]):
    """Shows the race, and ends with what to do.

    Args:
        key: the key that was edited.
        mine: what would be saved.
        race: how the key stands.

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
        Binding("e,escape", "choose('edit')", "Edit on", key_display="e", id="conflict.edit"),
    ]
    HELP = (
        "Nothing was written. m saves what you wrote over theirs, if it is still as shown here; t leaves theirs, and\n"
        "keeps what you wrote in the clipboard; e goes back to what you wrote."
    )

    def __init__(self, key: str, mine: bytes, race: EditConflict) -> None:
        super().__init__()
        self._key = key
        self._mine = mine
        self._race = race

    def compose(self) -> ComposeResult:
        """Who was first, what differs, and the command line of saving mine."""
        with Vertical() as box:
            box.border_title = "Not saved: another was first"
            yield Banner()
            yield Label(
                f"{one_line(self._key, 60)} {one_line(self._race.told, 100)}. From theirs to mine:", markup=False
            )
            yield ConflictDiff(self._race.rows)
            words = save_words(self._key, self._mine, self._race.theirs or Draft(""))
            yield Label(one_line(f"m: {self.dashboard.command_line(words)}"), id="line", markup=False)
            yield KeyBar()

    def action_choose(self, choice: Choice) -> None:
        """End with a choice."""
        self.dismiss(choice)
