"""How a line of the shell is taken apart."""

from __future__ import annotations

import pytest

from stateview.cli.exit_codes import UsageError
from stateview.cli.line_parser import IncompleteLine, LineSyntaxError, read_line


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("   # all comment", []),
        ("load job /a # the rest", ["load", "job", "/a"]),
        ('save k {"a": 1, "b": "x | y > z # w"}', ["save", "k", '{"a": 1, "b": "x | y > z # w"}']),
        ("save k it's", ["save", "k", "it's"]),
        ('save k "a b" --ttl 5', ["save", "k", '"a b"', "--ttl", "5"]),
        ("save 'a key' [1, 2]", ["save", "a key", "[1, 2]"]),
        ('save "a \\"key" 1', ["save", 'a "key', "1"]),
        ("save k -5", ["save", "k", "-5"]),
        ("save k -", ["save", "k", "-"]),
        ("save k --string {x", ["save", "k", "--string", "{x"]),
        ('save --value {"a": 1} --key k', ["save", "--value", '{"a": 1}', "--key", "k"]),
        ("save k '{\"a\": 1}'", ["save", "k", '{"a": 1}']),
        ('save k {\n  "a": [\n1]}', ["save", "k", '{\n  "a": [\n1]}']),
        ("assert job /a > 5", ["assert", "job", "/a", ">", "5"]),
        ("assert job /a >= 5", ["assert", "job", "/a", ">=", "5"]),
        ('assert job == {"a": 1}', ["assert", "job", "==", '{"a": 1}']),
        ("keys task:*", ["keys", "task:*"]),
        ("alias d diff a --summary", ["alias", "d", "diff", "a", "--summary"]),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    if "{x" in text:
        with pytest.raises(IncompleteLine):
            read_line(text)
        return
    assert read_line(text).texts == words


@pytest.mark.parametrize(
    ("text", "pipe", "file", "append"),
    [
        ("load job | jq '.a | .b'", "jq '.a | .b'", "", False),
        ("keys > keys.txt", "", "keys.txt", False),
        ("keys >> 'my keys.txt' # more", "", "my keys.txt", True),
        ("save k [1]|cat", "cat", "", False),
        ("assert job /a > 5 > out", "", "out", False),
    ],
)
def test_pipes_and_redirects(text: str, pipe: str, file: str, append: bool) -> None:
    line = read_line(text)
    assert (line.pipe, line.file, line.append) == (pipe, file, append)


def test_bang() -> None:
    assert read_line("! echo 'it | works'").bang == "echo 'it | works'"


@pytest.mark.parametrize("text", ['save k {"a": 1,', "save k [", "save 'open", 'load "open', 'save k {"a": [1, {'])
def test_what_goes_on(text: str) -> None:
    with pytest.raises(IncompleteLine):
        read_line(text)


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ('save k {"a": 1, }', 16),
        ("save k [1 2]", 10),
        ('save k "abc', 7),
        ('save k {"a"}x', 11),
        ("load k |", 7),
        ("keys >", 5),
        ("keys > a b", 5),
    ],
)
def test_what_is_broken_and_where(text: str, position: int) -> None:
    with pytest.raises(LineSyntaxError) as caught:
        read_line(text)
    assert not isinstance(caught.value, IncompleteLine)
    assert abs(caught.value.position - position) <= 1


def test_words_know_where_they_stand() -> None:
    line = read_line('save  k {"a": 1} --ttl 5')
    assert [line_text(line, word.start, word.end, 'save  k {"a": 1} --ttl 5') for word in line.words] == [
        "save", "k", '{"a": 1}', "--ttl", "5",
    ]  # fmt: skip
    assert [word.slot for word in line.words] == ["command", "key", "value", "option", "duration"]


def line_text(line: object, start: int, end: int, text: str) -> str:
    return text[start:end]


def test_a_long_line_is_read_in_one_pass() -> None:
    text = "save k [" + ",".join(["1"] * 200_000) + "] | cat"
    assert len(read_line(text).words[2].text) == 400_001


def test_usage_errors_are_of_one_kind() -> None:
    assert issubclass(LineSyntaxError, UsageError)
    assert issubclass(IncompleteLine, UsageError)
