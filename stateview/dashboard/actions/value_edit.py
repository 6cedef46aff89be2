"""Edit a value as text: read, validate, edit in `$EDITOR`, and save. Uses no widgets."""

from __future__ import annotations

import re
import signal
import subprocess
import tempfile
import time
from json import JSONDecodeError
from typing import TYPE_CHECKING, Any, NamedTuple

from textual.app import SuspendNotSupported

from ... import codec
from ...backends.files.memory_files import memory_folder
from ...backends.protocol import Version
from ...cli.commands.edit import EditorFile, editor_command
from ...cli.exit_codes import UsageError
from ...cli.values import type_name
from ...errors import BackendError, NotSerializable, StateException
from ...manager import StateManager
from ...states.values.pointers import split_pointer
from ..display.redaction import is_redacted, masked_places, without_secrets
from ..display.text import format_size, one_line

if TYPE_CHECKING:
    from ..app import Dashboard

INLINE_CHARACTERS = 256_000  # longer texts are edited only in an external editor
_QUOTES = 'write a string in "quotes"'
_UNSAFE = re.compile(r"[^\n -~]")


class ValidationResult(NamedTuple):
    """The validation of a text as JSON: the bytes to store (None for an error), and a message for the user.

    `place` is the line and column of an error, both from 0, if they are known.
    """

    data: bytes | None
    message: str
    place: tuple[int, int] | None = None


class Draft(NamedTuple):
    """A value to edit, as it was read: its text, the revision of its key, and its expiry.

    `revision` is 0 if there is no such key. `deadline` is on the clock of `time.monotonic()`, or None without expiry.
    """

    text: str
    revision: int = 0
    deadline: float | None = None

    @property
    def ttl(self) -> float | None:
        """The seconds until the key expires, more than 0. None without expiry."""
        return None if self.deadline is None else max(0.001, self.deadline - time.monotonic())


def as_text(data: bytes) -> str:
    """Return an encoded value as indented JSON. Invisible and control characters are escaped."""
    return _UNSAFE.sub(_escape, codec.pretty(data).decode())


def line_of(text: str, pointer: str) -> int:
    """Return the line of a place in a result of `as_text`, from 0; of the nearest place above that exists. O(size)."""
    value, line = codec.parse_strict(text), 0
    for token in split_pointer(pointer):
        members = value.items() if isinstance(value, dict) else enumerate(value if isinstance(value, list) else ())
        below = line + 1
        for name, member in members:
            if str(name) == token:
                value, line = member, below
                break
            below += _lines(member)
        else:
            break
    return line


def _lines(value: Any) -> int:
    """Return how many lines a value takes: each member begins a line."""
    if not isinstance(value, (dict, list)) or not value:
        return 1
    return 2 + sum(map(_lines, value.values() if isinstance(value, dict) else value))


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    if character.isprintable():
        return character
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def validate(text: str) -> ValidationResult:
    """Check whether a text is a JSON value that can be saved. O(length)."""
    try:
        value = codec.parse_strict(text)
        data = codec.encode(value)
    except JSONDecodeError as error:
        if not text.strip():
            return ValidationResult(None, f"a JSON value is missing; {_QUOTES}", (0, 0))
        message = error.msg[:1].lower() + error.msg[1:]
        if error.msg == "Expecting value":
            message += f"; {_QUOTES}"
        where = f"line {error.lineno:,}, column {error.colno:,}"
        return ValidationResult(None, f"{where}: {message}", (error.lineno - 1, error.colno - 1))
    except RecursionError:
        return ValidationResult(None, f"the value is nested more than {codec.MAX_DEPTH} levels deep")
    except (ValueError, NotSerializable) as error:
        return ValidationResult(None, str(error))
    return ValidationResult(data, f"{_kind(value)} · {format_size(len(data))}")


def _kind(value: Any) -> str:
    name = type_name(value)
    return f"{name} of {len(value):,}" if isinstance(value, (dict, list)) else name


def refusal(app: Dashboard, key: str | None) -> str:
    """Return why a key cannot be edited now, with the next step. Empty if it can. Does not read the backend."""
    try:
        app.manager.check_writable()
    except StateException as error:
        return str(error)
    if app.at is not None:
        return f"the state as of {one_line(app.at)} cannot be edited: esc goes back to live"
    if key is not None and is_redacted(key, without_secrets(app.masks)):
        return f"masked values cannot be edited on the screen; in a terminal: {app.command_line(['edit', key])}"
    return ""


def read_draft(app: Dashboard, key: str) -> Draft | None:
    """Read the live value of a key as a draft. None if there is no such key.

    Raises:
        UsageError: the value is masked, or holds masked values.
        Damaged: the value cannot be decoded.

    """
    manager = app.manager
    version = manager.backend.get(key)
    if version is None:
        return None
    value = codec.decode(version.value or b"null", f"the value of {key[:60]!r}")
    masked = is_redacted(key, app.redact, value)
    place = next(masked_places(value, app.redact), None)
    if masked or place is not None:
        globs = without_secrets(app.masks)
        kept = is_redacted(key, globs) or next(masked_places(value, globs), None) is not None
        press = "Press U to show it first. " if app.may_show_secrets and not kept else ""
        what = "the value is masked" if masked else f"the value holds a masked value at {place}"
        raise UsageError(
            f"{what}, so it cannot be edited on the screen", f"{press}In a terminal: {app.command_line(['edit', key])}"
        )
    return draft_of(manager, version)


def draft_of(manager: StateManager, version: Version) -> Draft:
    """Return a draft of a version."""
    data = version.value or b"null"
    seconds = (version.expires - manager.backend.now()) / 1_000_000 if version.expires else 0.0
    return Draft(as_text(data), version.revision, time.monotonic() + seconds if version.expires else None)


def save_words(key: str, data: bytes, draft: Draft) -> list[str]:
    """Return the command that saves a value with the expiry of its draft, unless the key has changed since."""
    ttl = [] if draft.ttl is None else ["--ttl", f"{draft.ttl:.3f}"]
    text = data.decode()
    plain = ["--"] if key.startswith("-") or text.startswith("-") else []
    return ["save", "--json", "--expected", str(draft.revision), *ttl, *plain, key, text]


def in_editor(app: Dashboard, text: str, sealed: bool) -> str:
    """Edit a text in `$VISUAL`, `$EDITOR` or vi, and return the result. The dashboard is suspended meanwhile.

    Raises:
        UsageError: there is no terminal, the editor cannot be started, the editor ended with an error, or its text
            cannot be read. The error names the file in which an edited text is kept.
        BackendError: the file cannot be written.

    """
    editor, command = editor_command()
    try:
        with EditorFile(text.encode(errors="surrogatepass") + b"\n", sealed) as file:
            return _edit(app, editor, [*command, file.path], file.path)
    except OSError as error:
        raise BackendError(f"{error.filename}: {error.strerror or error}") from error


def _edit(app: Dashboard, editor: str, command: list[str], path: str) -> str:
    try:
        with app.suspend():
            ended = _wait_for(command)
    except SuspendNotSupported:
        raise UsageError("there is no terminal here for an editor", "Run 'stateview edit' in a terminal") from None
    if isinstance(ended, OSError):
        raise UsageError(f"{editor}: {ended.strerror}", "Set EDITOR to an editor that is installed")
    if ended:
        raise UsageError(f"{editor} ended with exit code {ended}: its text was not used")
    try:
        with open(path, "rb") as file:
            return codec.decode_text(file.read()).removesuffix("\n")
    except UnicodeDecodeError as error:
        raise UsageError(f"the text of the editor {codec.text_fault(error)}; it was not used") from error
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; the text of {editor} was not used") from error


def _wait_for(command: list[str]) -> int | OSError:
    """Run a program that alone gets Ctrl-C, and return its exit code, or the error that kept it from starting.

    Raises nothing: an exception inside `App.suspend` would leave the app suspended.
    """
    before = signal.signal(signal.SIGINT, lambda _number, _frame: None)  # the program would inherit SIG_IGN
    try:
        return subprocess.run(command, check=False).returncode
    except OSError as error:
        return error
    finally:
        signal.signal(signal.SIGINT, before)


def keep_in_file(text: str, sealed: bool) -> str:
    """Write a text that would be lost to a temporary file that only this user can read, and return its path.

    That of an encrypted namespace lies in memory, where the system has a folder for that.

    Raises:
        OSError: the file cannot be written.

    """
    folder = memory_folder() if sealed else None
    descriptor, path = tempfile.mkstemp(prefix="stateview-", suffix=".json", dir=folder)  # mode 0600
    with open(descriptor, "wb") as file:
        file.write(text.encode(errors="surrogatepass"))
    return path
