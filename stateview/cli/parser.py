"""Words to a command and its arguments, by the table. Global options may stand anywhere before a `--`."""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

from ..errors import see
from .definition import BY_NAME, GLOBALS, Command, Option
from .exit_codes import UsageError


class ParsedArgs(NamedTuple):
    """A command with its arguments by name (`-` as `_`; what was not given is absent), and the global options."""

    command: Command | None
    arguments: dict[str, Any]
    globals: dict[str, Any]


def parse(words: list[str]) -> ParsedArgs:
    """Take a command line apart. Each word is whole already; none is split again.

    Raises:
        UsageError: it is not one; the message names the word and the next step.

    """
    found: dict[str, Any] = {}
    command: Command | None = None
    positional: list[str] = []
    rest = deque(words)  # a screen gives a hundred thousand
    known = options_of(None)
    plain = False  # after `--`
    while rest:
        word = rest.popleft()
        if command is None and not word.startswith("-"):
            command = find(word)
            known = options_of(command)
        elif command is not None and _takes_all(command, len(positional)):
            positional += [word, *rest]
            rest.clear()
        elif plain or not _is_option(word):
            positional.append(word)
        elif word == "--":
            plain = True
        else:
            _take(command, known, word, rest, found)
    names = {option.name for option in GLOBALS} - _own(command)
    globals_ = {name.replace("-", "_"): value for name, value in found.items() if name in names}
    if command is None or "help" in globals_:
        return ParsedArgs(command, {}, globals_)
    arguments = {name: value for name, value in found.items() if name not in names}
    _place(command, positional, arguments)
    return ParsedArgs(command, {name.replace("-", "_"): value for name, value in arguments.items()}, globals_)


def _takes_all(command: Command, position: int) -> bool:
    """Whether what comes now, and all after it, is taken as it is: the words of another command line."""
    return position < len(command.args) and command.args[position].kind == "raw"


def find(name: str) -> Command:
    """The command of a name or alias.

    Raises:
        UsageError: there is none; the message names what is near.

    """
    command = BY_NAME.get(name)
    if command is None:
        from difflib import get_close_matches

        near = get_close_matches(name, [name for name in BY_NAME if name[0] != "_"], 2)
        hint = f"Did you mean {' or '.join(near)}?" if near else see("help")
        raise UsageError(f"there is no command {name!r}", hint)
    return command


def options_of(command: Command | None) -> dict[str, Option]:
    """Every option that may stand in a command's line, by each way to write it."""
    out: dict[str, Option] = {}
    for option in GLOBALS:
        out["--" + option.name] = option
        if option.short:
            out[option.short] = option
    for arg in command.args if command else ():
        as_option = Option(arg.name, arg.kind, arg.help, many=arg.many)
        for name in (arg.name, *arg.also):
            out["--" + name] = as_option
    for option in command.options if command else ():
        out["--" + option.name] = option
        if option.short:
            out[option.short] = option
    return out


def _own(command: Command | None) -> set[str]:
    if command is None:
        return set()
    return {arg.name for arg in command.args} | {option.name for option in command.options}


def _is_option(word: str) -> bool:
    """`-5` and `-` are values; `-x` and `--name` are options."""
    return len(word) > 1 and word[0] == "-" and not word[1].isdigit() and word[1] != "."


def _take(
    command: Command | None, known: dict[str, Option], word: str, rest: deque[str], found: dict[str, Any]
) -> None:
    name, equals, value = word.partition("=")
    option = known.get(name)
    if option is None:
        from difflib import get_close_matches

        near = get_close_matches(name, known, 1)
        where = f" of '{command.name}'" if command else ""
        hint = f"Did you mean {near[0]}?" if near else f"See 'stateview help{' ' + command.name if command else ''}'"
        raise UsageError(f"there is no option {name}{where}", hint)
    if option.kind == "flag":
        if equals:
            raise UsageError(f"{name} takes no value")
        found[option.name] = True
        return
    if not equals:
        if not rest:
            raise UsageError(f"{name} needs a value: {option.help}")
        value = rest.popleft()
    read = _read(option.kind, value, name, option.choices)
    if option.many:
        found.setdefault(option.name, []).append(read)
    elif option.name in found:
        raise UsageError(f"{name} is given twice")
    else:
        found[option.name] = read


def _place(command: Command, positional: list[str], arguments: dict[str, Any]) -> None:
    for arg in command.args:
        if arg.name in arguments:
            continue
        if positional and arg.many:
            arguments[arg.name] = [_read(arg.kind, word, arg.name) for word in positional]
            positional = []
        elif positional:
            arguments[arg.name] = _read(arg.kind, positional.pop(0), arg.name)
        elif arg.required:
            raise UsageError(f"{command.name}: {arg.name.upper()} is missing ({arg.help})", f"Usage: {command.usage}")
    if positional:
        raise UsageError(f"{command.name}: {positional[0][:60]!r} is one argument too many", f"Usage: {command.usage}")


def _read(kind: str, text: str, name: str, choices: tuple[str, ...] = ()) -> Any:
    if kind.startswith("choice:"):
        choices = tuple(kind[7:].split(","))
    if choices and text not in choices:
        raise UsageError(f"{name} cannot be {text!r}", f"Choose one of {', '.join(choices)}")
    if kind == "int":
        if not text.isdecimal() or not text.isascii():
            wanted = "0 or more" if text.startswith("-") and text[1:].isdecimal() else "a whole number"
            raise UsageError(f"{name} must be {wanted}, not {text[:40]!r}")
        return int(text[:19])
    if kind == "duration":
        from .values import LENGTHS, parse_duration

        seconds = parse_duration(text)
        if seconds is None:
            raise UsageError(f"{name} must be a length of time, not {text[:40]!r}", f"Give one such as {LENGTHS}")
        return seconds
    return text
