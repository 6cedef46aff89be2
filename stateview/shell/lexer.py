"""Colour a line while it is typed, so that an unknown command or invalid JSON shows before Enter."""

from __future__ import annotations

import re
from collections.abc import Callable

from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.lexers import Lexer

from ..cli.definition import BY_NAME
from ..cli.exit_codes import UsageError
from ..cli.line_parser import IncompleteLine, LineSyntaxError, ParsedLine, read_line
from .session import Shell

STYLES = {
    "command": "bold ansicyan",
    "unknown": "ansired underline",
    "option": "ansiyellow",
    "key": "bold",
    "path": "ansiblue",
    "ref": "ansimagenta",
    "string": "ansigreen",
    "number": "ansiblue",
    "word": "ansimagenta",
    "broken": "ansired underline",
    "comment": "ansibrightblack",
    "pipe": "bold",
}
_JSON = re.compile(r'(?P<string>"(?:[^"\\]|\\.)*")|(?P<number>-?\d[\d.eE+-]*)|(?P<word>true|false|null)')
_SLOTS = {"ref": "ref", "checkpoint": "ref", "key": "key", "pattern": "key", "pointer": "path", "condition": "path"}
_MAX_COLOURED_CHARACTERS = 20_000  # a longer text, such as a paste of a megabyte, stays plain


class ShellLexer(Lexer):
    """Colours the words of a line by their slots in the table of commands."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def lex_document(self, document: Document) -> Callable[[int], StyleAndTextTuples]:
        """Return a function that gives the styled characters of a line by its number."""
        text = document.text
        styles = [""] * len(text) if len(text) <= _MAX_COLOURED_CHARACTERS else []
        if styles:
            self._paint(text, styles)
        starts = [0]
        for line in document.lines:
            starts.append(starts[-1] + len(line) + 1)

        def pieces(number: int) -> StyleAndTextTuples:
            line = document.lines[number]
            if not styles:
                return [("", line)]
            start = starts[number]
            return [(styles[start + column], sign) for column, sign in enumerate(line)]

        return pieces

    def _paint(self, text: str, styles: list[str]) -> None:
        broken = -1
        line = ParsedLine([])
        try:
            line = read_line(text)
        except LineSyntaxError as error:
            broken = error.position
            line = _valid_start(text, broken)
        except IncompleteLine:
            line = _valid_start(text, len(text))
        except UsageError:
            return

        def fill(start: int, end: int, name: str) -> None:
            styles[start:end] = [f"class:{name}"] * (min(end, len(text)) - start)

        commands = {*BY_NAME, *self._shell.aliases}
        for word in line.words:
            if word.slot == "command":
                fill(word.start, word.end, "command" if word.text in commands and word.text[:1] != "_" else "unknown")
            elif word.slot == "option":
                fill(word.start, word.end, "option")
            elif word.slot == "value":
                for match in _JSON.finditer(text, word.start, word.end):
                    fill(match.start(), match.end(), match.lastgroup or "")
            elif word.slot in _SLOTS:
                fill(word.start, word.end, _SLOTS[word.slot])
        end = line.words[-1].end if line.words else 0
        rest = text[end:]
        if line.pipe:
            fill(end + rest.index("|"), end + rest.index("|") + 1, "pipe")
        elif rest.lstrip().startswith("#"):
            fill(end, len(text), "comment")
        if broken >= 0:
            fill(min(broken, len(text) - 1), len(text), "broken")


def _valid_start(text: str, end: int) -> ParsedLine:
    """Return the longest start of a line, up to `end`, that can be parsed."""
    while end > 0:
        try:
            return read_line(text[:end])
        except UsageError:
            end = max(text.rfind(" ", 0, end), 0)
    return ParsedLine([])
