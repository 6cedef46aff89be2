"""A line of the shell taken apart: words, comment, pipe and redirect. Only the VALUE slot is read as JSON.

    command args… [--options] [| shell command] [> FILE | >> FILE]     # comment

`save k {"a": 1, "b": "x | y"} | jq .a` needs no quoting: where the table says that a value comes, JSON is read to its
own end. Elsewhere words are raw, or quoted with '…' or "…".
"""

from __future__ import annotations

import json
from typing import NamedTuple

from .conditions import OPERATORS
from .definition import BY_NAME, Command
from .exit_codes import UsageError
from .parser import options_of
from .values import caret_line

_SPACE = " \t\r\n"
_OPEN = "{["


class Word(NamedTuple):
    """A word: its text, where it stands in the line, and what slot it fills ("command", "option", "key", …)."""

    text: str
    start: int
    end: int
    slot: str


class ParsedLine(NamedTuple):
    """A line: its words, the shell command that it is piped into, and the file that it is written to."""

    words: list[Word]
    pipe: str = ""
    file: str = ""
    append: bool = False
    bang: str = ""

    @property
    def texts(self) -> list[str]:
        """The words as `bind` takes them."""
        return [word.text for word in self.words]


class IncompleteLine(UsageError):
    """The line goes on: a bracket or a quote is open."""


class LineSyntaxError(UsageError):
    """The line cannot be read; `position` is where."""

    def __init__(self, message: str, hint: str = "", position: int = 0) -> None:
        super().__init__(message, hint)
        self.position = position


_decoder = json.JSONDecoder()


def read_line(text: str) -> ParsedLine:
    """Take a line apart. O(length).

    Raises:
        Incomplete: more lines belong to it.
        Broken: a quote or JSON that cannot be read, a pipe to nothing, or a NUL.

    """
    if "\0" in text:  # no name or value holds one as it is, and no shell command or file can
        raise LineSyntaxError("the line holds a NUL", 'In JSON it is "\\u0000"', text.index("\0"))
    stripped = text.lstrip()
    if stripped.startswith("!"):
        return ParsedLine([], bang=stripped[1:].strip())
    return _LineParser(text).read()


class _LineParser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.place = 0
        self.words: list[Word] = []
        self.command: Command | None = None
        self.position = 0
        self.pending = ""
        self.plain = False

    def read(self) -> ParsedLine:
        text = self.text
        while True:
            while self.place < len(text) and text[self.place] in _SPACE:
                self.place += 1
            if self.place == len(text) or text[self.place] == "#":
                return ParsedLine(self.words)
            if text[self.place] == "|":
                pipe = text[self.place + 1 :].strip()
                if not pipe:
                    raise LineSyntaxError(
                        "nothing stands after the |", "Give a shell command, such as | jq .name", self.place
                    )
                return ParsedLine(self.words, pipe)
            if text[self.place] == ">" and not self._operator_due():
                return self._redirect()
            self._word()

    def _kind(self) -> str:
        args = self.command.args if self.command else ()
        return args[min(self.position, len(args) - 1)].kind if args else "argument"

    def _operator_due(self) -> bool:
        """In a condition, the first `>` compares and only a later one redirects."""
        return self._kind() == "condition" and not any(word.text in OPERATORS for word in self.words)

    def _redirect(self) -> ParsedLine:
        start = self.place
        append = self.text.startswith(">>", start)
        self.place = start + (2 if append else 1)
        while self.place < len(self.text) and self.text[self.place] in _SPACE:
            self.place += 1
        file = self._quoted() if self.text[self.place : self.place + 1] in ("'", '"') else self._raw("#")
        rest = self.text[self.place :].strip()
        if not file or (rest and not rest.startswith("#")):
            raise LineSyntaxError("one file name stands after the >", "A > inside a value or name needs quotes", start)
        return ParsedLine(self.words, file=file, append=append)

    def _word(self) -> None:
        slot = self._slot()
        start = self.place
        sign = self.text[start]
        if slot == "value" and (sign in _OPEN or sign == '"'):
            word = self._json()
        elif sign in ("'", '"'):
            word = self._quoted()
        else:
            word = self._raw("|" if self._operator_due() else "|>")
        if slot == "argument" and sign not in ("'", '"') and len(word) > 1 and word[0] == "-" and not self.plain:
            slot = self._option(word)
        elif self.pending:
            self.pending = ""
        elif self.command is None:
            self.command = BY_NAME.get(word)
            slot = "command"
        else:
            slot = self._kind() if slot == "argument" else slot
            self.position += 1
        self.words.append(Word(word, start, self.place, slot))

    def _slot(self) -> str:
        """What the next word is, as far as one can know before it is read."""
        if self.pending:
            return "value" if self.pending == "value" else self.pending
        if self.command is None:
            return "argument"
        kind = self._kind()
        if kind == "condition" and self.words[-1].text in OPERATORS:
            return "value"
        if kind == "value" and (self.plain or self.text[self.place] != "-" or self._lone_dash()):
            return "value"
        return "argument"

    def _lone_dash(self) -> bool:
        after = self.text[self.place + 1 : self.place + 2]
        return after == "" or after in _SPACE or after.isdigit() or after in ".|>"

    def _option(self, word: str) -> str:
        if word == "--":
            self.plain = True
            return "option"
        if word[1].isdigit() or word[1] == ".":
            self.position += 1
            return "argument"
        name, equals, _ = word.partition("=")
        option = options_of(self.command).get(name)
        if option is not None and option.kind != "flag" and not equals:
            self.pending = option.kind
        return "option"

    def _json(self) -> str:
        start = self.place
        try:
            _, end = _decoder.raw_decode(self.text, start)
        except (json.JSONDecodeError, RecursionError, ValueError) as error:
            if _unclosed(self.text, start):
                raise IncompleteLine("the value is not finished", "Close its brackets and quotes") from None
            position = getattr(error, "pos", start)
            message = getattr(error, "msg", str(error))
            raise LineSyntaxError(
                f"not valid JSON: {message}\n{caret_line(self.text, position)}",
                "To save it as text, use --string",
                position,
            ) from None
        if end < len(self.text) and self.text[end] not in _SPACE + "|>":
            raise LineSyntaxError(
                f"something follows the value\n{caret_line(self.text, end)}", "Put a space before it", end
            )
        self.place = end
        return self.text[start:end]

    def _quoted(self) -> str:
        quote, start = self.text[self.place], self.place
        out: list[str] = []
        place = start + 1
        while place < len(self.text):
            sign = self.text[place]
            if sign == quote:
                self.place = place + 1
                if self.place < len(self.text) and self.text[self.place] not in _SPACE + "|>":
                    raise LineSyntaxError("something follows the closing quote", "Put a space before it", self.place)
                return "".join(out)
            if sign == "\\" and quote == '"' and place + 1 < len(self.text):
                place += 1
                sign = self.text[place]
            out.append(sign)
            place += 1
        raise IncompleteLine(f"the {quote} is not closed")

    def _raw(self, stops: str) -> str:
        start = self.place
        while self.place < len(self.text) and self.text[self.place] not in _SPACE + stops:
            self.place += 1
        return self.text[start : self.place]


def _unclosed(text: str, start: int) -> bool:
    """Whether the JSON that begins here ends with a bracket or a string open."""
    depth, quoted, place = 0, False, start
    while place < len(text):
        sign = text[place]
        if quoted:
            if sign == "\\":
                place += 1
            elif sign == '"':
                quoted = False
        elif sign == '"':
            quoted = True
        elif sign in "{[":
            depth += 1
        elif sign in "}]":
            depth -= 1
            if depth <= 0:
                return False
        place += 1
        if depth == 0 and not quoted:
            return False
    return depth > 0 and not quoted  # a JSON string does not go on in the next line


def completion_words(text: str) -> tuple[list[str], int] | None:
    """For completion: the words of a line up to its end, the last being typed, and where that one starts in it.

    None where nothing can be offered: a line that cannot be read yet, a pipe, a redirect, a command of the system.
    """
    if text.lstrip().startswith("!"):
        return None
    try:
        line = read_line(text)
    except (IncompleteLine, UsageError):
        return None
    if line.pipe or line.file:
        return None
    if not text or text[-1] in _SPACE:
        return [*line.texts, ""], len(text)
    return (line.texts, line.words[-1].start) if line.words else None


def quote(text: str) -> str:
    """A word as it must stand in a line."""
    if any(sign in " \t\n|>#'\"" for sign in text):
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return text
