"""Handler: help. All texts come from the table of commands."""

from __future__ import annotations

from typing import Any

from ..context import Context
from ..definition import COMMANDS, FOREIGN, GLOBALS, GROUPS, Command, Option
from ..parser import find
from ..results import Text

INTRO = "stateview - inspect, compare and restore the saved state of a workflow"
_MAX_COLUMN = 30


def show(context: Context, args: dict[str, Any]) -> Text:
    """`help [COMMAND]`."""
    return Text(text=text_of(find(args["command"]) if "command" in args else None))


def text_of(command: Command | None) -> str:
    """Return the help of a command; without a command, the list of all commands."""
    return "\n".join(_overview() if command is None else _details(command)) + "\n"


def _overview() -> list[str]:
    lines = [INTRO, "", "Usage: stateview [options] COMMAND …"]
    names = {command: " ".join((command.name, *command.aliases)) for command in COMMANDS if not command.hidden}
    width = max(map(len, names.values()))
    for group in GROUPS:
        rows = [(name, command.help) for command, name in names.items() if command.group == group]
        lines += ["", f"{group}:", *_columns(rows, width)]
    lines += ["", "Options, before or after the command:", *_options(GLOBALS)]
    lines += [
        "",
        "REF names a state: a checkpoint, NAME@REVISION, a revision, live, live~N (N revisions back), or a time:",
        "@2h (ago), @30m, @yesterday, @2026-11-28, @2026-11-28T10:00 (local, unless it ends in Z or an offset).",
        "",
        *FOREIGN.split("\n"),
        "",
        "'stateview help COMMAND' explains a command. Exit codes: 0 success, 1 not found or false, 2 usage,",
        "3 backend, 4 conflict, 5 needs --yes, 130 interrupted.",
    ]
    return lines


def _details(command: Command) -> list[str]:
    lines = [f"Usage: stateview {command.usage}", "", command.help[0].upper() + command.help[1:] + "."]
    if command.aliases:
        lines.append(f"Also: {', '.join(command.aliases)}")
    if command.more:
        lines += ["", *command.more.split("\n")]
    if any(arg.kind == "store" for arg in command.args):
        lines += [*([] if command.more else [""]), *FOREIGN.split("\n")]
    if command.acts:
        lines += ["", *_columns([(f"{command.name} {act.usage}", act.help) for act in command.acts], 46)]
    if command.args:
        rows = [(f"{arg.name.upper()}, --{', --'.join((arg.name, *arg.also))}", arg.help) for arg in command.args]
        lines += ["", "Arguments, by position or by name:", *_columns(rows)]
    if command.options:
        lines += ["", "Options:", *_options(command.options)]
    if command.examples:
        prefix = "" if command.shell or command.name == "completion" else "stateview "
        lines += ["", "Examples:", *(f"  {prefix}{example}" for example in command.examples)]
    return lines


def _options(options: tuple[Option, ...]) -> list[str]:
    rows = []
    for option in options:
        value = "" if option.kind == "flag" else " " + ("|".join(option.choices) or option.kind.upper())
        rows.append((f"{option.short + ', ' if option.short else ''}--{option.name}{value}", option.help))
    return _columns(rows)


def _columns(rows: list[tuple[str, str]], width: int = 0) -> list[str]:
    width = width or min(_MAX_COLUMN, max(len(left) for left, _ in rows))
    lines = []
    for left, right in rows:
        if len(left) > width:
            lines += [f"  {left}", f"  {'':{width}}  {right}"]
        else:
            lines.append(f"  {left:{width}}  {right}")
    return lines
