"""Handlers of the shell's own commands: use, connect, begin, commit, rollback, option, alias, source, exit."""

from __future__ import annotations

from typing import Any

from ..backends import mask
from ..cli.context import Context
from ..cli.definition import BY_NAME, FORMATS
from ..cli.exit_codes import UsageError
from ..cli.guessed_store import with_store
from ..cli.line_parser import read_line
from ..cli.results import ActionResult, Table, plural
from ..errors import Conflict
from ..model import did_you_mean
from .session import ExitShell, Shell

_NAMED = 5  # namespaces that a message names
_SWITCH = {"on": True, "off": False}
_ALLOWED: dict[str, dict[str, Any]] = {
    "format": {"auto": "", **{name: name for name in FORMATS}},
    "pager": _SWITCH,
    "timing": _SWITCH,
    "editing": {"emacs": "emacs", "vi": "vi"},
}


def _shell(context: Context) -> Shell:
    assert isinstance(context, Shell), "only the shell runs commands with shell=True"
    return context


def use(context: Context, args: dict[str, Any]) -> ActionResult:
    """`use NAMESPACE`."""
    shell = _shell(context)
    shell.connect(shell.options.get("store"), args["namespace"])
    name = shell.manager.namespace
    return ActionResult(f"namespace {name}, {_contents(shell)}", data={"namespace": name})


def _contents(shell: Shell) -> str:
    head, manager = shell.manager.head(), shell.manager
    if head.lineage:
        return plural(head.count, "key")
    names = manager.namespaces()
    near = did_you_mean(manager.namespace, names)
    if manager.read_only:
        return f"which does not exist. {near or _namespaces(names)}"
    return f"which the first save creates{f'. {near}' if near else ''}"


def _namespaces(names: list[str]) -> str:
    """Return which namespaces a store has that takes no new one."""
    more = ", …" if len(names) > _NAMED else ""
    return f"The store has {', '.join(names[:_NAMED])}{more}: 'use NAME' opens one" if names else "The store has none"


def connect(context: Context, args: dict[str, Any]) -> ActionResult:
    """`connect STORE`."""
    shell = _shell(context)
    present = shell.options.get("namespace")
    options, told = with_store({**shell.options, "namespace": None}, args["store"], first=not present)
    shell.tell(told)
    shell.connect(options["store"], options["namespace"] or present)
    if shell.manager.read_only and not shell.manager.head().lineage and len(names := shell.manager.namespaces()) == 1:
        shell.connect(options["store"], names[0])
    return ActionResult(
        f"connected to {shell.manager.url}, namespace {shell.manager.namespace}, {_contents(shell)}",
        data={"store": mask(shell.manager.url)},
    )


def begin(context: Context, args: dict[str, Any]) -> ActionResult:
    """`begin`."""
    shell = _shell(context)
    if shell.transaction is not None:
        raise UsageError("a transaction is already open", "End it with 'commit' or 'rollback'")
    shell.manager.check_writable()
    shell.transaction = shell.manager.begin()
    return ActionResult("transaction begun; 'commit' or 'rollback' ends it")


def commit(context: Context, args: dict[str, Any]) -> ActionResult:
    """`commit`."""
    shell = _shell(context)
    if shell.transaction is None:
        raise UsageError("no transaction is open", "Begin a transaction with 'begin'")
    transaction, shell.transaction = shell.transaction, None
    try:
        count, revision = transaction.size, shell.manager.commit(transaction, args.get("reason", ""))
    except Conflict as error:
        raise Conflict(error.message, "Nothing was written, and the transaction has ended. Begin it again") from error
    if not count:
        return ActionResult("nothing to commit", data={"keys": 0})
    return ActionResult(
        f"committed {plural(count, 'key')}, revision {revision}", data={"keys": count, "revision": revision}
    )


def rollback(context: Context, args: dict[str, Any]) -> ActionResult:
    """`rollback`."""
    shell = _shell(context)
    if shell.transaction is None:
        raise UsageError("no transaction is open", "Begin a transaction with 'begin'")
    transaction, shell.transaction = shell.transaction, None
    transaction.discard()
    return ActionResult(f"rolled back {plural(transaction.size, 'key')}", data={"keys": transaction.size})


def option(context: Context, args: dict[str, Any]) -> Table | ActionResult:
    """`option [NAME [VALUE]]`."""
    settings, name = _shell(context).settings, args.get("name")
    if "value" not in args:
        rows = [
            (option, _setting_text(option, settings[option]), " ".join(_ALLOWED[option]))
            for option in settings
            if name in (None, option)
        ]
        return Table(columns=("option", "setting", "choices"), rows=rows)
    allowed = _ALLOWED[str(name)]
    if args["value"] not in allowed:
        raise UsageError(f"{name} cannot be {args['value']!r}", f"Choose one of {', '.join(allowed)}")
    settings[str(name)] = allowed[args["value"]]
    return ActionResult(f"{name} is {args['value']}")


def _setting_text(name: str, value: Any) -> str:
    return next(text for text, meaning in _ALLOWED[name].items() if meaning == value)


def alias(context: Context, args: dict[str, Any]) -> Table | ActionResult:
    """`alias [NAME [WORDS…]]`."""
    aliases, name = _shell(context).aliases, args.get("name")
    if name is None:
        rows = [(alias, " ".join(word.text for word in words)) for alias, words in sorted(aliases.items())]
        return Table(columns=("alias", "stands for"), rows=rows, empty="no aliases")
    if name in BY_NAME:
        raise UsageError(f"{name!r} is a command", "Choose another name")
    words = args.get("words")
    if not words:
        if aliases.pop(name, None) is None:
            raise UsageError(f"there is no alias {name!r}")
        return ActionResult(f"deleted alias {name}")
    if words[0] not in BY_NAME:
        raise UsageError(f"{words[0]!r} is not a command", "Begin the alias with a command")
    # The words are stored unparsed. They get the positions of words of a line, which the lexer expects.
    aliases[name] = [
        word._replace(text=text) for word, text in zip(read_line("x " * len(words)).words, words, strict=True)
    ]
    return ActionResult(f"{name} stands for {' '.join(words)}")


def source(context: Context, args: dict[str, Any]) -> ActionResult:
    """`source FILE`."""
    from .script import run_file

    shell = _shell(context)
    shell.enter_source()
    try:
        code = run_file(shell, args["file"])
    finally:
        shell.leave_source()
    return ActionResult(code=code)


def leave(context: Context, args: dict[str, Any]) -> ActionResult:
    """`exit`."""
    raise ExitShell
