"""Handler: help. The texts are those of the table."""

from __future__ import annotations

from typing import Any

from ..context import Context
from ..definition import COMMANDS, GLOBALS, Command, Option
from ..parser import find
from ..results import Text

INTRO = "stateview - look into the saved state of a workflow, diff its checkpoints, restore them"


def show(context: Context, given: dict[str, Any]) -> Text:
    """`help [COMMAND]`."""
    return Text(text=text_of(find(given["command"]) if "command" in given else None))


def text_of(command: Command | None) -> str:
    """The help of a command, or the list of all."""
    if command is None:
        lines = [INTRO, "", "Usage: stateview [options] COMMAND …", "", "Commands:"]
        shown = [one for one in COMMANDS if not one.hidden]
        lines += _columns([(" ".join((one.name, *one.aliases)), one.help) for one in shown if not one.shell])
        lines += ["", "In the shell also:"]
        lines += _columns([(" ".join((one.name, *one.aliases)), one.help) for one in shown if one.shell])
        lines += ["", "Options, before or after the command:", *_options(GLOBALS)]
        lines += ["", "'stateview help COMMAND' tells more. Exit codes: 0 ok, 1 not there, 2 usage, 3 backend,",
                  "4 conflict, 5 needs --yes, 130 interrupted."]  # fmt: skip
        return "\n".join(lines) + "\n"
    lines = [f"Usage: stateview {command.usage}", "", command.help[0].upper() + command.help[1:] + "."]
    if command.aliases:
        lines.append(f"Also: {', '.join(command.aliases)}")
    if command.more:
        lines += ["", *command.more.split("\n")]
    if command.args:
        lines += ["", "Arguments, by position or by name:"]
        lines += _columns(
            [(f"{arg.name.upper()}, --{', --'.join((arg.name, *arg.also))}", arg.help) for arg in command.args]
        )
    if command.options:
        lines += ["", "Options:", *_options(command.options)]
    if command.examples:
        prefix = "" if command.shell or command.name == "completion" else "stateview "
        lines += ["", "Examples:", *(f"  {prefix}{example}" for example in command.examples)]
    return "\n".join(lines) + "\n"


def _options(options: tuple[Option, ...]) -> list[str]:
    rows = []
    for option in options:
        value = "" if option.kind == "flag" else " " + ("|".join(option.choices) or option.kind.upper())
        rows.append((f"{option.short + ', ' if option.short else ''}--{option.name}{value}", option.help))
    return _columns(rows)


def _columns(rows: list[tuple[str, str]]) -> list[str]:
    width = min(30, max(len(left) for left, _ in rows))
    out = []
    for left, right in rows:
        if len(left) > width:
            out += [f"  {left}", f"  {'':{width}}  {right}"]
        else:
            out.append(f"  {left:{width}}  {right}")
    return out
