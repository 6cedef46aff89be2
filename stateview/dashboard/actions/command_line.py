"""Command lines typed into the dashboard: parsing, completion, and pipes to system commands."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from codecs import getincrementaldecoder
from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from ...cli.completion import candidates, store_of
from ...cli.context import Context
from ...cli.definition import COMMANDS, GROUPS, Command
from ...cli.exit_codes import UsageError
from ...cli.line_parser import ParsedLine, quote, read_line
from ...cli.parser import find, options_of, parse
from ...errors import BackendError
from .jobs import Job
from .page_access import check_command, check_store, on_server

TERMINAL = ("edit", "shell")  # commands that run in the terminal, while the dashboard is suspended
_SHELL = "transactions are for the shell; here each action is its own commit"
_REFUSED = {
    "begin": _SHELL,
    "commit": _SHELL,
    "rollback": _SHELL,
    "option": "it sets up the shell",
    "alias": "it sets up the shell",
    "source": "'shell -f FILE' runs a file",
    "dashboard": "it is open already",
    "serve": "it needs its own terminal",
    "key": "it prints keys, and asks for passphrases; run 'stateview key' in a terminal",
}


class DashboardCommand(NamedTuple):
    """A command that exists only in the dashboard."""

    name: str
    help: str


DASHBOARD_COMMANDS = (
    DashboardCommand("theme", "choose the colours"),
    DashboardCommand("done", "list the actions of this session"),
)


class ParsedCommand(NamedTuple):
    """A parsed line: a command with its arguments and global options. `command` is None for a system command."""

    text: str
    line: ParsedLine
    command: Command | None
    arguments: dict[str, Any]
    options: dict[str, Any]


def parse_line(text: str, stores: Collection[str] | None) -> ParsedCommand:
    """Parse a line.

    Args:
        text: the line.
        stores: in a browser, the stores that the page may open. None in a terminal.

    Raises:
        UsageError: the line is malformed, or the command is not available here. The hint names an alternative.

    """
    line = read_line(text)
    for part, name in ((line.pipe, "a pipe"), (line.bang, "a system command"), (line.file, "a file")):
        if part and stores is not None:
            raise on_server(name)
    if line.bang:
        return ParsedCommand(text, line, None, {}, {})
    if not line.words:
        raise UsageError("nothing was typed", "An empty line lists the commands")
    if line.words[0].text in {command.name for command in DASHBOARD_COMMANDS}:
        return ParsedCommand(text, line, None, {}, {})
    parsed = parse(line.texts)
    command = parsed.command
    if "help" in parsed.globals or command is None:
        return ParsedCommand(text, line, find("help"), {"command": command.name} if command else {}, {})
    reason = refusal(command, stores is not None)
    if reason:
        raise UsageError(f"{command.name} is not available here: {reason}")
    _check_input(command, parsed.arguments)
    if stores is not None:
        check_command(command, parsed.arguments, parsed.globals, stores)
    return ParsedCommand(text, line, command, parsed.arguments, parsed.globals)


def opens_screen(typed: ParsedCommand) -> bool:
    """Whether a line asks for nothing but a diff of two states of this namespace, which has a screen of its own."""
    line = typed.line
    plain = not (line.pipe or line.file or typed.options)
    return plain and {"before"} <= {name for name, value in typed.arguments.items() if value} <= {"before", "after"}


def refusal(command: Command, web: bool) -> str:
    """Return why a command cannot be run here. Empty if it can."""
    if command.name in TERMINAL and web:
        return "it needs a terminal, not a browser"
    return _REFUSED.get(command.name) or ("it would be on the server" if web and command.local else "")


def _check_input(command: Command, arguments: dict[str, Any]) -> None:
    """Refuse `-` for standard input, because the dashboard reads that."""
    for option in options_of(command).values():
        reads = option.kind == "value" or command.name == "import"
        if reads and arguments.get(option.name.replace("-", "_")) == "-":
            hint = "Give a file" if command.name == "import" else "Give the value, or @FILE"
            raise UsageError("the dashboard itself reads standard input", hint)


# --- completion ------------------------------------------------------------------------------------------------------


class Candidate(NamedTuple):
    """A completion: the text for the line, the text to show, its meaning, and the heading of its group."""

    text: str
    shown: str
    help: str
    heading: str = ""


def argument_candidates(
    words: list[str], context: Context, stores: Collection[str] | None, patterns: tuple[str, ...] = ()
) -> list[Candidate]:
    """Return the completions of the last word of a line, which is an argument. Reads the store, so call it on a thread.

    Args:
        words: the words of the line.
        context: the context of the command.
        stores: as for `parse_line`.
        patterns: the masked names: a candidate for a place in a value shows what is there.

    Raises:
        StateException, OSError: the store cannot be read.

    """
    if words[0] == "theme":
        from ..display.themes import names

        return [Candidate(name, name, "") for name in names() if name.startswith(words[-1])]
    from ..display.result_redaction import redacted_help

    if stores is not None and (store := store_of(words)):
        check_store(store, stores)
    return [
        Candidate(quote(text), text, redacted_help(words[1:-1], text, help, patterns))
        for text, help in candidates(words, context)
        if text.isprintable() and text != "--help"
    ]


def command_candidates(word: str, web: bool, lines: Mapping[str, str] = MappingProxyType({})) -> list[Candidate]:
    """Return the commands whose name begins with a word, then those with the word inside their name or help.

    An empty word returns all commands, by groups. `retry` finds `run retry`: what a command does is a candidate too.

    Args:
        word: the word.
        web: whether a browser shows the dashboard.
        lines: by command and act, such as `run retry`, its line for what is selected on the screen.

    """
    at_start: list[Candidate] = []
    inside: list[Candidate] = []
    word = word.lower()
    for candidate, names, help in _all_commands(web, lines):
        if any(name.startswith(word) for name in names):
            at_start.append(candidate)
        elif word in names[0] or (len(word) > 2 and word in help.lower()):
            inside.append(candidate)
    if word:
        return [candidate._replace(heading="") for candidate in (*at_start, *inside)]
    order = ["Dashboard", *GROUPS]
    return sorted(at_start, key=lambda candidate: order.index(candidate.heading))


def _all_commands(web: bool, lines: Mapping[str, str]) -> Iterator[tuple[Candidate, tuple[str, ...], str]]:
    """Yield the candidate of each command and of each of its acts, with the names and the help to search."""
    for own in DASHBOARD_COMMANDS:
        yield Candidate(own.name, own.name, own.help, "Dashboard"), (own.name,), own.help
    for command in COMMANDS:
        if not command.hidden:
            reason = refusal(command, web)
            help = f"not here: {reason}" if reason else command.help
            names = (command.name, *command.aliases)
            yield Candidate(command.name, " ".join(names), help, command.group), names, command.help
            for act in () if reason else command.acts:
                name = f"{command.name} {act.name}"
                yield Candidate(lines.get(name, name), name, act.help, command.group), (name, act.name), act.help


# --- system commands ------------------------------------------------------------------------------------------------


def pipe(command: str, pieces: Iterator[str], job: Job) -> None:
    """Run a system command with pieces of text as its input. What it prints becomes the output of the job.

    Raises:
        BackendError: the command ended with an error.
        Stopped: the job was stopped. The command has been killed.

    """
    child = subprocess.Popen(
        ["/bin/sh", "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True,  # its children can be killed with it, and none can write on the terminal
    )  # fmt: skip
    assert child.stdin is not None and child.stdout is not None
    stdin, stdout, ended = child.stdin, child.stdout, threading.Event()

    def kill_when_stopped() -> None:
        while not ended.wait(0.1):
            if job.should_stop:
                try:
                    os.killpg(child.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass  # the command has just ended
                return

    def read() -> None:
        decoder = getincrementaldecoder("utf-8")("replace")
        while data := os.read(stdout.fileno(), 65536):
            job.output.write(decoder.decode(data))

    reader = threading.Thread(target=read, name="pipe", daemon=True)
    reader.start()
    threading.Thread(target=kill_when_stopped, name="pipe-stop", daemon=True).start()
    try:
        for piece in pieces:
            job.check()
            stdin.write(piece.encode(errors="surrogatepass"))
        stdin.close()
    except BrokenPipeError:
        pass  # the command reads no more. Its exit code tells whether that is an error
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
