"""The results that handlers return and `render` turns into text."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from ..errors import NextStep
from ..states.changes import Change, Diff

if TYPE_CHECKING:
    from ..backends.protocol import Backend, StateAt
    from .live_table import Places


def plural(count: int, word: str) -> str:
    """Return `1 key`, `2 keys`, `1,000 keys`."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def tally(diff: Diff, paths: Mapping[str, Collection[str]] | None = None) -> str:
    """Return the counts of a diff in words, such as `2 keys (1 added, 1 changed)`. For `paths` see `amount`."""
    counts = diff.counts
    kinds = [f"{counts[kind]} {kind}" for kind in ("added", "removed", "changed") if counts[kind]]
    total = sum(counts.values())
    return f"{amount(total, paths or {})} ({', '.join(kinds)})" if kinds else "no keys"


def amount(keys: int, paths: Mapping[str, Collection[str]]) -> str:
    """Return a number of keys in words, such as `2 keys and 3 paths of 1 key`.

    The keys in `paths` are changed only at these paths. The others are changed as a whole.
    """
    whole = max(0, keys - len(paths))
    parts = [plural(whole, "key")] if whole or not paths else []
    if paths:
        parts.append(f"{plural(sum(map(len, paths.values())), 'path')} of {plural(len(paths), 'key')}")
    return " and ".join(parts)


def no_match(globs: Iterable[str], where: str = "") -> str:
    """Return the note that globs match nothing. It is no error: only a missing name is."""
    return f"no key matches {', '.join(map(repr, globs))}{where}"


def in_bytes(count: int) -> str:
    """Return a number of bytes for a person: `54 B`, `1.2 kB`, `48.0 MB`."""
    power = min(4, (len(str(abs(count))) - 1) // 3)
    return f"{count / 1000**power:.1f} {['', 'k', 'M', 'G', 'T'][power]}B" if power else f"{count} B"


def unless_cut(empty: str, limit: int | None) -> str:
    """Return the message for no row; "" if there is none because of `--limit 0`."""
    return "" if limit == 0 else empty


class Result(Struct):
    """The base of all results.

    `summary` says in a line what happened, for standard error. `code` is the exit code. `undo` is the command that
    undoes the action, or empty; each interface says in its own words how to run it. `empty` is the message if the
    result prints nothing. `at_once` prints each piece when it comes. `then` acts after the result is printed, and
    returns the summary: see `printed_first`.
    """

    summary: str = ""
    code: int = 0
    undo: str = ""
    empty: str = ""
    at_once: bool = False
    then: Callable[[], str] | None = None

    def message(self, target: Sequence[str] = ()) -> str:
        """Return the summary, with the command line that undoes the action if there is one.

        Args:
            target: the options that name the store and the namespace.

        """
        if not self.undo:
            return self.summary
        return NextStep(f"{self.summary} - ", tuple(self.undo.split()), " takes it back").text(target)


class Excerpt(Struct):
    """A value, or its start, that is quoted in a summary. `before` and `after` are the text around the value.

    `key` and `path` (a JSON Pointer) name the value, so that an interface can mask it.
    """

    key: str
    path: str
    before: str
    text: str
    after: str = ""

    def message(self, text: str = "") -> str:
        """Return the summary; `text`, if given, replaces the value."""
        return f"{self.before}{text or self.text}{self.after}"


class ActionResult(Result):
    """An action. `data` is what `--format json` prints. `name`, if any, is printed in every other format."""

    data: dict[str, Any] = {}
    name: str = ""
    excerpt: Excerpt | None = None


class ValueResult(Result):
    """A value, as compact JSON."""

    data: bytes = b""


class Table(Result):
    """Rows under columns, streamed.

    `plain` is the index of the column that a pipe gets; None: all columns, separated by tabs. `excerpt`
    shortens a cell of the column `value` to a number of characters; JSON has it whole. `position` returns the index of
    the character that was searched for in a value, or None. `matches` is the test for a text by which rows were chosen.
    """

    columns: tuple[str, ...] = ()
    rows: Iterable[tuple[Any, ...]] = ()
    plain: int | None = None
    excerpt: Callable[[Any, int], str] | None = None
    position: Callable[[Any], int | None] | None = None
    matches: Callable[[str], bool] | None = None


class Chart(Table):
    """A number over its history: rows of revision, time and value, oldest first. A terminal gets a chart of them.

    `title` names what is drawn, and `without_number` is how many versions are left out.
    """

    title: str = ""
    without_number: int = 0


class LiveTable(Table):
    """The changes of watched places as they come, in rows of key, path and value.

    A terminal gets a table of `places`, kept up to date, if there are any, until no commit comes for `timeout` seconds.
    """

    places: Places | None = None
    timeout: float | None = None
    at_once: bool = True


class Record(Result):
    """Named fields. `lines`, if any, are the name and text of each line that a person sees instead."""

    data: dict[str, Any] = {}
    lines: tuple[tuple[str, str], ...] = ()


class FullScreen(Struct):
    """A diff on the full screen, with the keys of the dashboard, for a terminal that the text does not fit.

    `keys` are the keys to show; None is all that differ. `namespace` and `store` are those of the later state, if it is
    elsewhere. With `restore` it is the preview of restoring `after`, or of taking the keys from there. With `question`
    it is the preview of the command `words`, which a person approves or leaves. `source` is then the later state, if no
    store has it: a backend and a `StateAt`. `wanted` is what was asked for; None is nothing.
    """

    before: str
    after: str
    keys: list[str] | None = None
    namespace: str = ""
    store: str = ""
    restore: bool = False
    question: str = ""
    words: list[str] = []
    source: tuple[Backend, StateAt] | None = None
    wanted: bool | None = None


class DiffResult(Result):
    """A diff. `patch` prints it as a JSON Patch, `keys_only` without values. For `full_screen` see `FullScreen`."""

    diff: Diff | None = None
    patch: bool = False
    keys_only: bool = False
    empty: str = "no difference"
    full_screen: FullScreen | None = None


class Explanation(DiffResult):
    """What a line would do: `data` and `lines` as of a `Record`, and the diff of its dry run, None without one."""

    data: dict[str, Any] = {}
    lines: tuple[tuple[str, str], ...] = ()


class Changes(Result):
    """Changes as they arrive; each is printed at once."""

    changes: Iterable[Change] = ()
    at_once: bool = True


class Text(Result):
    """Text, printed unchanged."""

    text: str = ""


class Stream(Result):
    """Text in pieces, such as an exported file. A terminal gets it with control characters escaped."""

    pieces: Iterable[str] = ()
