"""Handlers of what only a shell can do: use, connect, begin, commit, rollback, option, alias, source, exit."""

from __future__ import annotations

from typing import Any

from ..backends import mask
from ..cli.context import Context
from ..cli.definition import BY_NAME, FORMATS
from ..cli.exit_codes import UsageError
from ..cli.line_parser import read_line
from ..cli.results import ActionResult, Table, plural
from ..errors import Conflict
from .session import ExitShell, Shell

_SWITCH = {"on": True, "off": False}
_ALLOWED: dict[str, dict[str, Any]] = {
    "format": {"auto": "", **{name: name for name in FORMATS}},
    "pager": _SWITCH,
    "timing": _SWITCH,
    "editing": {"emacs": "emacs", "vi": "vi"},
}


def _shell(context: Context) -> Shell:
    assert isinstance(context, Shell), "the table gives these commands to the shell alone"
    return context


def use(context: Context, given: dict[str, Any]) -> ActionResult:
    """`use NAMESPACE`."""
    shell = _shell(context)
    shell.connect(shell.options.get("store"), given["namespace"])
    head = shell.manager.head()
    held = plural(head.count, "key") if head.lineage else "new: it is made by the first save"
    return ActionResult(f"namespace {shell.manager.namespace}, {held}", data={"namespace": shell.manager.namespace})


def connect(context: Context, given: dict[str, Any]) -> ActionResult:
    """`connect STORE`."""
    shell = _shell(context)
    shell.connect(given["store"], shell.options.get("namespace"))
    return ActionResult(
        f"connected to {shell.manager.url}, namespace {shell.manager.namespace}",
        data={"store": mask(shell.manager.url)},
    )


def begin(context: Context, given: dict[str, Any]) -> ActionResult:
    """`begin`."""
    shell = _shell(context)
    if shell.transaction is not None:
        raise UsageError("a transaction is open already", "End it with commit or rollback")
    if shell.read_only:
        shell.manager.check_writable()
    shell.transaction = shell.manager.begin()
    return ActionResult("transaction begun")


def commit(context: Context, given: dict[str, Any]) -> ActionResult:
    """`commit`."""
    shell = _shell(context)
    if shell.transaction is None:
        raise UsageError("no transaction is open", "Begin one with 'begin'")
    transaction, shell.transaction = shell.transaction, None
    try:
        count, revision = transaction.size, shell.manager.commit(transaction, given.get("reason", ""))
    except Conflict as error:
        raise Conflict(error.message, "Nothing was written, and the transaction is over; begin it again") from error
    if not count:
        return ActionResult("nothing to commit", data={"keys": 0})
    return ActionResult(
        f"committed {plural(count, 'key')}, revision {revision}", data={"keys": count, "revision": revision}
    )


def rollback(context: Context, given: dict[str, Any]) -> ActionResult:
    """`rollback`."""
    shell = _shell(context)
    if shell.transaction is None:
        raise UsageError("no transaction is open", "Begin one with 'begin'")
    transaction, shell.transaction = shell.transaction, None
    transaction.discard()
    return ActionResult(f"rolled back {plural(transaction.size, 'key')}", data={"keys": transaction.size})


def option(context: Context, given: dict[str, Any]) -> Table | ActionResult:
    """`option [NAME [VALUE]]`."""
    settings, name = _shell(context).settings, given.get("name")
    if "value" not in given:
        rows = [(one, _spelled(one, settings[one]), " ".join(_ALLOWED[one])) for one in settings if name in (None, one)]
        return Table(columns=("option", "setting", "choices"), rows=rows)
    allowed = _ALLOWED[str(name)]
    if given["value"] not in allowed:
        raise UsageError(f"{name} cannot be {given['value']!r}", f"Choose one of {', '.join(allowed)}")
    settings[str(name)] = allowed[given["value"]]
    return ActionResult(f"{name} is {given['value']}")


def _spelled(name: str, value: Any) -> str:
    return next(text for text, meaning in _ALLOWED[name].items() if meaning == value)


def alias(context: Context, given: dict[str, Any]) -> Table | ActionResult:
    """`alias [NAME [WORDS…]]`."""
    aliases, name = _shell(context).aliases, given.get("name")
    if name is None:
        rows = [(one, " ".join(word.text for word in words)) for one, words in sorted(aliases.items())]
        return Table(columns=("alias", "stands for"), rows=rows, empty="no aliases")
    if name in BY_NAME:
        raise UsageError(f"{name!r} is a command", "Choose another name")
    words = given.get("words")
    if not words:
        if aliases.pop(name, None) is None:
            raise UsageError(f"there is no alias {name!r}")
        return ActionResult(f"{name} is forgotten")
    if words[0] not in BY_NAME:
        raise UsageError(f"{words[0]!r} is no command", "An alias begins with one")
    # The words are taken as they are; they only need to stand where a line's would.
    aliases[name] = [
        word._replace(text=text) for word, text in zip(read_line("x " * len(words)).words, words, strict=True)
    ]
    return ActionResult(f"{name} stands for {' '.join(words)}")


def source(context: Context, given: dict[str, Any]) -> ActionResult:
    """`source FILE`."""
    from .script import run_file

    shell = _shell(context)
    shell.enter_source()
    try:
        code = run_file(shell, given["file"])
    finally:
        shell.leave_source()
    return ActionResult(code=code)


def leave(context: Context, given: dict[str, Any]) -> ActionResult:
    """`exit`."""
    raise ExitShell
