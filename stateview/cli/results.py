"""What a handler returns, and `render` turns into text."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from msgspec import Struct

from ..states.json_diff import Change, Diff


def plural(count: int, word: str) -> str:
    """`1 key`, `2 keys`, `1,000 keys`."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def in_bytes(count: int) -> str:
    """A number of bytes for a person: `54 B`, `1.2 kB`, `48.0 MB`."""
    power = min(4, (len(str(abs(count))) - 1) // 3)
    return f"{count / 1000**power:.1f} {['', 'k', 'M', 'G', 'T'][power]}B" if power else f"{count} B"


class Result(Struct):
    """Base.

    `told` is narration for a person, `code` the exit code. `undo` is the command that takes back what was done, if
    there is such a command: each face says in its own way how to run it.
    """

    told: str = ""
    code: int = 0
    undo: str = ""

    def narration(self) -> str:
        """`told`, and at a command line how to take it back."""
        return f"{self.told} - 'stateview {self.undo}' takes it back" if self.undo else self.told


class Excerpt(Struct):
    """A value in `told`, or its start: that of a key, or of a place (JSON Pointer) inside it.

    `before` and `after` are what `told` says around it, so that a face can put a mask in its place.
    """

    key: str
    path: str
    before: str
    text: str
    after: str = ""

    def told(self, text: str = "") -> str:
        """The narration, with another text in place of the value where one is given."""
        return f"{self.before}{text or self.text}{self.after}"


class ActionResult(Result):
    """An act: `data` is what a script may want to know of it, `name` what it printed, if anything."""

    data: dict[str, Any] = {}
    name: str = ""
    shown: Excerpt | None = None


class ValueResult(Result):
    """A value, as compact JSON."""

    data: bytes = b""


class Table(Result):
    """Rows under columns, streamed. `plain` is the column that stands for a row in a pipe; None: all, by tabs.

    `excerpt`, where it is given, makes the text of a column `value` in so many characters, for a person; JSON has all.
    `place` says of a value which of its characters was looked for, if it is a text that has one.
    """

    columns: tuple[str, ...] = ()
    rows: Iterable[tuple[Any, ...]] = ()
    plain: int | None = None
    empty: str = ""
    excerpt: Callable[[Any, int], str] | None = None
    place: Callable[[Any], int | None] | None = None


class Record(Result):
    """One thing with named parts; `lines`, if there are any, are what a person is shown of it: a name and a text."""

    data: dict[str, Any] = {}
    lines: tuple[tuple[str, str], ...] = ()


class DiffResult(Result):
    """A diff; `applied` if it has been done. `empty` is said where there is none."""

    diff: Diff | None = None
    patch: bool = False
    summary: bool = False
    empty: str = "no difference"


class Changes(Result):
    """Changes as they come, each shown at once."""

    changes: Iterable[Change] = ()


class Text(Result):
    """Text as it is."""

    text: str = ""


class Stream(Result):
    """Text in pieces, such as a file's; as it is, but at a terminal inert."""

    pieces: Iterable[str] = ()
