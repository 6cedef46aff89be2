"""Hold the user's texts to plain words: banned phrases, and sentences that are too long.

Each source is a name and a text. `documents` yields the Markdown files; `help_texts` yields the help of each command.
`messages` yields the user messages in the source code. It is checked for banned phrases only.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Set
from pathlib import Path
from typing import NamedTuple

import pytest

from stateview.cli.definition import COMMANDS

ROOT = Path(__file__).parent.parent
MAX_SENTENCE_WORDS = 40

BANNED = (
    "all the same",
    "as of there",
    "at one stroke",
    "for the one who",
    "gives back the space",
    "gone on with",
    "hears of",
    "is told",
    "let go",
    "lets go",
    "nothing can show",
    "of which",
    "one may",
    "one looks",
    "said to be",
    "save what",
    "says it all",
    "tells of",
    "what goes",
    "what of them",
    "what there is",
    "which it tells",
    "who is said",
    "who reads",
    "whom it",
)

_FENCE = re.compile(r"\s*(```|~~~)")
_NEW_BLOCK = re.compile(r"\s*([-*+]|\d+\.)\s|\s*#|\s*\||\s*>|\s*!\[")
_RULE = re.compile(r"[\s|:-]+")
_SENTENCE_END = re.compile(r"(?<=[.!?])[)\"'*_]*\s+(?=[^a-z]|stateview\b)")  # the name begins sentences, too


class Block(NamedTuple):
    """A run of lines that belong together: a paragraph, a list item, a table cell, a line of code."""

    line: int
    text: str
    code: bool = False


def blocks(text: str) -> Iterator[Block]:
    """Split Markdown, or plain text, into blocks. `Block.line` is the number of its first line."""
    held: list[str] = []
    first = 0
    fenced = False
    for number, line in enumerate([*text.splitlines(), ""], 1):
        is_fence = _FENCE.match(line) is not None
        if held and (is_fence or fenced or not line.strip() or _NEW_BLOCK.match(line)):
            yield Block(first, " ".join(held))
            held = []
        if is_fence:
            fenced = not fenced
        elif fenced:
            yield Block(number, line, code=True)
        elif line.lstrip().startswith("|"):
            if not _RULE.fullmatch(line):
                yield from (Block(number, cell.strip()) for cell in re.split(r"(?<!\\)\|", line.strip().strip("|")))
        elif line.strip():
            first = first if held else number
            held.append(line.strip())


def plain(text: str) -> str:
    """Take out what a reader does not read as words: the address of a link, and inline code becomes one word."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return re.sub(r"``[^`]+``|`[^`]+`", "CODE", text)


def sentences(text: str) -> list[str]:
    """Split a block into sentences."""
    return [found for found in _SENTENCE_END.split(plain(text)) if found.strip()]


def banned(name: str, line: int, text: str) -> list[str]:
    """List each banned phrase of a text as `NAME:LINE: fault`."""
    words = " ".join(text.split())
    phrases = [phrase for phrase in BANNED if re.search(rf"\b{re.escape(phrase)}\b", words, re.IGNORECASE)]
    return [f"{name}:{line}: banned phrase {phrase!r} in {words[:80]!r}" for phrase in phrases]


def faults(name: str, text: str, limit: int = MAX_SENTENCE_WORDS) -> list[str]:
    """List each banned phrase and each long sentence as `NAME:LINE: fault`."""
    found = []
    for block in blocks(text):
        found += banned(name, block.line, block.text)
        if block.code:
            continue
        for sentence in sentences(block.text):
            count = len(re.findall(r"[\w@#/.'’…-]*\w[\w@#/.'’…-]*", sentence))
            if count > limit:
                found.append(f"{name}:{block.line}: a sentence of {count} words (at most {limit}): {sentence[:80]!r}")
    return found


def documents() -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each document for users and contributors."""
    paths = [
        ROOT / "README.md",
        ROOT / "SKILL.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "CHANGELOG.md",
        ROOT / "SECURITY.md",
    ]
    for path in [*paths, *sorted((ROOT / "references").glob("*.md"))]:
        yield str(path.relative_to(ROOT)), path.read_text()


def help_texts() -> Iterator[tuple[str, str]]:
    """Yield the help of each command: its summary, its paragraph, its arguments and its options."""
    for command in COMMANDS:
        if command.hidden:
            continue
        parts = [command.help, command.more, *(named.help for named in (*command.args, *command.options))]
        yield f"help {command.name}", "\n\n".join(part for part in parts if part)


class Message(NamedTuple):
    """A string literal that a user can see, and its line. `{}` stands for each replacement field."""

    line: int
    text: str


# The classes whose arguments are user messages, besides all errors, and the variables that hold a message.
MESSAGE_CLASSES = {
    "ActionResult", "Binding", "DashboardCommand", "DiffResult", "Excerpt", "Finding", "NextStep", "Problem", "Table",
}  # fmt: skip
MESSAGE_VARIABLES = {"empty", "hint", "message", "summary"}


def error_classes(trees: Iterable[ast.Module]) -> set[str]:
    """Return the names of `StateException` and of all classes derived from it in the package."""
    bases = {
        node.name: {base.id for base in node.bases if isinstance(base, ast.Name)}
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    errors, more = {"StateException"}, True
    while more:
        derived = {name for name, its_bases in bases.items() if its_bases & errors} - errors
        errors |= derived
        more = bool(derived)
    return errors


def literals(node: ast.AST) -> Iterator[Message]:
    """Yield the string literals inside a node; an f-string is one of them."""
    if isinstance(node, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.Constant) else "{}" for part in node.values]
        yield Message(node.lineno, "".join(map(str, parts)))
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                yield from literals(part.value)
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, str):
            yield Message(node.lineno, node.value)
    else:
        for child in ast.iter_child_nodes(node):
            yield from literals(child)


def messages(tree: ast.Module, classes: Set[str]) -> Iterator[Message]:
    """Yield the user messages of a module: arguments of some classes, and the values of some variables."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            if name in classes:
                yield from (message for part in (*node.args, *node.keywords) for message in literals(part))
        elif isinstance(node, ast.Assign) and MESSAGE_VARIABLES & {getattr(at, "id", "") for at in node.targets}:
            yield from literals(node.value)


@pytest.fixture(scope="module")
def modules() -> dict[str, ast.Module]:
    """All modules of the package, parsed, by name."""
    paths = sorted((ROOT / "stateview").rglob("*.py"))
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in paths}


@pytest.fixture(scope="module")
def classes(modules: dict[str, ast.Module]) -> set[str]:
    """The classes whose arguments are user messages."""
    return MESSAGE_CLASSES | error_classes(modules.values())


CHECKED = [documents, help_texts]  # the sources that are checked for phrases and for the length of sentences
SOURCES = [source for texts in CHECKED for source in texts()]


@pytest.mark.parametrize(("name", "text"), SOURCES, ids=[name for name, _ in SOURCES])
def test_texts_use_plain_words_and_short_sentences(name: str, text: str) -> None:
    found = faults(name, text)
    assert not found, "\n".join(["plain words, please (see CONTRIBUTING.md, Words):", *found])


def test_messages_use_plain_words(modules: dict[str, ast.Module], classes: set[str]) -> None:
    texts = [(name, message) for name, tree in modules.items() for message in messages(tree, classes)]
    assert len({name for name, _ in texts}) > 100
    found = {fault for name, message in texts for fault in banned(name, message.line, message.text)}
    assert not found, "\n".join(["plain words, please (see CONTRIBUTING.md, Words):", *sorted(found)])


def test_messages_are_found_in_errors_results_and_variables(classes: set[str]) -> None:
    source = """
raise UsageError(f"the {name} " "is told", see("help"))
return ActionResult(summary=f"{'all the same'}")
hint = "as of there" if x else ""
print("nothing")
"""
    found = [text for _, text in messages(ast.parse(source), classes)]
    assert found == ["as of there", "", "the {} is told", "help", "{}", "all the same"]
    assert {"UsageError", "KeyNotFound", "PipeFailed"} <= classes


def test_every_command_has_a_help_text() -> None:
    texts = dict(help_texts())
    assert {f"help {command.name}" for command in COMMANDS if not command.hidden} == set(texts)
    assert all(texts.values())


def test_a_fault_names_file_line_and_phrase() -> None:
    text = f"# Title\n\nA line.\nThen\nall the\nsame.\n\n```\n# as of there\n```\n\n- {'word ' * 41}end.\n"
    found = faults("x.md", text)
    assert [fault.partition(" in ")[0] for fault in found[:2]] == [
        "x.md:3: banned phrase 'all the same'",
        "x.md:9: banned phrase 'as of there'",
    ]
    assert found[2].startswith("x.md:12: a sentence of 42 words")
    assert len(found) == 3


def test_code_links_and_cells_are_not_counted_as_one_sentence() -> None:
    row = f"| {'`a b c d` ' * 20}| {'word ' * 39}|\n|---|---|\n"
    assert not faults("x.md", row)
    assert not faults("x.md", f"See [a](b c d). {'Short. ' * 60}")
