"""Render a result as text. A `Style` says whether there is a terminal, and whether it has colours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from .. import codec
from ..errors import NotSerializable
from ..model import ABSENT, PathChange, SealedText, SealedValue
from ..states.changes import SIGNS, Change, Diff
from .results import (
    ActionResult,
    Changes,
    Chart,
    DiffResult,
    Explanation,
    Record,
    Result,
    Stream,
    Table,
    Text,
    ValueResult,
    plural,
)

_NO_WIDTH = "\u034f"
_COLOURS = {"+": "32", "-": "31", "~": "33", "…": "2"}
_CELL_COLUMNS = 60
_CHART_ROWS = 8  # at least
_EXCERPT_CHARACTERS = 200  # of a value in a pipe
_VALUE_BYTES = 40_000  # of a value at a terminal
_SIDE_CHARACTERS = 200  # of the value before or after a change
_MAX_PATHS = 50  # changes inside one value
_MAX_LINES = 40  # of one text
_ALIGNED_ROWS = 1000  # rows that decide the widths of the columns


class Style(Struct, frozen=True):
    """The format (or "" for the default one), whether the output is a terminal, its colours, columns and lines.

    Columns of 0 are those of the terminal that the process has, and lines of 0 a half of those.
    """

    format: str = ""
    terminal: bool = False
    colour: bool = False
    columns: int = 0
    lines: int = 0

    def paint(self, text: str, sign: str) -> str:
        """Return a text in the colour of a sign."""
        return f"\033[{_COLOURS[sign]}m{text}\033[0m" if self.colour and sign in _COLOURS else text


def escape_control_characters(text: str) -> str:
    """Replace everything a terminal would obey (controls, escapes, bidi marks) by symbols. O(length)."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else _symbol(sign) for sign in text)


def escape_cell(text: str) -> str:
    """Escape a text for a place in a row: also the signs whose width differs between terminals. O(length).

    The selectors that make a character an emoji, or text, become a sign of no width. Positions in the text stay.
    """
    return escape_control_characters(text).replace("\ufe0e", _NO_WIDTH).replace("\ufe0f", _NO_WIDTH)


def columns_of(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # the dashboard paints by it; an import that most commands do not need

    return cell_len(text)


def pad(text: str, width: int) -> str:
    """Return a line in exactly `width` columns: cut at its end, or filled with blanks."""
    if width <= 0:
        return ""
    if text.isascii():
        return text.ljust(width) if len(text) <= width else text[: width - 1] + "…"
    from rich.cells import set_cell_size

    return set_cell_size(text, width) if columns_of(text) <= width else set_cell_size(text, width - 1) + "…"


def escape_lines(text: str) -> str:
    """Escape the control characters of a text and keep its lines. O(length)."""
    return "\n".join(escape_control_characters(line) for line in text.split("\n"))


def _symbol(sign: str) -> str:
    code = ord(sign)
    if code < 32:
        return chr(0x2400 + code)
    if code == 127:
        return "␡"
    return sign if sign in ("\u3000", "\u00a0") else "\ufffd"


def render(result: Result, style: Style) -> Iterator[str]:
    """Yield the text of a result in pieces. Streams if the result streams."""
    if isinstance(result, ValueResult):
        yield _value(result.data, style)
    elif isinstance(result, Table):
        yield from _table(result, style)
    elif isinstance(result, Explanation):
        yield from _explanation(result, style)
    elif isinstance(result, DiffResult):
        assert result.diff is not None
        yield from _diff(result, result.diff, style)
    elif isinstance(result, Changes):
        for change in result.changes:
            yield from _change(change, style) if _pretty(style) else (_json(_as_data(change)) + "\n",)
    elif isinstance(result, Record):
        yield from _record(result, style)
    elif isinstance(result, ActionResult):
        if style.format in ("json", "jsonl"):
            yield _json(result.data) + "\n" if result.data else ""
        elif result.name:
            yield result.name + "\n"
    elif isinstance(result, Text):
        yield result.text
    elif isinstance(result, Stream):
        for piece in result.pieces:
            yield escape_lines(piece) if style.terminal else piece


def _pretty(style: Style) -> bool:
    return style.format in ("pretty", "table") or (not style.format and style.terminal)


def _json(value: Any) -> str:
    try:
        return codec.encode(value).decode()
    except NotSerializable:  # a path whose bytes are not UTF-8
        return codec.encode(_replace_surrogates(value)).decode()


def _replace_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, dict):
        return {key: _replace_surrogates(item) for key, item in value.items()}
    return [_replace_surrogates(item) for item in value] if isinstance(value, list | tuple) else value


def _json_array(items: Iterable[Any]) -> Iterator[str]:
    """Yield a JSON array, one item a line."""
    separator = "[\n"
    for item in items:
        yield f"{separator}  {_json(item)}"
        separator = ",\n"
    yield "[]\n" if separator == "[\n" else "\n]\n"


def _value(data: bytes, style: Style) -> str:
    if style.format == "raw" and data.startswith(b'"'):
        return str(codec.decode(data))  # no newline: exactly the string
    if not _pretty(style):
        return data.decode() + "\n"
    text = codec.pretty(data)
    if style.format or not style.terminal or len(text) <= _VALUE_BYTES:
        return escape_lines(text.decode()) + "\n"
    start = escape_lines(text[:_VALUE_BYTES].decode(errors="ignore"))
    return f"({len(data):,} bytes, only the start is shown; --format json prints all)\n{start}…\n"


def _record(result: Record, style: Style) -> Iterator[str]:
    data = result.data
    if not _pretty(style):
        yield _json(data) + "\n"
        return
    lines = result.lines or [
        (name, value if isinstance(value, str) and name != "value" else _json(value)) for name, value in data.items()
    ]
    lines = [(escape_cell(name), text) for name, text in lines]
    width = max(columns_of(name) for name, _ in lines)
    for name, text in lines:
        yield f"{pad(name, width)}  {escape_control_characters(text)}\n"


def _table(result: Table, style: Style) -> Iterator[str]:
    if isinstance(result, Chart) and (style.format == "pretty" or (not style.format and style.terminal)):
        yield from _chart(result, style)
    elif style.format == "json":
        yield from _json_array(_as_object(result.columns, row) for row in result.rows)
    elif style.format == "jsonl":
        for row in result.rows:
            yield _json(_as_object(result.columns, row)) + "\n"
    elif style.format == "raw" or (not style.format and not style.terminal) or result.at_once:
        for row in result.rows:
            cells = _cells(result, row, 0 if style.format else _EXCERPT_CHARACTERS)
            yield ("\t".join(cells) if result.plain is None else cells[result.plain]) + "\n"
    elif style.format != "table" and result.plain is not None and result.columns[0] == "key":
        for row in result.rows:
            yield escape_control_characters(_cell(row[result.plain])) + "\n"
    else:
        yield from _aligned(result, style)


def _chart(result: Chart, style: Style) -> Iterator[str]:
    """Yield the chart of a number, between what it is and the time that it covers. Masked values are left out."""
    from shutil import get_terminal_size

    from .chart import SPREAD, chart, short

    rows = [row for row in result.rows if isinstance(row[2], int | float)]
    if not rows:
        yield "masked values are not drawn\n"
        return
    values = [row[2] for row in rows]
    left = f", {plural(result.without_number, 'version')} without a number" if result.without_number else ""
    title = f"{result.title}  {plural(len(rows), 'version')}, {short(values[0])} → {short(values[-1])}{left}"
    size = get_terminal_size()
    height = style.lines or (size.lines // 2 if style.terminal else 0)
    lines = chart(values, (style.columns or size.columns) - 1, max(_CHART_ROWS, height - 2))
    title += f", {SPREAD} from least to greatest" if any(SPREAD in line for line in lines) else ""
    yield escape_control_characters(title) + "\n"
    yield from (f"{line}\n" for line in lines)
    first, last = (f"r{row[0]} {row[1][:19].replace('T', ' ')}" for row in (rows[0], rows[-1]))
    margin = " " * (lines[0].index("┤") + 1)
    yield f"{margin}{first}\n" if len(rows) == 1 else f"{margin}{first} … {last}\n"


def _aligned(result: Table, style: Style) -> Iterator[str]:
    are_values = [name == "value" for name in result.columns]  # where None is the value null; elsewhere it is not known
    rows = (
        tuple("" if cell is None and not is_value else cell for cell, is_value in zip(row, are_values, strict=True))
        for row in result.rows
    )
    head: list[list[str]] = []
    for row in rows:
        head.append([_short(cell) for cell in _cells(result, row, _CELL_COLUMNS)])
        if len(head) == _ALIGNED_ROWS:
            break
    if not head:
        return
    widths = [max(len(name), *(columns_of(row[index]) for row in head)) for index, name in enumerate(result.columns)]
    yield style.paint(_line(list(result.columns), widths), "…") + "\n"
    for cells in head:
        yield _line(cells, widths) + "\n"
    for row in rows:
        yield _line([_short(cell) for cell in _cells(result, row, _CELL_COLUMNS)], widths) + "\n"


def _line(cells: list[str], widths: list[int]) -> str:
    filled = (pad(cell, max(width, columns_of(cell))) for cell, width in zip(cells, widths, strict=True))
    return "  ".join(filled).rstrip()


def _cells(result: Table, row: tuple[Any, ...], room: int) -> list[str]:
    """Return the texts of a row. A result with `excerpt` shortens its value to `room` characters; 0: no limit."""
    named = zip(result.columns, row, strict=True)
    if result.excerpt is None or not room:
        return [_cell(cell, name == "value") for name, cell in named]
    return [result.excerpt(cell, room) if name == "value" else _cell(cell) for name, cell in named]


def _cell(value: Any, as_json: bool = False) -> str:
    """Return a value as JSON, so that "12" and 12 differ, and a name or a time as it is."""
    if value is ABSENT:
        return "(deleted)"
    if isinstance(value, SealedValue):
        return repr(value) if as_json else f"{value.size} {value!r}"
    return value if isinstance(value, str) and not as_json else _json(value)


def _short(text: str) -> str:
    start = escape_cell(text[: _CELL_COLUMNS + 1])
    if columns_of(start) > _CELL_COLUMNS:
        return pad(start, _CELL_COLUMNS)
    return start if len(text) <= _CELL_COLUMNS + 1 else start + "…"  # marks of no width: cut before it was full


def _as_object(columns: tuple[str, ...], row: tuple[Any, ...]) -> dict[str, Any]:
    """Return a row as an object. That of a deleted version has no value, and one that no key opens is `sealed`."""
    named: dict[str, Any] = {}
    for name, cell in zip(columns, row, strict=True):
        if isinstance(cell, SealedText):
            named["sealed"] = True
        elif isinstance(cell, SealedValue):
            named |= {"bytes": cell.size, "sealed": True}
        elif cell is ABSENT:
            named["deleted"] = True
        else:
            named[name] = cell
    return named


def _as_data(change: Change, keys_only: bool = False) -> dict[str, Any]:
    data: dict[str, Any] = {"key": change.key, "kind": change.kind}
    if keys_only:
        return data
    sides = {"before": change.before, "after": change.after}
    data |= {name: side for name, side in sides.items() if side is not ABSENT}
    if change.kind == "changed":
        data["paths"] = [
            {"path": inner.path, "kind": inner.kind}
            | {name: side for name, side in (("before", inner.before), ("after", inner.after)) if side is not ABSENT}
            for inner in change.paths
        ]
    return data


def _diff(result: DiffResult, diff: Diff, style: Style) -> Iterator[str]:
    if result.patch:
        yield _json(diff.as_json_patch()) + "\n"
    elif style.format == "json":
        yield from _json_array(_as_data(change, result.keys_only) for change in diff)
    elif style.format == "jsonl":
        for change in diff:
            yield _json(_as_data(change, result.keys_only)) + "\n"
    else:
        coloured = replace(style, colour=style.colour and style.format != "raw")
        if diff:
            yield _counts(diff) + "\n"
        for change in diff:
            yield f"{_headline(change, coloured)}\n" if result.keys_only else "".join(_change(change, coloured))


def _explanation(result: Explanation, style: Style) -> Iterator[str]:
    if style.format in ("json", "jsonl"):
        changes = {} if result.diff is None else {"changes": [_as_data(change) for change in result.diff]}
        yield _json({**result.data, **changes}) + "\n"
        return
    yield from _record(Record(data=result.data, lines=result.lines), replace(style, format="pretty"))
    if result.diff is not None:
        yield from _diff(result, result.diff, style)


def _counts(diff: Diff) -> str:
    counts = diff.counts
    total = sum(counts.values())
    kinds = ", ".join(f"{SIGNS[kind]}{count} {kind}" for kind, count in counts.items() if count)
    return f"{plural(total, 'key')} differ{'' if total > 1 else 's'}: {kinds}"


def _headline(change: Change, style: Style) -> str:
    sign = SIGNS[change.kind]
    return style.paint(f"{sign} {escape_control_characters(change.key)}", sign)


def _change(change: Change, style: Style) -> Iterator[str]:
    if change.kind != "changed":
        value = change.after if change.kind == "added" else change.before
        yield f"{_headline(change, style)}  {_side(value)}\n"
        return
    first = change.paths[0]
    if not first.path and not _by_line(first):
        yield f"{_headline(change, style)}  {_side(first.before)} → {_side(first.after)}\n"
        return
    yield _headline(change, style) + "\n"
    for number, inner in enumerate(change.paths):
        if number == _MAX_PATHS:
            yield f"    … {len(change.paths) - _MAX_PATHS:,} more changes\n"
            break
        sign = SIGNS[inner.kind]
        title = style.paint(f"{sign} {escape_control_characters(inner.path) or '(the whole value)'}", sign)
        if _by_line(inner):
            yield f"    {title}\n"
            yield from _text_lines(inner.before, inner.after, style)
        elif inner.kind == "changed":
            yield f"    {title}  {_side(inner.before)} → {_side(inner.after)}\n"
        else:
            yield f"    {title}  {_side(inner.after if inner.kind == 'added' else inner.before)}\n"


def _by_line(change: PathChange) -> bool:
    before, after = change.before, change.after
    return isinstance(before, str) and isinstance(after, str) and "\n" in before + after


def _text_lines(before: str, after: str, style: Style) -> Iterator[str]:
    from ..states.values.json_diff import line_diff

    lines = line_diff(before, after)
    for mark, line in lines[:_MAX_LINES]:
        text = line if len(line) <= _SIDE_CHARACTERS else line[: _SIDE_CHARACTERS - 1] + "…"
        yield "      " + style.paint(f"{mark} {escape_control_characters(text)}", mark) + "\n"
    if len(lines) > _MAX_LINES:
        yield f"      … {len(lines) - _MAX_LINES:,} more lines\n"


def _side(value: Any) -> str:
    text = _json(value)
    return escape_control_characters(
        text if len(text) <= _SIDE_CHARACTERS else f"{text[: _SIDE_CHARACTERS - 1]}… ({len(text):,} characters)"
    )
