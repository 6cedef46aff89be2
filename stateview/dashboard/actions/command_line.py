"""A line typed into the dashboard: taken apart as the shell does, refused with a reason where it has no place here."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from codecs import getincrementaldecoder
from collections.abc import Iterator
from typing import Any, NamedTuple

from ...cli.completion import candidates
from ...cli.context import Context
from ...cli.definition import COMMANDS, GROUPS, Command
from ...cli.exit_codes import UsageError
from ...cli.line_parser import ParsedLine, quote, read_line
from ...cli.parser import find, parse
from ...errors import BackendError
from .jobs import Job

TERMINAL = ("edit", "shell")  # they need the terminal for themselves
_SHELL = "a transaction is of a shell; here each act is a commit of its own"
_REFUSED = {
    "begin": _SHELL,
    "commit": _SHELL,
    "rollback": _SHELL,
    "option": "it is about the shell",
    "alias": "it is about the shell",
    "source": "'shell -f FILE' runs a file",
    "dashboard": "it is here already",
    "serve": "it needs a terminal of its own",
}


class DashboardCommand(NamedTuple):
    """What can be typed here and is no command of the table."""

    name: str
    help: str


DASHBOARD_COMMANDS = (
    DashboardCommand("theme", "choose the colours"),
    DashboardCommand("done", "list what was done here"),
)


class ParsedCommand(NamedTuple):
    """A line that can be run: the command with its arguments and global options, or a command of the system."""

    text: str
    line: ParsedLine
    command: Command | None
    arguments: dict[str, Any]
    options: dict[str, Any]


def take(text: str, web: bool) -> ParsedCommand:
    """Take a line apart.

    Args:
        text: the line.
        web: whether the dashboard is shown by a browser.

    Raises:
        UsageError: it cannot be read, or has no place here; the hint says what to do instead.

    """
    line = read_line(text)
    for there, what in ((line.pipe, "a pipe"), (line.bang, "a command of the system"), (line.file, "a file")):
        if there and web:
            raise UsageError(f"{what} is refused in a browser: it would be on the server", "Use a terminal there")
    if line.bang:
        return ParsedCommand(text, line, None, {}, {})
    if not line.words:
        raise UsageError("nothing was typed", "An empty line lists the commands")
    if line.words[0].text in {own.name for own in DASHBOARD_COMMANDS}:
        return ParsedCommand(text, line, None, {}, {})
    bound = parse(line.texts)
    if "help" in bound.globals or bound.command is None:
        return ParsedCommand(text, line, find("help"), {"command": bound.command.name} if bound.command else {}, {})
    refused = refusal(bound.command, web)
    if refused:
        raise UsageError(f"{bound.command.name} has no place here: {refused}")
    _check_files(bound.command, bound.arguments, web)
    return ParsedCommand(text, line, bound.command, bound.arguments, bound.globals)


def refusal(command: Command, web: bool) -> str:
    """Why a command cannot be run here; empty if it can."""
    if command.name in TERMINAL and web:
        return "it needs a terminal, and a browser is none"
    return _REFUSED.get(command.name, "")


def _check_files(command: Command, arguments: dict[str, Any], web: bool) -> None:
    """Refuse `-` and `@FILE` as a value: standard input is the dashboard's, and files are the server's."""
    if arguments.get("string") and arguments.get("value") != "-":
        return
    kinds = {**{arg.name: arg.kind for arg in command.args}, **{one.name: one.kind for one in command.options}}
    for name, kind in kinds.items():
        value = arguments.get(name.replace("-", "_"))
        if kind != "value" or not isinstance(value, str):
            continue
        if value == "-":
            raise UsageError("standard input is the dashboard's own", "Give the value, or @FILE")
        if web and value.startswith("@") and len(value) > 1:
            raise UsageError(f"{value[:60]} is refused in a browser: it would be on the server", "Give the value")


# --- completion ------------------------------------------------------------------------------------------------------


class Candidate(NamedTuple):
    """A candidate: what is put into the line, what is shown, and what it means; under a heading, if it has one."""

    text: str
    shown: str
    help: str
    heading: str = ""


def offers(words: list[str], context: Context) -> list[Candidate]:
    """Return what the last word of a line may become, where it is not the command. Asks the store: for a thread.

    Raises:
        StateException, OSError: the store does not answer.

    """
    if words[0] == "theme":
        from ..display.themes import names

        return [Candidate(name, name, "") for name in names() if name.startswith(words[-1])]
    found = candidates(words, context)
    return [Candidate(quote(text), text, help) for text, help in found if text.isprintable() and text != "--help"]


def commands(word: str, web: bool) -> list[Candidate]:
    """All commands that begin with a word, then those that hold it in their name or help; grouped if it is empty."""
    begin: list[Candidate] = []
    hold: list[Candidate] = []
    wanted = word.lower()
    for own in DASHBOARD_COMMANDS:
        offer = Candidate(own.name, own.name, own.help, "Dashboard")
        (begin if own.name.startswith(wanted) else hold if len(wanted) > 2 and wanted in own.help else []).append(offer)
    for command in COMMANDS:
        if command.hidden:
            continue
        refused = refusal(command, web)
        help_ = f"not here: {refused}" if refused else command.help
        names = (command.name, *command.aliases)
        offer = Candidate(command.name, " ".join(names), help_, command.group)
        if any(name.startswith(wanted) for name in names):
            begin.append(offer)
        elif wanted in command.name or (len(wanted) > 2 and wanted in command.help.lower()):
            hold.append(offer)
    if word:
        return [offer._replace(heading="") for offer in (*begin, *hold)]
    order = ["Dashboard", *GROUPS]
    return sorted(begin, key=lambda offer: order.index(offer.heading))


# --- the system ------------------------------------------------------------------------------------------------------


def pipe(command: str, pieces: Iterator[str], job: Job) -> None:
    """Run a command of the system with pieces of text as its input; what it prints is the job's output.

    Raises:
        BackendError: it ended with an error.
        Stopped: the job was stopped, and so was it.

    """
    child = subprocess.Popen(
        ["/bin/sh", "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True,  # so that all it has started can be ended, and nothing of it writes on the screen
    )  # fmt: skip
    assert child.stdin is not None and child.stdout is not None
    into, printed, ended = child.stdin, child.stdout, threading.Event()

    def kill() -> None:
        while not ended.wait(0.1):
            if job.unwanted:
                try:
                    os.killpg(child.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass  # it has just ended
                return

    def read() -> None:
        decoder = getincrementaldecoder("utf-8")("replace")
        while data := os.read(printed.fileno(), 65536):
            job.output.write(decoder.decode(data))

    reader = threading.Thread(target=read, name="pipe", daemon=True)
    reader.start()
    threading.Thread(target=kill, name="pipe-stop", daemon=True).start()
    try:
        for piece in pieces:
            job.check()
            into.write(piece.encode(errors="surrogatepass"))
        into.close()
    except BrokenPipeError:
        pass  # it has read what it wanted; its exit code says whether that was well
    except BaseException:
        os.killpg(child.pid, signal.SIGKILL)
        raise
    finally:
        code = child.wait()
        ended.set()
        reader.join(1.0)  # a grandchild may hold the pipe open
    job.check()
    if code:
        raise BackendError(f"'{command[:60]}' ended with {code}")
