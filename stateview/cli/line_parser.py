"""Parse a line of the shell into words, comment, pipe and redirect.

    command args… [--options] [| shell command] [> FILE | >> FILE]     # comment

`save k {"a": 1, "b": "x | y"} | jq .a` needs no quotes: where the table of commands has a value, JSON is read up to
its own end. All other words are raw, or quoted with '…' or "…".
"""

from __future__ import annotations

import json
from typing import NamedTuple

from ..codec import MAX_DEPTH
from ..states.conditions import OPERATORS
from ..states.values.value_text import USE_STRING, caret_line
from .definition import BY_NAME, Command
from .exit_codes import UsageError
from .parser import options_of

_SPACE = " \t\r\n"
_OPEN = "{["


class Word(NamedTuple):
    """A word: its text, its start and end in the line, and its slot ("command", "option", "key", …)."""

    text: str
    start: int
    end: int
    slot: str


class ParsedLine(NamedTuple):
    """A line: its words, the system command it is piped into, and the file its output goes to.

    `append` adds to the file. `bang` is the system command of a line that starts with `!`.
    """

    words: list[Word]
    pipe: str = ""
    file: str = ""
    append: bool = False
    bang: str = ""

    @property
    def texts(self) -> list[str]:
        """The words as `parser.parse` takes them."""
        return [word.text for word in self.words]


class IncompleteLine(UsageError):
    """A bracket or a quote is open, so the next line continues this one."""


class LineSyntaxError(UsageError):
    """The line is not valid; `position` is the index of the error."""

    def __init__(self, message: str, hint: str = "", position: int = 0) -> None:
        super().__init__(message, hint)
        self.position = position


_decoder = json.JSONDecoder()


def read_line(text: str) -> ParsedLine:
    """Parse a line. O(length).

    Raises:
        IncompleteLine: the next line continues it.
        LineSyntaxError: a quote, JSON, a pipe or a redirect is not valid, or the line contains a NUL.

    """
    if "\0" in text:  # no system command and no file name can contain it
        raise LineSyntaxError("the line contains a NUL", 'Write "\\u0000" in JSON', text.index("\0"))
    stripped = text.lstrip()
    if stripped.startswith("!"):
        return ParsedLine([], bang=stripped[1:].strip())
    return _LineParser(text).read()


class _LineParser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.index = 0
        self.words: list[Word] = []
        self.command: Command | None = None
        self.position = 0
        self.pending_kind = ""
        self.after_dashes = False

    def read(self) -> ParsedLine:
        text = self.text
        while True:
            while self.index < len(text) and text[self.index] in _SPACE:
                self.index += 1
            if self.index == len(text) or text[self.index] == "#":
                return ParsedLine(self.words)
            if text[self.index] == "|":
                pipe = text[self.index + 1 :].strip()
                if not pipe:
                    raise LineSyntaxError(
                        "a command is missing after |", "Give a system command, such as | jq .name", self.index
                    )
                return ParsedLine(self.words, pipe)
            if text[self.index] == ">" and not self._expects_operator():
                return self._redirect()
            self._word()

    def _kind(self) -> str:
        args = self.command.args if self.command else ()
        return args[min(self.position, len(args) - 1)].kind if args else "argument"

    def _expects_operator(self) -> bool:
        """Return whether `>` is an operator here: in a condition the first `>` compares, and a later `>` redirects."""
        return self._kind() == "condition" and not any(word.text in OPERATORS for word in self.words)

    def _redirect(self) -> ParsedLine:
        start = self.index
        append = self.text.startswith(">>", start)
        self.index = start + (2 if append else 1)
        while self.index < len(self.text) and self.text[self.index] in _SPACE:
            self.index += 1
        file = self._quoted() if self.text[self.index : self.index + 1] in ("'", '"') else self._raw("#")
        rest = self.text[self.index :].strip()
        if not file or (rest and not rest.startswith("#")):
            raise LineSyntaxError("exactly one file name must follow >", "Quote a value or name that contains >", start)
        return ParsedLine(self.words, file=file, append=append)

    def _word(self) -> None:
        slot = self._slot()
        start = self.index
        sign = self.text[start]
        if slot == "value" and (sign in _OPEN or sign == '"'):
            word = self._json()
        elif sign in ("'", '"'):
            word = self._quoted()
        else:
            word = self._raw("|" if self._expects_operator() else "|>")
        if slot == "argument" and sign not in ("'", '"') and len(word) > 1 and word[0] == "-" and not self.after_dashes:
            slot = self._option(word)
        elif self.pending_kind:
            self.pending_kind = ""
        elif self.command is None:
            self.command = BY_NAME.get(word)
            slot = "command"
            if self.command is not None and self.command.args and self.command.args[0].kind == "line":
                self.command = None  # its argument is a line: the next word is the command of that
        else:
            slot = self._kind() if slot == "argument" else slot
            self.position += 1
        self.words.append(Word(word, start, self.index, slot))

    def _slot(self) -> str:
        """Return the slot of the next word, as far as the words before it decide it."""
        if self.pending_kind:
            return "value" if self.pending_kind == "value" else self.pending_kind
        if self.command is None:
            return "argument"
        kind = self._kind()
        if kind == "condition" and self.words[-1].text in OPERATORS:
            return "value"
        if kind == "value" and (self.after_dashes or self.text[self.index] != "-" or self._lone_dash()):
            return "value"
        return "argument"

    def _lone_dash(self) -> bool:
        after = self.text[self.index + 1 : self.index + 2]
        return after == "" or after in _SPACE or after.isdigit() or after in ".|>"

    def _option(self, word: str) -> str:
        if word == "--":
            self.after_dashes = True
            return "option"
        if word[1].isdigit() or word[1] == ".":
            self.position += 1
            return "argument"
        name, equals, _ = word.partition("=")
        option = options_of(self.command).get(name)
        if option is not None and option.kind != "flag" and not equals:
            self.pending_kind = option.kind
        return "option"

    def _json(self) -> str:
        start = self.index
        try:
            _, end = _decoder.raw_decode(self.text, start)
        except (json.JSONDecodeError, RecursionError, ValueError) as error:
            if _unclosed(self.text, start):
                raise IncompleteLine("the value is not complete", "Close its brackets and quotes") from None
            position = getattr(error, "pos", start)
            message = f"not valid JSON: {getattr(error, 'msg', error)}\n{caret_line(self.text, position)}"
            if isinstance(error, RecursionError):
                message = f"the value is nested over {MAX_DEPTH} levels deep"
            raise LineSyntaxError(message, USE_STRING, position) from None
        if end < len(self.text) and self.text[end] not in _SPACE + "|>":
            raise LineSyntaxError(
                f"unexpected text after the value\n{caret_line(self.text, end)}", "Put a space before it", end
            )
        self.index = end
        return self.text[start:end]

    def _quoted(self) -> str:
        quote, start = self.text[self.index], self.index
        signs: list[str] = []
        index = start + 1
        while index < len(self.text):
            sign = self.text[index]
            if sign == quote:
                self.index = index + 1
                if self.index < len(self.text) and self.text[self.index] not in _SPACE + "|>":
                    raise LineSyntaxError(
                        "unexpected text after the closing quote", "Put a space before it", self.index
                    )
                return "".join(signs)
            if sign == "\\" and quote == '"' and index + 1 < len(self.text):
                index += 1
                sign = self.text[index]
            signs.append(sign)
            index += 1
        raise IncompleteLine(f"the {quote} is not closed")

    def _raw(self, stops: str) -> str:
        start = self.index
        while self.index < len(self.text) and self.text[self.index] not in _SPACE + stops:
            self.index += 1
        return self.text[start : self.index]


def _unclosed(text: str, start: int) -> bool:
    """Return whether the JSON at an index ends with an open bracket. A string cannot continue in the next line."""
    depth, quoted, index = 0, False, start
    while index < len(text):
        sign = text[index]
        if quoted:
            if sign == "\\":
                index += 1
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
        index += 1
        if depth == 0 and not quoted:
            return False
    return depth > 0 and not quoted


def completion_words(text: str) -> tuple[list[str], int] | None:
    """Return the words of a line for completion, and the start of the last one, which is being typed.

    Returns None if nothing can be completed: in a line that is not valid, after a pipe or redirect, and after `!`.
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
    """Quote a word for a line, if it needs quotes."""
    if any(sign in " \t\n|>#'\"" for sign in text):
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return text
