"""Handler: explain. Says in words what a line would do, and shows what it would change by its dry run."""

from __future__ import annotations

from typing import Any

from ...backends.protocol import StateAt
from ...errors import BackendError, ReadOnly, StateException
from ...model import format_time
from ...states.matching.patterns import is_glob
from ..context import Context
from ..definition import READS_ALONE, SHELL, Command
from ..exit_codes import UsageError
from ..line_parser import read_line
from ..parser import ParsedArgs, options_of, parse
from ..program import load_handler
from ..results import ActionResult, DiffResult, Explanation, Record, Result, plural


def explain(context: Context, args: dict[str, Any]) -> Explanation:
    """`explain LINE…`."""
    words = words_of(args.get("line", []))
    if not words:
        raise UsageError(
            "explain: LINE is missing", "Give a command with its arguments: explain restore after_planning"
        )
    parsed = parse(words)
    command = parsed.command
    if command is None or command.hidden:
        raise UsageError("explain: the line has no command", "Give such as: explain restore after_planning")
    if "help" in parsed.globals:
        raise UsageError(
            "explain: the line asks for help, and would change nothing", f"See 'stateview help {command.name}'"
        )
    trial = Context({**context.options, **parsed.globals, "yes": True, "quiet": True})
    context.close_later(trial)
    given = _arguments(trial, command, parsed)
    lines = [(command.name, command.help), *given]
    data: dict[str, Any] = {"command": command.name, "does": command.help, "arguments": dict(given)}
    if _has_target(command):
        data |= {"namespace": trial.manager.namespace, "store": trial.manager.url}
        lines.append(("where", f"namespace {trial.manager.namespace} of {trial.manager.url}"))
    return _with_effect(trial, command, parsed, data, lines)


def words_of(line: list[str]) -> list[str]:
    """Return the words of the line that `explain` got, which may have been given as one word."""
    return read_line(line[0]).texts if len(line) == 1 and " " in line[0].strip() else line


def _has_target(command: Command) -> bool:
    return command.group != SHELL and command.name not in ("help", "completion", "demo", "init", "migrate")


def _arguments(context: Context, command: Command, parsed: ParsedArgs) -> list[tuple[str, str]]:
    """Return a line for each argument and option that was given: its value, and what that means."""
    kinds = {option.name: option for option in options_of(command).values()}
    is_elsewhere = not parsed.arguments.keys().isdisjoint(("from_namespace", "from_store"))
    lines = []
    order = [arg.name for arg in command.args]
    given = sorted(parsed.arguments.items(), key=lambda one: order.index(one[0]) if one[0] in order else len(order))
    for name, value in given:
        spelled = name.replace("_", "-")
        option = kinds[spelled]
        shown = " ".join(value) if isinstance(value, list) else "" if value is True else str(value)
        found = "" if option.kind == "ref" and is_elsewhere else _found(context, name, option.kind, value)
        meaning = "; ".join(filter(None, (option.help, found)))
        lines.append((f"{'' if spelled in order else '--'}{spelled} {shown}".strip(), meaning))
    return lines


def _found(context: Context, name: str, kind: str, value: Any) -> str:
    """Return what a name means in the store now; empty if there is nothing to tell, or the store cannot be read."""
    try:
        if kind == "ref":
            point: StateAt = context.manager.at(value)._point
            return f"here revision {point.revision}, as of {format_time(point.time)[:19].replace('T', ' ')}"
        if name == "prefix":
            return f"here {plural(len(context.manager.list_keys(prefix=value)), 'key')}"
        if kind in ("key", "pattern"):
            words = value if isinstance(value, list) else [value]
            count = len(context.manager.list_keys(keys=[word.partition("#/")[0] for word in words]))
            return f"here {plural(count, 'key')}" if any(map(is_glob, words)) or not count else ""
    except BackendError:
        raise
    except StateException:
        return ""  # the command itself will say what is wrong with the name
    return ""


def _with_effect(
    context: Context, command: Command, parsed: ParsedArgs, data: dict[str, Any], lines: list[tuple[str, str]]
) -> Explanation:
    """Add what the line would change: what a dry run of it shows, or a sentence."""
    name = command.name
    changes = True
    preview: Result | None = None
    if command.group == SHELL:
        said, changes = f"It is a command of the shell: 'help {name}' tells more.", False
    elif command.effect:
        said, changes = command.effect, command.effect != READS_ALONE
    elif parsed.arguments.get("dry_run"):
        said, changes = "It changes nothing, since it is a dry run.", False
    elif _has_target(command) and (refusal := _refusal(context)):
        said, changes = f"It would change nothing: {refusal}", False
    else:
        arguments = {key: value for key, value in parsed.arguments.items() if key not in ("pager", "no_pager")}
        preview = load_handler(command)(context, {**arguments, "dry_run": True})
        said, changes = _said(command, preview)
    data |= {"would_change": changes, "effect": said}
    lines.append(("effect", said))
    more = {} if preview is None else getattr(preview, "data", {})
    if isinstance(preview, Record):
        lines += preview.lines or [(key, str(value)) for key, value in more.items()]
    return Explanation(
        data={**data, **({"preview": more} if more else {})}, lines=tuple(lines),
        diff=preview.diff if isinstance(preview, DiffResult) and preview.diff else None,
    )  # fmt: skip


def _refusal(context: Context) -> str:
    """Return why the store would refuse every write; "" if it takes them."""
    try:
        context.manager.check_writable()
    except ReadOnly as error:
        return str(error)
    return ""


def _said(command: Command, preview: Result) -> tuple[str, bool]:
    """Return in words what the dry run of a command tells, and whether it would change something."""
    from ..results import tally

    back = f" {command.back}" if command.back else ""
    if isinstance(preview, DiffResult) and preview.diff is not None:
        if not preview.diff:
            return f"It would change nothing: {preview.empty}.", False
        return f"It would change {tally(preview.diff)}, as one commit.{back}", True
    if isinstance(preview, ActionResult):
        if would := preview.data.get("would"):
            return f"Then {would}.{back}", True
        return f"It would change nothing: {preview.summary}.", False
    return f"It would do what stands below.{back}", True
