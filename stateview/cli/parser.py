"""Parse the words of a command line by the table of commands. Global options can stand anywhere before a `--`."""

from __future__ import annotations

import re
from collections import deque
from datetime import datetime
from typing import Any

from msgspec import Struct

from ..arguments import MAX_INTEGER, Revision, check_pattern
from ..errors import Hint, run, see
from ..model import nearest
from .definition import BY_NAME, GLOBALS, PLACE, Command, Option
from .exit_codes import UsageError

KEY_IN_LINE = r"\b(?:svk1-(?:[a-z2-7]{4}[- ]?){3}|passphrase:)"
_BYTES = ("path", "store", "value", "values", "raw", "line")  # they can name a file, whose name need not be UTF-8


class ParsedArgs(Struct, frozen=True):
    """A command, the arguments that were given by name (with `_` for `-`), and the global options."""

    command: Command | None
    arguments: dict[str, Any]
    globals: dict[str, Any]


def parse(words: list[str]) -> ParsedArgs:
    """Parse a command line that is already split into words.

    Raises:
        UsageError: it is wrong; the message names the word and the next step.

    """
    values: dict[str, Any] = {}
    command: Command | None = None
    positional: list[str] = []
    rest = deque(words)  # O(1) at its start: the dashboard passes up to a hundred thousand words
    options = options_of(None)
    after_dashes = False
    while rest:
        word = rest.popleft()
        if command is None and not word.startswith("-"):
            command = find(word)
            options = options_of(command)
            if command.acts:
                _refuse_keys(words)
        elif command is not None and word != "--help" and _takes_all(command, len(positional)):
            positional += [word, *rest]
            rest.clear()
        elif after_dashes or not _is_option(word):
            positional.append(word)
        elif word == "--":
            after_dashes = True
        else:
            _parse_option(command, options, word, rest, values)
    names = {option.name for option in GLOBALS} - _argument_names(command)
    globals_ = {name.replace("-", "_"): value for name, value in values.items() if name in names}
    if command is None or "help" in globals_:
        return ParsedArgs(command, {}, globals_)
    arguments = {name: value for name, value in values.items() if name not in names}
    _assign_positional(command, positional, arguments)
    _check_options(command, {*globals_, *arguments})
    if command.acts:
        _check_act(command, arguments)
    return ParsedArgs(command, {name.replace("-", "_"): value for name, value in arguments.items()}, globals_)


def _check_options(command: Command, given: set[str]) -> None:
    """Refuse an option that the command would ignore."""
    for name in command.refuses:
        if name.replace("-", "_") in given:
            hint: Hint = see("help", command.name)
            if name == "author":
                hint = "It makes no commit that could have an author. 'log --by NAME' lists the commits of an author"
            raise UsageError(f"{command.name} takes no --{name}", hint)
    for one, other, *both_count in command.excludes:
        if {one, other} <= given and given.isdisjoint(both_count):
            raise UsageError(f"{command.name}: --{one} and --{other} exclude each other", see("help", command.name))


def _check_act(command: Command, arguments: dict[str, Any]) -> None:
    """Refuse what the act of a command would ignore, and an act without what it requires."""
    first = command.args[0].name
    act = next(act for act in command.acts if act.name == arguments[first])
    for name in arguments:
        if name not in (first, *act.takes):
            raise UsageError(f"{command.name} {act.name} takes no --{name}", see("help", command.name))
    if act.requires and act.requires not in arguments:
        usage = f"Usage: {command.name} {act.usage}"
        raise UsageError(f"{command.name} {act.name}: {act.requires.upper()} is missing", usage)


def _refuse_keys(words: list[str]) -> None:
    """Refuse an encryption key in a command line, without showing it."""
    if any(re.search(KEY_IN_LINE, word, re.IGNORECASE) for word in words):
        hint = "Give it by --key-file FILE, or - for standard input. The key in use comes from STATEVIEW_KEY"
        raise UsageError("a key is never an argument: other programs could see it, and histories keep it", hint)


def _takes_all(command: Command, position: int) -> bool:
    """Return whether all further words are the argument: they are the words of another command line."""
    return position < len(command.args) and command.args[position].kind in ("raw", "line")


def find(name: str) -> Command:
    """Return the command of a name or alias.

    Raises:
        UsageError: there is no such command; the message suggests similar names.

    """
    command = BY_NAME.get(name)
    if command is None:
        _refuse_keys([name])
        near = nearest(name, [name for name in BY_NAME if name[0] != "_"], 2)
        hint = f"Did you mean {' or '.join(near)}?" if near else see("help")
        raise UsageError(f"there is no command {name!r}", hint)
    return command


def options_of(command: Command | None) -> dict[str, Option]:
    """Return the options of a command and the global options, by each spelling."""
    options: dict[str, Option] = {}
    for option in GLOBALS:
        options["--" + option.name] = option
        if option.short:
            options[option.short] = option
    for arg in command.args if command else ():
        as_option = Option(arg.name, arg.kind, arg.help, many=arg.many)
        for name in (arg.name, *arg.also):
            options["--" + name] = as_option
    for option in command.options if command else ():
        options["--" + option.name] = option
        if option.short:
            options[option.short] = option
    return options


def _argument_names(command: Command | None) -> set[str]:
    if command is None:
        return set()
    return {arg.name for arg in command.args} | {option.name for option in command.options}


def _is_option(word: str) -> bool:
    """Return whether a word is an option. `-5` and `-` are values."""
    return len(word) > 1 and word[0] == "-" and not word[1].isdigit() and word[1] != "."


def _parse_option(
    command: Command | None, options: dict[str, Option], word: str, rest: deque[str], values: dict[str, Any]
) -> None:
    name, equals, value = word.partition("=")
    option = options.get(name)
    if option is None:
        near = nearest(name, options, 1)
        owner = f"'{command.name}' has" if command else "there is"
        if command is None:
            for other in BY_NAME.values():
                if name[2:] in {one.name for one in other.options}:
                    raise UsageError(f"{owner} no option {name}", run(other.name, name))
        hint = f"Did you mean {near[0]}?" if near else see("help", *([command.name] if command else []))
        raise UsageError(f"{owner} no option {name}", hint)
    if option.kind == "flag":
        if equals:
            raise UsageError(f"{name} takes no value")
        values[option.name] = True
        return
    if not equals:
        if not rest:
            raise UsageError(f"{name} needs a value: {option.help}")
        value = rest.popleft()
    parsed = _convert(option.kind, value, name, option.choices)
    if option.many:
        values.setdefault(option.name, []).append(parsed)
    elif option.name in values:
        raise UsageError(f"{name} was given twice")
    else:
        values[option.name] = parsed


def _assign_positional(command: Command, positional: list[str], arguments: dict[str, Any]) -> None:
    given = tuple(positional)
    for arg in command.args:
        if arg.name in arguments:
            continue
        if positional and arg.many:
            arguments[arg.name] = [_convert(arg.kind, word, arg.name) for word in positional]
            positional = []
        elif positional:
            arguments[arg.name] = _convert(arg.kind, positional.pop(0), arg.name)
        elif arg.required:
            raise UsageError(f"{command.name}: {arg.name.upper()} is missing ({arg.help})", f"Usage: {command.usage}")
    if positional:
        hint = f"Usage: {command.usage}"
        if command.args[:1] == (PLACE,) and given[1:] and given[1].startswith("/"):
            from .values import place_hint

            hint = place_hint(*given[:2])
        raise UsageError(f"{command.name}: {positional[0][:60]!r} is one argument too many", hint)


def _convert(kind: str, text: str, name: str, choices: tuple[str, ...] = ()) -> Any:
    if kind.startswith("choice:"):
        choices = tuple(kind[7:].split(","))
    if choices and text not in choices:
        raise UsageError(f"{name} cannot be {text!r}", f"Choose one of {', '.join(choices)}")
    if kind == "int":
        if not text.isdecimal() or not text.isascii():
            wanted = "0 or more" if text.startswith("-") and text[1:].isdecimal() else "a whole number"
            raise UsageError(f"{name} must be {wanted}, not {text[:40]!r}")
        number = int(text.lstrip("0")[:20] or 0)
        if number > MAX_INTEGER:
            raise UsageError(f"{name} must be at most {MAX_INTEGER:,}, not {text[:40]}")
        return number
    if kind == "revision":
        return _to_revision(text, name)
    if kind == "duration":
        from .values import DURATIONS, parse_duration

        seconds = parse_duration(text)
        if seconds is None:
            raise UsageError(f"{name} must be a duration, not {text[:40]!r}", f"Give such as {DURATIONS}")
        return seconds
    return text if kind in _BYTES else check_pattern(text, name)


def _to_revision(text: str, name: str) -> int:
    """Return a revision, with the time of its commit if that is given too: `7`, or `7@2026-11-28T10:00:00.5+00:00`."""
    number, at, moment = text.partition("@")
    revision = _convert("int", number, name)
    if not at:
        return int(revision)
    from ..refs import local_micros

    try:
        return Revision(revision, local_micros(datetime.fromisoformat(moment)))
    except ValueError:
        hint = "Give the revision, or REVISION@TIME with the time that 'entry' shows"
        raise UsageError(f"{name}: {moment[:40]!r} is not a time", hint) from None
